"""A judge out of somebody's checkpoint: a 3-class sequence classifier, or an adapter with such a head."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from tiebreak.bundle import Manifest
from tiebreak.comparisons import LABELS, Labels
from tiebreak.errors import DataError, UsageError
from tiebreak.judges.base import Base, Head, resolve
from tiebreak.judges.base.loading import checkpoint, read_tokenizer
from tiebreak.judges.base.locate import weight_files
from tiebreak.judges.classifier import ClassifierJudge, Settings
from tiebreak.judges.finetuned import making
from tiebreak.render import Template

ADAPTER: Final = "adapter_model.safetensors"
ADAPTER_CONFIG: Final = "adapter_config.json"

_HEAD: Final = re.compile(r"(?:base_model\.model\.)?(?:score|classifier)\.(.+)")
_SIDES: Final = ("{}", "model_{}", "winner_model_{}", "response_{}", "answer_{}", "{}_wins", "model_{}_wins")
_MEANINGS: Final[Mapping[str, str]] = {
    **{form.format(side): side for side in "ab" for form in _SIDES},
    **dict.fromkeys(("tie", "winner_tie", "draw", "tied"), "tie"),
}
"""What people write into id2label, in lower case with underscores, and what it means."""


@dataclass(frozen=True)
class Found:
    """What was found out about a checkpoint from its configuration and the headers of its files.

    Attributes:
        base: The checkpoint, or what the adapter was trained on.
        adapter: Folder of the adapter.
        head: linear or two_layer.
        outputs: What the outputs mean, in order, where the configuration says it.
    """

    base: Base
    adapter: Path | None
    head: Literal["linear", "two_layer"]
    outputs: Labels | None


def wrap(
    name: str,
    *,
    template: Template,
    adapter: Path | None = None,
    revision: str | None = None,
    head: Literal["linear", "two_layer"] | None = None,
    outputs: Labels | None = None,
    pooling: Literal["last", "first", "mean"] | None = None,
    quantize: Literal["nf4"] | None = None,
    soft_capping: bool = True,
    swap: str = "both",
    title: str | None = None,
    self_contained: bool = False,
) -> ClassifierJudge:
    """Make a classifier judge of a checkpoint that was trained elsewhere. No weight is loaded; headers are read.

    Args:
        name: Hub id or folder of a 3-class sequence classifier; or the base of `adapter`; or a folder of an adapter,
            whose configuration names its base.
        template: How the checkpoint was trained to see a comparison. The result is only as good as this is true.
        adapter: Folder of a peft adapter with its head.
        revision: Of a hub model.
        head: The form of the head; None finds it from the names of the weights.
        outputs: What the outputs mean, in order; None takes `id2label`, and a, b, tie where that says nothing.
        pooling: Which state stands for a sequence; None: the family's own way.
        quantize: nf4 where the adapter was trained on a base in 4 bits.
        soft_capping: False where Gemma 2 was trained with its attention soft caps off.
        swap: The orders it judges when nobody says.
        title: Name of the judge; None: the last part of `name`.
        self_contained: Copy the weights into the bundle instead of referring to them.

    Raises:
        UsageError: The checkpoint is not there, or what was said contradicts what it says of itself.
        DataError: It is no 3-class sequence classifier.
    """
    found = inspect(name, adapter, revision)
    if head is not None and head != found.head:
        raise UsageError(
            f"--head {head}: the weights of {name} are those of a {found.head} head", mend=f"--head {found.head}"
        )
    meaning = _agree(outputs, found.outputs, name)
    base = making.pin(found.base)
    title = title or Path(name).name
    with making.workspace() as directory:
        if found.adapter is not None:
            copy_adapter(found.adapter, directory, base)
        if self_contained:
            making.copy_base(base, directory)
        settings = Settings(
            base=None if self_contained else base, adapter=found.adapter is not None, head=Head(kind=found.head),
            template=Settings.fitting(template), pooling=pooling, quantize=quantize, soft_capping=soft_capping,
            fingerprint=making.write_tokenizer(read_tokenizer(_tokenizer_folder(found)), template, directory),
            swap=swap, outputs=meaning,
        )  # fmt: skip
        (directory / making.CARD).write_text(making.card("classifier", title, settings, ()), encoding="utf-8")
    manifest = Manifest(
        kind="classifier", name=title, swap_equivariant=settings.equivariant, settings=settings.document(),
        versions=making.versions(),
    )  # fmt: skip
    return ClassifierJudge(manifest, directory, temporary=True)


def inspect(name: str, adapter: Path | None = None, revision: str | None = None) -> Found:
    """Find out what a checkpoint is.

    Raises:
        UsageError: The checkpoint or the adapter is not there.
        DataError: It is no 3-class sequence classifier, or an adapter without a head.
    """
    folder = Path(name).expanduser()
    if adapter is None and (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file():
        adapter, document = folder, document_of(folder / ADAPTER_CONFIG)
        name = str(document.get("base_model_name_or_path") or "")
        revision = revision or document.get("revision")
        if not name:
            raise DataError(
                f"{folder}: {ADAPTER_CONFIG} names no base", mend=f"tiebreak wrap BASE --adapter {folder} ..."
            )
    base = Base(name=name, revision=revision)
    located = resolve(base)
    files = weight_files(located) if adapter is None else [adapter_file(adapter)]
    kind = _head(files, adapter or located.gguf or located.folder)
    return Found(located.base, adapter, kind, _meaning(document_of(checkpoint(located) / "config.json"), name))


def document_of(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        DataError: It is none, or cannot be read.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", expected="a JSON object") from error
    if not isinstance(document, dict):
        raise DataError(f"{path} holds a {type(document).__name__}", expected="a JSON object")
    return document


def adapter_file(folder: Path) -> Path:
    """The weights of a peft adapter.

    Raises:
        UsageError: The folder is no adapter.
        DataError: Its weights are a pickle, or missing.
    """
    if not (folder / ADAPTER_CONFIG).is_file():
        raise UsageError(f"--adapter {folder}: no {ADAPTER_CONFIG} in it", expected="a folder as peft saves it")
    if not (folder / ADAPTER).is_file():
        raise DataError(
            f"{folder}: no {ADAPTER}; adapter_model.bin is a pickle, which tiebreak never opens",
            expected=ADAPTER,
            mend="save_pretrained of peft once more, where the pickle is trusted",
        )
    return folder / ADAPTER


def _head(files: list[Path], where: Path) -> Literal["linear", "two_layer"]:
    """The form of the head, from names and shapes in the headers of safetensors files."""
    from safetensors import safe_open

    shapes: dict[str, list[int]] = {}
    for path in files:
        with safe_open(path, framework="np") as file:
            for key in file.keys():  # noqa: SIM118 - safe_open is no mapping
                if match := _HEAD.fullmatch(key):
                    shapes[match[1]] = file.get_slice(key).get_shape()
    kind: Literal["linear", "two_layer"] = "two_layer" if "1.weight" in shapes else "linear"
    last = shapes.get("4.weight" if kind == "two_layer" else "weight")
    if last is None:
        raise DataError(
            f"{where}: no classification head among its weights"
            + (f" (only {', '.join(sorted(shapes))})" if shapes else ""),
            expected="score.weight or classifier.weight, or score.1.* and score.4.* of a two-layer head",
        )
    if last[0] != len(LABELS):
        raise DataError(f"{where}: its head has {last[0]} outputs", expected="3: a wins, b wins, tie")
    return kind


def _meaning(document: dict[str, Any], name: str) -> Labels | None:
    """What `id2label` says; None where it has only the numbers that transformers puts there by default."""
    labels = document.get("id2label") or {}
    named = [str(labels.get(str(number), f"LABEL_{number}")) for number in range(len(LABELS))]
    if len(labels) != len(LABELS) or all(re.fullmatch(r"LABEL_\d|\d", label) for label in named):
        return None
    meanings = tuple(_MEANINGS.get(re.sub(r"[\s-]+", "_", label.strip().lower()), "?") for label in named)
    if sorted(meanings) != sorted(LABELS):
        raise DataError(
            f"{name}: id2label is {named}",
            expected="names of a, b and tie, such as model_a, model_b, tie",
            mend="correct id2label in config.json",
        )
    a, b, c = meanings
    return a, b, c


def _agree(said: Labels | None, found: Labels | None, name: str) -> Labels:
    if said is not None and found is not None and said != found:
        raise UsageError(
            f"--classes {','.join(said)}: id2label of {name} says {','.join(found)}",
            expected="the order in which the checkpoint was trained",
            mend=f"--classes {','.join(found)}, or correct id2label in its config.json",
        )
    return said or found or LABELS


def copy_adapter(source: Path, target: Path, base: Base) -> None:
    """Copy a peft adapter into a bundle; its configuration then names this base."""
    shutil.copyfile(source / ADAPTER, target / ADAPTER)
    document = document_of(source / ADAPTER_CONFIG) | {"base_model_name_or_path": base.name, "revision": base.revision}
    (target / ADAPTER_CONFIG).write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _tokenizer_folder(found: Found) -> Path:
    """An adapter that was saved with its tokenizer was trained with that one."""
    if found.adapter is not None and (found.adapter / "tokenizer.json").is_file():
        return found.adapter
    return checkpoint(resolve(found.base))
