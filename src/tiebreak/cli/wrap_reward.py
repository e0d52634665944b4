"""`tiebreak wrap reward`: a scalar reward model in, a judge of pairs with ties out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tiebreak.cli import console, options
from tiebreak.cli.wrap import one_of, template_of

EPILOG = """
Examples:

    tiebreak wrap reward Skywork/Skywork-Reward-V2-Qwen3-0.6B -o judge

    tiebreak calibrate votes.parquet --judge judge --method auto -o judge-fitted

    tiebreak wrap reward checkpoints/deberta-reward --template single --max-length 512 -o judge

    tiebreak wrap reward checkpoints/llama-reward --model rao-kupper --quantize nf4 -o judge

Before it is fitted to votes, a unit of reward is one of log-odds, and even answers get thirds.
"""


def command(
    checkpoint: Annotated[
        str, typer.Argument(help="Hub id or folder of a sequence classifier with one output: the score of an answer.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write the bundle to.")],
    model: Annotated[
        str, typer.Option(help="Tie model: davidson or rao-kupper. `tiebreak calibrate` fits either.")
    ] = "davidson",
    template: Annotated[
        str,
        typer.Option(
            help="What it was trained to read: chat (the tokenizer's own chat template), single, or a file of your own."
        ),
    ] = "chat",
    max_length: Annotated[int, typer.Option(min=16, help="Tokens of prompt and one answer at most.")] = 4096,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")] = None,
    pooling: Annotated[
        str | None, typer.Option(help="last, first or mean: the state that is scored. [default: the family's]")
    ] = None,
    quantize: Annotated[str | None, typer.Option(help="nf4: hold the backbone in 4 bits.")] = None,
    soft_capping: Annotated[
        bool, typer.Option(help="Whether Gemma 2 was trained with the soft caps of its attention.")
    ] = True,
    name: Annotated[str | None, typer.Option(help="Name of the judge. [default: of the checkpoint]")] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the weights into the bundle instead of referring to them.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Make a judge of a reward model that scores one answer at a time. Weights are referred to, unless --copy."""
    from tiebreak.judges.reward import FAMILIES, Layer
    from tiebreak.judges.reward.wrapping import wrap

    layer = Layer.default(one_of("--model", model, FAMILIES))
    judge = wrap(
        checkpoint,
        template=template_of("single" if template == "chat" else template, max_length),
        chat=template == "chat",
        layer=layer,
        revision=revision,
        pooling=one_of("--pooling", pooling, ("last", "first", "mean")),
        quantize=one_of("--quantize", quantize, ("nf4",)),
        soft_capping=soft_capping,
        title=name,
        self_contained=copy,
    )
    judge.save(output)
    settings: Any = judge.settings
    reads = "chats in its own template" if settings.chat else f"the template {settings.template.name}"
    base = settings.base.name if settings.base else "in the bundle"
    console.note(
        f"wrote {output}: reads {reads} ({settings.template.max_length:,} tokens), {layer.family} with scale "
        f"{layer.scale:g} and tie {layer.tie:g}, weights {base}"
    )
    console.note(f"  not fitted yet: tiebreak calibrate VOTES --judge {output} --method auto -o FITTED")
    if as_json:
        console.emit_json({"output": str(output), "judge": judge.manifest.model_dump(mode="json")})
