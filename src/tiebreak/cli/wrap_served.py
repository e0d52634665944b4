"""`tiebreak wrap served`: a model behind an OpenAI-compatible server as a judge."""

from __future__ import annotations

from tiebreak.errors import UsageError

EPILOG = """
Examples:

    tiebreak wrap served MODEL --server http://127.0.0.1:8000/v1 -o judge
"""


def command() -> None:
    """Make a judge of a model behind an OpenAI-compatible server."""
    raise UsageError("not there yet", expected="a later version")
