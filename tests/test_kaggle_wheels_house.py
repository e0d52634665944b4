"""A wheelhouse whole: made, read, verified, and the wheel of tiebreak in it."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import tiebreak
from kaggle_wheels import only, wheel
from tiebreak import storage
from tiebreak.environments import interpreter
from tiebreak.errors import DataError, TiebreakError, UsageError
from tiebreak.kaggle.wheels import closure, house, needs, own
from tiebreak.kaggle.wheels.asking import PipError
from tiebreak.kaggle.wheels.house import House, Wheel
from tiebreak.kaggle.wheels.target import Target
from tiebreak.listening import Listener

TARGET = Target("3.14")
OWN = f"tiebreak-{tiebreak.__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, House]:
    """A small house with a network's packages in it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("made")
        index = folder / "index"
        only(index, patch, folder / "cache")
        patch.setattr(needs, "version", lambda name: "2.13.0+cpu")
        wheel(index, "net", "1.0", ["torch>=2", "shared>=0.1"], tag="cp314-cp314-manylinux2014_x86_64")
        wheel(index, "torch", "2.13.0+cpu", ["symbols", "shared<2"], tag="cp314-cp314-manylinux_2_28_x86_64")
        wheel(index, "shared", "0.1")
        wheel(index, "symbols", "7.0")
        return folder / "house", house.build(folder / "house", ["net==1.0", "torch==2.13.0"], TARGET)


