"""The notebook is its modules, put into cells; it is run here as Kaggle would run it, with a judge that pretends."""

from __future__ import annotations

import ast
import csv
import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import polars as pl
import pytest

from kaggle_packed import COMPETITION, HERE, Packed, data, image_with_gpus, packed
from tiebreak import judges, samples
from tiebreak.comparisons import TEXTS
from tiebreak.errors import DataError, UsageError
from tiebreak.kaggle import notebook
from tiebreak.kaggle.kernel.running import descendants
from tiebreak.kaggle.rehearse.script import Notebook
from tiebreak.kaggle.settings import KernelSettings, Predicting
from tiebreak.predict import forms
from tiebreak.predictions import PROBABILITIES

MODULES = [name for names, _ in notebook.STEPS for name in names]
SETTINGS = KernelSettings(competition=COMPETITION, submission=forms.LMSYS, wheelhouse="ab" * 32)


def written(folder: Path, settings: KernelSettings = SETTINGS, about: str = "It judges.") -> Path:
    path = folder / "k.ipynb"
    notebook.write(path, settings, title="A judge", about=about)
    return path


def cells(path: Path, kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def run(pack: Packed, python: str | Path = sys.executable, **environment: str) -> tuple[int, str, dict[str, Any]]:
    """Run the notebook as one program: its exit code, what it said, its report. It looks for no network meanwhile."""
    program = pack.root / "program.py"
    text, count = re.subn(
        r"^(ADDRESSES|NAMES) = .*$", r"\1 = ()", Notebook(pack.notebook).program(), flags=re.MULTILINE
    )
    assert count == 2
    program.write_text(text)
    done = subprocess.run(
        [python, program], env={**os.environ, **pack.environment, "TMPDIR": str(pack.root), **environment},
        cwd=pack.working, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    report = pack.working / "tiebreak.json"
    return done.returncode, done.stdout + done.stderr, json.loads(report.read_text()) if report.exists() else {}


# --- what it is


def test_it_is_a_notebook(tmp_path: Path) -> None:
    path = written(tmp_path)
    document = nbformat.read(path, as_version=4)
    nbformat.validate(document)
    assert (document.nbformat, document.nbformat_minor) == (4, 5)
    assert len({cell.id for cell in document.cells}) == len(document.cells)
    assert all(
        cell.outputs == [] and cell.execution_count is None for cell in document.cells if cell.cell_type == "code"
    )


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    first = written(tmp_path).read_bytes()
    assert written(tmp_path).read_bytes() == first
    assert written(tmp_path, about="Another.").read_bytes() != first


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_a_cell_word_for_word(tmp_path: Path, name: str) -> None:
    module = importlib.import_module(f"tiebreak.kaggle.kernel.{name}")
    source = Path(str(module.__file__)).read_text()
    tree = ast.parse(source)
    cell = next(
        cell for cell in cells(written(tmp_path), "code") if source.rstrip("\n").endswith(cell.strip("'\n")[-200:])
    )
    for node in tree.body[1:]:
        text = ast.get_source_segment(source, node) or ""
        ours = isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("tiebreak", "__future__"))
        assert (text in cell) is not ours
    heading = str(module.__doc__).split("\n")[0].rstrip(".")
    explained = [text for text in cells(written(tmp_path), "markdown") if re.match(rf"##(#| \d\.) {heading}\n", text)]
    assert len(explained) == 1


def test_the_modules_are_all_there_and_know_nothing_but_python() -> None:
    folder = Path(notebook.__file__).parent / "kernel"
    assert sorted(MODULES) == sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    for place, name in enumerate(MODULES):
        tree = ast.parse((folder / f"{name}.py").read_text(), feature_version=(3, 10))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tiebreak"):
                assert str(node.module).removeprefix("tiebreak.kaggle.kernel.") in MODULES[:place]
            elif isinstance(node, ast.Import | ast.ImportFrom):
                named = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                assert {str(item).split(".")[0] for item in named} <= sys.stdlib_module_names


def test_no_name_means_two_things() -> None:
    """All cells share one namespace."""
    seen: dict[str, str] = {}
    folder = Path(notebook.__file__).parent / "kernel"
    texts = {name: (folder / f"{name}.py").read_text() for name in MODULES if name != "guard"}
    texts |= {f"step {number}": act for number, (_, act) in enumerate(notebook.STEPS)}
    for home, text in texts.items():
        defined = set()
        for node in ast.walk(ast.parse(text)) if home.startswith("step") else ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                defined.add(node.id)
            elif isinstance(node, ast.Assign):
                defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        for name in defined - {"__doc__"}:
            assert name not in seen, f"{name} of {home} and of {seen[name]}"
            seen[name] = home


def test_the_settings_cell_is_what_was_set(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"judge": "cd" * 32, "predicting": Predicting(max_length=9, swap="none")})
    text = cells(written(tmp_path, settings), "code")[0]
    assert ast.literal_eval(text.removeprefix("SETTINGS = ")) == settings.model_dump(mode="json")
    assert notebook.EXPLAINED.keys() == KernelSettings.model_fields.keys()


