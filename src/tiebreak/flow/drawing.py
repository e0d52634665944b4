"""The graph of a flow as text, as a picture, or for the tools that draw graphs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path

from tiebreak.errors import UsageError
from tiebreak.evaluation.drawing import BLUE, GREEN, INK, LINE, MUTED, ORANGE, STYLE
from tiebreak.flow.families import Family, families
from tiebreak.flow.node import Node

WIDTH: Final = 1.9
HEIGHT: Final = 0.78
COLUMN: Final = 2.55
ROW: Final = 1.15
DOTS: Final = 7
"""Jobs of a family in one line of dots."""

COLOURS: Final = {"done": GREEN, "running": BLUE, "failed": ORANGE, "stopped": ORANGE}
SUFFIXES: Final = (".svg", ".png", ".pdf", ".mmd", ".dot")


def text(nodes: Sequence[Node]) -> str:
    """The graph in words: each family of jobs with what it rests on and what its jobs do."""
    about = {node.name: node.about for node in nodes}
    lines = []
    for own in families(nodes):
        rests = f"  <- {', '.join(own.inputs)}" if own.inputs else ""
        lines.append(f"{own.name}{rests}")
        lines += [f"    {name:<34} {about[name]}" for name in own.nodes]
    return "\n".join(lines)


def draw(nodes: Sequence[Node], states: Mapping[str, str], suffix: str) -> bytes:
    """The graph as a file.

    Args:
        nodes: The nodes.
        states: Node -> done, running, failed, stopped or waiting; may be empty.
        suffix: One of `SUFFIXES`.

    Raises:
        UsageError: Another suffix.
    """
    if suffix == ".mmd":
        return mermaid(nodes).encode()
    if suffix == ".dot":
        return dot(nodes).encode()
    if suffix not in SUFFIXES:
        raise UsageError(f"a picture with the suffix {suffix!r}", expected=f"one of {', '.join(SUFFIXES)}")
    stream = io.BytesIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": "flow"}):
        figure = _figure(families(nodes), states)
        metadata = {"Date": None, "Creator": None} if suffix == ".svg" else {}
        figure.savefig(stream, format=suffix[1:], facecolor="white", metadata=metadata, dpi=160)
    return stream.getvalue()


def mermaid(nodes: Sequence[Node]) -> str:
    """Every node, for tools that draw Mermaid."""
    number = {node.name: f"n{place}" for place, node in enumerate(nodes)}
    lines = ["flowchart LR"]
    lines += [f'  {number[node.name]}["{node.name}"]' for node in nodes]
    lines += [f"  {number[name]} --> {number[node.name]}" for node in nodes for name in node.inputs]
    return "\n".join(lines) + "\n"


def dot(nodes: Sequence[Node]) -> str:
    """Every node, for Graphviz."""
    lines = ["digraph flow {", "  rankdir=LR; node [shape=box, style=rounded];"]
    lines += [f'  "{node.name}";' for node in nodes]
    lines += [f'  "{name}" -> "{node.name}";' for node in nodes for name in node.inputs]
    return "\n".join([*lines, "}"]) + "\n"


def _figure(found: Sequence[Family], states: Mapping[str, str]) -> Figure:
    places = _places(found)
    columns = 1 + max(x for x, _ in places.values())
    height = max(y for _, y in places.values()) + ROW
    figure = Figure(figsize=(0.62 * columns * COLUMN + 0.4, 0.75 * height + 0.5))
    axes = figure.add_subplot()
    axes.set(xlim=(-0.3, columns * COLUMN - COLUMN + WIDTH + 0.3), ylim=(height - 0.1, -0.35))
    axes.set_axis_off()
    corners = {name: (column * COLUMN, y) for name, (column, y) in places.items()}
    for own in found:
        for name in own.inputs:
            _edge(axes, corners[name], corners[own.name])
    for own in found:
        _box(axes, own, corners[own.name], states)
    return figure


def _places(found: Sequence[Family]) -> dict[str, tuple[int, float]]:
    """Column and height of each family: the column after those that it rests on, near to them."""
    column: dict[str, int] = {}
    for own in found:
        column[own.name] = 1 + max((column[name] for name in own.inputs), default=-1)
    inputs = {own.name: own.inputs for own in found}
    height: dict[str, float] = {}
    for at in range(1 + max(column.values())):
        here = [name for name in column if column[name] == at]
        wanted = {name: _mean([height[other] for other in inputs[name]]) for name in here}
        free = 0.0
        for name in sorted(here, key=lambda each: wanted[each]):
            height[name] = max(free, wanted[name])
            free = height[name] + ROW
    return {name: (column[name], height[name]) for name in column}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _edge(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    x, y = start[0] + WIDTH, start[1] + HEIGHT / 2
    to_x, to_y = end[0], end[1] + HEIGHT / 2
    middle = max((to_x - x) / 2, 0.3)
    curve = Path(
        [(x, y), (x + middle, y), (to_x - middle, to_y), (to_x, to_y)],
        [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4],
    )
    axes.add_patch(PathPatch(curve, facecolor="none", edgecolor=MUTED, linewidth=1.1, zorder=1))
    head = Path(
        [(to_x, to_y), (to_x - 0.11, to_y - 0.06), (to_x - 0.11, to_y + 0.06), (to_x, to_y)],
        [Path.MOVETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY],
    )
    axes.add_patch(PathPatch(head, facecolor=MUTED, edgecolor="none", zorder=2))


def _box(axes: Axes, own: Family, corner: tuple[float, float], states: Mapping[str, str]) -> None:
    x, y = corner
    kinds = [states.get(name, "waiting") for name in own.nodes]
    edge = next((COLOURS[kind] for kind in ("failed", "running") if kind in kinds), LINE)
    edge = GREEN if set(kinds) == {"done"} else edge
    axes.add_patch(
        FancyBboxPatch(
            (x, y), WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.12", facecolor="white", edgecolor=edge,
            linewidth=1.4, zorder=3,
        )
    )  # fmt: skip
    axes.text(x + WIDTH / 2, y + 0.3, own.name, ha="center", va="center", size=8.5, color=INK, zorder=4)
    shown = kinds[:DOTS]
    for place, kind in enumerate(shown):
        at = x + WIDTH / 2 + (place - (len(shown) - 1) / 2) * 0.15
        axes.plot([at], [y + 0.56], "o", markersize=4.2, color=COLOURS.get(kind, LINE), zorder=4)
    if len(kinds) > DOTS:
        axes.text(x + WIDTH - 0.08, y + 0.56, f"{len(kinds)}", ha="right", va="center", size=7, color=MUTED, zorder=4)
