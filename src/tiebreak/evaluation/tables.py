"""The tables of the report as HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from tiebreak.comparisons import LABELS
from tiebreak.evaluation.audits import TITLES
from tiebreak.evaluation.ledger import FIELDS, Ledger
from tiebreak.evaluation.ledger import TITLES as TRUNCATION
from tiebreak.evaluation.markup import Markup, tag
from tiebreak.evaluation.result import Evaluation
from tiebreak.evaluation.scores import NAMES
from tiebreak.evaluation.slices import Slice
from tiebreak.evaluation.surprises import excerpt
from tiebreak.scoring.bootstrap import Estimate

_COMPARED = ("log_loss", "accuracy", "decisive_accuracy", "brier")


def baselines(evaluation: Evaluation) -> Markup:
    """The judge, the other judge, and what needs no judge."""
    header = ("", *(NAMES[name] for name in _COMPARED), "This judge's log-loss minus theirs")
    rows = [_row(evaluation.name, evaluation.metrics, None, "", class_="own")]
    versus = evaluation.comparison
    if versus:
        rows.append(_row(versus.other, versus.metrics, versus.difference["log_loss"], "the other judge"))
    for baseline in evaluation.baselines.values():
        rows.append(_row(baseline.title, baseline.metrics, baseline.difference, baseline.how))
    return _table(header, rows)


def _row(name: str, figures: dict[str, Estimate], gap: Estimate | None, note: str, **attributes: str) -> Markup:
    title = tag("td", name, tag("small", note) if note else Markup())
    cells = [_cell(figures.get(key)) for key in _COMPARED]
    return tag("tr", title, *cells, _signed(gap), **attributes)


def classes(evaluation: Evaluation) -> Markup:
    """Recall, precision and calibration of A, B and tie."""
    header = ("", "Votes", "Mean probability", "Difference", "Recall", "Precision", "F1", "ECE")
    columns = ("actual_share", "predicted_share", "share_gap", "recall", "precision", "f1", "ece")
    rows = [
        tag("tr", tag("td", label if label == "tie" else label.upper()),
            *(_cell(evaluation.metrics[f"{name}_{label}"]) for name in columns))
        for label in LABELS
    ]  # fmt: skip
    return _table(header, rows)


def audits(evaluation: Evaluation) -> Iterator[Markup]:
    """Position, length and ties."""
    for name, audit in evaluation.audits.items():
        rows = [tag("tr", tag("td", TITLES[key]), _cell(value)) for key, value in audit.figures.items()]
        missing = []
        for reason in sorted(set(audit.not_measured.values())):
            titles = [TITLES[key] for key, why in audit.not_measured.items() if why == reason]
            missing.append(tag("p", f"Not measured ({reason}): {'; '.join(titles)}.", class_="quiet"))
        yield tag("div", tag("h3", name.capitalize()), _table(("", "Value"), rows) if rows else Markup(), *missing)


def ledger(found: Ledger) -> Iterator[Markup]:
    """Tokens of each text, and how many of them the judge saw."""
    rows = [
        tag("tr", tag("td", FIELDS[name]), tag("td", f"{field.tokens:,}"), tag("td", f"{field.kept:,}"),
            tag("td", f"{100 * field.share_kept:.1f} %"))
        for name, field in found.fields.items()
    ]  # fmt: skip
    yield _table(("", "Tokens", "Read by the judge", "Share read"), rows)
    gap = "truncated_log_loss_gap"
    cells = [
        tag("tr", tag("td", TRUNCATION[name]), _signed(value) if name == gap else _cell(value))
        for name, value in found.figures.items()
    ]
    yield _table(("", "Value"), cells)


def slices(evaluation: Evaluation) -> Iterator[Markup]:
    """The same figures on parts of the votes."""
    header = ["", "Votes", "Groups", "Log-loss", "Log-loss of its own class shares", "Accuracy",
              "Confidence minus accuracy"]  # fmt: skip
    if evaluation.comparison:
        header.append("Log-loss minus the other's")
    rows = []
    for dimension, parts in groupby(evaluation.slices, key=lambda part: part.dimension):
        rows.append(tag("tr", tag("td", f"By {dimension}", colspan=str(len(header))), class_="part"))
        rows += [_slice_row(part) for part in parts]
    if rows:
        yield _table(header, rows)
    for dimension, reason in evaluation.left_out.items():
        yield tag("p", f"Not sliced by {dimension}: {excerpt(reason)}.", class_="quiet")


def _slice_row(part: Slice) -> Markup:
    better = part.log_loss.high < part.prior_log_loss
    name = tag("td", tag("bdi", excerpt(part.name)), tag("small", "few votes") if part.small else Markup())
    cells = [
        tag("td", f"{part.rows:,}"),
        tag("td", f"{part.groups:,}"),
        _cell(part.log_loss, class_="good" if better and not part.small else ""),
        tag("td", f"{part.prior_log_loss:.4f}"),
        _cell(part.accuracy),
        _cell(part.calibration_gap),
    ]
    if part.difference is not None:
        cells.append(_cell(part.difference) if part.small else _signed(part.difference))
    return tag("tr", name, *cells, class_="few" if part.small else "")


def surprises(evaluation: Evaluation) -> Iterator[Markup]:
    """The votes with the largest log-loss."""
    table = evaluation.surprises
    yield tag("p", "The votes that the judge held for least likely, at most one of a group: its worst mistakes, or "
                   "votes to doubt.", class_="quiet")  # fmt: skip
    with_texts = "prompt" in table.columns
    header = ["row and id", "vote", "P(A)", "P(B)", "P(tie)", "log-loss"]
    rows = []
    for row in table.iter_rows(named=True):
        numbers = (f"{row[name]:.3f}" for name in ("p_a", "p_b", "p_tie", "log_loss"))
        cells = [tag("td", f"{row['row']:,} · {row['id']}"), tag("td", row["vote"]), *(tag("td", n) for n in numbers)]
        rows.append(tag("tr", *cells, class_="head" if with_texts else ""))
        if with_texts:
            texts = [tag("small", tag("b", f"{title} "), tag("bdi", row[name])) for title, name in
                     (("Prompt", "prompt"), ("A", "response_a"), ("B", "response_b"))]  # fmt: skip
            rows.append(tag("tr", tag("td", *texts, colspan="6"), class_="texts"))
    yield _table(header, rows)


def _table(header: Sequence[str], rows: Sequence[Markup]) -> Markup:
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in header)))
    return tag("div", tag("table", head, tag("tbody", *rows)), class_="scroll")


def _cell(estimate: Estimate | None, **attributes: str) -> Markup:
    if estimate is None or np.isnan(estimate.value):
        return tag("td", "-")
    bounds = "" if np.isnan(estimate.low) else f"[{estimate.low:.4f}, {estimate.high:.4f}]"
    return tag("td", f"{estimate.value:.4f}", tag("small", bounds), **attributes)


def _signed(estimate: Estimate | None) -> Markup:
    """A difference of log-loss: blue where surely below 0, orange where surely above."""
    if estimate is None:
        return tag("td")
    kind = "good" if estimate.high < 0 else "bad" if estimate.low > 0 else ""
    return _cell(estimate, class_=kind)
