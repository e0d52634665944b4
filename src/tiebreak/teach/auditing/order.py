"""Whether the labels fit the votes better in another order: shifted, sorted, or by position.

An id says which row a label is of; it does not say that the probabilities beside it were computed for that row. Where
the texts' hash is not there to tell, the votes are: labels of other rows know nothing of a row's vote.

The fit of labels to votes is the covariance of the vote and the log-probability, summed over the classes. It is 0 for
labels in any random order, whatever the teacher's calibration.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np
import polars as pl

from tiebreak.teach.auditing.findings import Findings
from tiebreak.teach.auditing.meeting import Met

ERRORS: Final = 6.0
"""Another order is believed when it fits better than the ids' own by so many standard errors: with a hundred thousand
shifts tried, chance finds one about once in ten thousand audits."""

STEPS: Final = 8
"""Parts of the table are tried with shifts of at most so many rows."""

BLOCK: Final = 100
"""Rows with a vote that a part must hold to be tried by itself."""

_LEAST: Final = 1e-3
"""Log-probabilities are cut here, so that a few certain misses do not decide."""
_BLANK_PARTS: Final = 10


class _Fit:
    """The votes, and log-probabilities that may be put in other orders; rows without a label hold the mean."""

    def __init__(self, met: Met) -> None:
        known, judged = met.known, met.judged
        logs = np.log(np.clip(met.p, _LEAST, None))
        centred = logs - logs[known].mean(axis=0)
        self.logs = np.where(known[:, None], centred, 0.0)
        weighted = np.where(judged, met.weights, 0.0)
        self.votes = np.where(judged[:, None], met.targets, 0.0) * weighted[:, None]
        self.judged, self.groups = judged, met.groups

    def gain(self, order: np.ndarray, rows: slice = slice(None)) -> float:
        """How much better the labels `order` fit than the rows' own, in standard errors, over some of the rows."""
        other = self.logs[order[rows]]
        # Of labels that are turned round every other order is the better one: it must also fit by itself.
        return min(self._errors(other - self.logs[rows], rows), self._errors(other, rows))

    def _errors(self, logs: np.ndarray, rows: slice) -> float:
        """The fit in standard errors; groups vary, rows within one may do so together."""
        mask = self.judged[rows]
        fits = (self.votes[rows] * logs).sum(axis=1)[mask]
        sums = np.bincount(np.unique(self.groups[rows][mask], return_inverse=True)[1].reshape(-1), weights=fits)
        spread = float(np.sqrt(((sums - sums.mean()) ** 2).sum()))
        return float(sums.sum()) / spread if spread > 0 else 0.0

    def skill(self, rows: slice) -> tuple[float, float]:
        """The covariance of votes and labels within some of the rows, a row, and its standard error."""
        mask = self.judged[rows]
        votes, logs = self.votes[rows][mask], self.logs[rows][mask]
        products = (votes * (logs - logs.mean(axis=0))).sum(axis=1)
        return float(products.mean()), float(products.std() / np.sqrt(len(products)))

    def best_shift(self) -> int:
        """The cyclic shift that fits best: all of them at once, by the Fourier transform."""
        spectrum = np.conj(np.fft.rfft(self.votes, axis=0)) * np.fft.rfft(self.logs, axis=0)
        return int(np.fft.irfft(spectrum.sum(axis=1), n=len(self.votes)).argmax())

    def best_step(self, rows: slice) -> int:
        """The small shift that fits some of the rows best."""
        steps = [step for step in range(-STEPS, STEPS + 1) if step]
        fits = [float((self.votes[rows] * np.roll(self.logs, -step, axis=0)[rows]).sum()) for step in steps]
        return steps[int(np.argmax(fits))]


