"""The table that comes out: one row a comparison, in the order of the comparisons.

`p_a, p_b, p_tie` are float64, finite and sum to 1. `label` is the verdict. `swap_gap` says how far the two
presentation orders disagree (largest probability difference between the order given and the mirrored other order; 0
for a judge that is swap-equivariant by construction, null in a row that was judged in one order only). `truncated`
says that some text was cut. A judge that reads tokens adds the truncation ledger, `LEDGER`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from tiebreak.comparisons import LABEL, LABELS
from tiebreak.errors import DataError

SCHEMA: Final[dict[str, pl.DataType]] = {
    "id": pl.String(),
    "p_a": pl.Float64(),
    "p_b": pl.Float64(),
    "p_tie": pl.Float64(),
    "label": LABEL,
    "swap_gap": pl.Float64(),
    "truncated": pl.Boolean(),
}
PROBABILITIES: Final = ("p_a", "p_b", "p_tie")
LEDGER: Final = ("tokens_prompt", "kept_prompt", "tokens_a", "kept_a", "tokens_b", "kept_b")
"""The truncation ledger: optional columns, Int64, all or none. Tokens that each field has, and tokens the judge saw."""


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis of an array of shape (rows, 3), exactly mirrored when a and b change places.

    The sum is (a + b) + tie: addition commutes, so swapping a and b changes no bit of it.
    """
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    total = (shifted[:, 0] + shifted[:, 1]) + shifted[:, 2]
    result: np.ndarray = shifted / total[:, None]
    return result


def verdicts(probabilities: np.ndarray) -> np.ndarray:
    """The class of the largest probability, as codes into `LABELS`; an exact draw between a and b is a tie.

    Without that rule a draw would always go to the first answer, and the verdict would depend on the order.
    """
    codes = probabilities.argmax(axis=1)
    drawn = (probabilities[:, 0] == probabilities[:, 1]) & (codes == 0)
    return np.where(drawn, 2, codes)


def labels(probabilities: np.ndarray) -> pl.Series:
    """The verdicts as a column of `LABEL`."""
    names = np.array(LABELS)[verdicts(probabilities)]
    return pl.Series("label", names, dtype=pl.String).cast(LABEL)


def build(
    ids: pl.Series,
    probabilities: np.ndarray,
    *,
    swap_gap: np.ndarray | float = 0.0,
    truncated: np.ndarray | bool = False,
    ledger: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Make the table from probabilities of shape (rows, 3) in the order of `LABELS`.

    Args:
        ids: One a row.
        probabilities: float64 of shape (rows, 3).
        swap_gap: One a row, or one for all; NaN, in the table null, where one order alone was judged.
        truncated: One a row, or one for all.
        ledger: Columns `LEDGER`, a row a comparison, from a judge that counts tokens.

    Raises:
        DataError: A row is not finite, negative, or does not sum to 1 (within 1e-6).
    """
    rows = len(ids)
    frame = pl.DataFrame(
        {
            "id": ids.cast(pl.String),
            "p_a": probabilities[:, 0],
            "p_b": probabilities[:, 1],
            "p_tie": probabilities[:, 2],
            "label": labels(probabilities),
            "swap_gap": pl.Series(np.broadcast_to(np.asarray(swap_gap, dtype=np.float64), rows), nan_to_null=True),
            "truncated": np.broadcast_to(np.asarray(truncated, dtype=bool), rows),
        }
    )
    return validate(frame if ledger is None else pl.concat([frame, ledger.select(LEDGER)], how="horizontal"))


def validate(frame: pl.DataFrame, *, where: str = "predictions") -> pl.DataFrame:
    """Check a prediction table and bring it to `SCHEMA`. `label`, `swap_gap`, `truncated` may be absent.

    Raises:
        DataError: A column is missing, or a row does not hold three probabilities with sum 1.
    """
    missing = [name for name in ("id", *PROBABILITIES) if name not in frame.columns]
    if missing:
        raise DataError(
            f"{where}: column{'s' if len(missing) > 1 else ''} {', '.join(missing)} missing",
            expected="a prediction table with id, p_a, p_b, p_tie",
            mend="tiebreak predict votes.parquet -o predictions.parquet",
        )
    p = frame.select(pl.col(PROBABILITIES).cast(pl.Float64)).to_numpy()
    bad = ~(np.isfinite(p).all(axis=1) & (p >= 0).all(axis=1) & (np.abs(p.sum(axis=1) - 1) < 1e-6))
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"{where}, row {row + 1} (id {frame['id'][row]!r}): p_a, p_b, p_tie = {p[row].tolist()}"
            + (f" ({int(bad.sum())} such rows)" if bad.sum() > 1 else ""),
            expected="three finite probabilities with sum 1",
        )
    defaults: dict[str, pl.Expr | pl.Series] = {
        "label": labels(p),
        "swap_gap": pl.lit(None, dtype=pl.Float64),
        "truncated": pl.lit(False),
    }
    for name, value in defaults.items():
        if name not in frame.columns:
            frame = frame.with_columns(value.alias(name))
    return frame.select(pl.col(name).cast(dtype) for name, dtype in columns(frame).items())


def columns(frame: pl.DataFrame) -> dict[str, pl.DataType]:
    """The columns that this table carries: `SCHEMA`, and the ledger where it is whole."""
    ledger = LEDGER if set(LEDGER) <= set(frame.columns) else ()
    return SCHEMA | dict.fromkeys(ledger, pl.Int64())


def probabilities(frame: pl.DataFrame) -> np.ndarray:
    """The probabilities as a float64 array of shape (rows, 3) in the order of `LABELS`."""
    return frame.select(PROBABILITIES).to_numpy().astype(np.float64)


def align(predictions: pl.DataFrame, comparisons: pl.DataFrame) -> pl.DataFrame:
    """Bring predictions into the row order of the comparisons they belong to.

    Rows meet by id; where an id occurs more than once, the first prediction belongs to the first comparison and so on.

    Raises:
        DataError: An id of one table is missing in the other, or occurs a different number of times.
    """
    if predictions["id"].equals(comparisons["id"]):
        return predictions
    occurrence = pl.int_range(pl.len()).over("id").alias("occurrence")
    left = comparisons.select("id", occurrence).with_row_index("row")
    right = predictions.with_columns(occurrence)
    joined = left.join(right, on=["id", "occurrence"], how="left", maintain_order="left")
    lost = joined.filter(pl.col("p_a").is_null())
    surplus = right.join(left, on=["id", "occurrence"], how="anti")
    if lost.height or surplus.height:
        example = (lost if lost.height else surplus)["id"][0]
        raise DataError(
            f"{lost.height} comparisons have no prediction and {surplus.height} predictions have no comparison "
            f"(for example id {example!r})",
            expected="one prediction for each comparison, by id",
            mend="tiebreak predict VOTES -o PREDICTIONS on the very file that holds the labels",
        )
    return joined.select(columns(predictions).keys())


__all__ = [
    "LABELS", "LEDGER", "PROBABILITIES", "SCHEMA", "align", "build", "columns", "labels", "probabilities", "softmax",
    "validate", "verdicts",
]  # fmt: skip
