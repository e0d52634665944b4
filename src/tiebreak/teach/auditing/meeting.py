"""Labels meet their comparisons, by id: what is missing, doubled, broken, or about other texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from tiebreak import comparisons, row_hashes
from tiebreak.calibrate.rows import groups_of
from tiebreak.comparisons import SOFT, TEXTS
from tiebreak.errors import DataError
from tiebreak.teach.auditing.findings import Findings
from tiebreak.teach.auditing.reading import Labels


@dataclass(frozen=True)
class Met:
    """The comparisons in their own order, and their labels beside them.

    Attributes:
        votes: Comparisons, or ids and labels alone, with every column of `comparisons.SCHEMA`.
        has_texts: Whether the votes came with texts.
        labels: `soft_labels.SCHEMA` and `position` (row of the labels' file), a row a comparison; null without a label.
        p: The probabilities, shape (rows, 3); NaN in rows without a usable label.
        logits: The same for logits, where there are.
        targets: Votes, shape (rows, 3); NaN without one.
        weights: Of the votes, shape (rows,).
        groups: Group codes, shape (rows,).
    """

    votes: pl.DataFrame
    has_texts: bool
    labels: pl.DataFrame
    p: np.ndarray
    logits: np.ndarray | None
    targets: np.ndarray
    weights: np.ndarray
    groups: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """Rows with a usable label."""
        known: np.ndarray = ~np.isnan(self.p).any(axis=1)
        return known

    @property
    def judged(self) -> np.ndarray:
        """Rows with a usable label and a vote of some weight."""
        known: np.ndarray = self.known & ~np.isnan(self.targets).any(axis=1) & (self.weights > 0)
        return known


def meet(labels: Labels, votes: pl.DataFrame, findings: Findings, *, require_all: bool = True) -> Met:
    """Bring labels to the rows of the votes; whatever does not fit becomes a fault, and stays out of what is measured.

    Raises:
        DataError: The votes themselves name an id twice, or are none.
    """
    has_texts = set(TEXTS) <= set(votes.columns)
    missing = {name: pl.lit(None, dtype=dtype) for name, dtype in comparisons.SCHEMA.items()}
    votes = votes.with_columns(value.alias(name) for name, value in missing.items() if name not in votes.columns)
    if not votes.height or votes["id"].is_duplicated().any():
        raise DataError(
            "the votes name an id more than once" if votes.height else "there are no votes",
            expected="comparisons with distinct ids",
            mend="tiebreak data dedupe VOTES -o votes.parquet",
        )
    table = _once(labels, findings)
    met = votes.select("id").join(table, on="id", how="left", maintain_order="left")
    _surplus(table, votes, findings)
    _coverage(labels, met, votes, findings, require_all=require_all)
    if has_texts:
        _content(met, votes, findings)
    position = met["position"].to_numpy()
    return Met(
        votes=votes,
        has_texts=has_texts,
        labels=met,
        p=_gathered(met, SOFT),
        logits=None if labels.logits is None else _rows_at(labels.logits, position),
        targets=comparisons.targets(votes.with_columns(pl.col("label").cast(comparisons.LABEL))),
        weights=votes["weight"].fill_null(1.0).to_numpy(),
        groups=groups_of(votes if has_texts else votes.drop(TEXTS)).to_numpy(),
    )


def _once(labels: Labels, findings: Findings) -> pl.DataFrame:
    """One label an id (the first), without those that are not three probabilities."""
    table = labels.table.with_row_index("position").with_columns(pl.col("position").cast(pl.Float64))
    doubled = table.filter(table["id"].is_duplicated())
    findings.note(labels=table.height, doubled_ids=doubled["id"].n_unique(), scaled_rows=labels.scaled)
    if doubled.height:
        findings.faults.append(
            f"{doubled['id'].n_unique():,} ids occur more than once (for example {doubled['id'][0]!r}), "
            f"{doubled.height:,} labels in all"
        )
    total = pl.sum_horizontal(SOFT)
    good = pl.all_horizontal(pl.col(SOFT).is_finite() & (pl.col(SOFT) >= 0)) & ((total - 1).abs() < 1e-6)
    usable = good.fill_null(value=False)
    broken = table.filter(~usable)
    findings.note(broken_rows=broken.height)
    if broken.height:
        row = broken.row(0, named=True)
        findings.faults.append(
            f"{broken.height:,} labels are not three finite probabilities with sum 1 (for example id {row['id']!r}: "
            f"{[row[name] for name in SOFT]})"
        )
    return table.filter(usable).unique("id", keep="first", maintain_order=True)


def _surplus(table: pl.DataFrame, votes: pl.DataFrame, findings: Findings) -> None:
    surplus = table.join(votes.select("id"), on="id", how="anti")
    findings.note(labels_of_other_rows=surplus.height)
    if surplus.height:
        findings.warnings.append(
            f"{surplus.height:,} labels belong to no row of the votes (for example id {surplus['id'][0]!r}): left out"
        )


def _coverage(labels: Labels, met: pl.DataFrame, votes: pl.DataFrame, findings: Findings, *, require_all: bool) -> None:
    wanted = pl.Series(np.ones(met.height, dtype=bool))
    if not require_all:
        wanted = votes["label"].is_not_null() | votes["p_a"].is_not_null()
    lost = met["p_a"].is_null() & wanted
    count, total = int(lost.sum()), int(wanted.sum())
    findings.note(rows=total, rows_without_label=count, coverage=1 - count / max(total, 1))
    if not count:
        return
    said = f"{count:,} of {total:,} rows have no label (for example id {votes['id'][int(lost.arg_true()[0])]!r})"
    by_fold = votes.select("fold", lost.alias("lost")).filter(wanted).group_by("fold").agg(pl.col("lost").all())
    empty = by_fold.filter("lost")["fold"].drop_nulls().sort().to_list()
    if empty and len(empty) < by_fold.height:
        said += f"; not one row of fold {', '.join(map(str, empty))} has one"
    numbers = labels.table["id"].cast(pl.Int64, strict=False).sort()
    first = numbers[0] if len(numbers) and not numbers.null_count() else None
    counted = first in (0, 1) and numbers.equals(pl.Series("id", np.arange(first, first + len(numbers))))
    if counted and not votes["id"].cast(pl.Int64, strict=False).sort().equals(numbers):
        said += f"; the labels' ids are the row numbers from {first}: they were aligned by position"
    findings.faults.append(said)


def _content(met: pl.DataFrame, votes: pl.DataFrame, findings: Findings) -> None:
    """Whether the texts that were judged are these; swapped sides are told apart."""
    hashes = pl.DataFrame({"judged": met["content"], "ours": row_hashes.content(votes)}).with_columns(
        row_hashes.content(comparisons.swap(votes)).alias("swapped")
    )
    told = hashes.filter(pl.col("judged").is_not_null())
    other = told.filter(pl.col("judged") != pl.col("ours"))
    swapped = other.filter(pl.col("judged") == pl.col("swapped")).height
    elsewhere = other.join(hashes, left_on="judged", right_on="ours", how="semi").height
    findings.note(
        content_known=told.height, content_of_other_texts=other.height, content_swapped=swapped,
        content_of_other_rows=elsewhere,
    )  # fmt: skip
    if other.height:
        said = f"the texts of {other.height:,} rows are not those that were judged under their ids"
        said += f"; {swapped:,} have A and B changed round" if swapped else ""
        said += (
            f"; {elsewhere:,} were judged under the id of another row, as if aligned by position" if elsewhere else ""
        )
        findings.faults.append(said)


def _gathered(table: pl.DataFrame, names: tuple[str, ...]) -> np.ndarray:
    return table.select(pl.col(name).fill_null(float("nan")) for name in names).to_numpy()


def _rows_at(values: np.ndarray, position: np.ndarray) -> np.ndarray:
    """The rows at some positions; NaN where there is no position."""
    known = ~np.isnan(position)
    result = np.full((len(position), 3), np.nan)
    result[known] = values[position[known].astype(np.int64)]
    return result
