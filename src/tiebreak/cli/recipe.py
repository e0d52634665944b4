"""`tiebreak recipe`: the recipes that ship: which there are, what they say, a copy to change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiebreak.cli import console, options
from tiebreak.errors import UsageError

LS_EPILOG = """
Examples:

    tiebreak recipe ls

    tiebreak recipe ls --json
"""
SHOW_EPILOG = """
Examples:

    tiebreak recipe show smollm2-135m-lora

    tiebreak recipe show smollm2-135m-lora --resolved optimiser.lr=1e-4
"""
CP_EPILOG = """
Examples:

    tiebreak recipe cp smollm2-135m-lora mine.yaml
"""


def ls(as_json: options.Json = False) -> None:
    """List the recipes that ship, with their model and what they run on."""
    from tiebreak.train.finetune import read

    recipes = {name: read.read(name) for name in read.shipped()}
    if as_json:
        facts = {
            name: {"model": recipe.base.name, "hardware": recipe.hardware, "about": recipe.about}
            for name, recipe in recipes.items()
        }
        console.emit_json({"recipes": facts})
        return
    rows = [[name, _model(recipe.base.name), recipe.hardware, recipe.about] for name, recipe in recipes.items()]
    console.table("recipes", ["name", "model", "runs on", "what"], rows)


def _model(name: str) -> str:
    """A model's name without its owner or file."""
    return name.removeprefix("package:").partition("/")[0 if name.startswith("package:") else 2] or name


def show(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Changes, for --resolved.")] = None,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Every key with its value, defaults written out.")
    ] = False,
) -> None:
    """Print a recipe: as it was written, with its comments, or with every default written out."""
    from tiebreak.train.finetune import read

    if overrides and not resolved:
        raise UsageError("changes are shown in the resolved recipe", expected="--resolved beside them")
    found = read.read(recipe, overrides or [])
    console.emit((read.dump(found) if resolved else read.source(recipe)[0]).rstrip("\n"))


def cp(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Copy a recipe into a file of your own, to change it."""
    from tiebreak.train.finetune import read

    read.SHELF.copy(recipe, file, verb="train", force=force)
    console.note(f"wrote {file}; check it with: tiebreak train {file} --dry-run")
