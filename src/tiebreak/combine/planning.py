"""What will be averaged and on what it is measured, checked before anything heavy is done."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from tiebreak import comparisons, row_hashes
from tiebreak.combine import alike, making, merging, shares
from tiebreak.combine.alike import Member
from tiebreak.combine.candidates import Choices
from tiebreak.combine.measuring import Votes
from tiebreak.errors import DataError, UsageError
from tiebreak.judges.runtime import Runtime

METHODS: Final = ("tensors", "exact", "svd", "merged")
BEST: Final = "best"

_SVD: Final = re.compile(r"svd(?::(\d+))?")
_FOLD: Final = re.compile(r"-fold-\d+$")


@dataclass(frozen=True)
class Plan:
    """What will be averaged and on what it is measured; nothing heavy was done yet.

    Attributes:
        members: The judges that count.
        weights: One a judge, sum 1.
        votes: The rows on which all is measured.
        choices: How.
        notes: Who and what was left out, in plain words.
        seen: Validation rows that some judge was trained on, which were left out.
    """

    members: list[Member]
    weights: np.ndarray
    votes: Votes
    choices: Choices
    notes: list[str]
    seen: int

    @property
    def total(self) -> int:
        """Rows that will be scored: each by every judge and by every candidate."""
        return self.votes.rows * (len(self.members) + len(self.choices.methods))


def plan(
    bundles: Sequence[Path],
    validation: pl.DataFrame,
    *,
    method: str = BEST,
    weights: str = shares.EQUAL,
    dtype: str = "base",
    name: str | None = None,
    runtime: Runtime | None = None,
) -> Plan:
    """Check that judges can be averaged and on what they are compared.

    Args:
        bundles: Judges of one student.
        validation: Votes. Rows that a judge was trained on are left out; so are rows without a label.
        method: tensors, exact, svd:RANK (svd: the rank of the adapters), merged, or best.
        weights: equal, oof, or a number a judge.
        dtype: Of merged weights: base, fp32, bf16 or fp16.
        name: Of the new judge; None: what the names of the judges have in common.
        runtime: Devices, precision, lengths.

    Raises:
        UsageError: A choice is not one that there is, or does not go with these judges.
        DataError: The judges do not belong together, or no validation row is left.
        GateError: With weights oof: no judge is better than the prior.
    """
    found = [alike.member(path, called) for path, called in zip(bundles, alike.names(bundles), strict=True)]
    alike.check(found)
    asked, rank = _method(method)
    merging.check_dtype(dtype)
    share, notes = shares.shares(weights, found)
    members = [one for one, part in zip(found, share, strict=True) if part > 0]
    adapter = members[0].settings.adapter
    if not adapter and asked not in {BEST, "merged"}:
        raise UsageError(
            f"--method {method}: these judges hold whole weights and no adapters",
            expected="merged, the one mean that whole weights have", mend="--method merged",
        )  # fmt: skip
    rows, seen = _unseen(comparisons.validate(validation, where="validation rows"), members, notes)
    notes += _losses(members)
    choices = Choices(
        methods=METHODS if adapter else ("merged",), asked=asked, rank=rank, dtype=dtype,
        name=name or _FOLD.sub("", members[0].judge.manifest.name), runtime=runtime or Runtime(),
    )  # fmt: skip
    return Plan(members, share[share > 0], Votes(rows), choices, notes, seen)


def relabelled(table: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Comparisons with the labels of another table, by id.

    Raises:
        DataError: An id occurs twice among the labels, or no comparison has one.
    """
    told = ("label", *comparisons.SOFT)
    found = labels.select("id", *(name for name in told if name in labels.columns))
    if found["id"].is_duplicated().any():
        raise DataError("an id occurs more than once among the labels", expected="one label an id")
    joined = table.drop(told, strict=False).join(found, on="id", how="left", maintain_order="left")
    if not table["id"].is_in(found["id"].implode()).any():
        raise DataError("no validation row has its id among the labels", expected="labels of these very comparisons")
    return comparisons.validate(joined, where="validation rows")


def _method(text: str) -> tuple[str, int | None]:
    if text in (*METHODS, BEST):
        return text, None
    match = _SVD.fullmatch(text)
    if match is None or int(match[1]) < 1:
        raise UsageError(f"--method {text!r}", expected="tensors, exact, svd:RANK, merged or best")
    return "svd", int(match[1])


def _unseen(table: pl.DataFrame, members: Sequence[Member], notes: list[str]) -> tuple[pl.DataFrame, int]:
    """The rows that none of the judges was trained on."""
    known = [row_hashes.read_trained(one.path) for one in members]
    silent = [one.name for one, rows in zip(members, known, strict=True) if rows is None]
    if silent:
        notes.append(
            f"{', '.join(silent)}: the bundle does not say which rows it was trained on; on such rows "
            "every figure is too good"
        )
    seen = row_hashes.unordered(table).is_in(sorted(frozenset().union(*(rows for rows in known if rows))))
    if seen.all():
        raise DataError(
            f"every one of the {table.height:,} validation rows was trained on by one of the judges",
            expected="votes that no fold was trained on: what one fold held out, the others have learned",
            mend="tiebreak data split VOTES before training, and --validation with the part that was kept apart",
        )
    if seen.any():
        notes.append(f"{seen.sum():,} of {table.height:,} validation rows left out: a judge was trained on them")
    return table.filter(~seen), int(seen.sum())


def _losses(members: Sequence[Member]) -> list[str]:
    """What the new judge cannot take over from its parts."""
    found = []
    if calibrated := [one.name for one in members if one.judge.manifest.calibration is not None]:
        found.append(
            f"the calibrations of {', '.join(calibrated)} are left aside, here and in the new judge: "
            "tiebreak calibrate fits one for it"
        )
    if making.trained(members) is None:
        found.append("the new judge cannot say which rows it was trained on, since not every part does")
    return found
