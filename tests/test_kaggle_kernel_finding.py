"""Inputs are found wherever Kaggle mounts them, by what they are and not by where they lie."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_packed import data
from tiebreak import bundle, storage
from tiebreak.judges.base import digest
from tiebreak.kaggle.kernel import content, finding
from tiebreak.kaggle.kernel.reporting import NotebookError, Report

SLUG = "llm-classification-finetuning"


def told(**changes: Any) -> dict[str, Any]:
    return {
        "competition": SLUG, "test": "test.csv", "sample": "sample_submission.csv", "wheelhouse": "", "judge": None,
        "bases": [],
    } | changes  # fmt: skip


def put(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("wheels", "competition"),
    [
        ("tiebreak-wheels", SLUG),
        ("datasets/someone/tiebreak-wheels", f"competitions/{SLUG}"),
        ("tiebreak-wheels/versions/3", f"{SLUG}/data"),
    ],
)
def test_places_do_not_matter(tmp_path: Path, wheels: str, competition: str) -> None:
    sha256 = put(tmp_path / wheels / "wheelhouse.json", "{}")
    put(tmp_path / "other-wheels" / "wheelhouse.json", "{ }")
    data(tmp_path / competition, ["1"])
    found = finding.find_inputs(told(wheelhouse=sha256), tmp_path, tmp_path / "scratch")
    assert found == finding.Found(
        tmp_path / wheels, None, None,
        tmp_path / competition / "test.csv", tmp_path / competition / "sample_submission.csv",
    )  # fmt: skip


def test_another_version_of_the_wheels_is_not_taken_and_is_named(tmp_path: Path) -> None:
    other = put(tmp_path / "wheels" / "wheelhouse.json", "{}")
    data(tmp_path / SLUG, ["1"])
    with pytest.raises(NotebookError) as raised:
        finding.find_inputs(told(wheelhouse="0" * 64), tmp_path, tmp_path)
    assert str(raised.value) == (
        f"wheelhouse.json with sha256 {'0' * 16}... is nowhere among the 3 files under {tmp_path}; "
        f"{tmp_path}/wheels/wheelhouse.json is another one ({other[:16]}); "
        "expected the very version that this notebook was packed with; to mend: Add Input: what kernel-metadata.json "
        "names under dataset_sources, or tiebreak kaggle push once more"
    )


def test_a_competition_that_is_not_attached_is_said_so(tmp_path: Path) -> None:
    sha256 = put(tmp_path / "wheels" / "wheelhouse.json", "{}")
    with pytest.raises(NotebookError, match=f"test.csv of {SLUG} is nowhere among the 1 files.*Add Input.*join"):
        finding.find_inputs(told(wheelhouse=sha256), tmp_path, tmp_path)


def test_the_test_of_the_competition_is_taken_and_not_another_one(tmp_path: Path) -> None:
    data(tmp_path / "another-competition", ["1"])
    data(tmp_path / "competitions" / SLUG, ["2"])
    data(tmp_path / "competitions" / SLUG / "older" / "tests", ["3"])
    files = finding.survey(tmp_path)
    test = finding.competition_file(files, tmp_path, SLUG, "test.csv")
    assert test == tmp_path / "competitions" / SLUG / "test.csv"


def test_elsewhere_a_test_is_taken_if_there_is_one_alone(tmp_path: Path) -> None:
    data(tmp_path / "copy", ["1"])
    assert finding.competition_file(finding.survey(tmp_path), tmp_path, SLUG, "test.csv") == tmp_path / "copy/test.csv"
    data(tmp_path / "copy-2", ["1"])
    assert finding.competition_file(finding.survey(tmp_path), tmp_path, SLUG, "test.csv") is None


def test_the_name_of_the_root_is_no_folder_of_the_competition(tmp_path: Path) -> None:
    data(tmp_path / SLUG / "a", ["1"])
    data(tmp_path / SLUG / "b", ["1"])
    root = tmp_path / SLUG
    assert finding.competition_file(finding.survey(root), root, SLUG, "test.csv") is None


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "file", "x")
    root = tmp_path / "input"
    root.mkdir()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    assert finding.survey(root) == [root / "linked" / "file"]


def test_a_flat_bundle_becomes_the_tree_that_it_was(tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    put(flat / "members--a--judge.json", "a")
    put(flat / "card.md", "card")
    sha256 = put(flat / "judge.json", "the judge")
    put(flat / "layout.json", json.dumps({"members/a/judge.json": "members--a--judge.json"}))
    data(tmp_path / SLUG, ["1"])
    wheels = put(tmp_path / "wheels" / "wheelhouse.json", "{}")
    for _ in range(2):  # a cell may be run again
        found = finding.find_inputs(told(wheelhouse=wheels, judge=sha256), tmp_path, tmp_path / "scratch")
    assert found.judge == tmp_path / "scratch" / "judge"
    texts = {str(p.relative_to(found.judge)): p.read_text() for p in sorted(found.judge.rglob("*")) if p.is_file()}
    assert texts == {"card.md": "card", "judge.json": "the judge", "members/a/judge.json": "a"}


def test_a_bundle_of_bundles_is_read_through_its_links(tmp_path: Path) -> None:
    manifest = bundle.Manifest(kind="blend", name="blend", swap_equivariant=True)
    bundle.write(tmp_path / "whole", manifest, {"members/a/judge.json": b"{}", "w.txt": b"w"})
    flat = tmp_path / "flat"
    for path in sorted((tmp_path / "whole").rglob("*")):
        if path.is_file():
            name = path.relative_to(tmp_path / "whole").as_posix()
            put(flat / name.replace("/", "--"), path.read_text())
    put(flat / "layout.json", json.dumps({"members/a/judge.json": "members--a--judge.json"}))
    assert bundle.read(content.unflattened(flat, tmp_path / "tree")) == bundle.read(tmp_path / "whole")


@pytest.mark.parametrize("places", [{"../out": "a"}, {"/etc/out": "a"}, {"in": "../a"}])
def test_a_layout_leads_nowhere_else(tmp_path: Path, places: dict[str, str]) -> None:
    put(tmp_path / "flat" / "a", "a")
    put(tmp_path / "flat" / "layout.json", json.dumps(places))
    with pytest.raises(NotebookError, match="expected places inside the folder alone"):
        content.unflattened(tmp_path / "flat", tmp_path / "tree")
    assert not (tmp_path / "out").exists()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
def test_weights_are_known_by_the_digest_of_bundles(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("weights")
    files = []
    for number, part in enumerate(parts):
        files.append(folder / f"model-{number}.safetensors")
        files[-1].write_bytes(part)
    assert content.weights_digest(files[::-1]) == digest(files)
    assert content.sha256_of(files[0]) == storage.sha256(files[0])


def test_so_are_weights_over_a_gibibyte(tmp_path: Path) -> None:
    large = tmp_path / "model.safetensors"
    with large.open("wb") as stream:  # sparse: it takes no room
        stream.write(b"head")
        stream.seek((1 << 30) + 12345)
        stream.write(b"tail")
    assert content.weights_digest([large]) == digest([large])


@pytest.mark.parametrize(
    "names", [["model.safetensors"], ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]]
)
def test_a_base_is_found_by_its_weights(tmp_path: Path, names: list[str]) -> None:
    for place, weights in (("a", "other"), ("b/transformers/1", "right"), ("c", "third")):
        put(tmp_path / place / "config.json", "{}")
        for name in names:
            put(tmp_path / place / name, weights + name)
    right = digest([tmp_path / "b/transformers/1" / name for name in names])
    files = finding.survey(tmp_path)
    assert content.by_weights(files, tmp_path, right, tmp_path / "scratch") == tmp_path / "b/transformers/1"
    with pytest.raises(NotebookError, match=r"the base model with digest 0000.*weights of other models: .*/a/model"):
        content.by_weights(files, tmp_path, "0" * 64, tmp_path / "scratch")


def test_a_base_may_be_a_gguf_file(tmp_path: Path) -> None:
    put(tmp_path / "m" / "small.gguf", "weights")
    right = digest([tmp_path / "m" / "small.gguf"])
    found = content.by_weights(finding.survey(tmp_path), tmp_path, right, tmp_path / "scratch")
    assert found == tmp_path / "m" / "small.gguf"


def test_another_python_is_the_first_thing_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "wheelhouse.json", '{"python": "3.99"}')
    report = Report(tmp_path / "tiebreak.json", 1)
    finding.tell_python(tmp_path, report)
    assert "WARNING: the wheels are for Python 3.99, and this is Python 3." in capsys.readouterr().out
    assert "tiebreak kaggle pack --python 3." in report.facts["notes"][0]


def test_the_report_says_where_a_run_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(tmp_path / "tiebreak.json", 2.0)
    with report.stage("find"):
        report.say("one\ntwo")
    with pytest.raises(NotebookError), report.stage("install"):
        raise NotebookError("no", expected="yes", mend="try")
    document = json.loads((tmp_path / "tiebreak.json").read_text())
    assert list(document["stages"]) == ["find", "install"]
    assert document["failed"] == {"stage": "install", "error": "NotebookError: no; expected yes; to mend: try"}
    assert not document["complete"]
    assert 7190 < report.left() <= 7200
    assert [line.split("] ")[1] for line in capsys.readouterr().out.splitlines()] == [
        "== find", "one", "two", "== install",
    ]  # fmt: skip
