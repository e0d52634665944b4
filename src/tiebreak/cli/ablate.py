"""`tiebreak ablate`: does a change to a recipe help?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebreak.cli import console, options
from tiebreak.cli import train as finetune
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    from tiebreak.train.finetune.differences import Ablation
    from tiebreak.train.finetune.recipe import Recipe

FOLDS = 3
"""Folds where neither the recipe nor the command line says how the votes are held out."""

EPILOG = """
Examples:

    tiebreak ablate smollm2-135m-lora weighting.kind=learning_progress --data votes.parquet --dry-run

    tiebreak ablate mine.yaml weighting.kind=learning_progress --data votes.parquet -o ablation

    tiebreak ablate mine.yaml weighting.kind=margin --teacher labels.parquet --data votes.parquet -o ablation

    tiebreak ablate mine.yaml loss.focal=2 loss.smoothing=0.1 --each --set max_steps=200 --data votes.csv -o ablation

Without --each all changes are made together. A teacher is heard on the sides that have a use for it.
"""


def command(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped recipe (tiebreak recipe ls).")
    ],
    changes: Annotated[
        list[str],
        typer.Argument(metavar="KEY=VALUE...", help="What is changed on one side: weighting.kind=learning_progress."),
    ],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", "-d", help="Votes in any known format, repeatable. [default: data.train of the recipe]"),
    ] = None,
    validation: Annotated[
        list[Path] | None, typer.Option(help="Votes held out from every training, repeatable, in place of folds.")
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(metavar="LABELS", help="Audited soft labels of a teacher (tiebreak teach label), repeatable."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory for predictions, figures and ablation.json.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each side and fold, each with a seed.")] = 3,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2, help=f"Folds of the votes. [default: the recipe's; {FOLDS} where it has no held-out votes]"
        ),
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="Try each KEY=VALUE by itself, not all together.")] = False,
    both: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Changes of all sides, repeatable.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the judges, not only what they predict.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Trainings, steps and tokens of each side; then stop.")
    ] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Begin again instead of using what is there.")] = False,
    rate: Annotated[
        float | None, typer.Option(min=1, help="Tokens a second, from a run before: a dry run then says how long.")
    ] = None,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    as_json: options.Json = False,
) -> None:
    """Does a change to a recipe help? Trained with and without it: same rows, same folds, same seeds.

    Says the difference of the held-out log-loss with its interval. Stopped or killed, the same command goes on.
    """
    import os

    finetune.quiet_down()
    from tiebreak.train.finetune import ablation

    given = (data, validation, teacher, folds)
    base, sides = _side(recipe, both or [], *given), {}
    for name, overrides in _changes(changes, each=each).items():
        sides[name] = _side(recipe, [*(both or []), *overrides], *given)
    ablation.check(base, sides)
    if output is None and not dry_run:
        raise UsageError("no place for the trainings was named", expected="-o DIRECTORY, or --dry-run")
    if not base.data.train:
        raise UsageError(f"recipe {recipe} names no votes", expected="--data FILE, or data.train in the recipe")
    reading = (input_format, options.parse_map(mapping))
    if dry_run or output is None:
        _dry_run({ablation.WITHOUT: base, **sides}, reading, seeds=seeds, rate=rate, as_json=as_json)
        return
    from tiebreak.cli.training import Display

    train, held_out = finetune.votes(base, reading)
    with Display() as display:
        found = ablation.ablate(
            base, sides, train, held_out, output, seeds=seeds, keep=keep, resume=not anew, report=display
        )  # fmt: skip
    if not int(os.environ.get("RANK", "0")):
        _show(found, output / ablation.REPORT, as_json)


def _changes(given: list[str], *, each: bool) -> dict[str, list[str]]:
    """The overrides of each change, by its name."""
    wrong = [item for item in given if "=" not in item]
    if wrong:
        raise UsageError(f"change {wrong[0]!r}", expected="KEY=VALUE, for example weighting.kind=learning_progress")
    return {item: [item] for item in given} if each else {" ".join(given): given}


def _side(
    name: str, overrides: list[str], data: list[Path] | None, validation: list[Path] | None, teacher: list[str] | None,
    folds: int | None,
) -> Recipe:  # fmt: skip
    """The recipe of one side, with the files of the command line. Teachers that it has no use for are left out."""
    from tiebreak.train.finetune import read
    from tiebreak.train.finetune.terms import terms
    from tiebreak.train.finetune.weighting import TAUGHT

    recipe = read.read(name, overrides)
    if folds is not None:
        recipe = recipe.model_copy(update={"folds": folds})
    elif not recipe.folds and not validation and not recipe.data.validation:
        recipe = recipe.model_copy(update={"folds": FOLDS})
    hears = terms(recipe.loss, 1).taught or recipe.weighting.kind in TAUGHT
    return finetune.named(recipe, data, validation, teacher if hears else None)


def _dry_run(
    sides: dict[str, Recipe], reading: tuple[str, dict[str, str]], *, seeds: int, rate: float | None, as_json: bool
) -> None:
    from tiebreak.train.finetune.plan import plan

    train, held_out = finetune.votes(next(iter(sides.values())), reading)
    plans = {name: plan(side, train, held_out, rate=rate) for name, side in sides.items()}
    figures = [_work(name, found.work, found.seconds, seeds) for name, found in plans.items()]
    total = {key: _sum([side[key] for side in figures]) for key in ("trainings", "steps", "tokens", "seconds")}
    if as_json:
        console.emit_json({"seeds": seeds, "sides": figures, **total})
        return
    shown = [*figures, {"change": "all", **total}]
    rows = [[side["change"], *(_cell(key, side[key]) for key in total)] for side in shown]
    console.table(f"{seeds} seeds", ("", "trainings", "steps", "tokens", "time"), rows)
    for note in dict.fromkeys(note for found in plans.values() for note in found.notes):
        console.note(note)


def _work(name: str, work: Any, seconds: float | None, seeds: int) -> dict[str, Any]:
    """What one side takes, over all seeds."""
    return {
        "change": name,
        "trainings": work.trainings * seeds,
        "steps": None if work.steps is None else work.steps * seeds,
        "tokens": None if work.tokens is None else work.tokens * seeds,
        "seconds": None if seconds is None else seconds * seeds,
    }


def _sum(values: list[Any]) -> Any:
    return None if None in values else sum(values)


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return finetune.duration(value) if key == "seconds" else f"{value:,}"


def _show(found: Ablation, path: Path, as_json: bool) -> None:
    if as_json:
        console.emit_json(found.to_dict())
    else:
        many = f", {found.folds} folds" if found.folds else ""
        title = (
            f"held-out log-loss of {found.rows:,} rows in {found.groups:,} groups{many}, {found.seeds} "
            f"{'seed' if found.seeds == 1 else 'seeds'}; the class shares give {found.prior_log_loss:.4f}"
        )
        base = found.without
        rows = [[base.change, f"{base.log_loss:.4f}", "", "", f"{base.accuracy:.3f}"]]
        for change in found.changes:
            each = " ".join(f"{value:+.4f}" for value in change.differences)
            figures = [f"{change.log_loss:.4f}", str(change.difference), each, f"{change.accuracy:.3f}"]
            rows.append([change.change, *figures])
        console.table(title, ("", "log-loss", "difference", "of each seed", "accuracy"), rows)
        for change in found.changes:
            console.emit(change.sentence())
    for note in found.notes:
        console.note(note)
    console.note(f"wrote {path}")
