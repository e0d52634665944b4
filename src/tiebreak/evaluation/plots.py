"""The pictures. Each draws its table of `curves` and nothing else, and holds no text that comes from data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tiebreak.comparisons import LABELS
from tiebreak.evaluation import drawing
from tiebreak.evaluation.drawing import BLUE, GREEN, INK, LINE, MUTED, ORANGE, column, per_cent, svg
from tiebreak.evaluation.markup import Markup

COLOURS: Final = {"a": BLUE, "b": ORANGE, "tie": GREEN}
NAMES: Final = {"a": "A", "b": "B", "tie": "tie"}
HALF: Final = (5.2, 4.0)
FULL: Final = 10.6


@dataclass(frozen=True)
class Picture:
    """One picture of the report.

    Attributes:
        name: Name of its table, and of its CSV file.
        title: What it shows, in a few words.
        caption: How to read it.
        alt: What it says, for those who do not see it.
        svg: The drawing, to be put inline.
        wide: Whether it needs the width of the page.
    """

    name: str
    title: str
    caption: str
    alt: str
    svg: Markup
    wide: bool


def draw(curves: dict[str, pl.DataFrame]) -> list[Picture]:
    """Every picture that the tables allow."""
    makers: dict[str, Callable[[], Picture]] = {
        "confusion": lambda: _confusion(curves["confusion"]),
        "log_loss": lambda: _log_loss(curves["log_loss"]),
        "difference": lambda: _difference(curves["difference"]),
        "reliability": lambda: _reliability(curves["reliability"], curves["histogram"]),
        "risk_coverage": lambda: _risk(curves["risk_coverage"]),
        "length": lambda: _length(curves["length"]),
        "tie_calibration": lambda: _ties(curves["tie_calibration"]),
    }
    with mpl.rc_context(drawing.STYLE):
        return [make() for name, make in makers.items() if name in curves and curves[name].height]


def _confusion(table: pl.DataFrame) -> Picture:
    figure = Figure(figsize=HALF)
    axes = figure.add_subplot()
    shares = table["share_of_vote"].to_numpy().reshape(3, 3)
    counts = table["count"].to_numpy().reshape(3, 3)
    for (y, x), share in np.ndenumerate(shares):
        # A class without votes has no shares; its cells stay blank.
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=BLUE, alpha=0.75 * np.nan_to_num(share), edgecolor="none"))
        axes.text(x + 0.5, y + 0.44, f"{counts[y, x]:,.0f}", ha="center", va="center", size=13)
        said = "-" if np.isnan(share) else f"{100 * share:.0f} % of row"
        axes.text(x + 0.5, y + 0.68, said, ha="center", va="center", size=9)
    axes.set(xlim=(0, 3), ylim=(3, 0), xlabel="verdict of the judge", ylabel="vote of the person")
    axes.set_xticks([0.5, 1.5, 2.5], list(NAMES.values()))
    axes.set_yticks([0.5, 1.5, 2.5], list(NAMES.values()))
    axes.tick_params(length=0, labelsize=11)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    found = ", ".join(f"{100 * shares[k, k]:.0f} % of {NAMES[c]}" for k, c in enumerate(LABELS) if counts[k].sum())
    return Picture(
        "confusion", "Votes and verdicts", "Right verdicts lie on the diagonal; each row adds up to 100 %.",
        f"Confusion matrix. The verdict is the vote for {found} votes.", svg(figure, "confusion"), False,
    )  # fmt: skip


def _log_loss(table: pl.DataFrame) -> Picture:
    figure = Figure(figsize=HALF)
    axes = figure.add_subplot()
    own = column(table, "log_loss")[0]
    axes.axvline(own, color=BLUE, linewidth=0.8, linestyle=(0, (4, 4)))
    for place, row in enumerate(table.iter_rows(named=True)):
        colour = BLUE if place == 0 else MUTED
        axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2.5)
        axes.plot([row["log_loss"]], [place], "o", color=colour, markersize=7)
        axes.annotate(
            f"{row['log_loss']:.4f}", (row["log_loss"], place), xytext=(0, 9), textcoords="offset points",
            ha="center", color=INK,
        )  # fmt: skip
    axes.set_yticks(range(table.height), table["judge"].to_list())
    axes.set(ylim=(table.height - 0.5, -0.7), xlabel="log-loss; left is better")
    axes.margins(x=0.15)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    said = "; ".join(f"{row['judge']} {row['log_loss']:.4f}" for row in table.iter_rows(named=True))
    return Picture(
        "log_loss", "Log-loss beside baselines", "Lines are 95 % intervals.", f"Log-loss: {said}.",
        svg(figure, "log_loss"), False,
    )  # fmt: skip


def _reliability(table: pl.DataFrame, histogram: pl.DataFrame) -> Picture:
    figure = Figure(figsize=(FULL, 4.4))
    rows = figure.subplots(2, 3, height_ratios=[4, 1], sharex=True)
    for place, label in enumerate(LABELS):
        part = table.filter(pl.col("class") == label)
        axes, below = rows[0][place], rows[1][place]
        drawing.diagonal(axes)
        drawing.band(axes, part, "predicted", "low", "high", COLOURS[label])
        axes.plot(
            column(part, "predicted"), column(part, "actual"), "o-", color=COLOURS[label], markersize=4, linewidth=1.4
        )
        axes.set(xlim=(0, 1), ylim=(0, 1), title=f"P({NAMES[label]})")
        counts = histogram.filter(pl.col("class") == label)
        votes = column(counts, "count")
        below.bar(column(counts, "from"), votes, width=0.045, align="edge", color=COLOURS[label], alpha=0.6)
        below.set(xlabel="predicted probability", yticks=[0, int(votes.max())])
        below.grid(visible=False)
    rows[0][0].set_ylabel("share of votes")
    rows[1][0].set_ylabel("votes")
    worst = table.with_columns((pl.col("predicted") - pl.col("actual")).abs().alias("gap")).sort("gap").tail(1)
    name, predicted, actual = (worst[key][0] for key in ("class", "predicted", "actual"))
    size = np.median(column(table, "count"))
    caption = (
        f"On the diagonal a probability means what it says. Each point is about {size:,.0f} votes; bands are 95 % "
        "intervals; bars below count the votes by probability."
    )
    alt = (
        f"Three reliability curves. The largest gap is at P({NAMES[name]}) = {predicted:.2f}, where the share of votes "
        f"is {actual:.2f}."
    )
    return Picture("reliability", "Do probabilities mean what they say?", caption, alt, svg(figure, "r"), True)


def _ties(table: pl.DataFrame) -> Picture:
    figure = Figure(figsize=HALF)
    axes = figure.add_subplot()
    x, ties, said = (column(table, name) for name in ("predicted", "actual", "tie_verdicts"))
    drawing.diagonal(axes)
    drawing.band(axes, table, "predicted", "low", "high", GREEN)
    axes.plot(x, ties, "o-", color=GREEN, markersize=4)
    axes.plot(x, said, "s--", color=MUTED, markersize=3, linewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="P(tie)", ylabel="share of votes in the bin")
    for height, words, colour in (
        (0.1, "votes that are ties, 95 % band", GREEN),
        (0.03, "verdicts that are ties", MUTED),
    ):
        axes.text(0.98, height, words, color=colour, transform=axes.transAxes, ha="right")
    return Picture(
        "tie_calibration", "Ties",
        "Green: how many votes were ties, by P(tie). Dashed: where the verdict is a tie, that is P(tie) is largest.",
        f"Share of ties against P(tie): from {table['actual'][0]:.2f} where P(tie) is {table['predicted'][0]:.2f} to "
        f"{table['actual'][-1]:.2f} where it is {table['predicted'][-1]:.2f}.",
        svg(figure, "ties"), False,
    )  # fmt: skip


def _risk(table: pl.DataFrame) -> Picture:
    figure = Figure(figsize=(FULL, 3.5))
    left, right = figure.subplots(1, 2)
    for axes, name, colour in ((left, "accuracy", BLUE), (right, "log_loss", ORANGE)):
        drawing.band(axes, table, "answered", f"{name}_low", f"{name}_high", colour)
        axes.plot(column(table, "answered"), column(table, name), "o-", color=colour, markersize=3)
        axes.set(xlim=(0, 1.01), xlabel="share of votes answered, surest first")
        axes.set_title("Accuracy" if name == "accuracy" else "Log-loss")
        axes.xaxis.set_major_formatter(per_cent)
    left.yaxis.set_major_formatter(per_cent)
    first, last = table.row(0, named=True), table.row(-1, named=True)
    return Picture(
        "risk_coverage", "If it answers only where it is sure",
        "Good confidence lets accuracy rise and log-loss fall to the left, where only the surest verdicts are kept.",
        f"Accuracy is {first['accuracy']:.2f} on the surest {100 * first['answered']:.0f} % of the votes and "
        f"{last['accuracy']:.2f} on all.",
        svg(figure, "risk"), True,
    )  # fmt: skip


def _length(table: pl.DataFrame) -> Picture:
    figure = Figure(figsize=HALF)
    axes = figure.add_subplot()
    x = column(table, "length_ratio")
    axes.axhline(0.5, color=LINE, linewidth=1)
    axes.axvline(1, color=LINE, linewidth=1)
    drawing.band(axes, table, "length_ratio", "low", "high", BLUE)
    axes.plot(x, column(table, "actual"), "o-", color=BLUE, markersize=4)
    axes.plot(x, column(table, "predicted"), "s--", color=ORANGE, markersize=3)
    axes.set_xscale("log")
    low, high = float(x.min()), float(x.max())
    ticks = [t for t in (0.01, 0.05, 0.2, 0.5, 1, 2, 5, 20, 100) if low / 1.5 <= t <= high * 1.5]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.set_xticks([], minor=True)
    axes.set(ylim=(0, 1), xlabel="A is so many times as long as B", ylabel="share that A wins of the decided")
    axes.yaxis.set_major_formatter(per_cent)
    axes.text(0.03, 0.95, "people, with 95 % band", color=BLUE, transform=axes.transAxes, va="top")
    axes.text(0.03, 0.88, "predicted", color=ORANGE, transform=axes.transAxes, va="top")
    return Picture(
        "length", "The pull of length",
        "Where the dashed line is steeper than the other, the judge leans to long answers more than people do.",
        f"Share won by A: where A is shortest, people {table['actual'][0]:.2f}, predicted {table['predicted'][0]:.2f}; "
        f"where A is longest, people {table['actual'][-1]:.2f}, predicted {table['predicted'][-1]:.2f}.",
        svg(figure, "length"), False,
    )  # fmt: skip


def _difference(table: pl.DataFrame) -> Picture:
    # Names of models and sources come from data; they stay out of pictures and are found in the table of slices.
    table = table.filter(~pl.col("dimension").is_in(["source", "pair of models"]))
    figure = Figure(figsize=(FULL, 1.1 + 0.27 * table.height))
    axes = figure.add_subplot()
    places = np.arange(table.height)
    axes.axvline(0, color=MUTED, linewidth=1)
    for place, row in zip(places, table.iter_rows(named=True), strict=True):
        colour = MUTED if row["low"] <= 0 <= row["high"] else BLUE if row["high"] < 0 else ORANGE
        axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2)
        axes.plot([row["difference"]], [place], "o", color=colour, markersize=6 if place == 0 else 4)
    said = [row["slice"] if row["dimension"] == row["slice"] else f"{row['dimension']}: {row['slice']}"
            for row in table.iter_rows(named=True)]  # fmt: skip
    axes.set_yticks(places, said)
    axes.locator_params(axis="x", nbins=7)
    axes.set(ylim=(table.height - 0.5, -0.5), xlabel="log-loss minus that of the other; left of 0 is better")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    first = table.row(0, named=True)
    return Picture(
        "difference", "Better or worse than the other, and where",
        "Paired differences of log-loss with 95 % intervals. Blue is better, orange worse, grey undecided; "
        "slices with few votes are left out.",
        f"Difference of log-loss over all votes {first['difference']:+.4f}, interval {first['low']:+.4f} to "
        f"{first['high']:+.4f}; {table.height - 1} slices below.",
        svg(figure, "difference"), True,
    )  # fmt: skip
