"""`tiebreak train RECIPE`: votes in, a fine-tuned judge out; stopped at any moment, the same command goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebreak.cli import console, options
from tiebreak.cli.groups import Defaulting
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from tiebreak.train.finetune.plan import Plan
    from tiebreak.train.finetune.recipe import Recipe
    from tiebreak.train.finetune.run import Outcome
    from tiebreak.train.finetune.teachers import Coverage

RECIPE = "RECIPE"
"""Name of the command behind every first word that is no command of the group."""

EPILOG = """
Examples:

    tiebreak train smollm2-135m-lora --data train.csv --dry-run

    tiebreak train smollm2-135m-lora batches.rows=8 optimiser.lr=1e-4 --data train.csv -o judge

    tiebreak train mine.yaml --data train.csv --validation held-out.csv -o judge

    tiebreak train mine.yaml loss.preset=blackpearl --data train.csv --teacher labels.parquet -o student

    tiebreak train mine.yaml self_distil=true --data train.csv -o student

    tiebreak train mine.yaml folds=5 start.bundle=pretrained --data train.csv --fold 0 -o fold-0

    torchrun --nproc-per-node 8 -m tiebreak train llama3-8b-full-human-pref --data train.csv -o judge
"""


class Group(Defaulting):
    """A group in which a first word that is no command is a recipe."""

    default = RECIPE


def command(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped recipe (tiebreak recipe ls).")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="Changes to the recipe: optimiser.lr=1e-4 templates.0.max_length=512."
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", "-d", help="Votes in any known format, repeatable. [default: data.train of the recipe]"),
    ] = None,
    validation: Annotated[
        list[Path] | None,
        typer.Option(help="Votes held out, repeatable. [default: data.validation, else a share of the groups]"),
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABELS",
            help="Audited soft labels of a teacher (tiebreak teach label), repeatable; the shards of one teacher as a "
            "quoted pattern. [default: data.teachers]",
        ),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option(min=0, metavar="K", help="Train only fold K of the recipe's folds: OUTPUT is then its bundle."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory to write the bundle to; OUTPUT.run holds the work.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Parameters, steps, memory and the first row; then stop. Downloads nothing."),
    ] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Begin again instead of going on with a stopped run.")] = False,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes that a dry run plans for. [default: those of torchrun, or 1]")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=1, help="Tokens a second, from a run before: a dry run then says how long.")
    ] = None,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    as_json: options.Json = False,
) -> None:
    """Fine-tune a language model by a recipe. Stopped or killed, the same command goes on where it was."""
    from tiebreak.train.finetune import read

    quiet_down()
    found = named(read.read(recipe, overrides or []), data, validation, teacher)
    reading = (input_format, options.parse_map(mapping))
    if dry_run:
        many = processes or int(os.environ.get("WORLD_SIZE", "1"))
        _dry_run(found, reading, processes=many, rate=rate, fold=fold, as_json=as_json)
        return
    if output is None:
        raise UsageError("no place for the judge was named", expected="-o DIRECTORY, or --dry-run")
    if not found.data.train:
        raise UsageError(f"recipe {recipe} names no votes", expected="--data FILE, or data.train in the recipe")
    _train(found, reading, output, fold=fold, anew=anew, as_json=as_json)


def quiet_down() -> None:
    """Keep quiet what says nothing to anybody, and every process but the first."""
    import logging

    # bitsandbytes regrets on a CPU that it has no kernel from the hub.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if int(os.environ.get("RANK", "0")):
        console.be_quiet(quiet=True)


def named(recipe: Recipe, data: list[Path] | None, validation: list[Path] | None, teacher: list[str] | None) -> Recipe:
    """The recipe with the files of the command line; all its rules are held once more."""
    from tiebreak.train.finetune import read

    named = {"train": [str(file) for file in data] if data else recipe.data.train}
    held = [str(file) for file in validation] if validation else recipe.data.validation
    if validation and recipe.folds:
        raise UsageError(
            f"--validation with folds {recipe.folds}", expected="one of them: each fold is held out in its turn",
            mend="folds=0",
        )  # fmt: skip
    taught = teacher or recipe.data.teachers
    changed = recipe.data.model_copy(update={**named, "validation": held, "teachers": taught})
    return read.checked(recipe.model_copy(update={"data": changed}))


def votes(recipe: Recipe, reading: tuple[str, dict[str, str]]) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Training rows and rows held out; groups are found over all files together.

    The source of a row is its file, of a pseudo-labelled one its teacher.
    """
    import polars as pl

    from tiebreak import ingest, prepare, soft_labels
    from tiebreak.train.finetune import sources

    form, mapping = reading
    files = [*recipe.data.train, *(recipe.data.validation or [])]
    tables = [
        ingest.read(file, format=form, mapping=mapping).with_columns(
            source=pl.when(pl.col("source").str.starts_with(soft_labels.PSEUDO))
            .then("source")
            .otherwise(pl.lit(Path(file).name.split(".")[0]))
        )
        for file in files
    ]
    count = sum(table.height for table in tables[: len(recipe.data.train)])
    votes = pl.concat(tables)
    given = votes["group"].null_count() == 0
    votes = votes if given else votes.with_columns(group=prepare.groups(votes))
    many = f"{len(files)} files" if len(files) > 1 else "1 file"
    console.note(f"{votes.height:,} rows of {many} in {votes['group'].n_unique():,} groups")
    train, notes = sources.weighted(votes.head(count), recipe)
    for note in notes:
        console.note(f"  {note}")
    return train, votes.slice(count) if recipe.data.validation else None


