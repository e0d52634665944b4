"""How often an attack succeeded, with intervals that resample prompts.

An attempt can succeed only where the answer did not win already: these are the open ones. It succeeded when the
verdict has become the attacked answer. The control (harmless edits) says how often that happens for no reason at all,
and a family is worth what it wins beyond that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak.attack.families import Family
from tiebreak.attack.run import Attacked
from tiebreak.evaluation.sample import group_codes
from tiebreak.scoring.bootstrap import LEVEL, Bootstrap, Estimate, ratio

FIGURES: Final = ("won", "any_won", "gain", "beyond_control", "gain_beyond_control")


@dataclass(frozen=True)
class Figures:
    """What came of a family or of one trick, for one reader.

    Attributes:
        attempts: Votes x tricks x positions.
        already_won: Attempts on votes that the attacked answer had won in that order before: nothing to win.
        cut: Attempts in which the judge did not see the whole attacked answer.
        won: Share of the open attempts whose verdict became the attacked answer.
        any_won: Share of the open votes and positions that some trick of the family won.
        gain: Mean change of the probability that the attacked answer wins.
        beyond_control: `won` less that of the control, on the same resamples; None for the control itself.
        gain_beyond_control: `gain` likewise.
    """

    attempts: int
    already_won: int
    cut: int
    won: Estimate
    any_won: Estimate
    gain: Estimate
    beyond_control: Estimate | None
    gain_beyond_control: Estimate | None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        figures = {name: getattr(self, name) for name in FIGURES}
        return {
            "attempts": self.attempts, "already_won": self.already_won, "cut": self.cut,
            **{name: None if found is None else estimate(found) for name, found in figures.items()},
        }  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """What came of a family.

    Attributes:
        family: The family.
        not_applicable: Of each trick, the votes on which it could not be tried.
        overall: By reader (`one`, `both`, `own`).
        positions: By reader and position of the attacked answer.
        tricks: By reader and trick.
    """

    family: Family
    not_applicable: dict[str, int]
    overall: dict[str, Figures]
    positions: dict[tuple[str, str], Figures]
    tricks: dict[tuple[str, str], Figures]


@dataclass(frozen=True)
class _Sums:
    """Sums over the data and every resample, each of shape (1 + resamples,)."""

    open: np.ndarray
    won: np.ndarray
    all: np.ndarray
    gain: np.ndarray


def measure(found: Attacked, *, resamples: int = 1000, seed: int = 0) -> list[Measured]:
    """Every family, in its order.

    Args:
        found: What the judge said.
        resamples: Bootstrap resamples of whole prompts.
        seed: Theirs.
    """
    groups = group_codes(found.votes)
    bootstrap = Bootstrap(groups, resamples=resamples, seed=seed)
    tries = found.tries.with_columns(
        open=(pl.col("verdict_before") != "win").cast(pl.Float64),
        won=((pl.col("verdict_before") != "win") & (pl.col("verdict") == "win")).cast(pl.Float64),
        gain=pl.col("p_win") - pl.col("p_win_before"),
    )
    scale = _Scale(bootstrap, groups, tries, [f.name for f in found.families if f.control])
    return [_family(family, found, tries.filter(family=family.name), scale) for family in found.families]


class _Scale:
    """Turns attempts into figures; knows what the control came to."""

    def __init__(self, bootstrap: Bootstrap, groups: np.ndarray, tries: pl.DataFrame, control: Sequence[str]) -> None:
        self.bootstrap, self.groups = bootstrap, groups
        self.control = tries.filter(pl.col("family").is_in(control))
        self._known: dict[tuple[str, str | None], _Sums] = {}

    def figures(self, tries: pl.DataFrame, orders: str, position: str | None = None) -> Figures:
        sums, of_control = self._sums(tries), self._of_control(orders, position)
        held = not tries["family"].is_in(self.control["family"].unique().to_list()).any() and self.control.height > 0
        share, gain = ratio(sums.won, sums.open), ratio(sums.gain, sums.all)
        per_vote = tries.group_by("row", "position").agg(pl.col("open").max(), pl.col("won").max())
        return Figures(
            attempts=tries.height, already_won=int(tries.height - tries["open"].sum()), cut=int(tries["cut"].sum()),
            won=_bounded(Estimate.of(share), self._prompts(tries)),
            any_won=_bounded(
                Estimate.of(ratio(self._sum(per_vote, "won"), self._sum(per_vote, "open"))), self._prompts(tries)
            ),
            gain=Estimate.of(gain),
            beyond_control=Estimate.of(share - ratio(of_control.won, of_control.open)) if held else None,
            gain_beyond_control=Estimate.of(gain - ratio(of_control.gain, of_control.all)) if held else None,
        )  # fmt: skip

    def _prompts(self, tries: pl.DataFrame) -> int:
        """Groups in which something could be won."""
        return len(np.unique(self.groups[tries.filter(pl.col("open") > 0)["row"].unique().to_numpy()]))

    def _of_control(self, orders: str, position: str | None) -> _Sums:
        key = (orders, position)
        if key not in self._known:
            own = self.control.filter(orders=orders)
            self._known[key] = self._sums(own if position is None else own.filter(position=position))
        return self._known[key]

    def _sums(self, tries: pl.DataFrame) -> _Sums:
        counted = tries.with_columns(all=pl.lit(1.0))
        return _Sums(*(self._sum(counted, name) for name in ("open", "won", "all", "gain")))

    def _sum(self, tries: pl.DataFrame, column: str) -> np.ndarray:
        values = np.bincount(tries["row"].to_numpy(), weights=tries[column].to_numpy(), minlength=len(self.groups))
        return self.bootstrap.sum(values)


def _bounded(found: Estimate, prompts: int) -> Estimate:
    """Where nothing was won, or everything, no resample differs: then the exact binomial bound for as many prompts."""
    tail = ((1 - LEVEL) / 2) ** (1 / prompts) if prompts else 0.0
    if found.value == 0:
        return Estimate(0.0, 0.0, 1 - tail)
    return Estimate(1.0, tail, 1.0) if found.value == 1 else found


def _family(family: Family, found: Attacked, tries: pl.DataFrame, scale: _Scale) -> Measured:
    tried = dict(tries.group_by("trick").agg(pl.col("row").n_unique()).iter_rows())
    overall, positions, tricks = {}, {}, {}
    for orders in found.tries["orders"].unique().sort():
        own = tries.filter(orders=orders)
        overall[orders] = scale.figures(own, orders)
        for position in ("a", "b"):
            positions[orders, position] = scale.figures(own.filter(position=position), orders, position)
        for trick in family.tricks:
            tricks[orders, trick.name] = scale.figures(own.filter(trick=trick.name), orders)
    absent = {trick.name: found.votes.height - tried.get(trick.name, 0) for trick in family.tricks}
    return Measured(family, absent, overall, positions, tricks)


def estimate(found: Estimate) -> list[float | None]:
    """Value and bounds, null where they are not defined."""
    return [None if np.isnan(value) else round(value, 6) for value in (found.value, found.low, found.high)]


def document(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """All families as JSON."""
    return [
        {
            "name": one.family.name,
            "about": one.family.about,
            "control": one.family.control,
            "source": one.family.source or None,
            "overall": {orders: figures.document() for orders, figures in one.overall.items()},
            "positions": [
                {"orders": orders, "position": position, **figures.document()}
                for (orders, position), figures in one.positions.items()
            ],
            "tricks": [
                {"trick": trick, "orders": orders, "not_applicable": one.not_applicable[trick], **figures.document()}
                for (orders, trick), figures in one.tricks.items()
            ],
        }
        for one in measured
    ]
