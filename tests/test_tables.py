"""The two tables: what they accept, what they refuse and with which words, and how they mirror."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from polars.testing import assert_frame_equal

from tiebreak import comparisons, predictions
from tiebreak.errors import DataError


def table(**columns: object) -> pl.DataFrame:
    base = {
        "id": ["1", "2"],
        "prompt": [["p"], ["q", "r"]],
        "response_a": [["a"], ["a", None]],
        "response_b": [["b"], ["b", "c"]],
    }
    return pl.DataFrame({**base, **columns})


def test_validate_brings_any_table_to_the_schema() -> None:
    valid = comparisons.validate(table(id=[7, 8], extra=[1, 2]))
    assert dict(valid.schema) == {name: pl.Schema({name: t})[name] for name, t in comparisons.SCHEMA.items()}
    assert valid["id"].to_list() == ["7", "8"]
    assert valid["label"].null_count() == 2


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"label": ["a", "A"]}, ["row 2", "'A'", "a, b, tie or null"]),
        ({"label": ["both", None]}, ["row 1", "'both'"]),
        ({"response_b": [["b"], ["b"]]}, ["row 2", "'2'", "response_b has not as many turns"]),
        ({"response_a": [None, ["a", "b"]]}, ["row 1", "response_a has not as many turns"]),
        ({"prompt": [[], ["q", "r"]]}, ["row 1", "prompt is null or has no turn"]),
        ({"id": ["1", None]}, ["row 2", "id is null"]),
        ({"p_a": [0.5, None], "p_b": [0.5, None], "p_tie": [0.1, None]}, ["row 1", "sum 1"]),
        ({"p_a": [1.0, None]}, ["row 1", "three probabilities"]),
        ({"p_a": [float("nan"), 1.0], "p_b": [0.5, 0.0], "p_tie": [0.5, 0.0]}, ["row 1"]),
        ({"p_a": [1.5, 1.0], "p_b": [-0.5, 0.0], "p_tie": [0.0, 0.0]}, ["row 1"]),
        ({"weight": [1.0, -1.0]}, ["row 2", "weight"]),
        ({"weight": [float("inf"), 1.0]}, ["row 1", "weight"]),
        ({"prompt": ["p", "q"]}, ["column prompt"]),
    ],
)
def test_a_bad_row_is_named_with_what_was_expected(columns: dict[str, object], words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        comparisons.validate(table(**columns), where="votes.csv")
    assert "votes.csv" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_column_names_the_mapping_that_mends_it() -> None:
    with pytest.raises(DataError, match=r"column prompt missing.*--map prompt="):
        comparisons.validate(table().drop("prompt"), where="votes.csv")


def test_swap_mirrors_everything_and_twice_is_the_same(votes) -> None:  # type: ignore[no-untyped-def]
    frame = votes(9).with_columns(
        p_a=pl.lit(0.5), p_b=pl.lit(0.3), p_tie=pl.lit(0.2), model_a=pl.lit("m"), model_b=pl.lit("n")
    )
    swapped = comparisons.swap(frame)
    assert_frame_equal(comparisons.swap(swapped), frame)
    assert swapped["response_a"].equals(frame["response_b"].alias("response_a"))
    assert swapped["label"].to_list() == [{"a": "b", "b": "a", "tie": "tie"}[x] for x in frame["label"]]
    assert swapped.select("p_a", "p_b", "p_tie", "model_a").row(0) == (0.3, 0.5, 0.2, "n")
    np.testing.assert_array_equal(comparisons.targets(swapped), comparisons.targets(frame)[:, [1, 0, 2]])


def test_targets_prefer_the_soft_label_and_leave_unlabelled_rows_nan() -> None:
    frame = comparisons.validate(table(label=["a", None], p_a=[0.2, None], p_b=[0.3, None], p_tie=[0.5, None]))
    np.testing.assert_array_equal(comparisons.targets(frame), [[0.2, 0.3, 0.5], [np.nan] * 3])


def test_the_fingerprint_follows_texts_and_labels_and_their_order(votes) -> None:  # type: ignore[no-untyped-def]
    frame = votes(5)
    assert comparisons.fingerprint(frame) == comparisons.fingerprint(votes(5))
    assert comparisons.fingerprint(frame) != comparisons.fingerprint(frame.reverse())
    assert comparisons.fingerprint(frame) != comparisons.fingerprint(comparisons.swap(frame))


finite = st.floats(-700, 700)


@settings(deadline=None)
@given(arrays(np.float64, (4, 3), elements=finite))
def test_softmax_is_a_probability_and_mirrors_bit_by_bit(logits: np.ndarray) -> None:
    p = predictions.softmax(logits)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_array_equal(predictions.softmax(logits[:, [1, 0, 2]]), p[:, [1, 0, 2]])


def test_the_verdict_does_not_depend_on_the_order() -> None:
    p = np.array([[0.4, 0.4, 0.2], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.4, 0.2, 0.4]])
    codes = predictions.verdicts(p)
    assert codes.tolist()[:3] == [2, 0, 2]
    mirrored = predictions.verdicts(p[:, [1, 0, 2]])
    assert mirrored.tolist() == [[1, 0, 2][code] for code in codes]


def test_build_refuses_what_is_not_a_distribution() -> None:
    with pytest.raises(DataError, match=r"row 2 \(id 'y'\).*sum 1"):
        predictions.build(pl.Series("id", ["x", "y"]), np.array([[0.2, 0.3, 0.5], [0.2, 0.3, 0.6]]))


def test_align_meets_rows_by_id_and_repeated_ids_by_occurrence(votes) -> None:  # type: ignore[no-untyped-def]
    frame = votes(6)
    p = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    table_ = predictions.build(frame["id"], p)
    order = [4, 0, 2, 1, 5, 3]  # ids 2 0 1 0 2 1: first occurrences stay before second ones
    aligned = predictions.align(table_[order], frame)
    assert_frame_equal(aligned, table_)


def test_align_refuses_tables_that_do_not_belong_together(votes) -> None:  # type: ignore[no-untyped-def]
    frame = votes(6)
    table_ = predictions.build(frame["id"], np.full((6, 3), 1 / 3))
    with pytest.raises(DataError, match="1 comparisons have no prediction and 0 predictions have no comparison"):
        predictions.align(table_.head(5), frame)
    with pytest.raises(DataError, match="0 comparisons have no prediction and 2 predictions"):
        predictions.align(table_, frame.head(4))