def _train(
    recipe: Recipe, reading: tuple[str, dict[str, str]], output: Path, *, fold: int | None, anew: bool, as_json: bool
) -> None:
    from tiebreak import storage
    from tiebreak.cli.training import Display
    from tiebreak.train.finetune import read, run

    train, validation = votes(recipe, reading)
    with Display() as display:
        outcome = run.finetune(recipe, train, validation, output, fold=fold, resume=not anew, report=display)
    if int(os.environ.get("RANK", "0")):
        return
    kept = output.with_name(f"{output.name}.yaml")
    storage.write_text(kept, f"# tiebreak train {kept.name} -o {output.name}\n\n{read.dump(recipe)}")
    _report(outcome, kept, as_json)


def _report(outcome: Outcome, kept: Path, as_json: bool) -> None:
    """The same figures and the same page as `tiebreak evaluate`, for the votes that were held out."""
    from tiebreak.cli import evaluate

    measured = None
    if outcome.validation is not None and outcome.held_out is not None:
        from tiebreak import evaluation

        measured = evaluation.evaluate(outcome.validation, outcome.held_out, name=outcome.bundle.name)
    page = outcome.bundle.with_name(f"{outcome.bundle.name}.report")
    if as_json:
        document = {"bundle": str(outcome.bundle), "recipe": str(kept), "metrics": outcome.metrics}
        figures = None if measured is None else measured.to_dict()
        console.emit_json({**document, "warnings": outcome.warnings, "held_out": figures})
    elif measured is not None:
        evaluate.show(measured)
    for text in outcome.warnings:
        console.say(f"warning: {text}")
    if measured is not None:
        console.note(f"wrote {measured.write(page)}")
    console.note(f"wrote {outcome.bundle} and {kept}")


def _dry_run(
    recipe: Recipe, reading: tuple[str, dict[str, str]], *, processes: int, rate: float | None, fold: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    from tiebreak.train.finetune.plan import plan

    train, validation = votes(recipe, reading) if recipe.data.train else (None, None)
    found = plan(recipe, train, validation, processes=processes, rate=rate, fold=fold)
    if as_json:
        console.emit_json({"recipe": recipe.model_dump(mode="json"), "processes": processes, **found.as_dict()})
        return
    _show(recipe, found, processes)


def _show(recipe: Recipe, plan: Plan, processes: int) -> None:
    parameters, work = plan.parameters, plan.work
    share = parameters.trainable / parameters.total
    rows = [
        ["parameters", f"{parameters.total:,}"],
        ["trainable parameters", f"{parameters.trainable:,} ({share:.2%}), {parameters.head:,} of them in the head"],
        ["loss", plan.loss],
        *(_reach(one) for one in plan.teachers),
        ["trainings", f"{work.trainings} x {recipe.epochs:g} epochs"],
    ]
    if work.steps is not None and work.train_rows is not None:
        held = "" if not work.validation_rows else f", {work.validation_rows:,} held out"
        rows += [["votes of a training", f"{work.train_rows:,}{held}"], ["optimiser steps", f"{work.steps:,}"]]
    about = "" if work.measured else "at most " if work.rows is None else "about "
    rows += [
        ["a step", f"{recipe.batches.rows} votes, {work.sequences_per_step} sequences"],
        ["tokens of a step", f"{about}{work.tokens_per_step:,}, micro-batches {work.micro_batches_per_step}"],
        ["longest sequence", f"{about}{work.longest:,} tokens"],
    ]  # fmt: skip
    if work.truncated is not None:
        rows.append(["votes that are cut", f"{work.truncated:.1%}"])
    if plan.petaflops is not None:
        hours = plan.petaflops / 0.1 / 3600
        rows.append(["arithmetic", f"{plan.petaflops:,.3g} PFLOP ({duration(hours * 3600)} at 100 TFLOP/s)"])
    if plan.seconds is not None:
        rows.append(["time at the given rate", duration(plan.seconds)])
    console.table(recipe.name, ("", "plan"), rows)
    each = "" if processes == 1 else f" in each of {processes} processes"
    names = ("weights", "gradients", "optimiser", "casts", "activations", "total")
    console.table(f"\nmemory{each}", ("", "GiB"), [[n, f"{getattr(plan.memory, n) / 2**30:,.2f}"] for n in names])
    kind = "tokens of the first vote" if plan.tokenized else "text of the first vote, uncut and without special tokens"
    for text in plan.first_row:
        console.emit(f"\n--- {kind}\n{text}")
    for note in plan.notes:
        console.note(note)


def _reach(teacher: Coverage) -> list[str]:
    """A line of the plan about a teacher's labels."""
    share = teacher.labelled / max(teacher.rows, 1)
    said = [f"labels for {teacher.labelled:,} of {teacher.rows:,} votes ({share:.1%})"]
    said += [f"{teacher.altered:,} of other texts"] if teacher.altered else []
    said += [f"{teacher.in_sample:,} in-sample"] if teacher.in_sample else ["none in-sample"]
    said += ["its audit is overruled"] if teacher.forced else []
    return [f"teacher {teacher.teacher}", ", ".join(said)]


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"
