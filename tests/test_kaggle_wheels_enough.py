"""What `needs` names is enough: each kind of judge predicts where nothing else can be imported.

The environment is a folder of links to what the requirements reach among the installed packages, and a Python that
knows of no other.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from packaging.utils import canonicalize_name

import tiebreak
from tiebreak import bundle, judges
from tiebreak.bundle import Manifest
from tiebreak.kaggle.wheels import closure, needs
from tiebreak.kaggle.wheels.closure import Package
from tiebreak.kaggle.wheels.target import Target

BASE_PYTHON = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"

pytestmark = pytest.mark.skipif(not BASE_PYTHON.is_file(), reason="no interpreter beside that of the environment")


def environment(directory: Path, requirements: tuple[str, ...]) -> Path:
    """A folder with the packages that requirements reach, and tiebreak."""
    installed = {canonicalize_name(one.name): one for one in distributions() if one.name}
    said = {
        name: Package(name, one.version, tuple(one.requires or ())) for name, one in installed.items()
    }  # fmt: skip
    reached = closure.reach(requirements, said, Target())
    assert reached.lacking == []
    directory.mkdir()
    for name in reached.names:
        for place in tops(installed[name]):
            if not (directory / place.name).exists():
                (directory / place.name).symlink_to(place)
    (directory / "tiebreak").symlink_to(Path(tiebreak.__file__).parent)
    return directory


def tops(package: Distribution) -> set[Path]:
    """What a package has put into site-packages."""
    names = {path.parts[0] for path in package.files or () if ".." not in path.parts}
    return {Path(str(package.locate_file(name))) for name in names - {"__pycache__"}}


def predict(site: Path, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(BASE_PYTHON), "-S", "-m", "tiebreak", "predict", "test.csv", *map(str, arguments)],
        env=bare | {"PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture
def test_file(tmp_path: Path) -> Path:
    turns = [['["Name a prime."]', '["Seven."]', '["Nine is a prime."]'], ['["q", "r"]', '["a", null]', '["b", "c"]']]
    columns = ("prompt", "response_a", "response_b")
    rows: dict[str, Any] = {name: [row[place] for row in turns] for place, name in enumerate(columns)}
    pl.DataFrame({"id": [1, 2], **rows}).write_csv(tmp_path / "test.csv")
    return tmp_path / "test.csv"


def held(directory: Path, test_file: Path, *options: str) -> None:
    """The submission from there is the one from here."""
    found = needs.of(bundle.read(directory), directory)
    site = environment(test_file.parent / "site", found)
    done = predict(site, "--judge", directory, "--format", "kaggle", "-o", "there.csv", *options, cwd=test_file.parent)
    assert done.returncode == 0, done.stderr
    judge = judges.load(directory)
    table = tiebreak.read(test_file)
    here = judge.predict(table)
    there = pl.read_csv(test_file.parent / "there.csv", schema_overrides={"id": pl.String})
    assert there["id"].to_list() == here["id"].to_list()
    for column, name in (("winner_model_a", "p_a"), ("winner_model_b", "p_b"), ("winner_tie", "p_tie")):
        assert there[column].to_list() == pytest.approx(here[name].to_list(), abs=2e-2)


def test_the_embedded_judge_runs_on_what_it_needs(test_file: Path) -> None:
    held(judges.EMBEDDED, test_file)


@pytest.mark.slow
def test_the_embedded_judge_does_not_run_on_less(tmp_path: Path, test_file: Path) -> None:
    held(judges.EMBEDDED, test_file)
    for name in ("numpy", "polars", "pydantic", "safetensors", "typer"):
        site = tmp_path / "site" / name
        kept = site.readlink()
        site.unlink()
        assert predict(tmp_path / "site", "--format", "kaggle", "-o", "less.csv", cwd=tmp_path).returncode != 0, name
        site.symlink_to(kept)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classifier", "siamese", "generative", "reward", "retrieval", "nf4", "blend"])
def test_a_judge_with_a_network_runs_on_what_it_needs(kind: str, tmp_path: Path, test_file: Path) -> None:
    held(made(kind, tmp_path), test_file)


def made(kind: str, folder: Path) -> Path:
    """The bundle of a tiny judge."""
    import combine_made
    import generative_made
    import judges_made
    import tiny

    place = folder / "judge"
    if kind == "siamese":
        judges_made.siamese(folder / "base").save(place)
    elif kind == "generative":
        generative_made.judge(folder / "base").save(place)
    elif kind == "nf4":
        return combine_made.fold(folder, tiny.save(folder / "base"), 0, quantize="nf4")
    elif kind in ("reward", "retrieval", "blend"):
        {"reward": reward, "retrieval": retrieval, "blend": blend}[kind](folder, place)
    else:
        judges_made.classifier(folder / "base").save(place)
    return place


def reward(folder: Path, place: Path) -> None:
    import tiny
    from tiebreak.judges.reward.wrapping import wrap
    from tiebreak.render import template

    checkpoint = tiny.save(folder / "base", "llama", num_labels=1)
    wrap(str(checkpoint), template=template("single", max_length=300)).save(place)


def retrieval(folder: Path, place: Path) -> None:
    import retrieval_made
    from test_retrieval_judge import judge_of

    judge_of(retrieval_made.votes(120), retrieval_made.encoder(folder / "base")).save(place)


def blend(folder: Path, place: Path) -> None:
    import judges_made

    judges_made.classifier(folder / "base").save(folder / "tuned")
    members = {"embedded": judges.EMBEDDED, "tuned": folder / "tuned"}
    settings = {
        "members": [
            {"name": name, "kind": bundle.read(one).kind, "network": name == "tuned", "swap_equivariant": True,
             "place": f"members/{name}"}
            for name, one in members.items()
        ],
        "mix": {"weights": [0.5, 0.5], "space": "logits"}, "rule": "fitted",
    }  # fmt: skip
    files = {
        f"members/{name}/{path.name}": path for name, one in members.items() for path in one.iterdir() if path.is_file()
    }
    manifest = Manifest(kind="blend", name="both", swap_equivariant=True, settings=settings)
    bundle.write(place, manifest, files)
