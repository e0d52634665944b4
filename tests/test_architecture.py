"""The rules of the house, held by reading its own source."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import tiebreak

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tiebreak"
MODULES = sorted(SOURCE.rglob("*.py"))

TABLES = {
    "errors",
    "comparisons",
    "predictions",
    "calibration",
    "storage",
    "locking",
    "listening",
    "stopping",
    "environments",
    "bundle",
    "samples",
    "scoring",
    "row_hashes",
    "soft_labels",
    "pooling",
    "dealing",
}
VERBS = {"ingest", "prepare", "train", "calibrate", "evaluation", "predict"}
ABOVE = {"baselines", "teach", "combine", "compress", "attack", "budget", "kaggle"}
LEVELS = [TABLES, {"render"}, {"engine"}, {"judges"}, {"recipes"}, VERBS, ABOVE, {"flow"}, {"cli"}]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "tiebreak":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tiebreak."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("tiebreak.")}
    return found & LEVEL.keys()


def test_every_room_has_its_level() -> None:
    rooms = {room(path) for path in MODULES} - {"__init__", "__main__"}
    assert rooms == LEVEL.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path) -> None:
    home = room(path)
    if home in {"__init__", "__main__"}:
        return
    for other in imported_rooms(path) - {home}:
        same_table = home in TABLES and other in TABLES
        assert LEVEL[other] < LEVEL[home] or same_table, f"{path} may not import {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_has_become_two(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_can_execute_what_it_reads(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert not names & {"pickle", "joblib", "marshal", "shelve", "dill", "cloudpickle"}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "compile", "__import__"}
        if isinstance(node, ast.keyword) and node.arg in {"allow_pickle", "trust_remote_code"}:
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False


def test_all_that_is_promised_can_be_imported_and_nothing_else_is_public() -> None:
    for name in tiebreak.__all__:
        assert getattr(tiebreak, name) is not None
    assert set(dir(tiebreak)) == {*tiebreak.__all__, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'surprise'"):
        _ = tiebreak.surprise


def test_every_error_has_a_documented_exit_code() -> None:
    errors = importlib.import_module("tiebreak.errors")
    page = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, tiebreak.TiebreakError):
            assert name in str(errors.__doc__)
            assert f"| {kind.exit_code} |" in page


def loaded_after(code: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(' '.join(sys.modules))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {name.split(".")[0] for name in result.stdout.split("\n")[-2].split()}


@pytest.mark.parametrize(
    "code",
    ["import tiebreak", "from tiebreak.cli import run; run(['--help'])", "from tiebreak.cli import run; run(['-V'])"],
)
def test_importing_and_asking_for_help_load_nothing_heavy(code: str) -> None:
    heavy = {"torch", "polars", "numpy", "matplotlib", "lightgbm", "sklearn", "scipy"}
    assert not loaded_after(code) & heavy