def test_it_holds_no_place_of_this_machine(tmp_path: Path) -> None:
    text = written(tmp_path).read_text()
    for place in (str(Path.home()), str(tmp_path), str(Path(notebook.__file__).parents[3]), os.uname().nodename):
        assert place not in text
    assert set(re.findall(r"(?<![\w.])/[a-z]+/[\w/]*", "".join(cells(written(tmp_path), "code")))) <= {
        "/kaggle/input", "/kaggle/working",
    }  # fmt: skip


def test_only_the_six_steps_and_the_settings_are_unfolded(tmp_path: Path) -> None:
    document = json.loads(written(tmp_path).read_text())
    code = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    unfolded = ["".join(cell["source"]) for cell in code if not cell["metadata"].get("_kg_hide-input")]
    assert len(unfolded) == 7
    assert unfolded[0].startswith("SETTINGS = {")
    assert [re.findall(r'report.stage\("(\w+)"\)', text) for text in unfolded[1:]] == [
        [], ["find"], ["offline"], ["install"], ["judge"], ["verify"],
    ]  # fmt: skip


def test_two_bases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a judge on 2 base models cannot be packed"):
        written(tmp_path, SETTINGS.model_copy(update={"bases": ["a", "b"]}))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"cells": [{}]}'])
def test_what_is_no_notebook_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "n.ipynb").write_text(text)
    with pytest.raises(DataError, match=r"is no notebook|has no code"):
        Notebook(tmp_path / "n.ipynb")
    with pytest.raises(DataError):
        Notebook(tmp_path / "absent.ipynb")


# --- what it does


def submission(pack: Packed) -> list[list[str]]:
    with (pack.working / "submission.csv").open(newline="") as stream:
        return list(csv.reader(stream))


def test_from_wheels_to_a_submission(tmp_path: Path) -> None:
    pack = packed(tmp_path)
    code, said, report = run(pack)
    assert code == 0, said
    assert submission(pack) == [forms.LMSYS.header, *([name, "0.5", "0.25", "0.25"] for name in ("7", "3", "5"))]
    assert (report["complete"], report["scored_run"]) == (True, False)
    assert list(report["stages"]) == ["find", "offline", "install", "judge", "verify"]
    assert (report["rows"], report["rows_otherwise"], report["network_refused"]) == (3, 0, 0)
    assert report["versions"]["tiebreak"] == "0.1.0"
    assert report["submission_sha256"] == hashlib.sha256((pack.working / "submission.csv").read_bytes()).hexdigest()
    assert "no network, as in a scored run" in said
    assert said.rstrip().endswith("submission.csv: 3 rows, 0 of them by the cheaper judge")
    assert sorted(path.name for path in pack.working.iterdir()) == ["submission.csv", "tiebreak.json"]


def test_the_hidden_test_is_larger(tmp_path: Path) -> None:
    pack = packed(tmp_path, {})
    data(pack.competition, [str(number * 7919 % 25013) for number in range(25000)])
    code, said, report = run(pack, KAGGLE_IS_COMPETITION_RERUN="1")
    assert code == 0, said
    assert (report["judge"], report["rows"], report["scored_run"]) == ("the judge", 25000, True)
    assert len(submission(pack)) == 25001


