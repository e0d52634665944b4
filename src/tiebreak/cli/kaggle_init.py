"""`tiebreak kaggle init`: a file with every choice of a pack, to be filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiebreak.cli import console
from tiebreak.errors import UsageError

EPILOG = """
Examples:

    tiebreak kaggle init -o submission

    tiebreak kaggle init my-judge --competition lmsys-chatbot-arena --user NAME -o submission
"""


def command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write pack.yaml to; made if need be.")],
    judge: Annotated[
        Path | None,
        typer.Argument(metavar="[BUNDLE]", help="Judge bundle. [default: the embedded judge]", show_default=False),
    ] = None,
    competition: Annotated[
        str | None, typer.Option(metavar="SLUG", help="Last part of its address on Kaggle.", show_default=False)
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Your account, as in its address.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write pack.yaml: every choice of a pack at its default, with a comment on each."""
    import os

    from tiebreak.bundle import MANIFEST
    from tiebreak.kaggle.packing import template

    if judge is not None and not (judge / MANIFEST).is_file():
        raise UsageError(f"{judge} is not a judge bundle: no {MANIFEST} in it", expected="a folder of tiebreak train")
    named = None if judge is None else os.path.relpath(judge, output)
    path = template.write(output, force=force, competition=competition, user=user, judge=named)
    missing = "" if user else ": fill in user"
    console.note(f"wrote {path}{missing}; then: tiebreak kaggle pack --config {path} -o out")