def check(met: Met, findings: Findings) -> None:
    """Try other orders of the labels; one that fits the votes far better is a fault."""
    if int(met.judged.sum()) < BLOCK:
        return
    fit = _Fit(met)
    found = _whole(fit, met) or _parts(fit)
    blank = None if found else _blank(fit)
    tried = "shifts of all rows and of parts, the file's own order, rows sorted by id and by length"
    findings.note(other_orders_tried=tried, other_order=found)
    if blank:
        findings.warnings.append(blank)
    if found:
        findings.faults.append(f"the labels belong to other rows: {found}")


def _whole(fit: _Fit, met: Met) -> str | None:
    best, errors = None, ERRORS
    for name, order in _orders(fit, met):
        gained = fit.gain(order)
        if gained > errors:
            best, errors = name, gained
    return f"{best} they fit the votes better by {errors:.1f} standard errors" if best else None


def _orders(fit: _Fit, met: Met) -> Iterator[tuple[str, np.ndarray]]:
    """Other orders, as the row whose label a row would get, each with its name."""
    rows = np.arange(len(fit.logs))
    shift = fit.best_shift()
    if shift:
        told = shift if shift <= len(rows) // 2 else shift - len(rows)
        yield f"shifted by {told:+d} row{'s' if abs(told) > 1 else ''}", (rows + shift) % len(rows)
    yield "in reverse", rows[::-1]
    position = met.labels["position"]
    if position.null_count() == 0:
        filed = position.rank("ordinal").to_numpy().astype(np.int64) - 1
        if (filed != rows).any():
            # Row k of the votes gets the label in line k of the file.
            yield "aligned by their position in the file", np.argsort(filed)
    for name, key in _keys(met):
        order = np.argsort(key, kind="stable")
        back = np.argsort(order)
        yield f"put back from the votes sorted by {name}", back
        yield f"taken from the votes sorted by {name}", order


def _keys(met: Met) -> Iterator[tuple[str, np.ndarray]]:
    ids = met.votes["id"]
    yield "id", ids.rank("ordinal").to_numpy()
    numbers = ids.cast(pl.Float64, strict=False)
    if numbers.null_count() == 0:
        yield "id as a number", numbers.to_numpy()
    if met.has_texts:
        texts = met.votes.select(
            pl.sum_horizontal(
                pl.col(name).list.join("", ignore_nulls=True).str.len_chars().fill_null(0)
                for name in ("prompt", "response_a", "response_b")
            )
        ).to_series().cast(pl.Float64).to_numpy()  # fmt: skip
        yield "length", texts
        yield "length, longest first", -texts


def _parts(fit: _Fit) -> str | None:
    """A part of the rows that fits far better a few rows on: one line was lost or came in before it."""
    rows = np.arange(len(fit.logs))
    for parts in (2, 4, 8, 16):
        for start, stop in pairwise(np.linspace(0, len(rows), parts + 1).astype(int)):
            part = slice(int(start), int(stop))
            if int(fit.judged[part].sum()) < BLOCK:
                continue
            step = fit.best_step(part)
            errors = fit.gain((rows + step) % len(rows), part)
            if errors > ERRORS:
                told = f"{abs(step)} row{'s' if abs(step) > 1 else ''} {'further on' if step > 0 else 'before'}"
                return (
                    f"with the label {told}, rows {start + 1:,} to {stop:,} fit better by {errors:.1f} standard errors"
                )
    return None


def _blank(fit: _Fit) -> str | None:
    """A part whose labels know nothing of its votes while the others do: other rows' labels, or hard rows."""
    whole, spread = fit.skill(slice(None))
    if whole < ERRORS * spread:
        return None
    for start, stop in pairwise(np.linspace(0, len(fit.logs), _BLANK_PARTS + 1).astype(int)):
        part = slice(int(start), int(stop))
        if int(fit.judged[part].sum()) < 2 * BLOCK:
            continue
        value, error = fit.skill(part)
        if value + 3 * error < whole / 2:
            return (
                f"the labels of rows {start + 1:,} to {stop:,} know next to nothing of their votes, unlike the others: "
                "are they those rows' own?"
            )
    return None
