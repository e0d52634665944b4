"""What `tiebreak kaggle check` and `tiebreak kaggle run` share: options, and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tiebreak.cli import console
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    from tiebreak.kaggle.rehearse import Rehearsal
    from tiebreak.listening import Listener

WALLS: Final = "Walls"
GIB: Final = 2**30

Pack = Annotated[Path, typer.Argument(metavar="PACK", help="Folder that tiebreak kaggle pack wrote.")]
Test = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", show_default=False,
        help="Test file of the competition, .csv or .parquet. [default: three of our own samples in its form]",
    ),
]  # fmt: skip
Sample = Annotated[
    Path | None,
    typer.Option(
        metavar="CSV", show_default=False, help="Its sample submission. [default: made to suit the test file]"
    ),
]
Base = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        show_default=False,
        help="Where the base model lies here that Kaggle holds already (--base-model).",
    ),
]
Memory = Annotated[
    float,
    typer.Option(rich_help_panel=WALLS, help="GiB that the notebook may hold, at most what this machine has."),
]
Isolation = Annotated[
    str,
    typer.Option(
        rich_help_panel=WALLS,
        help="auto, namespaces (nothing less will do), or python (its interpreter refuses the network).",
    ),
]
Interpreter = Annotated[
    Path | None,
    typer.Option(
        metavar="PYTHON", rich_help_panel=WALLS, show_default=False,
        help="Python of the version that the wheels are for. [default: this one, or pythonX.Y on PATH]",
    ),
]  # fmt: skip
Mounts = Annotated[
    str,
    typer.Option(
        rich_help_panel=WALLS,
        help="How the input folder is laid out: new (datasets/OWNER/SLUG) or old (SLUG); Kaggle has had both.",
    ),
]


def settle(isolation: str, mounts: str) -> None:
    """Hold two choices against what there is.

    Raises:
        UsageError: One is none of the choices.
    """
    for option, given, choices in (
        ("--isolation", isolation, ("auto", "namespaces", "python")),
        ("--mounts", mounts, ("new", "old")),
    ):
        if given not in choices:
            raise UsageError(f"{option} {given!r}", expected=f"one of {', '.join(choices)}")


def listener() -> Listener:
    """What the notebook prints goes to stderr as it comes."""
    from tiebreak.listening import Listener

    return Listener(console.note, console.progress)


def stages(ran: Rehearsal) -> None:
    """The time of each stage, and of the whole."""
    rows = [[name, f"{seconds:,.1f} s"] for name, seconds in ran.stages.items()]
    console.table("", ["stage", "time"], [*rows, ["all, from nothing", f"{ran.seconds:,.1f} s"]], to_stdout=False)


def peak(ran: Rehearsal) -> str:
    """The memory that it took, in words."""
    return f"{ran.peak / GIB:.2f} GiB of memory at most, of {ran.limit / GIB:.1f}"
