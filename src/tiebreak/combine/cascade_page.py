"""What quality costs, as a page, a picture and a table. Names of judges come from users: they are escaped and cut."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tiebreak import storage
from tiebreak.combine.cascade import Cascade
from tiebreak.combine.cascade_study import Goal
from tiebreak.evaluation import drawing, report
from tiebreak.evaluation.drawing import BLUE, GREEN, INK, MUTED, ORANGE
from tiebreak.evaluation.markup import Markup, document, join, tag

PAGE: Final = "index.html"
PICTURE: Final = "curve.png"
TABLE: Final = "curve.csv"
DOCUMENT: Final = "cascade.json"
CONTENT: Final = frozenset({PAGE, PICTURE, TABLE, DOCUMENT})

LONGEST: Final = 32
"""Characters of a name in the picture."""

_CLOSE: Final = 0.005
"""A goal that is missed by no more is reached."""

_WORDS: Final = {
    "entropy": "where the answer so far is undecided",
    "margin": "where A and B are close",
    "gain": "where the next judge is expected to help",
}


def write(cascade: Cascade, folder: Path, *, name: str, unit: str = "") -> Path:
    """Write the report whole or not at all, and return the path of its page.

    Args:
        cascade: As fitted.
        folder: Where to.
        name: Of the cascade.
        unit: Of the costs, where it is known.

    Raises:
        UsageError: The folder holds something else.
    """
    report.check(folder, CONTENT, option="--report")
    folder = folder.resolve()
    with storage.replacing(folder) as aside:
        aside.mkdir()
        (aside / PAGE).write_text(render(cascade, name, unit), encoding="utf-8")
        (aside / PICTURE).write_bytes(picture(cascade))
        table(cascade).write_csv(aside / TABLE)
        text = json.dumps(cascade.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
        (aside / DOCUMENT).write_text(text + "\n", encoding="utf-8")
    return folder / PAGE


def table(cascade: Cascade) -> pl.DataFrame:
    """The points of the curves, one a row."""
    study: dict[str, Any] = cascade.study
    rows = []
    for by, points in study["curves"].items():
        for point in points:
            row: dict[str, Any] = {"route": by}
            for figure in ("cost", "log_loss", "kept"):
                row |= dict(zip((figure, f"{figure}_low", f"{figure}_high"), point[figure], strict=True))
            rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def picture(cascade: Cascade) -> bytes:
    """The curve as a PNG on white."""
    stream = io.BytesIO()
    with mpl.rc_context(drawing.STYLE):
        figure = _figure(cascade)
        figure.savefig(stream, format="png", dpi=160, facecolor="white", metadata={"Software": None})
    return stream.getvalue()


def render(cascade: Cascade, name: str, unit: str) -> str:
    """The whole page: no script, nothing loaded from anywhere."""
    study: dict[str, Any] = cascade.study
    with mpl.rc_context(drawing.STYLE):
        drawn = drawing.svg(_figure(cascade), "cascade")
    links = [tag("a", file, href=file) for file in (PICTURE, TABLE, DOCUMENT)]
    body = [
        tag("h1", f"What quality costs: {name}"),
        tag(
            "p", f"{study['rows']:,} votes in {study['groups']:,} groups. Brackets are 95 % intervals.", class_="quiet"
        ),
        tag("nav", join(*links, between=" · ")),
        *_mind(cascade),
        tag("ul", *(tag("li", text) for text in sentences(cascade))),
        tag("figure", tag("div", drawn, role="img", aria_label=_alt(cascade)), tag("figcaption", _CAPTION),
            class_="wide"),
        tag("h2", "The judges"), _judges(cascade, unit),
        tag("h2", "The curve"), _points(cascade),
        tag("h2", "How this was measured"), tag("ul", *(tag("li", text) for text in _method(cascade))),
    ]  # fmt: skip
    return document(name, *body)


_CAPTION: Final = (
    "Left is cheaper, down is better. Blue: the route that was kept; its band is the 95 % interval of the difference "
    "to asking everybody. Grey: the other routes, and what sending on rows drawn at random would give. Squares: judges "
    "asked about everything by themselves. Orange: the cascade that was written."
)


def sentences(cascade: Cascade) -> list[str]:
    """What the study says, in plain words."""
    study: dict[str, Any] = cascade.study
    chosen, every, first = study["chosen"], study["everybody"], cascade.names[0]
    said = [
        f"Chosen for {Goal(**study['goal'])}: it costs {_share(chosen['cost'])} of asking everybody and has a log-loss "
        f"of {_three(chosen['log_loss'])}.",
        f"Asking everybody: {_three(every['log_loss'])}; {first} alone: {_three(study['judges'][0])}.",
    ]
    if chosen["kept"][0] is not None:
        said.append(f"That keeps {_share(chosen['kept'])} of what everybody gains over {first}.")
    answered = zip(cascade.names, chosen["answered"], strict=True)
    said.append("The last judge asked: " + ", ".join(f"{name} {100 * part:.1f} %" for name, part in answered) + ".")
    return said


def warnings(cascade: Cascade) -> list[str]:
    """What should give pause."""
    study: dict[str, Any] = cascade.study
    goal, chosen = Goal(**study["goal"]), study["chosen"]
    found, kept = [], chosen["kept"][0]
    if kept is None:
        found.append(f"the votes do not show that asking everybody gains anything over {cascade.names[0]}")
    if goal.target is not None and chosen["log_loss"][0] > goal.target:
        found.append(f"out of fold the target of {goal.target:g} is not reached")
    if goal.keep is not None and kept is not None and kept < goal.keep - _CLOSE:
        found.append(f"out of fold it keeps {100 * kept:.1f} % of the gain, not {100 * goal.keep:g} %")
    if goal.budget is not None and chosen["cost"][0] > goal.budget + _CLOSE:
        found.append(f"out of fold it costs {100 * chosen['cost'][0]:.1f} %, not {100 * goal.budget:g} %")
    return found


def _figure(cascade: Cascade) -> Figure:
    study: dict[str, Any] = cascade.study
    figure = Figure(figsize=(10.6, 5.2))
    axes = figure.add_subplot()
    first, last = study["curves"][study["route"]][0], study["everybody"]
    axes.plot(
        [100 * first["cost"][0], 100], [first["log_loss"][0], last["log_loss"][0]],
        color=MUTED, linewidth=1, linestyle=(0, (6, 5)), label="rows drawn at random",
    )  # fmt: skip
    for by, points in study["curves"].items():
        _line(axes, by, points, last["log_loss"][0], kept=by == study["route"])
    _squares(axes, cascade)
    cost, loss = study["chosen"]["cost"][0], study["chosen"]["log_loss"][0]
    axes.plot([100 * cost], [loss], "o", color=ORANGE, markersize=9, zorder=6)
    axes.annotate(
        "this cascade", (100 * cost, loss), xytext=(-8, -16), textcoords="offset points", ha="right", color=ORANGE,
        zorder=6,
    )  # fmt: skip
    axes.set(xlabel="cost of a row, % of asking every judge", ylabel="log-loss, nats; lower is better")
    axes.set_xlim(min(0.0, 100 * first["cost"][0]) - 1, 104)
    return figure


def _line(axes: Axes, by: str, points: list[dict[str, Any]], every: float, *, kept: bool) -> None:
    x, y = (np.array([point[name][0] for point in points]) for name in ("cost", "log_loss"))
    _, low, high = np.array([point["against_all"] for point in points], dtype=np.float64).T
    if kept and np.isfinite(low).all():
        axes.fill_between(100 * x, every + low, every + high, color=BLUE, alpha=0.18, linewidth=0)
    style: dict[str, Any] = (
        {"color": BLUE, "linewidth": 2.2, "marker": "o", "markersize": 3.5, "zorder": 4}
        if kept
        else {"color": MUTED, "linewidth": 1.1, "linestyle": {"entropy": ":", "margin": "-."}.get(by, "-")}
    )
    axes.plot(100 * x, y, label=f"{by}: {_WORDS[by]}" + (" (kept)" if kept else ""), **style)
    axes.legend(frameon=False, loc="upper right", labelcolor=INK)


def _squares(axes: Axes, cascade: Cascade) -> None:
    study: dict[str, Any] = cascade.study
    for name, share, loss in zip(cascade.names, study["shares"], study["judges"], strict=True):
        axes.plot([100 * share], [loss[0]], "s", color=INK, markersize=6, zorder=5)
        axes.annotate(
            _clean(name), (100 * share, loss[0]), xytext=(8, 5), textcoords="offset points", color=INK, zorder=5
        )
    every = study["everybody"]["log_loss"][0]
    axes.plot([100], [every], "D", color=GREEN, markersize=7, zorder=5)
    axes.annotate("everybody", (100, every), xytext=(-6, -15), textcoords="offset points", ha="right", color=GREEN)


def _alt(cascade: Cascade) -> str:
    study: dict[str, Any] = cascade.study
    points = study["curves"][study["route"]]
    said = ", ".join(f"{100 * p['cost'][0]:.0f} %: {p['log_loss'][0]:.4f}" for p in points)
    return f"Log-loss against cost, by the route {study['route']}: {said}."


def _mind(cascade: Cascade) -> list[Markup]:
    found = warnings(cascade)
    return [tag("div", *(tag("p", f"Mind: {text}.") for text in found), class_="mind")] if found else []


def _judges(cascade: Cascade, unit: str) -> Markup:
    study: dict[str, Any] = cascade.study
    header = ("", f"Cost of a row{f', {unit}' if unit else ''}", "Share", "Log-loss alone", "Weights once it was asked")
    rows = []
    for place, name in enumerate(cascade.names):
        weights = zip(cascade.names, cascade.stages[place].weights, strict=False)
        rows.append([
            tag("bdi", name), f"{cascade.costs[place]:.4g}", f"{100 * study['shares'][place]:.1f} %",
            _three(study["judges"][place]), ", ".join(f"{one} {weight:.3f}" for one, weight in weights),
        ])  # fmt: skip
    return _table(header, rows)


def _points(cascade: Cascade) -> Markup:
    study: dict[str, Any] = cascade.study
    rows = [
        [by, _share(point["cost"]), _three(point["log_loss"]), _share(point["kept"])]
        for by, points in study["curves"].items()
        for point in points
    ]
    return _table(("Route", "Cost", "Log-loss", "Gain kept"), rows)


def _table(header: tuple[str, ...], rows: list[list[str]]) -> Markup:
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in header)))
    body = tag("tbody", *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows))
    return tag("div", tag("table", head, body), class_="scroll")


def _method(cascade: Cascade) -> list[str]:
    study: dict[str, Any] = cascade.study
    answer = "the pool of the judges asked so far" if study["answer"] == "pooled" else "that of the last judge asked"
    return [
        f"{study['folds']} folds of whole groups: weights, route, thresholds and the choice among routes are fitted on "
        "the other folds; what a fold chose it has not seen. The curve shows each route at evenly spaced budgets.",
        f"The answer of a row is {answer} (mean of {cascade.space}).",
        "A row goes on where the log-loss that is expected to be saved, net of later costs, is above the price of the "
        f"next judge. The price of this cascade: {study['price']:.4g} nats for asking everybody.",
        "Gain kept: the log-loss saved beside the first judge, as a share of what asking everybody saves; its interval "
        "resamples both together.",
        f"Intervals: percentiles of bootstrap resamples of whole groups (seed {study['seed']}).",
    ]


def _three(values: list[float | None]) -> str:
    value, low, high = ("-" if one is None else f"{one:.4f}" for one in values)
    return value if low == "-" else f"{value} [{low}, {high}]"


def _share(values: list[float | None]) -> str:
    value, low, high = ("-" if one is None else f"{100 * one:.1f}" for one in values)
    if low in {"-", value}:
        return value if value == "-" else f"{value} %"
    return f"{value} % [{low}, {high}]"


def _clean(name: str) -> str:
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
