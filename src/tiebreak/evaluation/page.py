"""The report as one HTML page: no script, nothing loaded from anywhere, every text escaped."""

from __future__ import annotations

from typing import Final

import numpy as np

from tiebreak.evaluation import plots, summary, tables
from tiebreak.evaluation.markup import Markup, document, join, tag
from tiebreak.evaluation.result import Evaluation
from tiebreak.evaluation.scores import NAMES
from tiebreak.evaluation.slices import SMALL_GROUPS, SMALL_ROWS

_HEADLINE: Final = {
    "log_loss": "lower is better",
    "accuracy": "higher is better",
    "decisive_accuracy": "higher is better",
    "macro_f1": "higher is better",
    "brier": "lower is better",
    "ece": "lower is better",
}


def render(evaluation: Evaluation) -> str:
    """The whole page."""
    sections = [
        _start(evaluation),
        _section("Beside baselines", tables.baselines(evaluation), name="baselines"),
        _section("Pictures", _pictures(evaluation), name="pictures"),
        _section("The three classes", tables.classes(evaluation), name="classes"),
        _section("Audits", tag("div", *tables.audits(evaluation), class_="columns"), name="audits"),
        *_ledger(evaluation),
        _section("Slices", *tables.slices(evaluation), name="slices"),
        _section("Largest surprises", *tables.surprises(evaluation), name="surprises"),
        _section("How this was measured", *_method(evaluation), name="method"),
    ]
    return document(evaluation.name, *sections)


def _start(evaluation: Evaluation) -> Markup:
    counts = evaluation.counts
    ledger = ("ledger",) if evaluation.ledger else ()
    shown = ("baselines", "pictures", "classes", "audits", *ledger, "slices", "surprises", "method")
    links = [tag("a", name, href=f"#{name}") for name in shown]
    files_ = [tag("a", "metrics.json", href="metrics.json"), tag("a", "csv/metrics.csv", href="csv/metrics.csv")]
    mind = summary.warnings(evaluation)
    return tag(
        "header",
        tag("h1", f"How good is {evaluation.name}?"),
        tag("p", f"{counts.scored:,} votes in {counts.groups:,} groups. Brackets are 95 % intervals.", class_="quiet"),
        tag("nav", join(*links, *files_, between=" · ")),
        tag("div", *(tag("p", text) for text in mind), class_="mind") if mind else Markup(),
        tag("ul", *(tag("li", text) for text in summary.sentences(evaluation))),
        _headline(evaluation),
    )


def _headline(evaluation: Evaluation) -> Markup:
    boxes = []
    for name, better in _HEADLINE.items():
        estimate = evaluation.metrics[name]
        value = "-" if np.isnan(estimate.value) else f"{estimate.value:.4f}"
        bounds = "" if np.isnan(estimate.low) else f"[{estimate.low:.4f}, {estimate.high:.4f}]"
        said = [tag("span", NAMES[name]), tag("b", value), tag("span", bounds), tag("span", better)]
        boxes.append(tag("div", *said))
    return tag("div", *boxes, class_="headline")


def _section(title: str, *children: Markup, name: str) -> Markup:
    return tag("section", tag("h2", title), *children, id=name)


def _ledger(evaluation: Evaluation) -> list[Markup]:
    if evaluation.ledger is None:
        return []
    return [_section("What the judge saw", *tables.ledger(evaluation.ledger), name="ledger")]


def _pictures(evaluation: Evaluation) -> Markup:
    drawn = []
    for picture in plots.draw(evaluation.curves):
        link = tag("a", "numbers as CSV", href=f"csv/{picture.name}.csv")
        drawn.append(
            tag(
                "figure",
                tag("h3", picture.title),
                tag("div", picture.svg, role="img", aria_label=picture.alt),
                tag("figcaption", picture.caption, " ", link),
                class_="wide" if picture.wide else "half",
            )
        )
    return tag("div", *drawn, class_="pictures")


def _method(evaluation: Evaluation) -> list[Markup]:
    counts = evaluation.counts
    notes = [
        f"Votes: {counts.votes:,} in the file, {counts.scored:,} scored, {counts.unlabelled:,} without label and "
        f"{counts.weightless:,} of weight 0 left out; {counts.soft:,} soft labels.",
        f"Intervals: percentiles of {evaluation.resamples:,} bootstrap resamples of whole groups (seed "
        f"{evaluation.seed}). A group is the group column, else the same prompt but for case, white space and Unicode "
        "form. Differences use the same resamples for both sides.",
        "Log-loss is in nats; with soft labels it is cross-entropy. The verdict is the class of the largest "
        "probability; an exact draw between A and B is a tie. Accuracy without ties looks at votes for A or B only.",
        "Macro-F1 is the mean over classes that occur. Brier is the squared distance summed over the classes (0 to 2).",
        "ECE: 15 bins of equal weight; its interval is centred on the value, because resampling alone raises it. A "
        f"perfectly calibrated judge with these probabilities would show {evaluation.calibrated_ece} by chance.",
        f"Small slices (fewer than {SMALL_ROWS} votes or {SMALL_GROUPS} groups) are marked: conclude "
        "nothing from them.",
    ]
    prints = [tag("li", f"{name}: ", tag("code", digest)) for name, digest in evaluation.fingerprints.items()]
    versions = ", ".join(f"{name} {version}" for name, version in evaluation.versions().items())
    return [
        tag("ul", *(tag("li", note) for note in notes)),
        tag("p", "Fingerprints (sha256) of what was compared:"),
        tag("ul", *prints),
        tag("p", f"Made with {versions}.", class_="quiet"),
    ]
