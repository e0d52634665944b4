"""A backbone, its pooling and its head, on packed sequences."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from tiebreak.engine import attention, deberta, families, proof, tail
from tiebreak.engine.encoders import FastEncoder, fast_path
from tiebreak.engine.families import Pooling
from tiebreak.engine.packed import Packed
from tiebreak.errors import UsageError


class Pooled(nn.Module):
    """A sequence classifier (or any encoder) without padding: `forward` takes a `Packed`, each sequence by itself.

    Args:
        backbone: A base model of transformers, such as `AutoModel` makes.
        pooling: Which hidden state stands for a sequence: that of its last token, of its first, or the mean of all.
        head: (n, hidden) to (n, outputs).

    Attributes:
        causal: Whether each token sees only what comes before it, so that a common prefix has common states.
    """

    def __init__(self, backbone: nn.Module, pooling: Pooling, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.head = head
        self.causal = _is_causal(backbone)
        if deberta.is_deberta(backbone):
            deberta.install(backbone)
        else:
            attention.install(backbone)

    @classmethod
    def split(cls, model: Any) -> Self:
        """Take a sequence classifier apart, `peft`-wrapped or not. The parameters are shared: training one trains both.

        Raises:
            UsageError: The family cannot be packed, or the adapter is a prompt instead of weights.
        """
        if hasattr(model, "get_base_model"):
            if getattr(model.active_peft_config, "is_prompt_learning", False):
                raise UsageError(
                    "a prompt-learning adapter cannot be packed", expected="LoRA or another weight adapter"
                )
            model = model.get_base_model()
        found = families.parts(model)
        pooled = cls(found.backbone, found.pooling, found.head)
        if model.config.model_type not in families.PROVEN:
            proof.prove(model, pooled)
        return pooled

    @property
    def config(self) -> Any:
        """The backbone's configuration."""
        return self.backbone.config

    @property
    def vocabulary(self) -> int:
        """How many tokens the model knows."""
        table = self.backbone.get_input_embeddings()  # type: ignore[operator]
        return int(getattr(table, "num_embeddings", self.config.vocab_size))  # an adapter's wrapper does not say

    @property
    def max_positions(self) -> int | None:
        """The longest sequence whose answer stands by itself; None where there is no end."""
        return families.furthest(self.config, self.backbone)

    @property
    def _quick(self) -> FastEncoder | None:
        """What an encoder on a CPU has instead of its own forward, where no gradient is wanted."""
        return None if torch.is_grad_enabled() else fast_path(self.backbone)

    def hidden(self, packed: Packed) -> Tensor:
        """Last hidden states (T, hidden) of all tokens."""
        if (quick := self._quick) is not None:
            return quick.states(packed)
        if deberta.is_deberta(self.backbone):
            return deberta.hidden(self.backbone, packed)
        arguments = {} if not self.causal else {"use_cache": False}
        out = self.backbone(
            input_ids=packed.input_ids.unsqueeze(0),
            position_ids=packed.position_ids.unsqueeze(0),
            attention_mask=attention.no_mask(packed.input_ids.device),
            packed=packed,
            **arguments,
        )
        states: Tensor = out.last_hidden_state[0]
        return states

    def embed(self, packed: Packed) -> Tensor:
        """Pooled states (n, hidden), before the head."""
        if self.pooling == "first" and (quick := self._quick) is not None:
            return quick.states(packed, first=True)
        if self.pooling == "last":
            last = packed.cu_seqlens[1:].to(torch.int64) - 1
            with tail.reading(last):
                states = self.hidden(packed)
            return states[last.to(states.device, non_blocking=True)]
        states = self.hidden(packed)
        bounds = packed.cu_seqlens.to(states.device, torch.int64, non_blocking=True)
        if self.pooling == "first":
            return states[bounds[:-1]]
        lengths = bounds.diff()
        owner = torch.repeat_interleave(lengths, output_size=packed.tokens)
        sums = torch.zeros(len(packed), states.shape[-1], device=states.device, dtype=torch.float32)
        return (sums.index_add(0, owner, states.float()) / lengths[:, None]).to(states.dtype)

    def forward(self, packed: Packed) -> Tensor:
        """Logits (n, outputs), float32, in the order of the packed sequences; differentiable."""
        states = self.embed(packed)
        weight = next(self.head.parameters(), states)
        logits: Tensor = self.head(states.to(weight.dtype))
        return logits.float()


def _is_causal(backbone: nn.Module) -> bool:
    flags = [bool(module.is_causal) for module in backbone.modules() if hasattr(module, "is_causal")]
    return bool(flags) and all(flags)
