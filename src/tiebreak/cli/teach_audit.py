"""`tiebreak teach audit`: are these labels fit to be learned from?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tiebreak.cli import console, options
from tiebreak.errors import GateError, UsageError

if TYPE_CHECKING:
    from tiebreak.soft_labels import Audit

EPILOG = """
Examples:

    tiebreak teach audit labels.parquet --votes votes.parquet

    tiebreak teach audit "labels.shard-*.parquet" --votes votes.parquet --json

    tiebreak teach audit teacher.csv --votes votes.parquet --columns m1_a,m1_b,m1_tie -o labels.parquet

    tiebreak teach audit teacher.parquet --votes votes.parquet --logits z_a,z_b,z_tie

    tiebreak teach audit labels.parquet --votes votes.parquet --force
"""


def command(
    labels: Annotated[
        list[str],
        typer.Argument(metavar="LABELS...", help="The labels of ONE teacher: a file, its shards, or a quoted glob."),
    ],
    votes: Annotated[Path, typer.Option("--votes", help="The comparisons that were labelled, with people's votes.")],
    require_all: Annotated[
        bool,
        typer.Option(
            "--require-all/--labelled-only", help="A label for every comparison, or only for those people voted on."
        ),
    ] = True,
    columns: Annotated[
        str | None,
        typer.Option(metavar="A,B,TIE", help="A foreign table: the names of its three columns of probabilities."),
    ] = None,
    logits: Annotated[
        str | None,
        typer.Option(metavar="A,B,TIE", help="A foreign table: the names of its three columns of logits."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write a foreign table as labels.parquet that can be trained on."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of a foreign teacher. [default: the file's name]", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Use the labels whatever is found; the student's bundle will say so.")
    ] = False,
    allow_in_sample: Annotated[
        bool, typer.Option("--allow-in-sample", help="Labels of rows that the teacher was trained on are no fault.")
    ] = False,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    as_json: options.Json = False,
) -> None:
    """Look for what makes a teacher unfit, and write LABELS.audit.json beside the labels, which training asks for.

    Refused (exit code 6): rows without a label, doubled ids, labels of other rows or in another order, a teacher no
    better than the class shares, one that says the same of every row, one that tells lengths, made-up ties, and labels
    of the teacher's own training rows.
    """
    names = _columns(columns, logits)
    from tiebreak.cli import judged
    from tiebreak.teach import auditing

    files = auditing.expand(labels)
    read = auditing.read(files, columns=names if columns else None, logits=names if logits else None, name=name)
    if read.scaled:
        console.note(f"  rows whose probabilities were rounded, scaled to sum 1: {read.scaled:,}")
    table = judged.votes(votes, input_format, mapping)
    findings = auditing.audit(read, table, require_all=require_all, allow_in_sample=allow_in_sample, seed=seed)
    written = auditing.record(findings, read, forced=force)
    console.note(f"wrote the audit beside {', '.join(str(path) for path in files)}")
    if output is not None and (written.passed or force):
        kept = auditing.keep(read, table, output, findings, forced=force)
        console.note(f"wrote {kept:,} labels and their audit to {output}")
    if as_json:
        console.emit_json({**written.model_dump(mode="json"), "files": [str(path) for path in files]})
    else:
        show(written)
    close(written, str(votes), force=force)


def close(written: Audit, votes: str, *, force: bool) -> None:
    """Say how the audit ended.

    Raises:
        GateError: The labels are refused.
    """
    for warning in warnings(written):
        console.note(f"note: {warning}")
    if written.passed:
        return
    if force:
        console.say(f"warning: teacher {written.teacher} is used by force although {'; '.join(written.faults)}")
        return
    for fault in written.faults:
        console.say(f"fault: {fault}")
    count = len(written.faults)
    raise GateError(
        f"the audit refuses teacher {written.teacher} for {count} fault{'s' if count > 1 else ''}",
        expected="a label of its own for every row, from a teacher that knows more than the class shares",
        mend=f"look at the teacher and at how its labels were joined to {votes}; --force uses them all the same",
    )


def warnings(written: Audit) -> list[str]:
    """What the audit would have a careful user know."""
    found: Any = written.figures.get("warnings", [])
    return [str(warning) for warning in found]


def show(written: Audit) -> None:
    """The figures of an audit as a table on stdout."""
    rows = [(label, _cell(written.figures[key])) for key, label in _SHOWN.items() if key in written.figures]
    verdict = "passed" if written.passed else "REFUSED" + (", used by force" if written.forced else "")
    console.table(f"teacher {written.teacher}: {verdict}", ("", "found"), rows)


_SHOWN: Final = {
    "rows": "rows to be labelled",
    "rows_without_label": "  without a label",
    "doubled_ids": "  ids that occur more than once",
    "labels_of_other_rows": "labels of other rows, left out",
    "content_known": "labels that name the texts they judged",
    "content_of_other_texts": "  other texts than these",
    "judged_rows": "rows with a vote",
    "judged_groups": "  in groups",
    "log_loss": "log-loss",
    "prior_log_loss": "  of the class shares",
    "against_prior": "  difference",
    "calibrated_log_loss": "  calibrated (symmetric, out of fold)",
    "accuracy": "accuracy",
    "ece": "calibration error (ECE)",
    "confidence": "mean confidence",
    "tie_against_share": "log-loss of ties, less that of their share",
    "length_correlation": "rank correlation with length difference",
    "longer_preferred": "longer answer preferred",
    "swap_gap_mean": "gap between the orders, mean",
    "swap_gap_p99": "  99th percentile",
    "lean_to_a": "mean P(A) - P(B)",
    "entropy_mean": "entropy, mean (nats)",
    "entropy_p5": "  5th percentile",
    "entropy_p95": "  95th percentile",
    "in_sample": "labels of the teacher's own training rows",
    "in_sample_unknown": "  nobody knows",
    "truncated_share": "texts cut, share",
}
"""Figures that a reader wants to see, in this order."""


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return "{:.4f} [{:.4f}, {:.4f}]".format(*value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _columns(columns: str | None, logits: str | None) -> list[str] | None:
    if columns and logits:
        raise UsageError("--columns and --logits", expected="one of them")
    text = columns or logits
    names = text.split(",") if text else None
    if names is not None and len(names) != 3:
        option = "--columns" if columns else "--logits"
        raise UsageError(f"{option} {text!r}", expected=f"three names, for example {option} m1_a,m1_b,m1_tie")
    return names
