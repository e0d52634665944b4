"""`tiebreak attack`: can a judge be talked into a verdict?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebreak.cli import console, options

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from tiebreak import attack
    from tiebreak.attack import Family, Measured

EPILOG = """
Examples:

    tiebreak attack --data votes.parquet -o attacks

    tiebreak attack my-judge --data votes.parquet --limit 200 -o attacks

    tiebreak attack my-judge --data votes.parquet --family fake-verdict --family opener -o attacks

    tiebreak attack my-judge --data votes.parquet --limit 100 --variants 1 --fail-above 0.1 -o attacks

    tiebreak attack my-judge --data votes.parquet -o attacks --resume
"""


def command(
    judge: Annotated[
        Path | None,
        typer.Argument(metavar="[JUDGE]", help="Judge bundle. [default: the embedded judge]", show_default=False),
    ] = None,
    data: Annotated[
        str, typer.Option("--data", metavar="VOTES", help="Votes in any known format; labels are not needed.")
    ] = ...,  # type: ignore[assignment]
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory for the report: page, attacks.json, attacks.parquet.")
    ] = ...,  # type: ignore[assignment]
    family: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Try this family only, repeatable; the control always runs."),
    ] = None,
    variants: Annotated[
        int | None,
        typer.Option(min=1, show_default=False, help="Tricks of each family, the plainest first. [default: all]"),
    ] = None,
    limit: options.Limit = None,
    fail_above: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=1,
            show_default=False,
            help="Exit code 6 if a family wins more than this share of votes (0 to 1) beyond the control.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    resamples: Annotated[int, typer.Option(min=10, help="Bootstrap resamples behind each interval.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    max_length: options.MaxLength = None,
    max_tokens: options.MaxTokens = None,
    precision: options.Precision = "auto",
    devices: options.Devices = "auto",
    swap: options.Swap = None,
    base: options.Base = None,
    backend: options.Backend = None,
    server: options.Server = None,
    chunk_rows: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default=False,
            help="Comparisons judged and stored at a time. [default: about a minute's work]",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and stop.")] = False,
    as_json: options.Json = False,
) -> None:
    """Let answers that lost try again with tricks that win no person over; count how often the judge falls for them.

    A judge that reads both answers in one sequence is measured in one order and in both averaged, unless --swap says
    how it is to read.
    """  # fmt: skip
    from tiebreak import attack, bundle, judges
    from tiebreak.attack import report
    from tiebreak.evaluation.report import check
    from tiebreak.predict import scale

    families = attack.choose(family or (), variants=variants)
    check(output, report.CONTENT)
    runtime = judges.Runtime(max_length, max_tokens, precision, devices, swap, base, backend, server)
    manifest = bundle.read(judges.EMBEDDED if judge is None else judge)
    scale.check(manifest, runtime)
    votes = _read(data, input_format, mapping, limit)
    rows = chunk_rows or scale.chunk_rows(manifest, devices)
    name = judge.name if judge else f"the embedded judge ({manifest.name})"
    if dry_run:
        _dry_run(
            votes, families, name, output, ordered=manifest.kind in attack.ORDERED and swap is None, as_json=as_json
        )
        return
    work = attack.Work.begin(
        output, attack.identity(votes, manifest, families, scale.decisive(manifest, runtime), rows), resume=resume,
        chunk_rows=rows,
    )  # fmt: skip
    found = _run(attack.Subject.load(judge, runtime), votes, families, work)
    measured = attack.measure(found, resamples=resamples, seed=seed)
    about = {
        "judge": {"name": manifest.name, "kind": manifest.kind}, "votes": votes.height,
        "seen_in_training": _seen(votes, judge or judges.EMBEDDED), "resamples": resamples, "seed": seed,
    }  # fmt: skip
    document = report.write(output, name, found, measured, about)
    work.discard()
    _tell(document, measured, output, as_json=as_json)
    if fail_above is not None:
        report.enforce(measured, fail_above)


def _read(data: str, input_format: str, mapping: list[str] | None, limit: int | None) -> pl.DataFrame:
    from tiebreak import ingest

    votes = ingest.read(data, format=input_format, mapping=options.parse_map(mapping))
    return votes if limit is None else votes.head(limit)


def _dry_run(
    votes: pl.DataFrame, families: Sequence[Family], name: str, output: Path, *, ordered: bool, as_json: bool
) -> None:
    """Say what there is to do. Which answer attacks is known only once the judge has spoken: A stands for it here."""
    from tiebreak.attack import reading

    clean = sum(1 for _ in reading.clean(votes))
    tries = sum(1 for _ in reading.attacked(votes, ["a"] * votes.height, families, ordered=ordered))
    tricks = sum(len(family.tricks) for family in families)
    console.note(f"would attack {name} with {votes.height:,} votes and write {output}")
    console.note(f"  {len(families)} families with {tricks} tricks; about {clean + tries:,} comparisons to judge")
    for family in families:
        console.note(f"  {family.name}: {', '.join(trick.name for trick in family.tricks)}")
    if as_json:
        console.emit_json({
            "dry_run": True, "judge": name, "votes": votes.height, "comparisons": clean + tries,
            "families": {family.name: [trick.name for trick in family.tricks] for family in families},
        })  # fmt: skip


def _run(
    subject: attack.Subject, votes: pl.DataFrame, families: Sequence[Family], work: attack.Work
) -> attack.Attacked:
    from tiebreak import attack, predict
    from tiebreak.cli.meter import Meter

    try:
        with Meter("attack", None) as meter:
            progress = predict.Progress(
                meter.advance, meter.taken, meter.tokens, meter.total, lambda text: console.say(f"warning: {text}")
            )
            return attack.attack(subject, votes, families, work, progress)
    except KeyboardInterrupt:
        console.say("stopped; the finished parts are kept: the same command with --resume goes on from there")
        raise


def _seen(votes: pl.DataFrame, judge: Path) -> int | None:
    """Votes that the judge was trained on; None where its bundle does not say."""
    from tiebreak import row_hashes

    trained = row_hashes.read_trained(judge)
    return None if trained is None else sum(text in trained for text in row_hashes.unordered(votes))


def _tell(document: dict[str, Any], measured: Sequence[Measured], output: Path, *, as_json: bool) -> None:
    from tiebreak.attack import report, summary

    if as_json:
        console.emit_json(document)
    else:
        for reader in summary.readers(measured):
            lines = [[one.family.name, *summary.line(one, reader)] for one in measured if reader in one.overall]
            console.table(f"\n{document['votes']:,} votes; {summary.READERS[reader]}", ("", *summary.HEADER), lines)
        console.emit("\n" + "\n".join(summary.sentences(measured)))
    for text in summary.warnings(measured):
        console.say(f"warning: {text}")
    if document["seen_in_training"]:
        console.note(f"note: the judge was trained on {document['seen_in_training']:,} of these votes")
    console.note(f"wrote {output / report.PAGE}")
