"""`tiebreak wrap served`: a model behind an OpenAI-compatible server as a judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tiebreak.cli import console, options
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    from tiebreak.judges.generative import GenerativeJudge
    from tiebreak.judges.generative.reading import Reading
    from tiebreak.judges.generative.served.settings import Served

EPILOG = """
Examples:

    tiebreak wrap served smollm2 --server http://127.0.0.1:8000/v1 --tokenizer ./smollm2 -o judge --max-length 2048

    tiebreak wrap served gpt-5-mini --server https://api.openai.com/v1 --api chat -o judge --requests-per-minute 500

    tiebreak wrap served qwen3 --server http://gpu7:8000/v1 --reads text --answer-tokens 800 -o judge

    tiebreak predict votes.parquet --judge judge -o predictions.parquet --dry-run

A key is taken from TIEBREAK_API_KEY or OPENAI_API_KEY in the environment, at every run; it is written nowhere.
"""
LIMITS: Final = "Limits and prices"
TEXTS: Final = "Written verdicts"


def command(
    model: Annotated[str, typer.Argument(help="The name that the server knows the model by.")],
    server: Annotated[
        str, typer.Option(metavar="URL", help="OpenAI-compatible server, up to the version: http://127.0.0.1:8000/v1.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write the bundle to.")],
    api: Annotated[
        str | None,
        typer.Option(
            help="completions: token ids are sent (vLLM, SGLang, llama.cpp; wants --tokenizer). chat: texts are sent. "
            "[default: completions with a --tokenizer, else chat]"
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The model's tokenizer: folder, hub id, GGUF file or package:NAME."),
    ] = None,
    template: Annotated[
        str, typer.Option(help="How it is asked: pab, papb, blackpearl, plain, rounds, or a file of your own.")
    ] = "pab",
    max_length: Annotated[
        int | None,
        typer.Option(
            min=16,
            help="Tokens of one comparison at most; bytes for a chat without a tokenizer. [default: the "
            "template's tokens, or four times as many bytes]",
        ),
    ] = None,
    verdicts: Annotated[
        str | None, typer.Option(metavar="A,B,TIE", help="How the model spells the verdicts, one spelling each.")
    ] = None,
    spell: Annotated[
        list[str] | None,
        typer.Option(metavar="VERDICT=TEXT", help="One spelling of a, b or tie, repeatable; spaces count."),
    ] = None,
    reads: Annotated[
        str, typer.Option(help="tokens: the probabilities of the verdicts. text: a verdict at the end of its prose.")
    ] = "tokens",
    swap: Annotated[str, typer.Option(help="Orders judged: both, none, or uncertain=SHARE.")] = "both",
    name: Annotated[str | None, typer.Option(help="Name of the judge. [default: of the model]")] = None,
    revision: Annotated[
        str | None,
        typer.Option(help="What lies behind the name, in your words: kept answers then serve any address of it."),
    ] = None,
    answers_as: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name that the server gives in answers, if it is another one.")
    ] = None,
    extensions: Annotated[
        bool, typer.Option(help="Send vLLM's own parameters, which make the answers exact; few servers refuse them.")
    ] = True,
    field: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=JSON", help="A further field of every request, repeatable; null drops it."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Likeliest tokens asked for where none can be named.")] = 20,
    concurrency: Annotated[
        int, typer.Option(min=1, max=256, rich_help_panel=LIMITS, help="Requests under way at once.")
    ] = 8,
    requests_per_minute: Annotated[float | None, typer.Option(rich_help_panel=LIMITS, help="At most.")] = None,
    tokens_per_minute: Annotated[
        float | None, typer.Option(rich_help_panel=LIMITS, help="Of prompts and answers, at most.")
    ] = None,
    timeout: Annotated[float, typer.Option(rich_help_panel=LIMITS, help="Seconds that one attempt may take.")] = 300.0,
    attempts: Annotated[
        int, typer.Option(min=1, rich_help_panel=LIMITS, help="Of one request in one run, before it is given up.")
    ] = 6,
    price_prompt: Annotated[
        float, typer.Option(min=0, rich_help_panel=LIMITS, help="Of a million tokens of prompts, in any currency.")
    ] = 0.0,
    price_answer: Annotated[
        float, typer.Option(min=0, rich_help_panel=LIMITS, help="Of a million tokens of answers.")
    ] = 0.0,
    answer_tokens: Annotated[
        int, typer.Option(min=1, rich_help_panel=TEXTS, help="Tokens of one text at most; a longer one is invalid.")
    ] = 1024,
    temperature: Annotated[
        float, typer.Option(min=0, rich_help_panel=TEXTS, help="0 takes the likeliest token each time.")
    ] = 0.0,
    samples: Annotated[int, typer.Option(min=1, rich_help_panel=TEXTS, help="Texts an order, averaged.")] = 1,
    seed: Annotated[int, typer.Option(rich_help_panel=TEXTS, help="Of the samples.")] = 0,
    check: Annotated[bool, typer.Option(help="Ask the server about one comparison before anything is written.")] = True,
    as_json: options.Json = False,
) -> None:
    """Make a judge of a model behind an OpenAI-compatible server. The bundle holds no weights and no key."""
    from tiebreak.cli.wrap import one_of, template_of
    from tiebreak.cli.wrap_generative import spelled
    from tiebreak.judges.generative.served import making

    how = one_of("--api", api, ("completions", "chat")) or ("completions" if tokenizer else "chat")
    served = _served(
        url=server, model=model, api=how, revision=revision, answers_as=answers_as, extensions=extensions,
        extra=_fields(field), concurrency=concurrency, requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute, timeout=timeout, attempts=attempts, top=top, price_prompt=price_prompt,
        price_answer=price_answer,
    )  # fmt: skip
    chosen = one_of("--reads", reads, ("tokens", "text"))
    asked = template_of(template, max_length)
    if max_length is None and tokenizer is None:
        asked = asked.model_copy(update={"max_length": making.BYTES_A_TOKEN * asked.max_length})
    judge = making.make(
        served, template=asked, name=name, tokenizer=tokenizer, reads=chosen, swap=swap,
        verdicts=spelled(verdicts, spell, making.CHAT_SPELLINGS if how == "chat" else None),
        reading=_reading(answer_tokens, temperature, samples, seed),
    )  # fmt: skip
    report = making.check(judge) if check else None
    judge.save(output)
    _tell(judge, output, report)
    if as_json:
        console.emit_json({
            "output": str(output), "judge": judge.manifest.model_dump(mode="json"), "check": report,
        })  # fmt: skip


def _served(**fields: Any) -> Served:
    from pydantic import ValidationError

    from tiebreak.judges.generative.served import client
    from tiebreak.judges.generative.served.settings import Served

    try:
        served = Served.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise UsageError(f"--{option} {first['input']!r}: {first['msg']}", expected="a value of its kind") from error
    client.check(served, named=True)
    return served


def _fields(pairs: list[str] | None) -> dict[str, Any]:
    found = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        try:
            found[name] = json.loads(value)
        except ValueError:
            equals = ""
        if not (name and equals):
            raise UsageError(f"--set {pair!r}", expected="FIELD=JSON, such as --set reasoning_effort='\"low\"'")
    return found


def _reading(answer_tokens: int, temperature: float, samples: int, seed: int) -> Reading:
    from tiebreak.judges.generative.reading import Reading

    return Reading(max_tokens=answer_tokens, temperature=temperature, samples=samples, seed=seed)


def _tell(judge: GenerativeJudge, output: Path, report: dict[str, Any] | None) -> None:
    settings = judge.settings
    assert settings.served is not None  # noqa: S101 - `make` put it there
    served = settings.served
    reads = "the probabilities of verdicts" if settings.reads == "tokens" else "verdicts out of prose"
    console.note(
        f"wrote {output}: {served.model} behind {served.url} ({served.api}), template {settings.template.name} "
        f"({settings.template.max_length:,} tokens), reads {reads}"
    )
    if report is None:
        return
    for warning in report.get("warnings", []):
        console.say(f"warning: {warning}")
    if settings.reads == "tokens":
        covered = report.get("coverage", {}).get("mean", float("nan"))
        kind = "exact" if not report["bounded"] else f"known to +-{report['largest_bound'] / 2:.2g}"
        console.note(f"  asked about one comparison: its probabilities are {kind}; verdicts hold {100 * covered:.3g} %")
    else:
        console.note(f"  asked about one comparison: {report['texts']} texts, {report['invalid']} without a verdict")
