"""`tiebreak kaggle status`: what of a pack is on Kaggle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebreak.cli import console, kaggle_client, options

if TYPE_CHECKING:
    from tiebreak.kaggle.remote import Status

EPILOG = """
Examples:

    tiebreak kaggle status out

    tiebreak kaggle status out --json

    tiebreak kaggle status out --dry-run
"""


def command(
    pack: Annotated[Path, typer.Argument(metavar="PACK", help="What tiebreak kaggle pack wrote.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the calls as lines for a shell; ask nothing.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show versions here and on Kaggle, how the notebook's run stands, and the last submissions with their scores."""
    from tiebreak.kaggle import remote
    from tiebreak.kaggle.layout import Layout

    place = Layout(pack)
    if dry_run:
        kaggle_client.print_calls(remote.questions(place), as_json=as_json)
        return
    found = remote.status(place, kaggle_client.client())
    if as_json:
        console.emit_json({"pack": str(pack), **asdict(found)})
    else:
        _tell(pack, found)


def _tell(pack: Path, found: Status) -> None:
    rows = []
    for part in found.parts:
        changed = {True: "changed", False: "", None: ""}[part.changed]
        here, there = (str(number or "") for number in (part.here, part.there))
        rows.append([part.name, part.id, here, there, part.state, changed])
    console.table(str(pack), ["part", "on Kaggle", "pushed", "there", "state", "since pushed"], rows)
    if found.run.failure:
        console.say(f"the last run failed: {found.run.failure}")
    for row in found.quota:
        told = [str(row.get(key, "")) for key in ("resource", "remaining", "total", "refreshAt")]
        console.note("{}: {} of {} left this week, until {}".format(*told))
    keys = ("date", "description", "status", "publicScore", "privateScore")
    listed = [[str(row.get(key) or "").removeprefix("SubmissionStatus.") for key in keys] for row in found.submissions]
    if listed:
        console.table("last submissions", ["date", "message", "state", "public", "private"], listed)
    else:
        console.note("no submissions yet")
