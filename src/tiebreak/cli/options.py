"""Options that several verbs share, spelled once so that they mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiebreak.errors import UsageError

Judge = Annotated[
    Path | None,
    typer.Option("--judge", "-j", help="Judge bundle (a directory). [default: the embedded judge]", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Limit = Annotated[int | None, typer.Option("--limit", "-L", min=1, help="Use the first N rows only.")]
InputFormat = Annotated[
    str,
    typer.Option(
        "--input-format",
        help="auto, kaggle, wsdm, arena, preference, mapped or tiebreak (docs/data.md).",
    ),
]
Map = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="OURS=THEIRS", help="Column mapping, repeatable, for example prompt=question."),
]


def parse_map(pairs: list[str] | None) -> dict[str, str]:
    """`["prompt=question"]` as `{"prompt": "question"}`.

    Raises:
        UsageError: An item has no `=`, or an empty side.
    """
    mapping = {}
    for pair in pairs or []:
        ours, equals, theirs = pair.partition("=")
        if not (ours and equals and theirs):
            raise UsageError(f"--map {pair!r}", expected="OURS=THEIRS, for example --map prompt=question")
        mapping[ours] = theirs
    return mapping
