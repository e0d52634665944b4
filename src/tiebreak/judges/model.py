"""What training trains and prediction runs: a pretrained backbone, its adapter, and the head of a judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import torch
from torch import Tensor, nn

from tiebreak.engine.packed import Packed
from tiebreak.engine.pooled import Pooled
from tiebreak.errors import DataError, UsageError
from tiebreak.judges.base import Base, Head, heads
from tiebreak.judges.base.loading import language_model, load
from tiebreak.judges.base.quiet import quiet
from tiebreak.judges.generative.head import asking, deciding
from tiebreak.judges.siamese.head import PairHead

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transformers import PreTrainedModel

Kind = Literal["classifier", "siamese", "generative"]
Pooling = Literal["last", "first", "mean"]
Spellings = tuple[tuple[int, ...], ...]

GENERATIVE: Final = "generative"
ADAPTER: Final = "adapter_model.safetensors"
ADAPTER_CONFIG: Final = "adapter_config.json"


class JudgeModel(nn.Module):
    """The network of a fine-tuned judge.

    Args:
        model: A sequence classifier of transformers, or a language model for a generative judge, `peft`-wrapped or not.
        kind: classifier: a sequence holds a whole comparison. siamese: a sequence holds one answer. generative: a
            sequence holds a whole comparison and asks for the verdict, which is the next token.
        pooling: Which state stands for a sequence; None: the family's own for a classifier, and for a siamese judge
            the last token of a decoder or the mean of an encoder.
        spellings: Of a generative judge, the tokens that spell each verdict, a, b, tie; without them it has no logits.

    Attributes:
        model: As given. Its parameters are this module's parameters.
        pooled: The same parameters as a `Pooled`, for packed sequences; no child, or they would be counted twice.
    """

    pooled: Pooled

    def __init__(
        self, model: Any, kind: Kind, pooling: Pooling | None = None, spellings: Spellings | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.kind = kind
        self.spellings = spellings
        pooled = _packed(model, kind, spellings)
        if pooling is not None:
            pooled.pooling = pooling
        elif kind == "siamese" and pooled.pooling == "first":
            pooled.pooling = "mean"
        object.__setattr__(self, "pooled", pooled)

    @classmethod
    def build(
        cls,
        base: Base,
        head: Head,
        kind: Kind,
        *,
        lora: Mapping[str, Any] | None = None,
        quantize: str | None = None,
        soft_capping: bool = True,
        dtype: torch.dtype | None = None,
        checkpointing: bool = False,
        pooling: Pooling | None = None,
        attention: str = "eager",
        device: Any = None,
        meta: bool = False,
        spellings: Spellings | None = None,
    ) -> Self:
        """Make the network for training. New weights come from torch's global generator: seed it before.

        Args:
            base: The pretrained model.
            head: The layer on top; trained in full, held in fp32.
            kind: classifier, siamese or generative; the last has no layer on top, its verdicts are tokens.
            lora: Fields of peft's LoraConfig; None trains everything.
            quantize: "nf4" for a frozen base in 4 bits.
            soft_capping: Whether Gemma 2 keeps the soft caps on its attention logits.
            dtype: Of the backbone; None takes that of the checkpoint. Adapters and head are fp32 in any case.
            checkpointing: Compute activations again in the backward pass instead of keeping them.
            pooling: As of the class.
            attention: Attention function of padded batches; packed ones have their own.
            device: Where to load to; None is the CPU.
            meta: Shapes alone, for a dry run.
            spellings: As of the class.

        Raises:
            UsageError: A 4-bit base without an adapter, or the base is not there.
            DataError: The architecture has no sequence classifier.
        """
        if quantize and lora is None:
            raise UsageError("a base in 4 bits cannot be trained in full", expected="lora, or no quantize")
        how: dict[str, Any] = {
            "dtype": dtype, "quantize": quantize, "soft_capping": soft_capping, "attention": attention,
            "device": device, "meta": meta,
        }  # fmt: skip
        model, fresh = (
            (language_model(base, **how), set()) if kind == GENERATIVE else load(base, layer(head, kind), **how)
        )
        if head.zero and fresh and not meta:
            heads.zero(getattr(model, heads.last(model)))
        if kind == "siamese":
            _leave_out(model)
        if lora is not None:
            model = _with_adapter(model, lora, base, kind)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return cls(model, kind, pooling, spellings)

    @classmethod
    def restore(
        cls,
        base: Base,
        head: Head,
        kind: Kind,
        *,
        adapter: Path | None = None,
        quantize: str | None = None,
        soft_capping: bool = True,
        dtype: torch.dtype | None = None,
        pooling: Pooling | None = None,
        device: Any = None,
    ) -> Self:
        """Read a trained network for prediction; an adapter is merged into its base unless that is in 4 bits.

        Args:
            base: The trained checkpoint itself, or the base of the adapter.
            head: As of `build`, like all that follow but the next two.
            kind: classifier, siamese or generative.
            adapter: Folder with the adapter and the head, as `files` writes them.
            quantize: None or "nf4".
            soft_capping: Of Gemma 2.
            dtype: Of the backbone.
            pooling: As of the class.
            device: Where to load to.

        Raises:
            DataError: The head is not in the checkpoint or the adapter does not fit the base.
        """
        how: dict[str, Any] = {
            "dtype": dtype, "quantize": quantize, "soft_capping": soft_capping, "device": device,
        }  # fmt: skip
        model, fresh = (
            (language_model(base, **how), set()) if kind == GENERATIVE else load(base, layer(head, kind), **how)
        )
        if adapter is not None:
            model = _read_adapter(model, adapter, merge=not getattr(model, "is_quantized", False))
        elif fresh:
            raise DataError(
                f"base {base.name!r}: {len(fresh)} weights of the head are not in the checkpoint (first: {min(fresh)})",
                expected=f"a trained {head.kind} head with 3 outputs",
            )
        return cls(model, kind, pooling).eval()

    def forward(self, packed: Packed, pairs: Tensor | None = None) -> Tensor:
        """Logits, float32 (rows, 3) in the order a, b, tie.

        Args:
            packed: The sequences of the micro-batch.
            pairs: int64 (rows, 2), siamese only: which two sequences each row compares.
        """
        if self.kind != "siamese":
            return self.pooled(packed)  # type: ignore[no-any-return]
        if pairs is None:
            raise UsageError("a siamese model needs pairs", expected="int64 (rows, 2): the sequences to compare")
        states = self.pooled.embed(packed)
        logits: Tensor = self.head(states[pairs[:, 0]], states[pairs[:, 1]])
        return logits

    @property
    def base_model(self) -> PreTrainedModel:
        """The model of transformers, with the layers of an adapter inside it."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def head(self) -> nn.Module:
        """The last layer."""
        found: nn.Module = getattr(self.base_model, heads.last(self.base_model))
        return found

    @property
    def pair_head(self) -> PairHead:
        """The last layer of a siamese judge, out of peft's wrapping."""
        kept = getattr(self.head, "modules_to_save", None)
        head = self.head if kept is None else kept["default"]
        assert isinstance(head, PairHead)  # noqa: S101 - build and restore put it there
        return head

    def trainable_state(self) -> dict[str, Tensor]:
        """Every parameter that is trained, by name: adapter and head, or everything."""
        return {name: tensor.detach() for name, tensor in self.named_parameters() if tensor.requires_grad}

    def load_trainable(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `trainable_state` gave.

        Raises:
            DataError: The names or shapes are not those of this model.
        """
        own = {name: tensor for name, tensor in self.named_parameters() if tensor.requires_grad}
        wrong = own.keys() ^ state.keys()
        wrong |= {name for name in own.keys() & state.keys() if own[name].shape != state[name].shape}
        if wrong:
            raise DataError(
                f"{len(wrong)} weights do not belong to this model, for example {min(wrong)}",
                expected="the state of a model with the same base, adapter and head",
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])

    def files(self, directory: Path, base: Base | None = None) -> None:
        """Write the weights into an existing folder: adapter and head, or the whole model.

        Args:
            directory: The folder.
            base: What an adapter's configuration names as its base.
        """
        # Left to itself, peft asks the hub whether the base has other embeddings; they are never trained here.
        adapted = {"save_embedding_layers": False} if hasattr(self.model, "peft_config") else {}
        with quiet():
            self.model.save_pretrained(directory, **adapted)
        (directory / "README.md").unlink(missing_ok=True)  # peft's empty model card
        if (path := directory / ADAPTER_CONFIG).is_file():
            _tidy(path, base)


def _packed(model: Any, kind: Kind, spellings: Spellings | None) -> Pooled:
    if kind != GENERATIVE:
        return Pooled.split(model)
    return asking(model, ()) if spellings is None else deciding(model, spellings)


def layer(head: Head, kind: Kind) -> Callable[[int], nn.Module] | None:
    """What makes the last layer of a judge from the width of a pooled state; None: the family's own linear layer."""
    if kind == "siamese":
        return lambda hidden: PairHead(hidden, hidden // 2 if head.kind == "two_layer" else None, head.dropout)
    if head.kind == "two_layer":
        return lambda hidden: heads.TwoLayer(hidden, 3, head.dropout)
    return None


def _leave_out(model: PreTrainedModel) -> None:
    """A siamese judge compares pooled states: what the family has between those and its logits is not trained."""
    for name in heads.parts(model):
        if name != heads.last(model):
            model.get_submodule(name).requires_grad_(requires_grad=False)


def _with_adapter(model: PreTrainedModel, lora: Mapping[str, Any], base: Base, kind: Kind) -> Any:
    if kind == GENERATIVE:
        task, kept = "CAUSAL_LM", None
    else:
        task, kept = "SEQ_CLS", heads.parts(model) if kind == "classifier" else [heads.last(model)]
    with quiet():
        from peft import LoraConfig, get_peft_model

        made = get_peft_model(model, LoraConfig(task_type=task, modules_to_save=kept, **lora))
    made.active_peft_config.base_model_name_or_path = base.name
    made.active_peft_config.revision = base.revision
    return made


def _read_adapter(model: PreTrainedModel, folder: Path, *, merge: bool) -> Any:
    try:
        with quiet():
            from peft import PeftModel

            made = PeftModel.from_pretrained(model, str(folder), local_files_only=True)
    except (ValueError, RuntimeError, KeyError) as error:
        raise DataError(
            f"{folder}: the adapter does not fit its base ({str(error).splitlines()[0]})",
            expected="an adapter of this base with a head of 3 outputs",
        ) from error
    return made.merge_and_unload() if merge else made


def _tidy(path: Path, base: Base | None) -> None:
    """Sort what peft writes in the order of a hash, so that the same adapter gives the same bytes."""
    document = json.loads(path.read_text(encoding="utf-8"))
    for name in ("target_modules", "modules_to_save"):
        if isinstance(document.get(name), list):
            document[name] = sorted(set(document[name]))
    if base is not None:
        document |= {"base_model_name_or_path": base.name, "revision": base.revision}
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
