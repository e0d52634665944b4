"""Real wheels: the embedded judge's house, and a Python that has nothing but that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import SHARED
from tiebreak import bundle, judges
from tiebreak.environments import interpreter
from tiebreak.kaggle.wheels import house, needs, resolving
from tiebreak.kaggle.wheels.asking import PipError
from tiebreak.kaggle.wheels.house import House
from tiebreak.kaggle.wheels.target import Target

pytestmark = pytest.mark.slow

MEGABYTES = 80
TEST = SHARED / "raw" / "kaggle_test.csv"
EMBEDDED = needs.of(bundle.read(judges.EMBEDDED), judges.EMBEDDED)
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def build(directory: Path, requirements: tuple[str, ...], python: str) -> House:
    try:
        return house.build(directory, requirements, Target(python))
    except PipError as error:
        if error.unreachable:
            pytest.skip("no package index can be reached")
        raise


def python_of(version: str) -> str:
    found = sys.executable if version == HERE else shutil.which(f"python{version}")
    works = found and subprocess.run([found, "-c", "import venv"], capture_output=True, check=False).returncode == 0
    if not works:
        pytest.skip(f"no Python {version} here")
    return str(found)


@pytest.mark.parametrize("version", sorted({HERE, "3.12", "3.13"}))
def test_the_embedded_judge_runs_from_its_wheels_alone(version: str, tmp_path: Path) -> None:
    first = python_of(version)
    made = build(tmp_path / "house", EMBEDDED, version)
    assert made.bytes <= MEGABYTES * 1e6
    assert {path.suffix for path in (tmp_path / "house").iterdir()} == {".whl", ".json", ".lock"}
    assert house.verify(tmp_path / "house") == made
    subprocess.run([first, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = interpreter(tmp_path / "venv")
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    bare["PIP_CONFIG_FILE"] = os.devnull

    def run(*arguments: str | Path) -> str:
        done = subprocess.run(
            [str(python), *map(str, arguments)], cwd=tmp_path / "house", env=bare, capture_output=True, text=True,
            check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--require-hashes", "--find-links", ".",
        "-r", "requirements.lock")  # fmt: skip
    assert run("-m", "pip", "check") == "No broken requirements found.\n"
    if not TEST.is_file():
        pytest.skip("the shared data are not here")
    run("-m", "tiebreak", "predict", TEST, "--format", "kaggle", "-o", tmp_path / "there.csv")
    here = [
        sys.executable,
        "-m",
        "tiebreak",
        "predict",
        str(TEST),
        "--format",
        "kaggle",
        "-o",
        str(tmp_path / "here.csv"),
    ]
    subprocess.run(here, check=True, capture_output=True)
    assert (tmp_path / "there.csv").read_text() == (tmp_path / "here.csv").read_text()


def test_an_adapter_in_four_bits_is_closed_for_pythons_of_kaggle() -> None:
    """Resolved alone, which walks it with the markers of the target: the wheels are large."""
    wanted = tuple(needs.pinned(name) for name in sorted({*needs.CORE, *needs.NETWORK, "peft", "bitsandbytes", "gguf"}))
    for version in ("3.11", "3.12"):
        try:
            found = resolving.resolve(wanted, Target(version))
        except PipError as error:
            if error.unreachable:
                pytest.skip("no package index can be reached")
            raise
        names = {one.name for one in found.wheels}
        assert {"transformers", "peft", "tokenizers", "bitsandbytes", "gguf"} <= names
        assert not [name for name in names if name.startswith(("nvidia-", "triton"))]
        assert ("torch" in names) == (found.torch == "cpu")
