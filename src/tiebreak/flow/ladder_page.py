"""The ladder as a page and as a picture. Names of rungs come from users: they are escaped, cut and made printable."""

from __future__ import annotations

import io
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from tiebreak.evaluation import drawing
from tiebreak.evaluation.drawing import BLUE, GREEN, INK, MUTED, ORANGE
from tiebreak.evaluation.markup import Markup, document, join, tag
from tiebreak.flow.ladder import Ladder, Rung
from tiebreak.scoring import Estimate

LONGEST: Final = 48
"""Characters of a name in the picture."""

_HEADER: Final = ("", "Log-loss", "To the rung before", "To the prior", "Accuracy", "ECE")


def render(ladder: Ladder) -> str:
    """The whole page: no script, nothing loaded from anywhere."""
    last = ladder.rungs[-1]
    said = [
        f"{ladder.votes:,} votes in {ladder.groups:,} groups, the same for every rung. Brackets are 95 % intervals of "
        "a bootstrap of whole groups; differences use the same resamples on both sides.",
        f"The last rung, {_clean(last.name)}: log-loss {last.log_loss}"
        + (f", {last.gain} beside the prior." if last.gain else "."),
    ]
    links = [tag("a", name, href=name) for name in ("ladder.json", "ladder.csv", "ladder.svg")]
    body = [
        tag("h1", "What each step of the chain brings"),
        *(tag("p", text) for text in said),
        tag("nav", join(*links, between=" · ")),
        tag("figure", tag("div", drawing.svg(_figure(ladder), "ladder"), role="img", aria_label=_alt(ladder)),
            tag("figcaption", "Log-loss with its interval. A rung is green where it is surely better than the one "
                "before it, orange where it is surely worse, blue where the votes do not tell."), class_="wide"),
        _table(ladder),
    ]  # fmt: skip
    return document("the ladder", *body)


def picture(ladder: Ladder) -> bytes:
    """The picture as an SVG file by itself: the same bytes each time."""
    stream = io.BytesIO()
    with mpl.rc_context({**drawing.STYLE, "svg.hashsalt": "ladder"}):
        _figure(ladder).savefig(stream, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def _figure(ladder: Ladder) -> Figure:
    with mpl.rc_context(drawing.STYLE):
        figure = Figure(figsize=(10.6, 0.9 + 0.3 * len(ladder.rungs)))
        axes = figure.add_subplot()
        axes.axvline(ladder.rungs[0].log_loss.value, color=MUTED, linewidth=0.8, linestyle=(0, (4, 4)))
        for place, rung in enumerate(ladder.rungs):
            found, colour = rung.log_loss, _colour(rung)
            if np.isfinite(found.low):
                axes.plot([found.low, found.high], [place, place], color=colour, linewidth=2.5, solid_capstyle="round")
            axes.plot([found.value], [place], "o", color=colour, markersize=6)
            axes.annotate(
                f"{found.value:.4f}", (1, place), xycoords=("axes fraction", "data"), xytext=(6, 0),
                textcoords="offset points", va="center", color=INK, size=9,
            )  # fmt: skip
        axes.set_yticks(range(len(ladder.rungs)), [_clean(rung.name) for rung in ladder.rungs])
        axes.set(ylim=(len(ladder.rungs) - 0.4, -0.6), xlabel="log-loss; left is better")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0, labelcolor=INK)
    return figure


def _colour(rung: Rung) -> str:
    if rung.change is None:
        return MUTED
    return GREEN if rung.change.high < 0 else ORANGE if rung.change.low > 0 else BLUE


def _alt(ladder: Ladder) -> str:
    return "Log-loss: " + "; ".join(f"{_clean(rung.name)} {rung.log_loss.value:.4f}" for rung in ladder.rungs) + "."


def _table(ladder: Ladder) -> Markup:
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in _HEADER)))
    rows = [
        tag("tr", tag("td", tag("bdi", rung.name)), _cell(rung.log_loss), _signed(rung.change), _signed(rung.gain),
            _cell(rung.accuracy), tag("td", f"{rung.ece:.4f}"))
        for rung in ladder.rungs
    ]  # fmt: skip
    return tag("div", tag("table", head, tag("tbody", *rows)), class_="scroll")


def _cell(estimate: Estimate, **attributes: str) -> Markup:
    bounds = "" if np.isnan(estimate.low) else f"[{estimate.low:.4f}, {estimate.high:.4f}]"
    return tag("td", f"{estimate.value:.4f}", tag("small", bounds), **attributes)


def _signed(estimate: Estimate | None) -> Markup:
    if estimate is None:
        return tag("td")
    kind = "good" if estimate.high < 0 else "bad" if estimate.low > 0 else ""
    bounds = "" if np.isnan(estimate.low) else f"[{estimate.low:+.4f}, {estimate.high:+.4f}]"
    return tag("td", f"{estimate.value:+.4f}", tag("small", bounds), class_=kind)


def _clean(name: str) -> str:
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
