"""`tiebreak teach combine`: several teachers calibrated and made one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebreak.cli import console, options
from tiebreak.errors import DataError, UsageError

if TYPE_CHECKING:
    import polars as pl

    from tiebreak.teach.combining import Combination

EPILOG = """
Examples:

    tiebreak teach combine llama.parquet qwen.parquet --votes votes.parquet -o labels.parquet

    tiebreak teach combine llama.parquet --votes votes.parquet --calibrate vector -o calibrated.parquet

    tiebreak teach combine "llama.shard-*.parquet" qwen.parquet --votes votes.parquet --method weights -o both.parquet

Every table must have passed `tiebreak teach audit` (or be used by --force). The result is audited too.
"""


def command(
    labels: Annotated[
        list[str],
        typer.Argument(metavar="LABELS...", help="One table a teacher; shards of one teacher as a quoted glob."),
    ],
    votes: Annotated[Path, typer.Option("--votes", help="The comparisons that were labelled, with people's votes.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The combined labels (.parquet).")],
    calibration: Annotated[
        str,
        typer.Option(
            "--calibrate",
            help="Family fitted to each teacher: symmetric, temperature, vector, dirichlet, dirichlet-symmetric, none.",
        ),
    ] = "symmetric",
    method: Annotated[
        str,
        typer.Option(help="Mean of probabilities, mean of logits, or weights fitted to the votes (simplex, logits)."),
    ] = "probabilities",
    name: Annotated[
        str | None, typer.Option(help="Name of the result. [default: the teachers' names joined by +]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of folds and resamples.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Overrule audits, the collapse alarm and the least rows; recorded.")
    ] = False,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure and print, write nothing.")] = False,
    as_json: options.Json = False,
) -> None:
    """Calibrate each teacher without letting a row's vote touch its own label, and pool them into one soft label."""
    if output.suffix != ".parquet":
        raise UsageError(f"-o {output}", expected="a .parquet file: labels keep their types in no other")
    from tiebreak import ingest
    from tiebreak.teach import auditing, combining

    tables, overruled = _read(labels, force=force)
    table = ingest.read(votes, format=input_format, mapping=options.parse_map(mapping))
    found = combining.combine(
        tables, table, calibration=calibration, method=method, name=name, force=force, seed=seed
    )  # fmt: skip
    overruled += found.faults
    made = auditing.Labels(found.labels, where=str(output), files=(output,))
    allowed = bool(found.remembered) and force
    findings = auditing.audit(
        made, table, require_all=not found.left_out, allow_in_sample=allowed, seed=seed
    )  # fmt: skip
    findings.note(combined=found.as_dict(), overruled=list(overruled))
    if not dry_run:
        _write(found.labels, output)
        auditing.record(findings, made, forced=force)
    _tell(found, overruled)
    if as_json:
        figures = {"output": None if dry_run else str(output), "audit_faults": findings.faults, **found.as_dict()}
        console.emit_json(figures)
    else:
        _print(found)
    for warning in findings.warnings:
        console.note(f"note: {warning}")
    console.note(f"{'would write' if dry_run else 'wrote'} {found.labels.height:,} labels to {output}")
    if findings.faults and force:
        console.say(f"warning: used by force although {'; '.join(findings.faults)}")
    elif findings.faults:
        findings.refuse(str(output), "look at the teachers one by one: tiebreak teach audit; --force keeps it")


def _read(patterns: list[str], *, force: bool) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """The table of each teacher, and what its audit had against it."""
    from tiebreak import soft_labels
    from tiebreak.teach import auditing

    tables: dict[str, pl.DataFrame] = {}
    overruled = []
    for pattern in patterns:
        files = auditing.expand([pattern])
        for file in files:
            try:
                audit = soft_labels.read_audit(file)
            except DataError as refusal:
                if not force:
                    raise
                overruled.append(refusal.wrong)
            else:
                overruled += [f"{audit.teacher}: {fault}" for fault in audit.faults]
        table = soft_labels.read(files)
        teachers = table["teacher"].unique().to_list()
        if len(teachers) != 1 or teachers[0] in tables:
            raise DataError(
                f"{pattern}: teacher {', '.join(map(str, teachers))}"
                + (" again" if len(teachers) == 1 else " in one table"),
                expected="one table a teacher, each with a name of its own",
                mend='shards of one teacher as one quoted pattern: "labels.shard-*.parquet"',
            )
        tables[str(teachers[0])] = table
    return tables, overruled


def _write(table: pl.DataFrame, output: Path) -> None:
    from tiebreak import storage

    with storage.replacing(output) as aside:
        table.write_parquet(aside)


def _tell(found: Combination, overruled: list[str]) -> None:
    for fault in overruled:
        console.say(f"warning: overruled: {fault}")
    if found.left_out:
        console.note(f"  {found.left_out:,} rows of the votes were not labelled by every teacher: left out")
    if found.remembered:
        console.note(
            f"  {found.remembered:,} rows with votes are in some teacher's training data: nothing is fitted on them"
        )
    console.note(f"  fitted on {found.fitted_on:,} votes, by whole groups: no label has seen its own row's vote")
    if found.calibration == "none":
        return
    for teacher, words in found.words.items():
        console.note(f"  {teacher}: {'; '.join(words)}")
        before, after = (found.measures.get(name) for name in (teacher, f"{teacher}, calibrated"))
        if before and after and after.log_loss.value > before.log_loss.value:
            lost = after.log_loss.value - before.log_loss.value
            console.note(f"note: {teacher} is {lost:.4f} worse for being calibrated: --calibrate none, or temperature")


def _print(found: Combination) -> None:
    if not found.measures:
        console.note("no row has a vote: nothing could be measured")
        return
    rows = [
        [name + (" *" if name == found.chosen else ""), str(measure.log_loss),
         "{:+.4f} [{:+.4f}, {:+.4f}]".format(*vars(measure.against_prior).values()), str(measure.accuracy)]
        for name, measure in found.measures.items()
    ]  # fmt: skip
    console.table(
        f"on {found.fitted_on:,} votes, each label made without its own (* written, 95 % intervals)",
        ("labels", "log-loss", "less that of the class shares", "accuracy"),
        rows,
    )
    if len(found.weights) > 1:
        weights = ", ".join(f"{name} {weight:.3f}" for name, weight in found.weights.items())
        console.emit(f"\nfitted weights: {weights}")
