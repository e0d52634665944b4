"""What a rehearsed notebook finds under its input folder."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kaggle_handmade
from kaggle_handmade import LMSYS, WSDM
from tiebreak import ingest
from tiebreak.errors import DataError, UsageError
from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.rehearse import competition, inputs, outcome
from tiebreak.kaggle.rehearse.script import Line, Notebook
from tiebreak.kaggle.settings import KernelSettings, Submission

MODELS = ["pyTorch/judge", "other/base"]


@pytest.fixture
def pack(tmp_path: Path) -> Layout:
    return kaggle_handmade.make(tmp_path / "pack", "pass", models=MODELS, wheels={"wheelhouse.json": "{}", "a.whl": ""})


def targets(found: list[inputs.Place]) -> list[str]:
    return sorted(str(place.target) for place in found)


def edit(pack: Layout, **changes: object) -> None:
    path = pack.kernel / "kernel-metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_everything_is_where_kaggle_mounts_it(pack: Layout, tmp_path: Path) -> None:
    test = tmp_path / "test.csv"
    assert targets(inputs.places(pack, [test])) == [
        "competitions/llm-classification-finetuning/test.csv", "datasets/someone/the-wheels/a.whl",
        "datasets/someone/the-wheels/wheelhouse.json", "models/someone/the-judge/other/base/3/weights.bin",
        "models/someone/the-judge/pytorch/judge/3/weights.bin",
    ]  # fmt: skip
    assert targets(inputs.places(pack, [test], mounts="old")) == [
        "llm-classification-finetuning/test.csv", "the-judge/other/base/3/weights.bin",
        "the-judge/pytorch/judge/3/weights.bin", "the-wheels/a.whl", "the-wheels/wheelhouse.json",
    ]  # fmt: skip


def test_what_the_metadata_do_not_name_is_not_there(pack: Layout) -> None:
    edit(pack, dataset_sources=[], model_sources=["someone/the-judge/other/base/3"], competition_sources=[])
    assert targets(inputs.places(pack, [])) == ["models/someone/the-judge/other/base/3/weights.bin"]


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        (
            {"dataset_sources": ["someone/other-wheels"]},
            "for the dataset someone/other-wheels, and the one in the",
        ),
        (
            {"model_sources": ["google/gemma/other/2b/1"]},
            "for the model google/gemma/other/2b/1, and it is not in",
        ),
        ({"kernel_sources": ["someone/notebook"]}, "asks for the kernel someone/notebook"),
    ],
)
def test_what_the_metadata_name_and_nobody_has_is_told(pack: Layout, changes: dict[str, object], wrong: str) -> None:
    edit(pack, **changes)
    with pytest.raises(DataError, match=wrong):
        inputs.places(pack, [])


def test_a_notebook_that_nobody_names_is_told(pack: Layout) -> None:
    assert inputs.code_file(pack) == "the-notebook.ipynb"
    edit(pack, code_file=None)
    with pytest.raises(DataError, match="names no code_file"):
        inputs.code_file(pack)


def test_a_base_that_kaggle_has_is_taken_from_here(pack: Layout, tmp_path: Path) -> None:
    base = tmp_path / "gemma"
    (base / "deep").mkdir(parents=True)
    (base / "config.json").touch()
    (base / "deep" / "weights.bin").touch()
    edit(pack, model_sources=["someone/the-judge/pyTorch/judge/3", "google/gemma/Transformers/2b/1"])
    assert targets(inputs.places(pack, [], base))[2:] == [
        "models/google/gemma/transformers/2b/1/config.json", "models/google/gemma/transformers/2b/1/deep/weights.bin",
        "models/someone/the-judge/pytorch/judge/3/weights.bin",
    ]  # fmt: skip
    edit(pack, model_sources=["google/gemma/Transformers/2b/1", "google/gemma/Transformers/9b/1"])
    with pytest.raises(DataError, match="the model google/gemma/Transformers/9b/1"):
        inputs.places(pack, [], base)
    edit(pack, model_sources=[])
    with pytest.raises(UsageError, match="the notebook takes no model from Kaggle that is not in the pack"):
        inputs.places(pack, [], base)


@pytest.mark.parametrize(("name", "wrong"), [("members", "which Kaggle's client leaves out"), ("w.zip", "unpacks")])
def test_what_would_not_come_through_kaggle_is_told(pack: Layout, name: str, wrong: str) -> None:
    place = pack.model / "judge" / name
    place.touch() if "." in name else place.mkdir()
    with pytest.raises(DataError, match=wrong):
        inputs.places(pack, [])


@pytest.mark.parametrize(
    ("form", "test", "rows"),
    [(LMSYS, "test.csv", None), (LMSYS, "test.parquet", 200), (WSDM, "test.parquet", None), (WSDM, "test.csv", 7)],
)
def test_our_own_samples_are_read_as_what_they_stand_for(
    tmp_path: Path, form: Submission, test: str, rows: int | None
) -> None:
    settings = KernelSettings(competition="c", test=test, submission=form, wheelhouse="")
    made = competition.lay_out(tmp_path, settings, rows=rows)
    assert (made.test.name, made.sample.name) == (test, "sample_submission.csv")
    table = pl.concat(ingest.stream([str(made.test)], ingest.Options(format="kaggle" if form is LMSYS else "wsdm")))
    assert table.height == (rows or 3) == made.ids.len()
    assert table["id"].to_list() == made.ids.to_list()
    assert table["prompt"].list.first().str.len_chars().min() > 0
    sample = pl.read_csv(made.sample, infer_schema=False)
    assert sample.columns == form.header
    assert sample["id"].equals(made.ids)
    if rows != 200:
        assert table["prompt"].list.len().max() == 1 or form is LMSYS


@given(ids=st.lists(st.text("abc123", min_size=1), min_size=1, max_size=5, unique=True), rows=st.integers(1, 50))
def test_rows_are_drawn_from_the_test_file_under_new_ids(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], rows: int
) -> None:
    folder = tmp_path_factory.mktemp("drawn")
    given_rows = pl.DataFrame({"id": ids, "prompt": [["x", name] for name in ids], "other": range(len(ids))})
    given_rows.write_parquet(folder / "given.parquet")
    settings = KernelSettings(competition="c", submission=LMSYS, wheelhouse="")
    made = competition.lay_out(folder, settings, folder / "given.parquet", rows=rows)
    drawn = pl.read_csv(made.test, infer_schema=False)
    assert drawn["id"].to_list() == [str(number) for number in range(1, rows + 1)]
    known = {str(number): json.dumps(["x", name]) for number, name in enumerate(ids)}
    assert all(known[other] == prompt for prompt, other in drawn.select("prompt", "other").iter_rows())
    assert competition.lay_out(folder, settings, folder / "given.parquet", rows=rows).ids.equals(made.ids)


def test_given_files_go_in_byte_for_byte_and_the_sample_has_the_order(tmp_path: Path) -> None:
    test, sample, folder = tmp_path / "mine.csv", tmp_path / "s.csv", tmp_path / "there"
    folder.mkdir()
    test.write_bytes(b'id,prompt\r\n7,"a\nb"\r\n8,c\r\n')
    sample.write_bytes(b"id,winner_model_a,winner_model_b,winner_tie\n8,.3,.3,.4\n7,.3,.3,.4\n")
    settings = KernelSettings(competition="c", submission=LMSYS, wheelhouse="")
    made = competition.lay_out(folder, settings, test, sample)
    assert made.test.read_bytes() == test.read_bytes()
    assert made.sample.read_bytes() == sample.read_bytes()
    assert made.ids.to_list() == ["8", "7"]
    sample.write_text("id,winner_model_a,winner_model_b,winner_tie\n1,.3,.3,.4\n")  # of another test file
    assert competition.lay_out(folder, settings, test, sample).ids.to_list() == ["7", "8"]
    test.write_text("row,prompt\n1,a\n")
    with pytest.raises(DataError, match="no column id; it has row, prompt"):
        competition.lay_out(folder, settings, test)
    with pytest.raises(DataError, match="cannot be read"):
        competition.lay_out(folder, settings, tmp_path / "absent.csv")
    with pytest.raises(DataError, match=r"test\.json: test files of this kind cannot be made"):
        competition.lay_out(folder, settings.model_copy(update={"test": "test.json"}))


def test_names_are_of_files_not_of_places(tmp_path: Path) -> None:
    settings = KernelSettings(competition="c", test="../../out.csv", submission=LMSYS, wheelhouse="")
    assert competition.lay_out(tmp_path, settings).test == tmp_path / "out.csv"


def test_a_submission_of_halves_sums_to_one(tmp_path: Path) -> None:
    form = Submission(columns={"a": "p_a_without_tie", "b": "p_b_without_tie"})
    path = tmp_path / "submission.csv"
    path.write_text("id,a,b\n1,0.25,0.75\n")
    assert outcome.check(path, form, pl.Series(["1"])) == 1
    path.write_text("id,a,b\n1,0.25,0.7\n")
    with pytest.raises(DataError, match="a, b of a row do not sum to 1"):
        outcome.check(path, form, pl.Series(["1"]))


def test_a_notebook_says_where_it_is_and_keeps_what_it_printed(tmp_path: Path) -> None:
    cells = [("markdown", "# Start"), ("code", "x = 1"), ("markdown", "text\n\n## Go on"), ("code", ["y = x\n", "y"])]
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"cells": [{"cell_type": kind, "source": source} for kind, source in cells]}))
    notebook = Notebook(path)
    assert notebook.program() == (
        "print('\\x1etiebreak-cell 1', flush=True)\nx = 1\n\nprint('\\x1etiebreak-cell 3', flush=True)\ny = x\ny\n"
    )
    assert [notebook.name(number) for number in (-1, 1, 3)] == ["cell -1", "Start", "Go on"]
    executed = json.loads(notebook.executed([Line(0.1, 3, "<b>"), Line(0.2, 3, "")]))
    assert executed["cells"][1]["outputs"] == []
    assert executed["cells"][3]["outputs"] == [{"name": "stdout", "output_type": "stream", "text": "<b>\n\n"}]
    path.write_text(json.dumps({"cells": []}))
    with pytest.raises(DataError, match="has no code"):
        Notebook(path)
