"""Memory over time, and the stages under it."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from tiebreak import storage
from tiebreak.evaluation.drawing import BLUE, GREEN, INK, MUTED, ORANGE, STYLE
from tiebreak.kaggle.rehearse.memory import GIB
from tiebreak.kaggle.rehearse.outcome import Rehearsal

_COLOURS = (BLUE, GREEN, ORANGE)


def draw(rehearsal: Rehearsal, path: Path) -> None:
    """Draw a rehearsal as PNG."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 4.5))
        over, under = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        made = next(iter(rehearsal.stages.values()), 0.0)
        seconds = [made + moment for moment, _ in rehearsal.series]
        held = [bytes_ / GIB for _, bytes_ in rehearsal.series]
        over.fill_between(seconds, held, color=BLUE, alpha=0.2, linewidth=0)
        over.plot(seconds, held, color=BLUE, linewidth=1.5)
        over.set_ylabel("GiB")
        over.set_ylim(bottom=0)
        over.set_title(
            f"Memory: {rehearsal.peak / GIB:.2f} GiB at most, of {rehearsal.limit / GIB:.1f}; "
            f"{rehearsal.rows:,} rows in {rehearsal.seconds:.0f} s"
        )
        start = 0.0
        for number, (name, taken) in enumerate(rehearsal.stages.items()):
            under.barh(0, taken, left=start, color=_COLOURS[number % len(_COLOURS)], alpha=0.7, height=0.8)
            if taken > 0.06 * rehearsal.seconds:
                under.text(
                    start + taken / 2, 0, f"{name}\n{taken:.1f} s", ha="center", va="center", fontsize=8, color=INK
                )
            start += taken
        under.set_yticks([])
        under.grid(visible=False)
        under.set_xlabel("seconds", color=MUTED)
        with storage.replacing(path) as aside:
            figure.savefig(aside, format="png", dpi=150)
