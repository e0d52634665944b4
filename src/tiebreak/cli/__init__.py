"""The command line: one module a verb, each a thin layer over the room of the same name.

Modules here import nothing heavy at the top, so that `tiebreak --help` answers at once: polars, numpy and matplotlib
come in inside the commands.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback

import typer

from tiebreak.cli import console
from tiebreak.errors import TiebreakError


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with a documented code (docs/exit-codes.md)."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code; every failure is one message on stderr."""
    from tiebreak.cli.app import app

    try:
        code = app(arguments, prog_name="tiebreak", standalone_mode=False)
    except TiebreakError as error:
        return _fail(str(error), error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except SystemExit as stop:
        # Typer leaves this way when the reader of our stdout has gone (for example `| head`): not our failure.
        return 0 if isinstance(stop.__context__, BrokenPipeError) else int(stop.code or 0)
    except typer.TyperException as error:
        return _usage(error)
    except MemoryError:
        return _fail("out of memory; expected more free memory; to mend: a smaller --chunk-rows, or fewer rows", 5)
    except OSError as error:
        return _fail(_os_error(error), 5 if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM} else 3)
    except Exception as error:  # the last resort: one line, not a traceback
        return _fail(f"unexpected {type(error).__name__}: {error}; please report it with TIEBREAK_DEBUG=1", 1)
    if code == 130:  # Typer's own word for Ctrl-C
        console.say("error: interrupted")
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    if os.environ.get("TIEBREAK_DEBUG"):
        traceback.print_exc()
    console.say(f"error: {message}")
    return code


def _os_error(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}; expected a readable file or a writable place"


def _usage(error: typer.TyperException) -> int:
    """What the parser found, and where the help for that very command is."""
    message = error.format_message().rstrip(".")
    code = getattr(error, "exit_code", 2)
    if not message:  # a group without a verb: its help has been printed already
        return int(code)
    context = getattr(error, "ctx", None)
    return _fail(f"{message}; to mend: {context.command_path if context else 'tiebreak'} --help", int(code))


__all__ = ["main", "run"]
