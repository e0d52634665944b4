"""What several predictions of the same rows are together: their pool, their swap gap, their truncation ledger."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from tiebreak import pooling, predictions


def pooled(opinions: np.ndarray, weights: Sequence[float] | np.ndarray, space: pooling.Space) -> np.ndarray:
    """The pool of some opinions; where one alone has a weight it is that opinion to the last bit.

    Args:
        opinions: Shape (k, rows, 3).
        weights: Shape (k,), >= 0, sum 1.
        space: Mean of probabilities or of logits.
    """
    heard = np.flatnonzero(np.asarray(weights) > 0)
    if len(heard) == 1:
        alone: np.ndarray = opinions[heard[0]].copy()
        return alone
    return pooling.pool(opinions[heard], np.asarray(weights, dtype=np.float64)[heard], space=space)


def gaps(table: pl.DataFrame) -> np.ndarray:
    """The swap gaps of predictions; NaN where they are not known."""
    return table["swap_gap"].fill_null(np.nan).to_numpy()


def joint_gap(tables: Sequence[pl.DataFrame]) -> np.ndarray:
    """The swap gap of a mean of predictions: 0 where each is the same in both orders, unknown (NaN) elsewhere."""
    if len(tables) == 1:
        return gaps(tables[0])
    found: np.ndarray = np.where(np.stack([gaps(table) == 0 for table in tables]).all(axis=0), 0.0, np.nan)
    return found


def least_kept(tables: Sequence[pl.DataFrame]) -> pl.DataFrame | None:
    """The ledger of the member that saw least of each row, out of those that count tokens; None if none does."""
    counted = [table.select(predictions.LEDGER) for table in tables if set(predictions.LEDGER) <= set(table.columns)]
    if not counted:
        return None
    shares = np.stack([_share_kept(table) for table in counted])
    columns = np.stack([table.to_numpy() for table in counted])
    chosen = columns[shares.argmin(axis=0), np.arange(columns.shape[1])]
    return pl.DataFrame(chosen, schema=dict.fromkeys(predictions.LEDGER, pl.Int64), orient="row")


def _share_kept(ledger: pl.DataFrame) -> np.ndarray:
    tokens = ledger.select(pl.sum_horizontal(pl.col(n) for n in predictions.LEDGER if n.startswith("tokens")))
    kept = ledger.select(pl.sum_horizontal(pl.col(n) for n in predictions.LEDGER if n.startswith("kept")))
    share: np.ndarray = kept.to_series().to_numpy() / np.maximum(tokens.to_series().to_numpy(), 1)
    return share
