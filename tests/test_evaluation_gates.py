"""Gates: the little grammar, and what fails."""

from __future__ import annotations

import polars as pl
import pytest

import tiebreak as tb
from evaluation_rows import judged, votes
from tiebreak import predictions
from tiebreak.errors import GateError, UsageError
from tiebreak.evaluation import gates


@pytest.mark.parametrize(
    ("text", "figure", "bound", "comparison", "limit"),
    [
        ("log_loss>1.05", "log_loss", None, ">", 1.05),
        (" accuracy <= .4 ", "accuracy", None, "<=", 0.4),
        ("ece.high>=5e-2", "ece", "high", ">=", 0.05),
        ("prior.difference.high>-0.01", "prior.difference", "high", ">", -0.01),
        ("difference.log_loss>0", "difference.log_loss", None, ">", 0.0),
        ("tie_recall<0.1", "tie_recall", None, "<", 0.1),
    ],
)
def test_gates_are_read(text: str, figure: str, bound: str | None, comparison: str, limit: float) -> None:
    gate = gates.parse(text)
    assert (gate.figure, gate.bound, gate.comparison, gate.limit) == (figure, bound, comparison, limit)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "log_loss",
        "log_loss=1",
        "log_loss>",
        ">1",
        "log_loss>one",
        "log_loss>1>2",
        "a b>1",
        "log_loss>nan",
        "ece>１",
    ],
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        gates.parse(text)


@pytest.mark.parametrize(
    ("text", "near"), [("logloss>1", "log_loss"), ("eec<1", "ece"), ("recall_ties<1", "recall_tie")]
)
def test_an_unknown_figure_names_the_nearest(text: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{near}'"):
        gates.parse(text)


def test_gates_fail_pass_and_fail_when_nothing_was_measured() -> None:
    table = votes(60)
    found = tb.evaluate(judged(table), table, resamples=50)
    value = found.metrics["log_loss"].value
    gates.enforce(found, [gates.parse(f"log_loss>{value + 1e-6}"), gates.parse(f"log_loss<{value - 1e-6}")])
    with pytest.raises(GateError) as caught:
        gates.enforce(found, [gates.parse("log_loss>0.01"), gates.parse("accuracy>2"), gates.parse("accuracy<1")])
    assert caught.value.exit_code == 6
    assert str(found.metrics["log_loss"]) in str(caught.value)
    assert "2 quality gates failed" in str(caught.value)
    with pytest.raises(GateError, match="could not be measured"):
        gates.enforce(found, [gates.parse("difference.log_loss>0")])


def test_every_figure_of_an_evaluation_can_be_a_gate_and_every_gate_a_figure() -> None:
    table = votes(60)
    counted = judged(table).with_columns(pl.lit(1).alias(name) for name in predictions.LEDGER)
    found = tb.evaluate(counted, table, against=judged(table, seed=1), resamples=50)
    assert set(found.figures()) == set(gates.names())
