"""Rows that say little, and what is done with them: empty answers, identical answers, no prompt, no label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import polars as pl

from tiebreak import comparisons
from tiebreak.errors import UsageError
from tiebreak.prepare import texts

Empty = Literal["keep", "drop", "lose"]
Alike = Literal["keep", "drop", "tie"]
Keep = Literal["keep", "drop"]


@dataclass(frozen=True)
class CleanReport:
    """What `clean` found, dropped and relabelled.

    Attributes:
        rows: Rows before.
        kept: Rows after.
        policies: What was to be done with each kind of row.
        found: How many rows are of each kind.
        dropped: How many rows were dropped for being of each kind; a row counts for the first kind it is of.
        relabelled: How many labelled rows got another label for being of each kind.
        dropped_ids: The ids of the rows dropped, in order.
    """

    rows: int
    kept: int
    policies: dict[str, str]
    found: dict[str, int]
    dropped: dict[str, int]
    relabelled: dict[str, int]
    dropped_ids: list[str]

    def as_dict(self) -> dict[str, Any]:
        """The counts and the ids, for JSON."""
        return dict(vars(self))


def clean(
    frame: pl.DataFrame,
    *,
    both_empty: Alike = "drop",
    empty: Empty = "keep",
    identical: Alike = "keep",
    no_prompt: Keep = "keep",
    no_label: Keep = "keep",
) -> tuple[pl.DataFrame, CleanReport]:
    """Apply a policy to each kind of row that says little. By default only rows with two empty answers go.

    An answer is empty when no turn holds anything but white space. Two answers are identical when they are equal after
    normalising (NFKC, case, white space). A relabelled row loses its soft label; a row without any label gets none.

    Args:
        frame: Comparisons.
        both_empty: Both answers are empty: drop the row, keep it, or make it a tie.
        empty: Exactly one answer is empty: keep the row, drop it, or let the empty answer lose.
        identical: The answers are identical and not empty: keep the row, drop it, or make it a tie.
        no_prompt: The prompt is empty: keep the row or drop it.
        no_label: There is neither a label nor a soft label: keep the row or drop it.

    Returns:
        The rows that stay, in their order, and the report.
    """
    policies: dict[str, str] = {
        "both_empty": both_empty, "empty": empty, "identical": identical, "no_prompt": no_prompt, "no_label": no_label,
    }  # fmt: skip
    _check(policies)
    table = comparisons.validate(frame)
    kinds, winner = _kinds(table)
    labelled = ~kinds["no_label"]
    dropped = dict.fromkeys(policies, 0)
    relabelled = dict.fromkeys(policies, 0)
    gone = pl.repeat(False, table.height, eager=True)
    label = table["label"]
    tie = pl.repeat("tie", table.height, dtype=comparisons.LABEL, eager=True)
    for kind, policy in policies.items():
        if policy == "drop":
            fresh = kinds[kind] & ~gone
            dropped[kind] = int(fresh.sum())
            gone = gone | fresh
        elif policy != "keep":
            verdict = winner if policy == "lose" else tie
            other = kinds[kind] & labelled & label.ne_missing(verdict)
            relabelled[kind] = int(other.sum())
            label = pl.select(pl.when(kinds[kind] & labelled).then(verdict).otherwise(label).alias("label"))["label"]
    changed = label.ne_missing(table["label"])
    softless = [pl.when(changed).then(None).otherwise(pl.col(name)).alias(name) for name in comparisons.SOFT]
    kept = table.with_columns(label, *softless).filter(~gone)
    found = {kind: int(kinds[kind].sum()) for kind in policies}
    ids = table.filter(gone)["id"].to_list()
    return kept, CleanReport(table.height, kept.height, policies, found, dropped, relabelled, ids)


def _check(policies: dict[str, str]) -> None:
    accepted = {"empty": get_args(Empty), "both_empty": get_args(Alike), "identical": get_args(Alike)}
    for kind, policy in policies.items():
        choices = accepted.get(kind, get_args(Keep))
        if policy not in choices:
            raise UsageError(f"policy {policy!r} for {kind.replace('_', ' ')}", expected=" or ".join(choices))


def _kinds(table: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    """For each row whether it is of each kind, and who wins where one answer is empty."""
    wording = texts.normalised(table)
    a, b = pl.col("a") == "", pl.col("b") == ""
    kinds = wording.select(
        (a & b).alias("both_empty"),
        (a ^ b).alias("empty"),
        ((pl.col("a") == pl.col("b")) & ~a).alias("identical"),
        (pl.col("prompt") == "").alias("no_prompt"),
        (table["label"].is_null() & table["p_a"].is_null()).alias("no_label"),
    )
    winner = wording.select(pl.when(a).then(pl.lit("b")).otherwise(pl.lit("a")).cast(comparisons.LABEL))
    return kinds, winner.to_series()
