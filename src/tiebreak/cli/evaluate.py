"""`tiebreak evaluate`: predictions against votes, as a table, a report and an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebreak.cli import console, judged, options

if TYPE_CHECKING:
    import polars as pl

    from tiebreak.evaluation import Evaluation
    from tiebreak.scoring import Estimate

EPILOG = """
Examples:

    tiebreak evaluate predictions.parquet --labels votes.parquet -o report

    tiebreak evaluate new.parquet --labels votes.parquet --against old.parquet -o report

    tiebreak evaluate predictions.parquet --labels votes.parquet --fail-if 'log_loss>1.05' --fail-if 'ece>0.05'

    tiebreak evaluate submission.csv --labels votes.parquet --json

The votes must be new to the judge: a judge is always good on the votes that it was trained on.
"""


def command(
    table: Annotated[
        Path, typer.Argument(metavar="PREDICTIONS", help=".parquet, .csv or .jsonl, or a Kaggle submission.")
    ],
    labels: Annotated[
        Path, typer.Option("--labels", help="Votes for the same ids: any file of votes, or just id and label.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory for the report: page, metrics.json and CSV.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Predictions of another judge for the same votes: paired differences.")
    ] = None,
    swapped: Annotated[
        Path | None, typer.Option(help="Predictions for the mirrored votes, same ids: measures position bias.")
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION", help="Gate, repeatable, for example 'log_loss>1.05': exit code 6 if it holds."
        ),
    ] = None,
    resamples: Annotated[int, typer.Option(min=10, help="Bootstrap resamples behind each interval.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    excerpts: Annotated[
        bool, typer.Option("--excerpts/--no-excerpts", help="Show the start of the most surprising votes' texts.")
    ] = True,
    judge: options.Judge = None,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    as_json: options.Json = False,
) -> None:
    """Measure how good predictions are: metrics with 95 % intervals, baselines, slices, audits, a report."""
    from tiebreak import evaluation
    from tiebreak.evaluation import gates, report, summary

    # Everything that can be wrong on the command line is found before the work begins.
    conditions = [gates.parse(text) for text in fail_if or []]
    if output is not None:
        report.check(output)
    votes = judged.votes(labels, input_format, mapping)
    measured = evaluation.evaluate(
        judged.predictions(table),
        votes,
        against=judged.predictions(against) if against else None,
        swapped=judged.predictions(swapped) if swapped else None,
        resamples=resamples,
        seed=seed,
        excerpts=excerpts,
        name=table.name,
        against_name=against.name if against else "the other predictions",
        remarks=_trained_on(votes, judge),
    )
    page = measured.write(output) if output is not None else None
    if as_json:
        console.emit_json(measured.to_dict())
    else:
        show(measured)
    for text in summary.warnings(measured):
        console.say(f"warning: {text}")
    if page is not None:
        console.note(f"wrote {page}")
    gates.enforce(measured, conditions)


def show(measured: Evaluation) -> None:
    """The quality table and what it means, to stdout."""
    from tiebreak.evaluation import summary

    counts = measured.counts
    header = ("", "log-loss", "accuracy", "without ties", "Brier", "log-loss of the judge minus this")
    lines = [[measured.name, *_figures(measured.metrics), ""]]
    if measured.comparison:
        other = measured.comparison
        lines.append([other.other, *_figures(other.metrics), str(other.difference["log_loss"])])
    for baseline in measured.baselines.values():
        gap = baseline.difference
        lines.append([baseline.title, *_figures(baseline.metrics), str(gap) if gap else "-"])
    console.table(f"{counts.scored:,} votes in {counts.groups:,} groups, 95 % intervals", header, lines)
    more = ("macro_f1", "ece", "classwise_ece", "recall_a", "recall_b", "recall_tie", "share_gap_tie")
    figures = [[name, str(measured.metrics[name])] for name in more]
    console.table("\nmore of the judge", ("figure", "value"), figures)
    console.emit("\n" + "\n".join(summary.sentences(measured)))


def _figures(found: dict[str, Estimate]) -> list[str]:
    names = ("log_loss", "accuracy", "decisive_accuracy", "brier")
    return [str(found[name]) if name in found else "-" for name in names]


def _trained_on(votes: pl.DataFrame, judge: Path | None) -> list[str]:
    """A remark if the judge was trained on these very votes. A whole data set is recognised, a part of one is not."""
    from tiebreak import bundle, comparisons, judges

    directory = judge or judges.EMBEDDED
    if not set(comparisons.REQUIRED) <= set(votes.columns) or not (directory / bundle.MANIFEST).is_file():
        return []
    found = comparisons.fingerprint(votes)
    name = f"the judge {judge}" if judge else "the embedded judge"
    return [
        f"{name[0].upper()}{name[1:]} was trained on these very votes ({source.name}). If it made these predictions, "
        "the figures say nothing about new votes."
        for source in bundle.read(directory).training
        if source.fingerprint == found
    ]