def test_an_exchanged_test_keeps_its_ids(tmp_path: Path) -> None:
    pack = packed(tmp_path, {})
    data(pack.competition, ["20", "10"], sampled=["7", "3", "5"])
    code, said, report = run(pack)
    assert code == 0, said
    assert [row[0] for row in submission(pack)] == ["id", "20", "10"]
    assert report["notes"] == ["sample_submission.csv (3 rows) has other ids than the test (2): these are taken"]


def test_a_connection_of_the_judge_is_refused_and_reported(tmp_path: Path) -> None:
    code, said, report = run(packed(tmp_path, {"connect": "192.0.2.1"}))
    assert code == 0, said
    assert report["network_refused"] == 1
    assert "192.0.2.1" in report["network_tries"][0]
    assert "connections that were tried and refused: 1" in said


def test_the_judge_fails_and_there_is_a_submission(tmp_path: Path) -> None:
    pack = packed(tmp_path, {"exit": 5})
    code, said, report = run(pack)
    assert code == 0, said
    assert len(submission(pack)) == 4
    assert (report["judge"], report["rows_otherwise"]) == ("embedded", 3)
    assert "WARNING: THE JUDGE FAILED: tiebreak predict ended with 5" in said


def test_a_submission_that_is_not_valid_is_not_handed_in(tmp_path: Path) -> None:
    pack = packed(tmp_path, {"spoil": True})
    code, said, report = run(pack)
    assert code == 1
    assert "row 1: 0.5, 0.25, 7 are not probabilities" in said
    assert report["failed"]["stage"] == "verify"
    assert report["complete"] is False
    assert not (pack.working / "submission.csv").exists()


def test_an_altered_wheel_is_not_installed(tmp_path: Path) -> None:
    pack = packed(tmp_path)
    file = next(pack.input.rglob("*.whl"))
    file.write_bytes(file.read_bytes() + b" ")
    code, said, report = run(pack)
    assert code == 1
    assert f"{file.name} was altered" in said
    assert report["failed"]["stage"] == "install"


def test_the_hours_can_be_shortened_for_a_rehearsal(tmp_path: Path) -> None:
    pack = packed(tmp_path, {}, hours=9)
    _, _, report = run(pack, TIEBREAK_KAGGLE_HOURS="0.5")
    options = report["run"]["options"]
    assert 1700 <= float(options[options.index("--within") + 1]) <= 1740


def test_the_gpus_of_the_image_are_used(tmp_path: Path) -> None:
    pack = packed(tmp_path, {}, network=True, needs_gpu=True)
    code, said, report = run(pack, PYTHONPATH=str(image_with_gpus(tmp_path / "image")))
    assert code == 0, said
    options = report["run"]["options"]
    assert options[options.index("--devices") + 1] == "cuda:0,cuda:1"
    assert report["gpus"] == ["Tesla T4", "Tesla T4"]
    assert report["left_to_image"] == {"torch": "2.8.0+cu126"}
    assert (report["judge"], report["rows_otherwise"]) == ("the judge", 0)


def test_a_torch_of_the_image_that_is_too_old_is_not_used(tmp_path: Path) -> None:
    pack = packed(tmp_path, {}, network=True, needs_gpu=True)
    code, said, report = run(pack, PYTHONPATH=str(image_with_gpus(tmp_path / "image", "2.5.1")))
    assert code == 0, said
    assert report["versions"]["torch"] == "2.13.0+cpu"
    assert (report["gpus"], report["left_to_image"]) == ([], {})
    assert (report["judge"], report["rows_otherwise"], report["reason"]) == ("embedded", 3, "no GPU")


def test_a_read_only_input_is_enough(tmp_path: Path) -> None:
    pack = packed(tmp_path, {})
    before = {path: path.stat().st_mtime_ns for path in sorted(pack.input.rglob("*"))}
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        code, said, _ = run(pack)
    finally:
        for path in before:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert code == 0, said
    assert {path: path.stat().st_mtime_ns for path in sorted(pack.input.rglob("*"))} == before


