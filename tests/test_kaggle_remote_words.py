"""What the client says is understood, credentials are found and struck out, and what is to be done is decided."""

from __future__ import annotations

import ast
import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiebreak.errors import DataError, MissingExtraError, ResourceError, UsageError
from tiebreak.kaggle.remote import answers, client, credentials, plan
from tiebreak.kaggle.remote.answers import Answer
from tiebreak.kaggle.remote.credentials import Credentials
from tiebreak.kaggle.remote.existing import There
from tiebreak.kaggle.remote.state import Part
from tiebreak.kaggle.remote.targets import Kind, Target, with_versions

NOT_FOUND = "404 Client Error: Not Found for url: https://api.kaggle.com/v1/models.ModelApiService/GetModel"


def answer(code: int = 0, out: str = "", err: str = "") -> Answer:
    return Answer(("datasets", "create", "-p", "wheels"), code, out, err)


@pytest.mark.parametrize(
    "said",
    [
        "Dataset creation error: The requested title is already in use by a dataset.",
        "Dataset version creation error: See previous output",
        "Model creation error: no",
        "Model instance creation error: no",
        "Model instance version creation error: no",
        "Model update error: no",
        "Kernel push error: Maximum batch GPU session count of 2 reached.",
        "Starting upload for file a.whl\nUpload unsuccessful: a.whl\nYour private Dataset is being created.",
        "Skipping folder: deep; use '--dir-mode' to upload folders",
        "The following are not valid dataset sources and could not be added to the kernel: ['a/b']",
        "The following are not valid competition sources and could not be added to the kernel: ['c']",
        "Could not find competition - please verify that you entered the correct competition ID",
        "Could not submit to competition",
    ],
)
def test_errors_after_which_the_client_leaves_with_0(said: str) -> None:
    with pytest.raises(DataError, match="kaggle datasets create -p: "):
        answers.require(answer(0, said))


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("HTTPSConnectionPool(host='api.kaggle.com', port=443): Max retries exceeded with url: /v1", ResourceError),
        ("429 Client Error: Too Many Requests for url: https://api.kaggle.com", ResourceError),
        ("502 Server Error: Bad Gateway for url: https://api.kaggle.com", ResourceError),
        ("Authentication required to call the Kaggle API.", UsageError),
        ("401 Client Error: Unauthorized for url: https://api.kaggle.com", UsageError),
        ("usage: kaggle datasets status [-h]\nkaggle: error: unrecognized arguments: --format json", UsageError),
        (NOT_FOUND, DataError),
        ("Traceback (most recent call last):\nKeyError: 'MODEL_FRAMEWORK_SKLEARN'", DataError),
        ("", DataError),
    ],
)
def test_errors_with_an_exit_code(said: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        answers.require(answer(2 if said.startswith("usage") else 1, err=said))
    assert type(caught.value) is kind


def test_what_is_no_error_passes() -> None:
    fine = answer(
        0, "Warning: Looks like you're using an outdated `kaggle` version\nYour private Dataset is being created"
    )
    assert answers.require(fine) is fine
    assert answers.warnings(fine) == ["Warning: Looks like you're using an outdated `kaggle` version"]


def test_what_is_missing_and_what_is_not() -> None:
    assert answers.missing(answer(1, err=NOT_FOUND))
    assert answers.missing(answer(1, err="Cannot access kernel 'a/b' (Permission 'kernels.get' was denied)."))
    assert not answers.missing(answer(0, out=NOT_FOUND))
    assert not answers.missing(answer(1, err="500 Server Error: Internal for url: https://api.kaggle.com"))
    assert not answers.missing(answer(1, out="Authentication required to call the Kaggle API."))


def test_json_is_found_behind_warnings() -> None:
    assert answer(out='Warning: old\n{"a": [1]}\nNext').json() == {"a": [1]}
    assert answer(out='Next Page Token = x\n[\n {"name": "a"}\n]\n').json() == [{"name": "a"}]
    assert answer(out="[no json\nNo submissions found").json() is None


# Credentials

KEYS = st.text(st.characters(categories=("Lu", "Ll", "Nd")), min_size=8, max_size=40)


@given(KEYS, st.text(), st.text())
def test_no_credential_survives_anywhere(key: str, before: str, after: str) -> None:
    held = Credentials(("here",), (key,))
    assert key not in held.scrub(f"{before}{key}{after}").replace(credentials.HIDDEN, "\0")
    assert key not in repr(held)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("Authorization: Bearer abcdefgh.ijkl-mnop", "abcdefgh"),
        ("Authorization: Basic c29tZW9uZTprZXk=", "c29tZW9u"),
        ("token KGAT_0123456789abcdef", "0123456789"),
        ('{"username": "someone", "key": "0123456789abcdef"}', "0123456789"),
        ("PUT https://storage/x?upload_id=ABPtcPq&name=a", "ABPtcPq"),
        ("https://storage/x?X-Goog-Signature=0123abcd", "0123abcd"),
        ("proxy http://me:secret@proxy:3128", "secret"),
    ],
)
def test_what_looks_like_a_credential_is_struck_out(text: str, hidden: str) -> None:
    assert hidden in text
    scrubbed = Credentials().scrub(text)
    assert hidden not in scrubbed
    assert credentials.HIDDEN in scrubbed


