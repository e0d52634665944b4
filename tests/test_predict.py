"""The engine: order and ids kept, any stop survivable, submissions valid or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tiebreak import predict, predictions
from tiebreak.errors import DataError, UsageError
from tiebreak.predict import submission
from tiebreak.predict.progress import Progress
from tiebreak.predict.run import ahead, chunks

ROWS = 25


def run(frame: pl.DataFrame, judge, output: Path, *, form: str = "parquet", **options):  # type: ignore[no-untyped-def]
    options = {"identity": "x", "chunk_rows": 4} | options
    return predict.predict_file(frame.iter_slices(7), judge, output, form=form, **options)


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_every_format_holds_the_same_rows_in_the_same_order(form, votes, length_judge, tmp_path) -> None:  # type: ignore[no-untyped-def]
    frame = votes(ROWS)
    run(frame, length_judge, tmp_path / "p", form=form)
    read = {"parquet": pl.read_parquet, "csv": pl.read_csv, "jsonl": pl.read_ndjson}[form](tmp_path / "p")
    assert_frame_equal(predictions.validate(read), length_judge.predict(frame), check_exact=True)
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 6))
def test_chunks_are_cut_by_row_count_however_the_reader_batches(sizes: list[int], rows: int) -> None:
    whole = pl.DataFrame({"x": np.arange(sum(sizes))})
    starts = np.cumsum([0, *sizes])[:-1]
    tables = [whole.slice(int(start), size) for start, size in zip(starts, sizes, strict=True)]
    cut = list(chunks(iter(tables), rows))
    assert [table.height for table in cut] == [rows] * (whole.height // rows) + (
        [whole.height % rows] if whole.height % rows else []
    )
    if cut:
        assert pl.concat(cut)["x"].to_list() == whole["x"].to_list()


def test_reading_ahead_keeps_order_and_passes_errors_on() -> None:
    assert list(ahead(iter(range(5)))) == [0, 1, 2, 3, 4]

    def failing():  # type: ignore[no-untyped-def]
        yield 1
        raise DataError("row 2 is bad")

    items = ahead(failing())
    assert next(items) == 1
    with pytest.raises(DataError, match="row 2"):
        next(items)


class Stopped(BaseException):
    """Stands for a signal: nothing may catch it."""


@pytest.mark.parametrize("stop_after", [0, 1, 3, 6])
def test_a_stopped_run_goes_on_and_gives_the_same_bytes(stop_after, votes, length_judge, tmp_path) -> None:  # type: ignore[no-untyped-def]
    frame = votes(ROWS)
    run(frame, length_judge, tmp_path / "whole.parquet")
    done = 0

    def stop(rows: int) -> None:
        nonlocal done
        done += 1
        if done > stop_after:
            raise Stopped

    with pytest.raises(Stopped):
        run(frame, length_judge, tmp_path / "p.parquet", progress=Progress(advance=stop))
    assert not (tmp_path / "p.parquet").exists()
    length_judge.judged = 0
    again = run(frame, length_judge, tmp_path / "p.parquet", resume=True)
    kept = min(4 * (stop_after + 1), ROWS)
    assert (again.rows, again.reused, length_judge.judged) == (ROWS, kept, ROWS - kept)
    assert (tmp_path / "p.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not list(tmp_path.glob("*.parts"))


def interrupted(frame, judge, output: Path) -> Path:  # type: ignore[no-untyped-def]
    def stop(rows: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        run(frame, judge, output, progress=Progress(advance=stop))
    return output.with_name(output.name + ".parts")


@pytest.mark.parametrize("damage", [b"", b"PAR1 not really", None])
def test_a_damaged_part_is_done_again(damage, votes, length_judge, tmp_path) -> None:  # type: ignore[no-untyped-def]
    frame = votes(ROWS)
    part = interrupted(frame, length_judge, tmp_path / "p.parquet") / "000000.parquet"
    if damage is None:
        length_judge.predict(frame.slice(8, 4)).write_parquet(part)  # whole, but of other rows
    else:
        part.write_bytes(damage)
    again = run(frame, length_judge, tmp_path / "p.parquet", resume=True)
    assert again.reused == 0
    assert_frame_equal(pl.read_parquet(tmp_path / "p.parquet"), length_judge.predict(frame))


def test_parts_of_an_interrupted_run_are_neither_lost_nor_mixed(votes, length_judge, tmp_path) -> None:  # type: ignore[no-untyped-def]
    frame, output = votes(ROWS), tmp_path / "p.parquet"
    parts = interrupted(frame, length_judge, output)
    with pytest.raises(UsageError, match=r"1 finished parts.*--resume"):
        run(frame, length_judge, output)
    with pytest.raises(UsageError, match="another input, judge or setting"):
        run(frame, length_judge, output, resume=True, identity="other")
    assert (parts / "000000.parquet").is_file()


def test_a_fault_of_the_input_leaves_nothing_in_the_way(votes, length_judge, tmp_path) -> None:  # type: ignore[no-untyped-def]
    def tables():  # type: ignore[no-untyped-def]
        yield votes(ROWS)
        raise DataError("row 26 is bad")

    with pytest.raises(DataError, match="row 26"):
        predict.predict_file(tables(), length_judge, tmp_path / "p.csv", form="csv", identity="x", chunk_rows=4)
    assert list(tmp_path.iterdir()) == []


def test_the_identity_follows_input_judge_and_settings(length_judge, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "x").write_text("1")
    (tmp_path / "y").write_text("2")
    base = predict.identity([tmp_path / "x"], length_judge.manifest, limit=None)
    assert base == predict.identity([tmp_path / "x"], length_judge.manifest, limit=None)
    assert base != predict.identity([tmp_path / "y"], length_judge.manifest, limit=None)
    assert base != predict.identity([tmp_path / "x"], length_judge.manifest, limit=3)
    length_judge.manifest = length_judge.manifest.model_copy(update={"name": "other"})
    assert base != predict.identity([tmp_path / "x"], length_judge.manifest, limit=None)


def test_no_comparisons_give_an_empty_table(votes, length_judge, tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert run(votes(0), length_judge, tmp_path / "p.parquet").rows == 0
    assert dict(pl.read_parquet_schema(tmp_path / "p.parquet")) == dict(pl.Schema(predictions.SCHEMA))


def test_a_submission_has_kaggles_columns_and_the_same_numbers(votes, length_judge, tmp_path) -> None:  # type: ignore[no-untyped-def]
    frame = votes(ROWS).with_columns(id=pl.int_range(ROWS).cast(pl.String))
    sample = tmp_path / "sample.csv"
    sample.write_text(
        "id,winner_model_a,winner_model_b,winner_tie\n" + "".join(f"{i},0.3,0.3,0.4\n" for i in range(ROWS))
    )
    run(frame, length_judge, tmp_path / "s.csv", form="kaggle", sample=sample)
    header, first, *_ = (tmp_path / "s.csv").read_text().splitlines()
    assert header == "id,winner_model_a,winner_model_b,winner_tie"
    row = length_judge.predict(frame).row(0, named=True)
    assert [float(cell) for cell in first.split(",")] == [0.0, row["p_a"], row["p_b"], row["p_tie"]]


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        ("id,winner_model_a,winner_model_b,winner_tie\n0,1,0,0\n", "24 ids are not in the sample"),
        ("id,winner_model_a,winner_model_b,winner_tie\n" + "".join(f"{i},1,0,0\n" for i in range(ROWS + 1)),
         "1 ids are missing from the submission.*'25'"),
        ("id,winner\n0,1\n", "columns id, winner"),
        ("", "cannot be read as CSV"),
    ],
)  # fmt: skip
def test_a_submission_that_does_not_fit_the_sample_never_appears(sample, words, votes, length_judge, tmp_path) -> None:  # type: ignore[no-untyped-def]
    frame = votes(ROWS).with_columns(id=pl.int_range(ROWS).cast(pl.String))
    (tmp_path / "sample.csv").write_text(sample)
    with pytest.raises(DataError, match=words):
        run(frame, length_judge, tmp_path / "s.csv", form="kaggle", sample=tmp_path / "sample.csv")
    assert not (tmp_path / "s.csv").exists()


def test_a_submission_with_repeated_ids_is_refused(votes, length_judge) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=r"24 rows share an id.*each id once"):
        submission.build(length_judge.predict(votes(ROWS)))


def test_unknown_suffixes_and_formats_name_the_known_ones() -> None:
    assert predict.format_of("x.CSV") == "csv"
    assert predict.format_of("-") == "jsonl"
    assert predict.format_of("x.txt", "kaggle") == "kaggle"
    with pytest.raises(UsageError, match=r"\.parquet, \.csv"):
        predict.format_of("x.xlsx")
    with pytest.raises(UsageError, match="one of parquet, csv, jsonl, kaggle"):
        predict.format_of("x.csv", "excel")
