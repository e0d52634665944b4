"""What push, pull and status share: the client, who listens to it, and calls as lines for a shell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tiebreak.cli import console
from tiebreak.listening import Listener

if TYPE_CHECKING:
    from tiebreak.kaggle.remote import Client


def listener() -> Listener:
    """Messages and progress to stderr; warnings whatever `--quiet` says."""
    return Listener(
        lambda text: console.say(text) if text.startswith("warning:") else console.note(text), console.progress
    )


def client() -> Client:
    """The official client, with the credentials that are here.

    Raises:
        MissingExtraError: It is not installed.
        UsageError: It is too old, or nobody is signed in.
    """
    from tiebreak.kaggle import remote

    made = remote.Client(remote.program(), remote.find(), listener())
    made.credentials.require()
    return made


def print_calls(calls: Iterable[tuple[str, ...]], *, as_json: bool) -> None:
    """The calls that would be made: data, so on stdout."""
    from tiebreak.kaggle.remote import shell

    if as_json:
        console.emit_json({"dry_run": True, "calls": [["kaggle", *call] for call in calls]})
        return
    for call in calls:
        console.emit(shell(call))
