"""`tiebreak kaggle push`: what changed in a pack, to Kaggle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tiebreak.cli import console, kaggle_client, options
from tiebreak.errors import UsageError
from tiebreak.stopping import stoppable

if TYPE_CHECKING:
    from tiebreak.kaggle.layout import Layout
    from tiebreak.kaggle.remote import Done, Wishes

EPILOG = """
Examples:

    tiebreak kaggle push out --dry-run

    tiebreak kaggle push out

    tiebreak kaggle push out --submit 'embedded judge, features only'

    tiebreak kaggle push out --only kernel --accelerator NvidiaL4 --rerun --wait
"""
_ONLY: Final = ("wheels", "model", "kernel")


def command(
    pack: Annotated[Path, typer.Argument(metavar="PACK", help="What tiebreak kaggle pack wrote.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the calls as lines for a shell; ask and send nothing.")
    ] = False,
    only: Annotated[
        str | None, typer.Option(metavar="PART", show_default=False, help="wheels, model or kernel alone.")
    ] = None,
    notes: Annotated[str, typer.Option(help="Notes of new versions. [default: as packed]", show_default=False)] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until Kaggle has run the notebook.")] = False,
    submit: Annotated[
        str | None,
        typer.Option(metavar="MESSAGE", show_default=False, help="Wait, then hand the notebook in with this message."),
    ] = None,
    accelerator: Annotated[
        str | None,
        typer.Option(metavar="SHAPE", show_default=False, help="Kaggle's name of a machine, in place of the packed."),
    ] = None,
    rerun: Annotated[bool, typer.Option("--rerun", help="Run the notebook again although nothing changed.")] = False,
    every: Annotated[float, typer.Option(min=0, help="Seconds between two looks while waiting.")] = 20.0,
    as_json: options.Json = False,
) -> None:
    """Send wheels, model and notebook to Kaggle, each only if it changed, and run the notebook there.

    A push that was stopped goes on with the same command; nothing is sent twice. pushed.json in the pack remembers.
    """  # fmt: skip
    from tiebreak.kaggle import metadata
    from tiebreak.kaggle.layout import Layout
    from tiebreak.kaggle.packing import record
    from tiebreak.kaggle.remote import Pace, Wishes

    if only is not None and only not in _ONLY:
        raise UsageError(f"--only {only!r}", expected=f"one of {', '.join(_ONLY)}")
    if only in ("wheels", "model") and (wait or submit is not None or rerun):
        raise UsageError(f"--only {only} runs no notebook", expected="no --wait, --submit or --rerun beside it")
    for name, text in (("--notes", notes), ("--submit", submit)):
        if text is not None and text.startswith("-"):
            raise UsageError(f"{name} {text!r}", expected="a text that does not look like an option")
    if submit is not None and not submit.strip():
        raise UsageError("--submit without a message", expected="a word on what is handed in")
    place = Layout(pack)
    record.read(place)
    metadata.check(place)
    record.check(place, kaggle_client.listener())
    wishes = Wishes(only, notes, accelerator, rerun, submit, Pace(every=every))  # type: ignore[arg-type]
    if dry_run:
        _foresee(place, wishes, as_json)
    else:
        _push(place, wishes, wait or submit is not None, as_json)


def _foresee(pack: Layout, wishes: Wishes, as_json: bool) -> None:
    from tiebreak.kaggle.remote import foresee, shell

    steps = foresee(pack, wishes)
    if as_json:
        document = [{**asdict(step), "calls": [["kaggle", *call] for call in step.calls]} for step in steps]
        console.emit_json({"dry_run": True, "pack": str(pack.root), "steps": document})
        return
    for step in steps:
        size = f", {step.bytes / 1e6:,.1f} MB" if step.decision.action in ("create", "version") and step.bytes else ""
        console.emit(f"# {step.name} {step.id}: {step.decision.action} ({step.decision.why}){size}")
        if step.remark:
            console.emit(f"# {step.remark}")
        for call in step.calls:
            console.emit(shell(call))
    console.note("nothing was asked or sent; whether something is on Kaggle is taken from pushed.json")


def _push(pack: Layout, wishes: Wishes, wait: bool, as_json: bool) -> None:
    from tiebreak.kaggle import remote

    document: dict[str, Any] = {"pack": str(pack.root)}
    client = kaggle_client.client()
    with stoppable(), remote.session(pack, client, wishes, client.listener) as session:
        done = remote.send(session)
        document["done"] = [asdict(one) for one in done]
        if not as_json:
            _tell(done)
        if wait:
            run = remote.wait(session)
            document["run"] = run.state
            console.note(f"the run is {run.state}")
        if wishes.submit is not None:
            handed_in = remote.submit(session, wishes.submit)
            document["submitted"] = handed_in.model_dump()
    if as_json:
        console.emit_json(document)
    following = f"status {pack.root}" if wishes.submit or not wait else f"pull {pack.root} -o outputs"
    console.note(f"next: tiebreak kaggle {following}")


def _tell(done: list[Done]) -> None:
    words = {
        "create": "made", "version": "new version", "update": "metadata updated", "nothing": "unchanged",
    }  # fmt: skip
    rows = [
        [one.name, one.id, words.get(one.action, one.action), str(one.version or ""), one.why]
        for one in done
    ]  # fmt: skip
    console.table("pushed to Kaggle", ["part", "on Kaggle", "what was done", "version", "why"], rows)
