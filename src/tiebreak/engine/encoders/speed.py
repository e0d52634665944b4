"""`speed_up_encoder`: one call, in place, after which a transformers encoder runs faster on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, Protocol

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPoolingAndCrossAttentions

from tiebreak.engine.cpu.allocator import settle_allocator
from tiebreak.engine.encoders.attention import firsts
from tiebreak.engine.encoders.bert import Bert
from tiebreak.engine.encoders.deberta import Deberta
from tiebreak.engine.encoders.linear import fuses
from tiebreak.engine.encoders.modernbert import ModernBert
from tiebreak.engine.packed import Packed

Precision = Literal["fp32", "bf16", "int8"]

FAMILIES: Final[dict[str, Any]] = {"bert": Bert, "deberta-v2": Deberta, "modernbert": ModernBert}
ATTRIBUTE: Final = "tiebreak_fast"


class Layers(Protocol):
    """What each family brings."""

    def states(self, packed: Packed, types: Tensor | None, first: bool) -> Tensor:
        """Last hidden states, (T, hidden), or of the first tokens, (n, hidden)."""
        ...


class FastEncoder:
    """The fast twin of an encoder: a copy of its weights, made for one CPU and one precision.

    Attributes:
        dtype: What it returns: the type of the model's own parameters.
        report: What was done, for the engine's report.
        own: The model's own forward.
    """

    def __init__(self, layers: Layers, dtype: torch.dtype, report: dict[str, Any], own: Callable[..., Any]) -> None:
        self._layers = layers
        self.dtype = dtype
        self.report = report
        self.own = own

    def states(self, packed: Packed, *, types: Tensor | None = None, first: bool = False) -> Tensor:
        """Last hidden states.

        Args:
            packed: The micro-batch, on the CPU; no prefix is shared.
            types: Token types (T,); None: all zero.
            first: Give the first token of each sequence alone. The last layer is then computed for these, which saves
                up to a sixth of six layers.

        Returns:
            (T, hidden), or (n, hidden) with `first`.
        """
        return self._layers.states(packed, types, first).to(self.dtype)


def speed_up_encoder(backbone: nn.Module, *, precision: Precision) -> dict[str, Any]:
    """Make a transformers encoder fast for inference on a CPU, in place.

    Its forward keeps its signature and takes, besides, `packed=Packed`. What the fast path does not know (gradients,
    hidden states of all layers, masks of three or four dimensions) still goes the model's own way. Weights are copied:
    call it again after they changed.

    Args:
        backbone: A `BertModel`, `DebertaV2Model` or `ModernBertModel` on the CPU.
        precision: What to compute in.

    Returns:
        What was done: `path` ("packed oneDNN", "packed" or "unchanged"), `precision`, and `why` when less was done than
        asked for.
    """
    wanted = torch.float32 if precision == "fp32" else torch.bfloat16
    family = FAMILIES.get(getattr(getattr(backbone, "config", None), "model_type", ""))
    if family is None or (why := family.refuses(backbone)):
        reason = why if family is not None else "no fast path for this family of encoders"
        return {"path": "unchanged", "why": reason}
    report: dict[str, Any] = {"path": "packed oneDNN" if fuses(wanted) else "packed", "precision": precision}
    if precision == "int8":
        report |= {"precision": "bf16", "why": "encoders have no int8 path"}
    with torch.no_grad():
        layers = family(backbone, wanted)
    before = fast_path(backbone)
    own = backbone.forward if before is None else before.own
    settle_allocator()
    fast = FastEncoder(layers, next(backbone.parameters()).dtype, report, own)
    setattr(backbone, ATTRIBUTE, fast)
    backbone.forward = partial(_forward, backbone, fast)
    return report


def fast_path(backbone: nn.Module) -> FastEncoder | None:
    """The fast twin of a backbone, if it has one."""
    return getattr(backbone, ATTRIBUTE, None)


def _forward(
    backbone: Any,
    fast: FastEncoder,
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    token_type_ids: Tensor | None = None,
    position_ids: Tensor | None = None,
    packed: Packed | None = None,
    **options: Any,
) -> Any:
    """The forward that a fast encoder has: packed, or padded with a mask of two dimensions."""
    simple = not any(value for name, value in options.items() if name != "return_dict")
    simple = simple and options.get("return_dict", True) and not torch.is_grad_enabled() and not backbone.training
    if simple and packed is not None:
        states = fast.states(packed)
        return _output(backbone, states.unsqueeze(0), firsts(states, packed.bounds, 0).unsqueeze(1))
    if simple and input_ids is not None and (attention_mask is None or _unpaddable(input_ids, attention_mask)):
        return _padded(backbone, fast, input_ids, attention_mask, token_type_ids, position_ids)
    arguments = {
        "input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids,
        "position_ids": position_ids, "packed": packed, **options,
    }  # fmt: skip
    return fast.own(**{name: value for name, value in arguments.items() if value is not None})


def _unpaddable(input_ids: Tensor, mask: Tensor) -> bool:
    return mask.shape == input_ids.shape and bool(mask.bool().any(1).all())


def _padded(
    backbone: Any, fast: FastEncoder, ids: Tensor, mask: Tensor | None, types: Tensor | None, positions: Tensor | None
) -> Any:
    kept = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    places = torch.arange(ids.shape[1]) if positions is None else positions
    lengths = kept.sum(1)
    bounds = (0, *lengths.cumsum(0).tolist())
    packed = Packed(
        input_ids=ids[kept], position_ids=places.expand_as(ids)[kept],
        cu_seqlens=torch.tensor(bounds, dtype=torch.int32), max_seqlen=int(lengths.max()), bounds=bounds,
    )  # fmt: skip
    states = fast.states(packed, types=None if types is None else types.expand_as(ids)[kept])
    out = states.new_zeros(*ids.shape, states.shape[-1])
    out[kept] = states
    return _output(backbone, out, out)


def _output(backbone: Any, states: Tensor, poolable: Tensor) -> Any:
    if backbone.config.model_type != "bert":
        return BaseModelOutput(last_hidden_state=states)
    pooled = None if backbone.pooler is None else backbone.pooler(poolable)
    return BaseModelOutputWithPoolingAndCrossAttentions(last_hidden_state=states, pooler_output=pooled)
