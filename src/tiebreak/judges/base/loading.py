"""A base as objects of transformers: configuration, tokenizer, model with a three-way head."""

from __future__ import annotations

import importlib.util
import json
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from tiebreak.comparisons import LABELS
from tiebreak.errors import DataError, MissingExtraError, UsageError
from tiebreak.judges.base.converted import converted
from tiebreak.judges.base.locate import resolve, weight_files
from tiebreak.judges.base.names import Base, Head, Located

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

_HEADS: Final = ("score", "classifier", "pooler", r".*\.pooler", "head", "lm_head")
"""Modules that are never quantised."""

CLASSIFIER: Final = "AutoModelForSequenceClassification"
LANGUAGE: Final = "AutoModelForCausalLM"
_WHAT: Final = {CLASSIFIER: "sequence classifier", LANGUAGE: "causal language model"}

SHAPES: Final = Path(__file__).parents[2] / "recipes" / "shapes"
"""Configurations of real models, for dry runs without a download."""


def require(purpose: str = "a fine-tuned judge") -> None:
    """Say in one line what is missing, before anything is loaded.

    Raises:
        MissingExtraError: torch or transformers is not installed.
    """
    for module in ("torch", "transformers"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(module, "llm", purpose)


def checkpoint(located: Located) -> Path:
    """The folder that transformers can load; a GGUF file is converted first."""
    return located.folder if located.gguf is None else converted(located.gguf)


def tokenizer(base: Base) -> PreTrainedTokenizerFast:
    """The tokenizer of a base.

    Raises:
        UsageError: The base is not there.
        DataError: It has no fast tokenizer.
    """
    return read_tokenizer(checkpoint(resolve(base)))


def read_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer that lies in a folder.

    Raises:
        DataError: There is none, or not one of the tokenizers library.
    """
    require()
    from transformers import AutoTokenizer

    from tiebreak.judges.base.quiet import quiet

    try:
        with quiet():
            made = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise DataError(
            f"{folder}: no tokenizer that transformers can read ({error})", expected="tokenizer.json"
        ) from error
    if not made.is_fast:
        raise DataError(f"{folder}: {type(made).__name__} has no tokenizer.json", expected="a fast tokenizer")
    return made


def config(base: Base) -> PretrainedConfig:
    """The configuration of a base; of its `shape`, where one is named.

    Raises:
        UsageError: The base or the shape is not there.
        DataError: transformers does not know the architecture.
    """
    require()
    from transformers import AutoConfig

    try:
        if base.shape is None:
            return AutoConfig.from_pretrained(checkpoint(resolve(base)), local_files_only=True, trust_remote_code=False)
        fields = _shape(base.shape)
        return AutoConfig.for_model(fields.pop("model_type"), **fields)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"base {base.name!r}: transformers cannot read its config.json ({error})") from error


def sequence_classifier(
    base: Base,
    head: Head,
    *,
    outputs: int = 3,
    dtype: torch.dtype | None = None,
    quantize: str | None = None,
    soft_capping: bool = True,
    attention: str = "eager",
    device: Any = None,
    meta: bool = False,
) -> PreTrainedModel:
    """The base with a classification head on top: its own, where the checkpoint has one of this form, else a new one.

    Args:
        base: The pretrained model.
        head: The layer on top; it is held in fp32.
        outputs: Number of logits.
        dtype: Of the backbone; None takes that of the checkpoint.
        quantize: "nf4" holds the linear layers of the backbone in 4 bits with double quantisation (bitsandbytes).
        soft_capping: Whether Gemma 2 keeps the soft caps on its attention logits.
        attention: Name of an attention function that transformers knows.
        device: Where to load to; None is the CPU.
        meta: Make the shapes alone, from `base.shape` or the checkpoint's configuration, without memory or weights.

    Raises:
        UsageError: The base is not there.
        DataError: The architecture has no sequence classifier, or the checkpoint is not one of this architecture.
    """
    require()
    from tiebreak.judges.base.heads import TwoLayer

    def two_layer(hidden: int) -> TwoLayer:
        return TwoLayer(hidden, outputs, head.dropout)

    return load(
        base, two_layer if head.kind == "two_layer" else None, outputs=outputs, dtype=dtype, quantize=quantize,
        soft_capping=soft_capping, attention=attention, device=device, meta=meta,
    )[0]  # fmt: skip


def language_model(
    base: Base,
    *,
    dtype: torch.dtype | None = None,
    quantize: str | None = None,
    soft_capping: bool = True,
    attention: str = "eager",
    device: Any = None,
    meta: bool = False,
) -> PreTrainedModel:
    """The base as the language model that it is, with its own head over the vocabulary.

    Args:
        base: The pretrained model.
        dtype: As of `sequence_classifier`, like all that follow.
        quantize: None or "nf4".
        soft_capping: Of Gemma 2, on its attention logits.
        attention: Name of an attention function.
        device: Where to load to.
        meta: Shapes alone.

    Raises:
        UsageError: The base is not there.
        DataError: The architecture is no causal language model, or weights of it are not in the checkpoint.
    """
    model, fresh = load(
        base, None, outputs=None, dtype=dtype, quantize=quantize, soft_capping=soft_capping, attention=attention,
        device=device, meta=meta,
    )  # fmt: skip
    if fresh:
        raise DataError(
            f"base {base.name!r}: {len(fresh)} weights of {type(model).__name__} are not in the checkpoint "
            f"(first: {min(fresh)})",
            expected="the checkpoint of a language model, with its head over the vocabulary",
        )
    return model


def load(
    base: Base,
    layer: Callable[[int], nn.Module] | None,
    *,
    outputs: int | None = 3,
    dtype: torch.dtype | None = None,
    quantize: str | None = None,
    soft_capping: bool = True,
    attention: str = "eager",
    device: Any = None,
    meta: bool = False,
) -> tuple[PreTrainedModel, set[str]]:
    """As `sequence_classifier`, for any last layer.

    Args:
        base: The pretrained model.
        layer: Makes the last layer from the width of the pooled state; None leaves the one of the family.
        outputs: As of `sequence_classifier`, like all that follow; None leaves the head of a language model.
        dtype: Of the backbone.
        quantize: None or "nf4".
        soft_capping: Of Gemma 2.
        attention: Name of an attention function.
        device: Where to load to.
        meta: Shapes alone.

    Returns:
        The model, and the names of the parameters that were initialised and not loaded.
    """
    settings = config(base)
    auto = LANGUAGE if outputs is None else CLASSIFIER
    if outputs is not None:
        settings.num_labels = outputs
    if outputs == len(LABELS):
        settings.id2label, settings.label2id = dict(enumerate(LABELS)), {name: i for i, name in enumerate(LABELS)}
    if not soft_capping and hasattr(settings, "attn_logit_softcapping"):
        settings.attn_logit_softcapping = None
    if meta:
        return _shapes_alone(settings, layer, dtype, attention, auto), set()
    folder = checkpoint(resolve(base))
    files = weight_files(Located(base, folder))
    options: dict[str, Any] = {"dtype": dtype or "auto", "attn_implementation": attention}
    if device is not None or quantize:
        options["device_map"] = {"": device or "cpu"}
    options |= _few_bits(settings, files, dtype, quantize)
    model, fresh = _from_pretrained(folder, settings, options, auto)
    return model, fresh if outputs is None else _complete_head(model, layer, folder, fresh)


def _shape(name: str) -> dict[str, Any]:
    path = SHAPES / f"{name}.json"
    if not path.is_file():
        names = ", ".join(sorted(found.stem for found in SHAPES.glob("*.json")))
        raise UsageError(f"shape {name!r} is not known", expected=f"one of {names}")
    fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return fields


def _shapes_alone(
    settings: PretrainedConfig, layer: Callable[[int], nn.Module] | None, dtype: torch.dtype | None, attention: str,
    auto: str,
) -> PreTrainedModel:  # fmt: skip
    import torch
    import transformers

    from tiebreak.judges.base.heads import last

    with torch.device("meta"):
        model: PreTrainedModel = getattr(transformers, auto).from_config(
            settings, dtype=dtype or torch.float32, attn_implementation=attention
        )
        if layer is not None:
            setattr(model, last(model), layer(_width(model)))
    return model


def _from_pretrained(
    folder: Path, settings: Any, options: dict[str, Any], auto: str
) -> tuple[PreTrainedModel, set[str]]:
    from tiebreak.judges.base.quiet import quiet

    try:
        with quiet(), ExitStack() as stack:
            family, place = _family(folder, settings, options, stack, auto)
            model, report = family.from_pretrained(
                place, config=settings, local_files_only=True, use_safetensors=True, ignore_mismatched_sizes=True,
                output_loading_info=True, **options,
            )  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder}: no {_WHAT[auto]} can be made of it ({str(error).splitlines()[0]})",
            expected=f"a family of {auto} (Llama, Gemma, Qwen, Mistral, {'DeBERTa, BERT, ' * (auto == CLASSIFIER)}...)",
        ) from error
    fresh = set(report["missing_keys"]) | {entry[0] for entry in report["mismatched_keys"]}
    inside = [name for name in fresh if name.startswith(f"{model.base_model_prefix}.") and "pooler" not in name]
    if inside:
        raise DataError(
            f"{folder}: {len(inside)} weights of {type(model).__name__} are not in the checkpoint (first: {inside[0]})",
            expected="a checkpoint of the architecture that its config.json names",
        )
    return model, fresh


def _family(
    folder: Path, settings: Any, options: dict[str, Any], stack: ExitStack, auto: str
) -> tuple[Any, Path | None]:
    """Whose `from_pretrained` to call, and with what folder: none where the tensors were read already."""
    import transformers

    if "state_dict" not in options:
        options["trust_remote_code"] = False
        return getattr(transformers, auto), _without_adapter(folder, stack)
    # The Auto classes insist on a folder; a model without memory tells which class they mean.
    return type(_shapes_alone(settings, None, None, options["attn_implementation"], auto)), None


def _without_adapter(folder: Path, stack: ExitStack) -> Path:
    """The same folder for transformers to see, which would load an adapter beside the weights by itself."""
    if not (folder / "adapter_config.json").is_file():
        return folder
    view = Path(stack.enter_context(TemporaryDirectory(prefix="tiebreak-")))
    for path in [folder / "config.json", *folder.glob("model*")]:
        (view / path.name).symlink_to(path.resolve())
    return view


def _nf4(dtype: torch.dtype | None) -> Any:
    import torch

    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "llm", "quantisation to 4 bits")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype or torch.bfloat16,
        llm_int8_skip_modules=list(_HEADS),
    )  # fmt: skip


def _few_bits(settings: Any, files: list[Path], dtype: torch.dtype | None, quantize: str | None) -> dict[str, Any]:
    """What transformers must be told of weights in few bits: those of the checkpoint, or those that are asked for."""
    quantised = getattr(settings, "quantization_config", None)
    if quantised is None:
        return {"quantization_config": _nf4(dtype)} if quantize else {}
    from tiebreak.judges.base import compressed

    if compressed.is_compressed(quantised):
        del settings.quantization_config
        stored = settings.dtype if settings.dtype is not None else compressed.WITHOUT_DTYPE
        return {"state_dict": compressed.read(files, quantised, dtype or stored)}
    if isinstance(quantised, dict):
        # A checkpoint that comes in 4 bits was made as a language model and does not know of a head to be left alone.
        quantised["llm_int8_skip_modules"] = [*(quantised.get("llm_int8_skip_modules") or []), *_HEADS]
        if dtype is not None and "bnb_4bit_compute_dtype" in quantised:
            quantised["bnb_4bit_compute_dtype"] = str(dtype).removeprefix("torch.")
    return {}


def _complete_head(
    model: PreTrainedModel, layer: Callable[[int], nn.Module] | None, folder: Path, fresh: set[str]
) -> set[str]:
    """Put the last layer in its place, and read the head again in fp32: it was cast with the rest of the checkpoint."""
    from tiebreak.judges.base.heads import keep_precise, last, parts

    if layer is not None:
        name = last(model)
        setattr(model, name, layer(_width(model)).to(model.device))
        fresh = {found for found in fresh if not found.startswith(f"{name}.")}
        fresh |= {f"{name}.{key}" for key in getattr(model, name).state_dict()}
    keep_precise(model)
    for name in parts(model):
        module = model.get_submodule(name)
        if stored := _stored(folder, f"{name}.", module.state_dict()):
            module.load_state_dict(stored)
            fresh = {found for found in fresh if not found.startswith(f"{name}.")}
    return fresh


def _width(model: PreTrainedModel) -> int:
    width: int = model.config.get_text_config().hidden_size
    return width


def _stored(folder: Path, prefix: str, shapes: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a module out of the checkpoint; nothing where it does not have every one, of the right shape."""
    from safetensors import safe_open

    found: dict[str, torch.Tensor] = {}
    for path in weight_files(Located(Base(name=str(folder)), folder)):
        with safe_open(path, framework="pt") as file:
            names = [key for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118 - safe_open is no mapping
            found |= {key.removeprefix(prefix): file.get_tensor(key) for key in names}
    fits = found.keys() == shapes.keys() and all(found[key].shape == shapes[key].shape for key in found)
    return found if fits else {}
