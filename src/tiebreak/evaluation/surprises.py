"""The votes that the judge was most surprised by, with short excerpts for a person to look at."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from tiebreak.comparisons import TEXTS
from tiebreak.evaluation.sample import Sample
from tiebreak.scoring import metrics

SHOWN: Final = 10
EXCERPT: Final = 200
_BIDI: Final = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C])


def largest(sample: Sample, *, excerpts: bool = True) -> pl.DataFrame:
    """The rows with the largest log-loss, at most one of a group.

    Args:
        sample: The votes and the judge's probabilities.
        excerpts: Whether to give the start of each text, at most 200 characters; without, only ids and figures.

    Returns:
        `row` (from 1, in the file of votes), `id`, `vote`, `p_a`, `p_b`, `p_tie`, `log_loss`, and with excerpts
        `prompt`, `response_a`, `response_b`.
    """
    loss = metrics.row_log_loss(sample.probabilities, sample.targets)
    # The row number breaks draws, so that the list does not depend on how a sort treats equals.
    order = np.lexsort((sample.kept, -loss))
    _, first = np.unique(sample.groups[order], return_index=True)
    chosen = order[np.sort(first)[:SHOWN]]
    votes = sample.votes[chosen]
    table = votes.select(
        pl.Series("row", sample.kept[chosen] + 1),
        pl.Series("id", [excerpt(name) for name in votes["id"]], dtype=pl.String),
        pl.Series("vote", [_vote(target) for target in sample.targets[chosen]], dtype=pl.String),
        *(pl.Series(f"p_{k}", sample.probabilities[chosen, i]) for i, k in enumerate(("a", "b", "tie"))),
        pl.Series("log_loss", loss[chosen]),
    )
    if not (excerpts and sample.lengths.any()):
        return table
    starts = votes.select(
        pl.col(name).list.join(" ", ignore_nulls=True).fill_null("").str.slice(0, 4 * EXCERPT) for name in TEXTS
    )
    return table.with_columns(
        pl.Series(name, [excerpt(text) for text in starts[name]], dtype=pl.String) for name in TEXTS
    )


def excerpt(text: str) -> str:
    """The start of a text on one line, at most 200 characters, without controls that could disturb a page."""
    plain = text.translate(_BIDI)
    shown = "".join(c if c.isprintable() or c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in plain)
    line = " ".join(shown.split())
    return line if len(line) <= EXCERPT else line[: EXCERPT - 1].rstrip() + "…"


def _vote(target: np.ndarray) -> str:
    if target.max() == 1:
        return ("a", "b", "tie")[int(target.argmax())]
    return " / ".join(f"{share:.2f}" for share in target)