@pytest.fixture
def copy(made: tuple[Path, House], tmp_path: Path) -> Path:
    """The house in a place of its own: the files of the original lie in the cache too."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in made[0].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_house_says_what_it_is(made: tuple[Path, House]) -> None:
    directory, found = made
    document = json.loads((directory / "wheelhouse.json").read_text(encoding="utf-8"))
    assert list(document) == [
        "format", "python", "platform", "tiebreak", "torch", "image_at_least", "requires", "wheels",
    ]  # fmt: skip
    assert document | {"wheels": None} == {
        "format": 1, "python": "3.14", "platform": "manylinux_2_28_x86_64", "tiebreak": tiebreak.__version__,
        "torch": "cpu", "image_at_least": {"torch": "2.6"}, "requires": ["net==1.0", "torch==2.13.0"], "wheels": None,
    }  # fmt: skip
    assert [(e["name"], e["version"], e["accepts"], e["image"]) for e in document["wheels"]] == [
        ("net", "1.0", "==1.0", False), ("shared", "0.1", "<2,>=0.1", False), ("symbols", "7.0", "", True),
        ("tiebreak", tiebreak.__version__, f"=={tiebreak.__version__}", False),
        ("torch", "2.13.0+cpu", ">=2,>=2.6", True),
    ]  # fmt: skip
    for entry in document["wheels"]:
        path = directory / entry["file"]
        assert (entry["sha256"], entry["bytes"]) == (storage.sha256(path), path.stat().st_size)
    assert found == house.read(directory) == house.verify(directory)
    assert found.bytes == sum(path.stat().st_size for path in directory.glob("*.whl"))


def test_a_lock_has_every_wheel_with_its_hash(made: tuple[Path, House]) -> None:
    directory, found = made
    head, *lines = (directory / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert head.startswith("# pip install --no-index --no-deps --require-hashes")
    assert lines == [f"{one.name}=={one.version} --hash=sha256:{one.sha256}" for one in found.wheels]


def test_nothing_else_lies_in_it_and_the_index_is_named_nowhere(made: tuple[Path, House]) -> None:
    directory, found = made
    files = {path.name for path in directory.iterdir()}
    assert files == {"wheelhouse.json", "requirements.lock", *(one.file for one in found.wheels)}
    for name in ("wheelhouse.json", "requirements.lock"):
        assert not {"/", "index"} & {*(directory / name).read_text(encoding="utf-8").split('"')}
        assert str(directory.parent) not in (directory / name).read_text(encoding="utf-8")


def test_made_again_it_has_the_same_bytes_and_needs_no_index(
    made: tuple[Path, House], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(tmp_path / "empty", monkeypatch, made[0].parent / "cache")
    monkeypatch.setattr(needs, "version", lambda name: "2.13.0+cpu")
    again = house.build(tmp_path / "again", ["net==1.0", "torch==2.13.0"], TARGET)
    assert again == made[1]
    assert {path.name: storage.sha256(path) for path in (tmp_path / "again").iterdir()} == {
        path.name: storage.sha256(path) for path in made[0].iterdir()
    }


def test_without_tiebreak_it_holds_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(tmp_path / "index", monkeypatch, tmp_path / "cache")
    wheel(tmp_path / "index", "a")
    found = house.build(tmp_path / "house", ["a"], TARGET, tiebreak=False)
    assert [one.file for one in found.wheels] == ["a-1.0-py3-none-any.whl"]
    assert (found.tiebreak, found.torch, found.image_at_least) == (None, None, {})
    assert house.verify(tmp_path / "house") == found


def test_a_house_without_torch_says_that_the_image_must_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    only(tmp_path / "index", monkeypatch, tmp_path / "cache")
    wheel(tmp_path / "index", "torch", "2.13.0", ["nvidia-nccl-cu12"])
    wheel(tmp_path / "index", "nvidia-nccl-cu12")
    wheel(tmp_path / "index", "net", "1.0", ["torch"])
    listener = Listener(say=said.append)
    found = house.build(tmp_path / "house", ["net", "torch==2.13.0"], TARGET, tiebreak=False, listener=listener)
    assert ([one.name for one in found.wheels], found.torch) == (["net"], "image only")
    assert found.image_at_least == {"torch": "2.6"}
    assert house.verify(tmp_path / "house") == found
    assert "torch is not among the wheels, the index has only builds with CUDA" in said[-1]


def test_a_house_that_cannot_be_made_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(tmp_path / "index", monkeypatch, tmp_path / "cache")
    wheel(tmp_path / "index", "a")
    old = house.build(tmp_path / "house", ["a"], TARGET)
    with pytest.raises(PipError):
        house.build(tmp_path / "house", ["absent"], TARGET)

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(closure, "prove", cut)
    with pytest.raises(KeyboardInterrupt):
        house.build(tmp_path / "house", ["a"], TARGET)
    monkeypatch.undo()
    assert house.verify(tmp_path / "house") == old
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "house", "index"}
    with pytest.raises(UsageError, match="is not a directory"):
        house.build(tmp_path / "no" / "house", ["a"], TARGET)
    with pytest.raises(UsageError, match=r"Python 3\.9: tiebreak does not run on it; expected 3\.11 or later"):
        house.build(tmp_path / "house", ["a"], Target("3.9"))


def test_a_house_asks_for_no_python_that_the_package_does_not() -> None:
    document = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert document["project"]["requires-python"] == f">={own.PYTHON}"


def test_every_alteration_is_found_and_all_are_told(copy: Path) -> None:
    (copy / "shared-0.1-py3-none-any.whl").unlink()
    symbols = copy / "symbols-7.0-py3-none-any.whl"
    data = bytearray(symbols.read_bytes())
    data[40] ^= 1
    symbols.write_bytes(data)
    wheel(copy, "surplus")
    (copy / "requirements.lock").write_text("numpy\n")
    with pytest.raises(DataError) as caught:
        house.verify(copy)
    assert str(caught.value).splitlines()[1:-1] == [
        "  shared-0.1-py3-none-any.whl: missing",
        "  symbols-7.0-py3-none-any.whl: altered, its sha256 is not the one in wheelhouse.json",
        "  surplus-1.0-py3-none-any.whl: not in wheelhouse.json",
        "  requirements.lock: not the lock of these wheels",
    ]


def test_a_house_that_lists_too_little_is_not_closed(copy: Path) -> None:
    document = json.loads((copy / "wheelhouse.json").read_text(encoding="utf-8"))
    document["wheels"] = [entry for entry in document["wheels"] if entry["name"] != "shared"]
    (copy / "wheelhouse.json").write_text(json.dumps(document), encoding="utf-8")
    (copy / "shared-0.1-py3-none-any.whl").unlink()
    (copy / "requirements.lock").write_text(house.read(copy).lock, encoding="utf-8")
    with pytest.raises(DataError, match=r"net 1\.0 needs shared>=0\.1: shared is not there"):
        house.verify(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"), ({"format": 2}, "format: Input should be 1"),
        ({"wheels": [{"file": "a.whl"}]}, r"wheels\.0\.name: Field required"), ({"torch": "rocm"}, "torch: Input"),
        ({"python": "3"}, "python: String should match"), ({"platform": "win_amd64"}, "platform: String should match"),
    ],
)  # fmt: skip
def test_a_document_of_another_kind_is_refused(copy: Path, change: dict[str, object], message: str) -> None:
    path = copy / "wheelhouse.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        house.read(copy)


def test_a_folder_without_a_document_is_no_house(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        house.verify(tmp_path)


@pytest.mark.parametrize("file", ["../a.whl", "/a.whl", "sub/a.whl"])
def test_a_file_of_a_house_lies_in_it(copy: Path, file: str) -> None:
    document = json.loads((copy / "wheelhouse.json").read_text(encoding="utf-8"))
    document["wheels"][0]["file"] = file
    (copy / "wheelhouse.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(TiebreakError, match=r"wheels\.0\.file"):
        house.read(copy)


def test_the_own_wheel_is_the_package_that_runs(tmp_path: Path) -> None:
    path = own.build(tmp_path, ["numpy==2.4.6", "polars>=2.1"])
    assert path.name == OWN
    said = closure.read(path)
    assert (said.name, said.version, said.requires) == (
        "tiebreak", tiebreak.__version__, ("numpy==2.4.6", "polars>=2.1"),
    )  # fmt: skip
    package = Path(tiebreak.__file__).parent
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    info = f"tiebreak-{tiebreak.__version__}.dist-info"
    inside = {name.removeprefix("tiebreak/"): data for name, data in files.items() if name.startswith("tiebreak/")}
    for name in ("__init__.py", "py.typed", "cli/kaggle_pack.py", "weights/judge.json", "weights/linear.safetensors"):
        assert inside[name] == (package / name).read_bytes()
    assert not [name for name in files if "__pycache__" in name or name.endswith(".pyc")]
    assert "tiebreak = tiebreak.cli:main" in files[f"{info}/entry_points.txt"].decode()
    assert "Apache License" in files[f"{info}/licenses/LICENSE"].decode()


def test_the_record_of_the_own_wheel_is_true(tmp_path: Path) -> None:
    with zipfile.ZipFile(own.build(tmp_path, [])) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    record = f"tiebreak-{tiebreak.__version__}.dist-info/RECORD"
    listed = {name: (digest, size) for name, digest, size in csv.reader(files[record].decode().splitlines())}
    assert list(listed) == list(files)
    assert listed.pop(record) == ("", "")
    for name, (digest, size) in listed.items():
        encoded = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).decode().rstrip("=")
        assert (digest, int(size)) == (f"sha256={encoded}", len(files[name]))


def test_the_same_package_gives_the_same_wheel(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = own.build(tmp_path / "one", ["b", "a"])
    two = own.build(tmp_path / "two", ["a", "b"])
    assert one.read_bytes() == two.read_bytes()


def test_a_package_that_runs_from_its_source_gives_a_wheel_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "_installed", lambda: None)
    with zipfile.ZipFile(own.build(tmp_path, [])) as archive:
        info = f"tiebreak-{tiebreak.__version__}.dist-info"
        assert archive.read(f"{info}/entry_points.txt") == b"[console_scripts]\ntiebreak = tiebreak.cli:main\n"
        assert f"{info}/licenses/LICENSE" not in archive.namelist()


@pytest.mark.slow
def test_the_lock_installs_into_a_new_environment_and_pip_finds_nothing_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(tmp_path / "index", monkeypatch, tmp_path / "cache")
    wheel(tmp_path / "index", "a", "1.0", ["b; python_version > '3'"])
    wheel(tmp_path / "index", "b", "2.0")
    built = tmp_path / "house"
    house.build(built, ["a"], Target())
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(interpreter(tmp_path / "venv"))
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    bare["PIP_CONFIG_FILE"] = os.devnull

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [python, *arguments], cwd=built, env=bare, capture_output=True, text=True, check=True, timeout=300
        )
        return done.stdout

    run("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--require-hashes", "--find-links", ".",
        "-r", "requirements.lock")  # fmt: skip
    assert run("-m", "pip", "check") == "No broken requirements found.\n"
    assert run("-c", "import tiebreak; print(tiebreak.__version__)").strip() == tiebreak.__version__
    assert "__pycache__" not in {path.name for path in built.iterdir()}


def test_what_another_python_leaves_to_its_image() -> None:
    files = {
        "numpy": "numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        "polars-runtime-32": "polars_runtime_32-2.1.0-cp311-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "rich": "rich-15.0.0-py3-none-any.whl",
        "torch": "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl",
    }
    wheels = tuple(
        Wheel(file=file, name=name, version=file.split("-")[1], sha256="0" * 64, bytes=1, image=name == "torch")
        for name, file in files.items()
    )
    found = House(python="3.11", platform="manylinux_2_28_x86_64", wheels=wheels)
    assert found.left_to_image("3.11") == []
    assert found.left_to_image("3.12") == ["numpy"]
    assert found.left_to_image("3.10") == ["numpy", "polars-runtime-32"]
    assert found.on_kaggle().endswith("Kaggle's image has 3.12: there numpy will be the image's own")
    assert found.model_copy(update={"python": "3.12"}).on_kaggle() == ""