def test_an_interrupt_ends_the_judge_too(tmp_path: Path) -> None:
    pack = packed(tmp_path, {"sleep": 300})
    program = tmp_path / "program.py"
    program.write_text(Notebook(pack.notebook).program().replace("answered = network_reached()", "answered = []"))
    started = subprocess.Popen(
        [sys.executable, program], env={**os.environ, **pack.environment, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    with started:
        assert started.stdout is not None
        for line in started.stdout:
            if "pretending to judge" in line:
                break
        children = descendants(started.pid)
        started.send_signal(signal.SIGINT)
        said = started.stdout.read()
    assert "KeyboardInterrupt" in said
    assert children
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    report = json.loads((pack.working / "tiebreak.json").read_text())
    assert report["failed"] == {"stage": "judge", "error": "KeyboardInterrupt: "}
    assert not (pack.working / "submission.csv").exists()


@pytest.mark.slow
def test_jupyter_runs_it_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbclient

    pack = packed(tmp_path, {"otherwise": 0.4})
    for name, value in pack.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    document = nbformat.read(pack.notebook, as_version=4)
    nbclient.NotebookClient(document, timeout=120, kernel_name="python3").execute()
    nbformat.validate(document)
    said = "".join(
        out.text for cell in document.cells for out in cell.get("outputs", []) if out.output_type == "stream"
    )
    assert "submission.csv: 3 rows, 1 of them by the cheaper judge" in said
    assert len(submission(pack)) == 4


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Wheels for another Python than this one, as `tiebreak kaggle pack` makes them, and their sha256."""
    from tiebreak import bundle, storage
    from tiebreak.kaggle.wheels import house, needs
    from tiebreak.kaggle.wheels.target import Target

    folder = tmp_path_factory.mktemp("house") / "wheels"
    requirements = needs.of(bundle.read(judges.EMBEDDED), judges.EMBEDDED)
    house.build(folder, requirements, Target("3.12" if HERE == "3.11" else "3.11"))
    return folder, storage.sha256(folder / "wheelhouse.json")


def image(folder: Path, *packages: str) -> Path:
    """An environment as Kaggle's: a Python with some packages of its own."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    if packages:
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True, capture_output=True)
    return python


def mounted(folder: Path, real: tuple[Path, str]) -> Packed:
    """The real wheels, and a test of the votes that ship with tiebreak."""
    settings = KernelSettings(competition=COMPETITION, submission=forms.LMSYS, wheelhouse=real[1])
    pack = Packed(folder, settings)
    shutil.copytree(real[0], pack.input / "wheels")
    pack.competition.mkdir(parents=True)
    pack.working.mkdir()
    pack.notebook.parent.mkdir()
    texts = [pl.col(name).map_elements(lambda turns: json.dumps(turns.to_list()), pl.String) for name in TEXTS]
    samples.votes().select("id", *texts).write_csv(pack.competition / "test.csv")
    notebook.write(pack.notebook, settings, title="Real", about="The embedded judge.")
    return pack


@pytest.mark.slow
def test_an_image_with_another_python_gives_the_same_answers(tmp_path: Path, real: tuple[Path, str]) -> None:
    """numpy, pydantic and pydantic-core are the image's; everything else is of the wheels."""
    pack = mounted(tmp_path, real)
    code, said, report = run(pack, image(tmp_path / "image", "numpy<2.2", "pydantic<2.12"))
    assert code == 0, said
    assert set(report["left_to_image"]) == {"numpy", "pydantic", "pydantic-core"}
    assert report["network_refused"] == 0
    there = [[float(cell) for cell in row[1:]] for row in submission(pack)[1:]]
    np.testing.assert_allclose(there, judges.load().predict(samples.votes()).select(PROBABILITIES), rtol=0, atol=1e-12)


@pytest.mark.slow
def test_an_image_that_lacks_packages_is_told_which(tmp_path: Path, real: tuple[Path, str]) -> None:
    pack = mounted(tmp_path, real)
    code, said, report = run(pack, image(tmp_path / "image"))
    assert code == 1
    assert re.search(r"the image lacks numpy \(it is not for this Python\), pydantic-core \(it is", said)
    assert f"to mend: tiebreak kaggle pack --python {HERE}, and push again" in said
    assert report["failed"]["stage"] == "install"
