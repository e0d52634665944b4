"""The attack as one HTML page: no script, nothing loaded from anywhere, every text escaped, no text of any vote."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from tiebreak.attack import summary
from tiebreak.attack.families import Trick
from tiebreak.attack.measuring import Figures, Measured
from tiebreak.evaluation import drawing
from tiebreak.evaluation.markup import Markup, document, join, tag

_COLOURS: Final = {"both": drawing.BLUE, "own": drawing.BLUE, "one": drawing.ORANGE}
_SHOWN: Final = 160


def render(name: str, measured: Sequence[Measured], notes: Sequence[str]) -> str:
    """The whole page.

    Args:
        name: Of the judge.
        measured: What came of every family.
        notes: How it was measured, a sentence each.
    """
    found = summary.readers(measured)
    sections = [
        _start(name, measured),
        _section("Families", "families", _picture(measured), *(_families(measured, reader) for reader in found)),
        _section("Where the attacked answer stands", "positions", *(_positions(measured, reader) for reader in found)),
        _section("Tricks", "tricks", *(_tricks(one, found) for one in measured)),
        _section("How this was measured", "method", tag("ul", *(tag("li", note) for note in notes))),
    ]
    return document(f"attacks on {name}", *sections)


def _start(name: str, measured: Sequence[Measured]) -> Markup:
    mind = summary.warnings(measured)
    links = [tag("a", place, href=f"#{place}") for place in ("families", "positions", "tricks", "method")]
    return tag(
        "header",
        tag("h1", f"Can {name} be talked into a verdict?"),
        tag("p", "The answer that lost tries again with a trick. Brackets are 95 % intervals.", class_="quiet"),
        tag("nav", join(*links, tag("a", "attacks.json", href="attacks.json"), between=" · ")),
        tag("div", *(tag("p", text) for text in mind), class_="mind") if mind else Markup(),
        tag("ul", *(tag("li", text) for text in summary.sentences(measured))),
    )


def _section(title: str, name: str, *children: Markup) -> Markup:
    return tag("section", tag("h2", title), *children, id=name)


def _families(measured: Sequence[Measured], reader: str) -> Markup:
    rows = [
        _row(one.family.name, one.family.about, summary.line(one, reader), control=one.family.control)
        for one in measured if reader in one.overall
    ]  # fmt: skip
    return tag("div", tag("h3", summary.READERS[reader].capitalize()), _table(("", *summary.HEADER), rows))


def _positions(measured: Sequence[Measured], reader: str) -> Markup:
    header = ("", "Won as A", "Won as B", "Gained as A", "Gained as B", "Had won before, as A", "As B")
    rows = []
    for one in measured:
        if reader in one.overall:
            a, b = (one.positions[reader, side] for side in ("a", "b"))
            cells = [
                summary.share(a.won), summary.share(b.won), summary.share(a.gain, signed=True),
                summary.share(b.gain, signed=True), f"{a.already_won:,}", f"{b.already_won:,}",
            ]  # fmt: skip
            rows.append(_row(one.family.name, "", cells, control=one.family.control))
    return tag("div", tag("h3", summary.READERS[reader].capitalize()), _table(header, rows))


def _tricks(one: Measured, found: Sequence[str]) -> Markup:
    header = ("", *(f"{title} ({reader})" for reader in found for title in ("Won", "Gained")), "Cut", "No case")
    rows = []
    for trick in one.family.tricks:
        figures = [one.tricks[reader, trick.name] for reader in found if (reader, trick.name) in one.tricks]
        if figures:
            cells = [text for each in figures for text in _pair(each)]
            cells += [f"{figures[0].cut:,}", f"{one.not_applicable[trick.name]:,}"]
            rows.append(_row(trick.name, written(trick), cells))
    source = tag("p", f"After {one.family.source}.", class_="quiet") if one.family.source else Markup()
    return tag("div", tag("h3", one.family.name), tag("p", one.family.about), _table(header, rows), source)


def _pair(figures: Figures) -> tuple[str, str]:
    return summary.share(figures.won), summary.share(figures.gain, signed=True)


def written(trick: Trick) -> str:
    """What a trick writes, for a person to see: characters that show nothing are spelled out."""
    if trick.edit is not None:
        return (trick.edit.__doc__ or "The answer again.").splitlines()[0]
    shown = "".join(letter if _seen(letter) else _spelled(letter) for letter in trick.written("a"))
    where = {"end": "At the end", "start": "At the start", "instead": "Instead"}[trick.where]
    return f"{where}: {shown[:_SHOWN]}{'...' if len(shown) > _SHOWN else ''}" if shown else f"{where}: nothing"


def _spelled(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def _seen(letter: str) -> bool:
    """Whether a character shows by itself: marks such as variation selectors count as printable and do not."""
    return letter.isprintable() and unicodedata.category(letter) != "Mn"


def _picture(measured: Sequence[Measured]) -> Markup:
    """Won, by family and reader, with intervals."""
    with mpl.rc_context(drawing.STYLE):
        figure = Figure(figsize=(10.6, 0.34 * len(measured) + 1.0))
        axes = figure.add_subplot()
        for step, reader in enumerate(summary.readers(measured)):
            for place, one in enumerate(measured):
                won = one.overall[reader].won if reader in one.overall else None
                if won is not None and not np.isnan(won.value):
                    y = place + 0.24 * step
                    axes.plot([won.low, won.high], [y, y], color=_COLOURS[reader], linewidth=1.5, alpha=0.6)
                    axes.plot(won.value, y, "o", color=_COLOURS[reader], markersize=5)
        axes.set_yticks(range(len(measured)), [one.family.name for one in measured])
        axes.set(ylim=(len(measured) - 0.4, -0.6), xlabel="votes won, of those that could be won")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(drawing.per_cent)
        drawn = drawing.svg(figure, "attacks")
    told = "; ".join(
        f"{one.family.name} {summary.share(one.overall[reader].won)}"
        for reader in summary.readers(measured)[:1] for one in measured if reader in one.overall
    )  # fmt: skip
    colours = {drawing.BLUE: "blue", drawing.ORANGE: "orange"}
    caption = ", ".join(f"{colours[_COLOURS[name]]}: {summary.READERS[name]}" for name in summary.readers(measured))
    return tag(
        "figure", tag("div", drawn, role="img", aria_label=told), tag("figcaption", f"Votes won; {caption}."),
        class_="wide",
    )  # fmt: skip


def _row(name: str, note: str, cells: Sequence[str], *, control: bool = False) -> Markup:
    title = tag("td", name, tag("small", note) if note else Markup())
    shown = [tag("td", *_split(cell)) for cell in cells]
    return tag("tr", title, *shown, class_="own") if control else tag("tr", title, *shown)


def _split(cell: str) -> tuple[str, ...]:
    """The figure, and its interval below it."""
    value, bracket, bounds = cell.partition(" [")
    return (value, tag("small", f"[{bounds}")) if bracket else (value,)


def _table(header: Sequence[str], rows: Sequence[Markup]) -> Markup:
    head = tag("thead", tag("tr", *(tag("th", title[:1].upper() + title[1:]) for title in header)))
    return tag("div", tag("table", head, tag("tbody", *rows)), class_="scroll")
