"""How every picture looks, and how a figure becomes SVG inside a page.

Figures are objects of their own (no pyplot, no global state). Colours are Okabe and Ito's, safe for colour-blind
readers; text and lines take the colours of the page, so that one picture serves a light and a dark screen and print.
"""

from __future__ import annotations

import io
import re
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tiebreak.evaluation.markup import Markup

# All of these become variables of the page's style sheet.
BLUE: Final = "#0072b2"
ORANGE: Final = "#d55e00"
GREEN: Final = "#009e73"

INK: Final = "#101010"
MUTED: Final = "#707070"
LINE: Final = "#d0d0d0"
_VARIABLES: Final = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    BLUE: "var(--blue)",
    ORANGE: "var(--orange)",
    GREEN: "var(--green)",
}

STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "figure.constrained_layout.use": True,
}


def column(table: pl.DataFrame, name: str) -> np.ndarray:
    """A column of numbers."""
    return table[name].cast(pl.Float64).to_numpy()


def diagonal(axes: Axes) -> None:
    """The line on which a probability means what it says."""
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (4, 4)))


def band(axes: Axes, table: pl.DataFrame, x: str, low: str, high: str, colour: str) -> None:
    """The interval around a line."""
    bounds = column(table, low), column(table, high)
    axes.fill_between(column(table, x), *bounds, color=colour, alpha=0.2, linewidth=0)


def per_cent(value: float, _: float) -> str:
    """A tick label."""
    return f"{100 * value:.0f} %"


def svg(figure: Figure, salt: str) -> Markup:
    """The figure as SVG to be put inline: the same bytes each time, in the colours and the font of the page."""
    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    # The page decides how large a picture is; names of groups would repeat on the page, and nothing refers to them.
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"'DejaVu Sans'(?:, [^;\"]*)?", "system-ui, sans-serif", text)
    text = re.sub(r" transform=\"rotate\(-0 [^\"]*\"", "", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return Markup(text)
