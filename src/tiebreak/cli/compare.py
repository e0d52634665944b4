"""`tiebreak compare`: one pair, at once, with reasons if wanted."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebreak.cli import console, options
from tiebreak.errors import DataError, UsageError

if TYPE_CHECKING:
    from tiebreak.judges import Prediction, Reason

EPILOG = """
Examples:

    tiebreak compare --prompt 'Name a prime.' --a '7' --b 'I cannot help with that.' --explain

    tiebreak compare --prompt @question.txt --a @left.md --b @right.md --json

    tiebreak compare --prompt 'Hi' --prompt 'And in French?' --a Hello --a Bonjour --b Hi --b Hello

    tiebreak generate | tiebreak compare --prompt 'Say hello.' --a - --b 'Hello!'
"""
WIDTH = 48


def command(
    prompt: Annotated[list[str], typer.Option("--prompt", "-p", help="The prompt; once a turn. @FILE or - reads it.")],
    a: Annotated[list[str], typer.Option("--a", "-a", help="Answer A, once a turn. @FILE or - reads it.")],
    b: Annotated[list[str], typer.Option("--b", "-b", help="Answer B, once a turn. @FILE or - reads it.")],
    explain: Annotated[
        bool, typer.Option("--explain", "-e", help="Say what speaks for A, for B and for a tie.")
    ] = False,
    judge: options.Judge = None,
    max_length: options.MaxLength = None,
    precision: options.Precision = "auto",
    devices: options.Devices = "auto",
    swap: options.Swap = None,
    base: options.Base = None,
    as_json: options.Json = False,
) -> None:
    """Predict which of two answers a person would prefer."""
    if sum(text == "-" for text in (*prompt, *a, *b)) > 1:
        raise UsageError("more than one - : stdin can be read once", expected="at most one - among --prompt, --a, --b")
    if not len(prompt) == len(a) == len(b):
        raise UsageError(
            f"{len(prompt)} turns of --prompt, {len(a)} of --a, {len(b)} of --b",
            expected="as many of each: one --prompt, one --a and one --b a turn",
        )
    from tiebreak import judges
    from tiebreak.judges.judge import one

    texts = [[_text(item) for item in turns] for turns in (prompt, a, b)]
    runtime = judges.Runtime(max_length=max_length, precision=precision, devices=devices, swap=swap, base=base)
    loaded = judges.load(judge, runtime)
    answer = loaded.compare(*texts)
    reasons = loaded.explain(one(*texts))[0] if explain else None
    if as_json:
        document: dict[str, Any] = asdict(answer)
        if reasons is not None:
            document["reasons"] = [asdict(reason) for reason in reasons]
        console.emit_json(document)
        return
    console.emit(_shown(answer))
    if reasons is not None:
        _show_reasons(reasons)


def _text(item: str) -> str:
    if item == "-":
        return sys.stdin.buffer.read().decode("utf-8", "replace")
    if not item.startswith("@"):
        # A shell argument that is not UTF-8 arrives with lone surrogates, which no table can hold.
        return item.encode("utf-8", "replace").decode("utf-8")
    try:
        return Path(item[1:]).read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise DataError(f"{item[1:]}: {error.strerror}", expected="a readable text file after @") from error


def _shown(answer: Prediction) -> str:
    shares = (("A", answer.p_a, "█"), ("tie", answer.p_tie, "▒"), ("B", answer.p_b, "░"))
    bar = "".join(mark * round(share * WIDTH) for _, share, mark in shares)
    figures = "   ".join(f"P({name}) {share:.3f}" for name, share, _ in shares)
    verdict = {"a": "A", "b": "B", "tie": "a tie"}[answer.label]
    return f"{bar}\n{figures}   most likely: {verdict}"


def _show_reasons(reasons: list[Reason]) -> None:
    for title, rows in (
        ("speaks for A", [(r.text, r.toward_a) for r in reasons if r.toward_a > 0]),
        ("speaks for B", [(r.text, -r.toward_a) for r in reasons if r.toward_a < 0]),
        ("speaks for a tie", [(r.text, r.toward_tie) for r in reasons if r.toward_tie > 0]),
        ("speaks against a tie", [(r.text, r.toward_tie) for r in reasons if r.toward_tie < 0]),
    ):
        shown = sorted(rows, key=lambda row: -abs(row[1]))
        if shown:
            console.emit("")
            console.table(title, ("reason", "log-odds"), [(text, f"{value:+.3f}") for text, value in shown[:8]])
            rest = sum(value for _, value in shown[8:])
            if rest:
                console.emit(f"({len(shown) - 8} smaller reasons: {rest:+.3f})")
