"""Options that several verbs share, spelled once so that they mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

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

TUNED: Final = "Fine-tuned judges"
MaxLength = Annotated[
    int | None,
    typer.Option(
        min=16, rich_help_panel=TUNED, show_default=False,
        help="Tokens of one comparison at most; longer ones are cut, and counted. [default: as trained]",
    ),
]  # fmt: skip
MaxTokens = Annotated[
    int | None,
    typer.Option(
        min=64, rich_help_panel=TUNED, show_default=False,
        help="Tokens computed at a time: memory against speed. [default: to suit the device]",
    ),
]  # fmt: skip
Precision = Annotated[str, typer.Option(rich_help_panel=TUNED, help="auto, fp32, bf16, fp16 or int8.")]
Devices = Annotated[
    str,
    typer.Option(rich_help_panel=TUNED, help="auto, cpu, cuda, or cuda:0,cuda:1 to split the layers over a list."),
]
Swap = Annotated[
    str | None,
    typer.Option(
        metavar="POLICY", rich_help_panel=TUNED, show_default=False,
        help="Orders judged: both, none, or uncertain=0.4 (both for that share, nearest to a toss-up). "
        "[default: the judge's own]",
    ),
]  # fmt: skip
Base = Annotated[
    str | None,
    typer.Option(
        metavar="PATH", rich_help_panel=TUNED, show_default=False,
        help="Where the base model lies here, if not where it was at training.",
    ),
]  # fmt: skip

ASKED: Final = "Generative judges"
Backend = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=ASKED, show_default=False,
        help="What runs the language model: transformers, vllm or openai. [default: the judge's own]",
    ),
]  # fmt: skip
Server = Annotated[
    str | None,
    typer.Option(
        metavar="URL", rich_help_panel=ASKED, show_default=False,
        help="OpenAI-compatible server for --backend openai. [default: the judge's own]",
    ),
]  # fmt: skip


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
