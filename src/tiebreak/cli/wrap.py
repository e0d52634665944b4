"""`tiebreak wrap`: a checkpoint that was trained elsewhere in, a judge bundle out."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebreak.cli import console, options
from tiebreak.cli.groups import Defaulting
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    from tiebreak.comparisons import Labels
    from tiebreak.render import Template

CHECKPOINT = "CHECKPOINT"
"""Name of the command behind every first word that is no command of the group."""


class Group(Defaulting):
    """A group in which a first word that is no command is a sequence classifier to wrap."""

    default = CHECKPOINT


EPILOG = """
Examples:

    tiebreak wrap checkpoints/llama3-8b-cls -o judge --template pab --max-length 2048

    tiebreak wrap google/gemma-2-9b-it --adapter runs/lora --quantize nf4 --no-soft-capping -o judge

    tiebreak predict test.csv --judge judge --max-length 4096 --format kaggle -o submission.csv
"""


def command(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="Hub id or folder of a 3-class sequence classifier, the base of --adapter, or a folder of an adapter."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write the bundle to.")],
    template: Annotated[
        str,
        typer.Option(help="What it was trained to read: pab, papb, blackpearl, plain, rounds, or a file of your own."),
    ] = "pab",
    max_length: Annotated[
        int | None, typer.Option(min=16, help="Tokens of one comparison at most. [default: the template's]")
    ] = None,
    adapter: Annotated[Path | None, typer.Option(help="Folder of a peft adapter with its head.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")] = None,
    head: Annotated[
        str | None, typer.Option(help="linear or two_layer. [default: found from the names of the weights]")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="What the outputs mean, in order. [default: id2label, else a,b,tie]")
    ] = None,
    pooling: Annotated[
        str | None, typer.Option(help="last, first or mean: which state stands for a text. [default: the family's]")
    ] = None,
    quantize: Annotated[str | None, typer.Option(help="nf4: the adapter was trained on a base in 4 bits.")] = None,
    soft_capping: Annotated[
        bool, typer.Option(help="Whether Gemma 2 was trained with the soft caps of its attention.")
    ] = True,
    swap: Annotated[str, typer.Option(help="Orders judged: both, none, or uncertain=SHARE.")] = "both",
    name: Annotated[str | None, typer.Option(help="Name of the judge. [default: of the checkpoint]")] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the weights into the bundle instead of referring to them.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Make a judge bundle of a checkpoint that was trained elsewhere. Weights are referred to, unless --copy."""
    from tiebreak.judges.wrapping import wrap

    judge = wrap(
        checkpoint,
        template=template_of(template, max_length),
        adapter=adapter,
        revision=revision,
        head=one_of("--head", head, ("linear", "two_layer")),
        outputs=_classes(classes),
        pooling=one_of("--pooling", pooling, ("last", "first", "mean")),
        quantize=one_of("--quantize", quantize, ("nf4",)),
        soft_capping=soft_capping,
        swap=swap,
        title=name,
        self_contained=copy,
    )
    judge.save(output)
    settings = judge.settings
    base = settings.base.name if settings.base else "in the bundle"
    console.note(
        f"wrote {output}: {settings.head.kind} head, outputs {', '.join(settings.outputs)}, "
        f"template {settings.template.name} ({settings.template.max_length:,} tokens), weights {base}"
    )
    if as_json:
        console.emit_json({"output": str(output), "judge": judge.manifest.model_dump(mode="json")})


def template_of(name: str, max_length: int | None) -> Template:
    """A built-in template, or one from a JSON or YAML file.

    Raises:
        UsageError: There is no such template, or the file is none.
    """
    from pydantic import ValidationError

    from tiebreak.render import Template, template

    changes: dict[str, Any] = {} if max_length is None else {"max_length": max_length}
    path = Path(name)
    if not path.suffix:
        return template(name, **changes)
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Template.model_validate({**document, **changes})
    except (OSError, TypeError, yaml.YAMLError) as error:
        raise UsageError(
            f"--template {name}: {error}", expected="a JSON or YAML file with the fields of a template"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"--template {name}: {place}: {first['msg']}", expected="the fields of a template") from error


def one_of(option: str, value: str | None, known: tuple[str, ...]) -> Any:
    """The value of an option that is one of a few, or none.

    Raises:
        UsageError: It is another one.
    """
    if value is not None and value not in known:
        near = difflib.get_close_matches(value, known, n=1)
        raise UsageError(
            f"{option} {value!r}", expected=f"one of {', '.join(known)}", mend=f"{option} {near[0]}" if near else ""
        )
    return value


def _classes(text: str | None) -> Labels | None:
    from tiebreak.comparisons import LABELS

    if text is None:
        return None
    names = tuple(part.strip().lower() for part in text.split(","))
    if sorted(names) != sorted(LABELS):
        raise UsageError(f"--classes {text!r}", expected="a, b and tie in the order of the outputs, such as a,b,tie")
    a, b, c = names
    return a, b, c