def test_ordinary_words_stay() -> None:
    text = "Upload successful: tokenizer.json (17MB) at https://www.kaggle.com/datasets/a/b?select=key"
    assert Credentials().scrub(text) == text


def test_credentials_are_found_where_the_client_looks(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert credentials.find(home) == Credentials()
    assert credentials.find(home | {"KAGGLE_USERNAME": "someone"}).places == ()
    assert credentials.find(home | {"KAGGLE_USERNAME": "someone", "KAGGLE_KEY": "k" * 32}).secrets == ("k" * 32,)
    folder = tmp_path / ".kaggle"
    folder.mkdir()
    (folder / "kaggle.json").write_text(json.dumps({"username": "someone", "key": "a" * 32}))
    (folder / "access_token").write_text("KGAT_b\n")
    (folder / "credentials.json").write_text(json.dumps({"refresh_token": "r" * 9, "access_token": "t" * 9}))
    token = tmp_path / "token"
    token.write_text("KGAT_c")
    found = credentials.find(home | {"KAGGLE_API_TOKEN": str(token)})
    assert found.places == ("KAGGLE_API_TOKEN", "~/.kaggle/access_token", "kaggle.json", "kaggle auth login")
    assert set(found.secrets) == {"KGAT_c", "KGAT_b", "a" * 32, "r" * 9, "t" * 9}


def test_damaged_files_are_no_credentials(tmp_path: Path) -> None:
    (tmp_path / ".kaggle").mkdir()
    for name in ("kaggle.json", "credentials.json"):
        (tmp_path / ".kaggle" / name).write_text("[1")
    assert credentials.find({"HOME": str(tmp_path)}).places == ()


# The program


def test_without_the_client_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(client, "version", nothing)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingExtraError, match=r"tiebreak\[kaggle\]"):
        client.program()
    monkeypatch.setattr(client.shutil, "which", lambda name: f"/opt/{name}")
    assert client.program() == ("/opt/kaggle",)


def test_an_old_client_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "version", lambda name: "1.8.4")
    with pytest.raises(UsageError, match=r"1\.8\.4.*2\.2 or newer"):
        client.program()


def test_calls_are_lines_for_a_shell() -> None:
    assert client.shell(("datasets", "version", "-m", "it's new", "-p", "my wheels")) == (
        "kaggle datasets version -m 'it'\"'\"'s new' -p 'my wheels'"
    )


# What is to be done


def target(kind: Kind) -> Target:
    return Target(kind, kind, "a/b", Path(), {}, {})


@pytest.mark.parametrize(
    ("kind", "part", "there", "action"),
    [
        ("wheels", None, None, "create"),
        ("wheels", None, 3, "version"),
        ("wheels", ("d", "c", 1), None, "create"),
        ("wheels", ("d", "c", 1), 1, "nothing"),
        ("wheels", ("d", "c", 1), 2, "version"),
        ("wheels", ("other", "c", 1), 1, "version"),
        ("wheels", ("d", "other", 1), 1, "version"),
        ("instance", ("d", "c", 1), 1, "nothing"),
        ("instance", ("d", "c", 1), 2, "nothing"),
        ("instance", ("d", "c", 2), 1, "version"),
        ("instance", ("d", "other", 1), 1, "update"),
        ("instance", ("other", "other", 1), 1, "version"),
        ("model", None, None, "create"),
        ("model", None, 0, "update"),
        ("model", ("d", "c", 0), 0, "nothing"),
        ("model", ("other", "c", 0), 0, "nothing"),
        ("model", ("d", "other", 0), 0, "update"),
    ],
)
def test_decisions(kind: Kind, part: tuple[str, str, int] | None, there: int | None, action: str) -> None:
    known = None if part is None else Part(id="a/b", digest=part[0], card=part[1], version=part[2])
    found = None if there is None else There(there)
    assert plan.decide(target(kind), "d", "c", known, found).action == action


def test_sources_of_others_keep_their_versions() -> None:
    kernel = Target(
        "kernel", "kernel", "a/b", Path(), {"model_sources": ["a/m/Transformers/judge/1", "g/gemma/x/2b/4"]}, {}
    )
    named = with_versions(kernel, {"a/m/transformers/judge": 7})
    assert named["model_sources"] == ["a/m/Transformers/judge/7", "g/gemma/x/2b/4"]
    assert with_versions(target("kernel"), {}) == {}


def test_the_client_is_run_and_never_imported() -> None:
    """It signs in, makes folders and reads `sys.argv` while it is imported."""
    source = Path(client.__file__).parents[2]
    for path in [*(source / "kaggle").rglob("*.py"), *(source / "cli").glob("kaggle*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {name.split(".")[0] for name in names} & {"kaggle", "kagglesdk"}, path
