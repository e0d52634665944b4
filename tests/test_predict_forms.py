"""Submissions in any form: what a sample says by itself, what has to be said, and what is never guessed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tiebreak import predictions
from tiebreak.errors import DataError, UsageError
from tiebreak.predict import forms, submission, write
from tiebreak.predict.forms import LMSYS, Submission

P = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.375, 0.375, 0.25], [0.125, 0.25, 0.625]])
TABLE = predictions.build(pl.Series("id", ["10", "11", "12", "13"]), P)
THREE = {"p_a", "p_b", "p_tie"}


def sample_of(tmp_path: Path, text: str) -> Path:
    (tmp_path / "sample.csv").write_text(text)
    return tmp_path / "sample.csv"


@pytest.mark.parametrize(
    ("text", "id_column", "columns"),
    [
        ("id,winner_model_a,winner_model_b,winner_tie\n1,.3,.3,.4\n", "id", LMSYS.columns),
        ("winner_tie,id,winner_model_b,winner_model_a\n.4,1,.3,.3\n", "id",
         {"winner_tie": "p_tie", "winner_model_b": "p_b", "winner_model_a": "p_a"}),
        ("id,winner\n1,model_a\n2,model_b\n", "id", {"winner": "winner_without_tie"}),
        ("id,winner\n1,model_a\n2,tie\n", "id", {"winner": "winner"}),
        ("pair_id,probA,probB,probTie\n1,0,0,1\n", "pair_id", {"probA": "p_a", "probB": "p_b", "probTie": "p_tie"}),
        ("row,left,right\n1,0,1\n", "row", {"left": "p_a_without_tie", "right": "p_b_without_tie"}),
        ("question_id,P(first),P(second),P(draw)\n1,0,0,1\n", "question_id",
         {"P(first)": "p_a", "P(second)": "p_b", "P(draw)": "p_tie"}),
        ("id,winner_1,winner_2,tie\n1,0,0,1\n", "id", {"winner_1": "p_a", "winner_2": "p_b", "tie": "p_tie"}),
        ("id,is_tie,a_wins,b_wins\n1,1,0,0\n", "id", {"is_tie": "p_tie", "a_wins": "p_a", "b_wins": "p_b"}),
    ],
)  # fmt: skip
def test_a_sample_says_by_its_header_what_is_wanted(text, id_column, columns, tmp_path) -> None:  # type: ignore[no-untyped-def]
    found = forms.recognise(sample_of(tmp_path, text))
    assert found.id == id_column
    assert list(found.columns.items()) == list(columns.items())


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("id,winner\n1,model_a\n", {"a": "model_a", "b": "model_b", "tie": "tie"}),
        ("id,winner\n1,model_b\n", {"a": "model_a", "b": "model_b", "tie": "tie"}),
        ("id,label\n1,A\n2,B\n", {"a": "A", "b": "B", "tie": "tie"}),
        ("id,label\n1,A\n2,A\n", {"a": "A", "b": "B", "tie": "tie"}),
        ("id,preference\n1,right\n", {"a": "left", "b": "right", "tie": "tie"}),
        ("id,verdict\n1,Left\n2,Draw\n", {"a": "Left", "b": "Right", "tie": "Draw"}),
    ],
)  # fmt: skip
def test_winners_are_called_as_the_sample_calls_them(text, labels, tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert forms.recognise(sample_of(tmp_path, text)).labels == labels


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,winner\n1,0\n2,1\n", r"columns id, winner: what winner should hold.*--column NAME=CONTENT; one of p_a"),
        ("id,winner\n1,1\n2,2\n", "what winner should hold"),
        ("id,winner\n1,model_a\n2,model_c\n", "what winner should hold"),
        ("id,score\n1,0.5\n", "what score should hold"),
        ("id,p_a,p_b,p_c\n1,0,0,0\n", "what p_a, p_b, p_c should hold"),
        ("id,p_a,p_left\n1,0,0\n", "what p_a, p_left should hold"),
        ("id,loser_model_a,loser_model_b,tie\n1,0,0,0\n", "what loser_model_a, loser_model_b, tie should hold"),
        ("x,y,p_a,p_b\n1,2,0,0\n", "what x, y, p_a, p_b should hold"),
        ("p_a,p_b,p_tie\n0,0,1\n", "none of them looks like ids"),
        ("id\n1\n", "columns id"),
        ("", "cannot be read as CSV"),
    ],
)  # fmt: skip
def test_what_says_nothing_is_not_guessed(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        forms.recognise(sample_of(tmp_path, text))


def test_what_is_said_of_a_column_counts_and_the_rest_is_recognised(tmp_path: Path) -> None:
    path = sample_of(tmp_path, "key,x,p_b,p_tie\n1,0,0,1\n")
    found = forms.recognise(path, {"x": "p_a"})
    assert (found.id, found.columns) == ("key", {"x": "p_a", "p_b": "p_b", "p_tie": "p_tie"})
    path = sample_of(tmp_path, "n,x,winner\n1,0,0\n")
    found = forms.recognise(path, {"x": "id", "n": "p_a_without_tie", "winner": "winner_without_tie:0,1"})
    assert (found.id, list(found.columns)) == ("x", ["n", "winner"])
    assert found.labels == {"a": "0", "b": "1", "tie": "tie"}
    assert forms.spelled({"w": "winner:1,2,0"}).labels == {"a": "1", "b": "2", "tie": "0"}


@pytest.mark.parametrize(
    ("told", "kind", "words"),
    [
        ({"absent": "p_a"}, DataError, "no column absent; it has id, x, y"),
        ({"x": "p_c"}, UsageError, r"--column x=p_c; expected one of p_a, p_b.*or id"),
        ({"x": "winner:1,2"}, UsageError, "winner:A,B,TIE"),
        ({"x": "winner_without_tie:1,"}, UsageError, "winner_without_tie:A,B"),
        ({"x": "p_a:1,2"}, UsageError, "with the words"),
        ({"x": "winner:1,1,2", "y": "p_a"}, UsageError, "three different words"),
        ({"x": "p_a"}, DataError, "what y should hold"),
    ],
)
def test_what_cannot_be_said_is_refused(told, kind, words, tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(kind, match=words):
        forms.recognise(sample_of(tmp_path, "id,x,y\n1,0,0\n"), told)


def test_a_form_is_closed() -> None:
    for wrong in (
        {"columns": {}}, {"columns": {"id": "p_a"}}, {"columns": {"x": "p_c"}}, {"columns": {"x": "p_a"}, "order": 1},
        {"columns": {"x": "winner"}, "labels": {"a": "A", "b": "B"}},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            Submission.model_validate(wrong)
    again = Submission.model_validate_json(LMSYS.model_dump_json())
    assert again == LMSYS


def test_every_content_is_the_arithmetic_that_it_says() -> None:
    form = Submission(
        id="pair",
        columns={"t": "p_tie", "a": "p_a", "b": "p_b", "a2": "p_a_without_tie", "b2": "p_b_without_tie",
                 "w": "winner", "w2": "winner_without_tie"},
        labels={"a": "first", "b": "second", "tie": "none"},
    )  # fmt: skip
    built = submission.build(TABLE, form)
    assert built.columns == form.header
    assert built["pair"].to_list() == ["10", "11", "12", "13"]
    np.testing.assert_array_equal(built.select("a", "b", "t").to_numpy(), P)
    np.testing.assert_array_equal(built["a2"], [0.625, 0.375, 0.5, 0.4375])
    np.testing.assert_array_equal(built["b2"], [0.375, 0.625, 0.5, 0.5625])
    assert built["w"].to_list() == ["first", "second", "none", "none"]
    assert built["w2"].to_list() == ["first", "second", "first", "second"]  # an exact toss-up is the first


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.floats(1e-6, 1)] * 3), min_size=1, max_size=20))
def test_without_ties_the_mass_is_kept_and_no_difference_is_lost(rows: list[tuple[float, float, float]]) -> None:
    p = np.array(rows) / np.array(rows).sum(axis=1, keepdims=True)
    table = predictions.build(pl.Series([str(i) for i in range(len(p))]), p)
    form = Submission(columns={"a": "p_a_without_tie", "b": "p_b_without_tie", "w": "winner_without_tie"})
    built = submission.build(table, form)
    np.testing.assert_allclose(built["a"] + built["b"], 1, atol=1e-12)
    assert built["w"].to_list() == ["model_a" if a >= b else "model_b" for a, b, _ in p]


def test_rows_come_in_the_order_of_the_sample(tmp_path: Path) -> None:
    sample = sample_of(tmp_path, "id,winner\n13,model_a\n10,model_a\n12,model_a\n11,model_b\n")
    write.write(TABLE, tmp_path / "s.csv", "kaggle", sample)
    assert (tmp_path / "s.csv").read_text() == "id,winner\n13,model_b\n10,model_a\n12,model_a\n11,model_b\n"
    write.write(TABLE, tmp_path / "s.csv", "kaggle", None, forms.recognise(sample))
    assert (tmp_path / "s.csv").read_text() == "id,winner\n10,model_a\n11,model_b\n12,model_a\n13,model_b\n"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("id,a", "id,c", "columns id, c"),
        ("10,", "14,", "ids changed"),
        ("0.625", "0.626", "a cell of a is not its probability"),
        ("0.625", "nan", "a cell of a is not its probability"),
        ("0.625", "", "a cell of a is not its probability"),
        ("model_b", "model_a", "winners of w changed"),
    ],
)
def test_a_file_that_does_not_hold_what_it_should_is_found_out(old, new, words, tmp_path) -> None:  # type: ignore[no-untyped-def]
    form = Submission(columns={"a": "p_a_without_tie", "b": "p_b_without_tie", "w": "winner_without_tie"})
    built = submission.build(TABLE, form)
    built.write_csv(tmp_path / "s.csv")
    submission.check(tmp_path / "s.csv", built, form)
    text = (tmp_path / "s.csv").read_text()
    assert old in text
    (tmp_path / "s.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=words):
        submission.check(tmp_path / "s.csv", built, form)


def test_a_sample_with_an_id_twice_is_refused(tmp_path: Path) -> None:
    sample = sample_of(tmp_path, "id,winner\n" + "".join(f"{i},model_a\n" for i in (10, 10, 11, 12, 13)))
    with pytest.raises(DataError, match="an id occurs twice"):
        write.write(TABLE, tmp_path / "s.csv", "kaggle", sample)


# From the command line


def run(here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tiebreak", "predict", *arguments], cwd=here, capture_output=True, text=True, check=False
    )


@pytest.fixture
def wsdm(tmp_path: Path) -> Path:
    """The files of a competition with two classes, in an order of its own."""
    rows = [
        ("w1", "Name a prime.", "Seven is a prime number, and so are 2, 3 and 5.", "no"),
        ("w2", "Name a prime.", "no", "Seven is a prime number, and so are 2, 3 and 5."),
        ("w3", "Say yes.", "yes", "yes"),
    ]
    pl.DataFrame(rows, schema=["id", "prompt", "response_a", "response_b"], orient="row").write_csv(
        tmp_path / "wsdm_test.csv"
    )
    (tmp_path / "ss.csv").write_text("id,winner\nw3,model_b\nw1,model_a\nw2,model_a\n")
    return tmp_path


def test_a_competition_with_two_classes_from_its_test_file_to_its_submission(wsdm: Path) -> None:
    done = run(
        wsdm, "wsdm_test.csv", "--format", "kaggle", "--sample", "ss.csv", "-o", "s.csv",
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pl.read_csv(wsdm / "s.csv")
    assert table.columns == ["id", "winner"]
    assert dict(table.rows())["w3"] == "model_a"  # the same answer twice: an exact toss-up
    assert table["id"].to_list() == ["w3", "w1", "w2"]
    assert sorted(table.filter(pl.col("id") != "w3")["winner"].to_list()) == ["model_a", "model_b"]
    assert "half of P(tie) goes to each side" in done.stderr
    assert "an exact toss-up is called model_a" in done.stderr
    assert json.loads(done.stdout)["submission"]["columns"] == {"winner": "winner_without_tie"}


def test_ids_and_columns_may_have_any_name(wsdm: Path) -> None:
    pl.read_csv(wsdm / "wsdm_test.csv").rename({"id": "pair"}).write_csv(wsdm / "test.csv")
    (wsdm / "sample.csv").write_text("pair,x,y\nw1,0,1\nw2,0,1\nw3,0,1\n")
    arguments = ("test.csv", "--format", "kaggle", "-o", "s.csv")
    refused = run(wsdm, *arguments, "--sample", "sample.csv")
    assert refused.returncode == 3
    assert "what pair, x, y should hold is not to be seen" in refused.stderr
    told = ("--column", "x=p_b_without_tie", "--column", "y=p_a_without_tie")
    done = run(wsdm, *arguments, "--sample", "sample.csv", *told)
    assert done.returncode == 0, done.stderr
    table = pl.read_csv(wsdm / "s.csv")
    assert table.columns == ["pair", "x", "y"]
    assert table["pair"].to_list() == ["w1", "w2", "w3"]
    assert table.row(2) == ("w3", 0.5, 0.5)
    bare = run(wsdm, *arguments, "--column", "pair=id", *told)
    assert bare.returncode == 0, bare.stderr
    assert pl.read_csv(wsdm / "s.csv").equals(table)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-o", "p.csv", "--column", "x=p_a"), "--column goes with a Kaggle submission"),
        (("--format", "kaggle", "-o", "s.csv", "--column", "x"), "NAME=CONTENT"),
        (("--format", "kaggle", "-o", "s.csv", "--column", "x=p_c"), "one of p_a"),
        (("--format", "kaggle", "-o", "-", "--sample", "ss.csv"), "-o FILE"),
    ],
)  # fmt: skip
def test_what_cannot_be_on_the_command_line(options: tuple[str, ...], words: str, wsdm: Path) -> None:
    done = run(wsdm, "wsdm_test.csv", *options)
    assert done.returncode == 2
    assert words in done.stderr
