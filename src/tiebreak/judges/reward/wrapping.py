"""A judge out of somebody's reward model: a sequence classifier with one output."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final, Literal

from tiebreak.bundle import Manifest
from tiebreak.errors import DataError, UsageError
from tiebreak.judges.base import Base, resolve
from tiebreak.judges.base.loading import checkpoint, read_tokenizer
from tiebreak.judges.base.locate import weight_files
from tiebreak.judges.base.names import Located
from tiebreak.judges.finetuned import making
from tiebreak.judges.reward.judge import RewardJudge, Settings
from tiebreak.judges.reward.layer import Layer
from tiebreak.judges.reward.reading import ChatRenderer
from tiebreak.render import Template

_SCORE: Final = re.compile(r"(?:score|classifier)\.(.+)")
_OTHER_HEADS: Final = re.compile(
    r"(?:.*?\.)??(regression_layer|gating|reward_head|rm_head|value_head|v_head|reward_linear|weights_linear|summary)\b.*"
)
"""Names under which models with code of their own keep what gives their score."""

_PAGE: Final = "docs/reward.md says what to do with it"


def wrap(
    name: str,
    *,
    template: Template,
    chat: bool = True,
    layer: Layer | None = None,
    revision: str | None = None,
    pooling: Literal["last", "first", "mean"] | None = None,
    quantize: Literal["nf4"] | None = None,
    soft_capping: bool = True,
    title: str | None = None,
    self_contained: bool = False,
) -> RewardJudge:
    """Make a judge of a reward model. No weight is loaded; headers are read.

    Args:
        name: Hub id or folder of a sequence classifier with one output.
        template: The template `single`: how long a chat may be, and with `chat` off, how prompt and answer are read.
        chat: Whether the model was trained on chats in its tokenizer's own template.
        layer: The tie model; None is Davidson's, not fitted.
        revision: Of a hub model.
        pooling: Which state the score is of; None: the family's own.
        quantize: nf4 holds the backbone in 4 bits.
        soft_capping: False where Gemma 2 was trained with its attention soft caps off.
        title: Name of the judge; None: the last part of `name`.
        self_contained: Copy the weights into the bundle instead of referring to them.

    Raises:
        UsageError: The checkpoint is not there, or its tokenizer has no chat template.
        DataError: It is no scalar reward model, or one with code of its own, which is never run.
    """
    base = Base(name=name, revision=revision)
    located = resolve(base)
    folder = checkpoint(located)
    document = _document(folder / "config.json")
    _refuse_code(document, located)
    _refuse_other_heads(located)
    base = making.pin(base)
    title = title or Path(name).name
    unread = document.get("pad_token_id") if chat else None
    with making.workspace() as directory:
        if self_contained:
            making.copy_base(base, directory)
        settings = Settings(
            base=None if self_contained else base, adapter=False, template=Settings.fitting(template), pooling=pooling,
            quantize=quantize, soft_capping=soft_capping, layer=layer or Layer.default(), chat=chat, unread=unread,
            fingerprint=_write_tokenizer(read_tokenizer(folder), template, directory, chat=chat, unread=unread),
        )  # fmt: skip
        (directory / making.CARD).write_text(making.card("reward", title, settings, ()), encoding="utf-8")
    manifest = Manifest(
        kind="reward", name=title, swap_equivariant=True, settings=settings.document(), versions=making.versions()
    )
    return RewardJudge(manifest, directory, temporary=True)


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", expected="a JSON object") from error
    if not isinstance(document, dict):
        raise DataError(f"{path} holds a {type(document).__name__}", expected="a JSON object")
    return document


def _refuse_code(document: dict[str, Any], located: Located) -> None:
    """A model that brings its own code is another model under transformers' own: it would give other scores."""
    if document.get("auto_map"):
        named = ", ".join(document.get("architectures") or [document.get("model_type", "a model")])
        raise DataError(
            f"{located.base.name}: {named} brings code of its own (auto_map in config.json), which tiebreak never runs",
            expected="an architecture of transformers itself, such as LlamaForSequenceClassification, with one output",
            mend=_PAGE,
        )


def _refuse_other_heads(located: Located) -> None:
    """Look for the layer of the score in the headers of the weights; say what is there instead."""
    if located.gguf is not None:
        raise DataError(f"{located.gguf}: GGUF files hold language models, not scores", expected="safetensors")
    shapes = _shapes(located)
    found = {match[1]: shape for key, shape in shapes.items() if (match := _SCORE.fullmatch(key))}
    others = sorted({match[1] for key in shapes if (match := _OTHER_HEADS.fullmatch(key))})
    where = located.base.name
    if others:
        raise DataError(
            f"{where}: its score comes from {', '.join(others)}, which no architecture of transformers has: several "
            "objectives and their mixture, or a head under a name of its own",
            expected="score.weight of shape (1, hidden)",
            mend=_PAGE,
        )
    if "weight" not in found:
        raise DataError(
            f"{where}: no linear layer for a score among its weights"
            + (f" (only score.{', score.'.join(sorted(found))})" if found else ""),
            expected="score.weight or classifier.weight, of shape (1, hidden)",
            mend=_PAGE if found else f"tiebreak wrap generative {where} -o JUDGE, if it is a language model",
        )
    outputs = found["weight"][0]
    if outputs == 3:
        raise DataError(
            f"{where}: its head has 3 outputs, which is a classifier of pairs", mend=f"tiebreak wrap {where} -o JUDGE"
        )
    if outputs != 1:
        raise DataError(
            f"{where}: its head has {outputs} outputs, so it has several objectives and no score",
            expected="1 output: a weighted sum of the rows of its head makes one",
            mend=_PAGE,
        )


def _shapes(located: Located) -> dict[str, list[int]]:
    from safetensors import safe_open

    shapes: dict[str, list[int]] = {}
    for path in weight_files(located):
        with safe_open(path, framework="np") as file:
            shapes |= {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 - no mapping
    return shapes


def _write_tokenizer(tokenizer: Any, template: Template, directory: Path, *, chat: bool, unread: int | None) -> str:
    """Write the tokenizer, and give the fingerprint of what it renders when it is read back."""
    if not chat:
        return making.write_tokenizer(tokenizer, template, directory)
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(
            "the tokenizer has no chat template, so how the model was trained to read an answer is not known",
            expected="a tokenizer_config.json with a chat template, or a template that says it",
            mend="--template single, or --template FILE with the model's own words around prompt and answer",
        )
    making.write_tokenizer(tokenizer, template, directory)
    return ChatRenderer(template, read_tokenizer(directory), unread).fingerprint()
