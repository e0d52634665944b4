"""Every rule on Kaggle's metadata, broken once: one error, word for word, and what the official client does with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from kaggle_official import Official
from kaggle_right import DATASET, JUDGE, KERNEL, MODEL, RIGHT, write_pack
from kaggle_wrong import ALL, Wrong
from tiebreak.kaggle import metadata
from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.metadata import Dataset, Instance, Kernel, MetadataError, Model, folders, pack
from tiebreak.kaggle.metadata.problem import IN_WORDS, Client

pytest.importorskip("kaggle", reason="the client comes with the extra kaggle")

TEXTS = (Path(__file__).parent / "kaggle_wrong.txt").read_text(encoding="utf-8").splitlines()
STRUCTURE = {"no file", "old name", "no JSON", "no UTF-8", "no object", "twice", "unknown key", "missing", "mistyped"}


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Official:
    home = tmp_path / "home"
    home.mkdir()
    return Official(monkeypatch, home)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "pack"
    write_pack(root)
    return root


def sent(request: dict[str, Any], path: str) -> Any:
    """What stands at a dotted path of a request; the API leaves out what is false or empty."""
    for part in path.split("."):
        request = request.get(part, False) if isinstance(request, dict) else request[int(part)]
    return request


def broken(cases: tuple[Wrong, ...]) -> list[Any]:
    counts: dict[str, int] = {}
    params = []
    for case, text in zip(cases, TEXTS, strict=True):
        counts[case.rule] = counts.get(case.rule, 0) + 1
        params.append(pytest.param(case, text, id=f"{case.rule.replace(' ', '-')}-{counts[case.rule]}"))
    return params


@pytest.mark.parametrize(("case", "text"), broken(ALL))
def test_one_broken_rule_is_one_error_word_for_word_and_the_client_does_what_it_says(
    case: Wrong, text: str, root: Path, official: Official, capsys: pytest.CaptureFixture[str]
) -> None:
    case.apply(root)
    (problem,) = metadata.problems(Layout(root))
    assert str(problem) == text
    assert problem.file == case.file

    outcome = official.push(root / case.file, capsys)
    if problem.client == "refuses":
        assert outcome.error is not None
        assert outcome.sent is None
        return
    assert outcome.error is None
    assert outcome.sent is not None
    for path, value in case.sent.items():
        assert sent(outcome.sent, path) == value
    assert case.sent or problem.client == "ignores", "a file that the client changes needs proof of it"


def test_there_are_forty_wrong_files_and_more_and_no_rule_without_one() -> None:
    rules = {rule.name for kind in (Kernel, Dataset, Model, Instance) for rule in kind.rules}
    rules |= {rule.name for _, rule in pack.RULES}
    assert {case.rule for case in ALL} == rules | STRUCTURE
    assert len(TEXTS) == len(ALL) >= 40
    assert len(set(TEXTS)) == len(TEXTS)


def test_our_files_are_taken_by_the_client_and_arrive_as_they_were_written(root: Path, official: Official) -> None:
    assert metadata.problems(Layout(root)) == []
    outcomes = {name: official.push(root / name) for name in RIGHT}
    assert [outcome.error for outcome in outcomes.values()] == [None] * len(RIGHT)

    kernel = outcomes[KERNEL].sent
    assert kernel is not None
    assert kernel["datasetDataSources"] == RIGHT[KERNEL]["dataset_sources"]
    assert kernel["modelDataSources"] == RIGHT[KERNEL]["model_sources"]
    assert kernel["enableInternet"] is False
    assert kernel["machineShape"] == "NvidiaTeslaT4"
    assert json.loads(kernel["text"])["nbformat"] == 4
    assert outcomes[DATASET].uploads == ["rows.csv", "wheelhouse.json"]
    assert outcomes[MODEL].sent is not None
    assert outcomes[MODEL].sent["description"] == RIGHT[MODEL]["description"]


def test_our_files_are_taken_for_new_versions_too(root: Path, official: Official) -> None:
    outcomes = {name: official.again(root / name) for name in RIGHT}
    assert [outcome.error for outcome in outcomes.values()] == [None] * len(RIGHT)
    assert outcomes[DATASET].uploads == ["rows.csv", "wheelhouse.json"]
    assert outcomes[JUDGE].sent is not None
    assert outcomes[JUDGE].sent["framework"] == "MODEL_FRAMEWORK_TRANSFORMERS"
    assert outcomes[JUDGE].sent["usage"] == RIGHT[JUDGE]["usage"]


def test_the_client_leaves_out_what_we_say_and_uploads_everything_else(root: Path, official: Official) -> None:
    folder = root / "wheels"
    for name in (*folders.LEFT_OUT, "one.whl", ".hidden", "readme.md", "wheels.zip"):
        path = folder / name
        path.exists() or path.write_text("x")
    (folder / "more").mkdir()
    (folder / "more" / "two.whl").write_text("x")
    (folder / "gone").symlink_to(folder / "nothing")
    (folder / "linked.whl").symlink_to(folder / "one.whl")
    uploads = official.push(root / DATASET).uploads
    assert uploads == [".hidden", "linked.whl", "one.whl", "readme.md", "rows.csv", "wheelhouse.json", "wheels.zip"]
    said = {problem.value for problem in metadata.problems(Layout(root))}
    assert said == {"more", "gone", "wheels.zip", *(set(folders.LEFT_OUT) - set(folders.COVERS) - {Dataset.file})}


def test_all_problems_of_all_files_come_at_once_one_a_line(root: Path) -> None:
    for case in ALL:
        if case.rule in ("kernel_internet", "dataset_title_length", "model_date", "instance_framework"):
            case.apply(root)
    with pytest.raises(MetadataError) as raised:
        metadata.check(Layout(root))
    lines = str(raised.value).splitlines()
    assert lines[0] == f"{root}: 4 problems in the metadata for Kaggle:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "kernel/kernel-metadata.json",
        "wheels/dataset-metadata.json",
        "model/model-metadata.json",
        "model/judge/model-instance-metadata.json",
    ]
    assert raised.value.exit_code == 3
    assert [problem.client for problem in raised.value.problems] == ["ignores", "refuses", "refuses", "refuses"]


def test_the_templates_of_the_client_itself_are_far_from_right(official: Official, tmp_path: Path) -> None:
    """What `kaggle ... init` writes breaks several rules of each kind; none of it reaches Kaggle unseen."""
    official.api.kernels_initialize(str(tmp_path))
    official.api.dataset_initialize(str(tmp_path))
    official.api.model_initialize(str(tmp_path))
    official.api.model_instance_initialize(str(tmp_path))
    keys = {kind.__name__: {p.key for p in kind.problems(tmp_path)} for kind in (Kernel, Dataset, Model, Instance)}
    assert {"title", "id", "language", "kernel_type", "enable_internet", "code_file"} <= keys["Kernel"]
    assert {"title", "id"} <= keys["Dataset"]
    assert {"title", "slug", "ownerSlug"} <= keys["Model"]
    assert {"ownerSlug", "modelSlug", "instanceSlug", "framework", "baseModelInstanceId"} <= keys["Instance"]


def test_what_the_client_does_is_said_in_words_for_each() -> None:
    assert set(IN_WORDS) == set(get_args(Client))


def test_neither_torch_nor_the_client_is_needed_to_check(root: Path) -> None:
    code = (
        "import sys, pathlib; from tiebreak.kaggle import metadata; from tiebreak.kaggle.layout import Layout; "
        f"metadata.check(Layout(pathlib.Path({str(root)!r}))); "
        "print([name for name in ('torch', 'kaggle', 'nbformat', 'slugify', 'bleach') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ), check=True
    )
    assert done.stdout.strip() == "[]"
