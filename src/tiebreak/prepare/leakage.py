"""Columns that give the label away, such as the argmax of a teacher's scores or the vote itself under another name.

A column is suspected by how well it predicts the label of a row from the *other* rows of the same value. An id says
nothing that way, because no other row has it, however many values it has; a column made from the label says all.

```
kappa = (share right - share right without the column) / (1 - share right without the column)
```

Numbers with many values are looked at in bins of equal mass, so that a threshold on a score is seen. Two numbers are
looked at by which of them is larger, three by which of them is the largest.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Final, Literal

import numpy as np
import polars as pl

from tiebreak.comparisons import SCHEMA, SOFT
from tiebreak.errors import DataError

KAPPA: Final = 0.9
"""From here on a column (or the larger of two) gives the label away."""
ARGMAX: Final = 0.99
"""Share of rows from which the largest of three columns gives the label away."""

_BINS: Final = 64
_FEWEST: Final = 10
_MOST_NUMBERS: Final = 16
"""Pairs and triples are looked at among this many number columns."""

Kind = Literal["column", "larger of two", "largest of three"]


@dataclass(frozen=True)
class Leak:
    """Columns that give the label away.

    Attributes:
        columns: Their names.
        kind: Whether the column itself tells, or which of several numbers is the largest.
        tells: What is told: `label`, or one class of it (told apart from the others).
        kappa: 0 for no better than the most frequent class, 1 for always right.
        level: `leak`, or `remark` for our own soft labels `p_a, p_b, p_tie`, which no model reads as input.
    """

    columns: tuple[str, ...]
    kind: Kind
    tells: str
    kappa: float
    level: Literal["leak", "remark"]

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {**asdict(self), "columns": list(self.columns)}

    def __str__(self) -> str:
        names = " / ".join(self.columns)
        told = "the label" if self.tells == "label" else f"whether the label is {self.tells!r}"
        how = "" if self.kind == "column" else f" (by the {self.kind})"
        return f"{names}: gives away {told}{how}, kappa {self.kappa:.4f}"


def leaks(frame: pl.DataFrame, label: str | pl.Series) -> list[Leak]:
    """Columns of a table that give the label away, the surest first.

    Args:
        frame: Any table, raw or ours. Columns of our own schema (but soft labels) and lists are passed over.
        label: The name of the column that holds the label, or the labels themselves, one a row; nulls are left out.

    Raises:
        DataError: There is no such column, or not as many labels as rows.
    """
    target, others = _target(frame, label)
    known = target.is_not_null()
    target = target.filter(known).cast(pl.String)
    if others.width == 0 or target.n_unique() < 2 or len(target) < _FEWEST:
        return []
    others = others.filter(known)
    names = others.columns
    found = [leak for name in names if (leak := _single(others[name], target))]
    told = {column for leak in found for column in leak.columns}
    numbers = [name for name in names if others.schema[name].is_numeric() and name not in told][:_MOST_NUMBERS]
    for pair in combinations(numbers, 2):
        if leak := _several(others.select(pair), target, "larger of two", KAPPA):
            found.append(leak)
    told |= {column for leak in found for column in leak.columns}
    for triple in combinations([name for name in numbers if name not in told], 3):
        if leak := _several(others.select(triple), target, "largest of three", ARGMAX):
            found.append(leak)
    return sorted(found, key=lambda leak: (leak.level, -leak.kappa, leak.columns))


def _target(frame: pl.DataFrame, label: str | pl.Series) -> tuple[pl.Series, pl.DataFrame]:
    passed_over = {name for name in SCHEMA if name not in SOFT}
    if isinstance(label, str):
        if label not in frame.columns:
            raise DataError(f"there is no column {label!r}", expected=f"one of {', '.join(frame.columns)}")
        passed_over.add(label)
        target = frame[label]
    else:
        if len(label) != frame.height:
            raise DataError(f"{len(label)} labels for {frame.height} rows", expected="one label a row")
        target = label
    return target, frame.select(
        name for name, dtype in frame.schema.items() if name not in passed_over and not dtype.is_nested()
    )


def _single(column: pl.Series, target: pl.Series) -> Leak | None:
    values = column.n_unique()
    # What has about a value a row is an id or a text. Only scores may have so many and still be made from the label.
    most = len(column) - 1 if column.dtype.is_integer() else max(_BINS, len(column) // 20)
    if values < 2 or (values > most and not column.dtype.is_float()):
        return None
    return _leak((column.name,), "column", _binned(column), target, KAPPA)


def _several(columns: pl.DataFrame, target: pl.Series, kind: Kind, least: float) -> Leak | None:
    values = columns.select(pl.all().cast(pl.Float64)).to_numpy()
    filled = np.nan_to_num(values, nan=-np.inf, posinf=np.finfo(float).max, neginf=-np.inf)
    larger = (filled[:, 0] > filled[:, 1]).astype(np.int64) - (filled[:, 0] < filled[:, 1])
    side = larger if columns.width == 2 else filled.argmax(axis=1)
    return _leak(tuple(columns.columns), kind, pl.Series(side), target, least)


def _leak(names: tuple[str, ...], kind: Kind, values: pl.Series, target: pl.Series, least: float) -> Leak | None:
    """The label as a whole if it is told, else the class that is told best."""
    counts = _counts(values, target)
    classes = sorted(target.unique())
    if kind == "largest of three":
        right = counts.max(axis=1).sum() / counts.sum()
        tells = {"label": _kappa(counts)} if right > least else {}
    else:
        tells = {"label": _kappa(counts)}
        for place, name in enumerate(classes):
            tells.setdefault(name, _kappa(np.stack([counts[:, place], counts.sum(axis=1) - counts[:, place]], axis=1)))
        tells = {name: kappa for name, kappa in tells.items() if kappa >= least}
    if not tells:
        return None
    best = "label" if "label" in tells else max(tells, key=lambda name: tells[name])
    own = set(names) <= set(SOFT)
    return Leak(names, kind, best, round(tells[best], 6), "remark" if own else "leak")


def _binned(column: pl.Series) -> pl.Series:
    if not column.dtype.is_numeric() or column.n_unique() <= _BINS:
        return column
    ranks = column.cast(pl.Float64).fill_nan(None).rank("dense").cast(pl.Float64)
    return (ranks / (ranks.max() or 1) * _BINS).ceil()


def _counts(values: pl.Series, target: pl.Series) -> np.ndarray:
    """How often each value (a row) meets each class (a column, in sorted order)."""
    places = values.cast(pl.String).fill_null("\0null").rank("dense").to_numpy().astype(np.int64) - 1
    codes = target.rank("dense").to_numpy().astype(np.int64) - 1
    classes = int(codes.max()) + 1
    flat = np.bincount(places * classes + codes, minlength=(int(places.max()) + 1) * classes)
    return flat.reshape(-1, classes).astype(np.float64)


def _kappa(counts: np.ndarray) -> float:
    """How much better each row is told from the other rows of its value than from all rows; at most 1."""
    total = counts.sum()
    base = counts.sum(axis=0).max() / total
    # Leave one out: the row itself does not speak. It is told right where its class leads all others among the rest.
    others = counts - 1
    rival = np.stack([np.delete(counts, place, axis=1).max(axis=1) for place in range(counts.shape[1])], axis=1)
    right = (counts * ((counts > 0) & (others > rival))).sum()
    alone = counts.sum(axis=1) == 1
    right += counts[alone][:, counts.sum(axis=0).argmax()].sum()
    return float((right / total - base) / (1 - base)) if base < 1 else 0.0
