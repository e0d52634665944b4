"""What a language model says next: from its last state to log-probabilities of the tokens that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from tiebreak.engine.families import PROVEN
from tiebreak.engine.pooled import Pooled
from tiebreak.engine.proof import prove
from tiebreak.errors import UsageError

BLOCK: Final = 16384
"""Rows of the vocabulary that are held in fp32 at a time: that of Gemma would take 3.7 GB at once."""


@dataclass(frozen=True)
class Shape:
    """What a family does to the logits of its vocabulary.

    Attributes:
        scale: Factor (Cohere's `logit_scale`, one over Granite's `logits_scaling`).
        cap: Soft cap (`final_logit_softcapping` of Gemma 2): cap * tanh(logit / cap).
    """

    scale: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, config: Any) -> Self:
        """As the configuration of a model says."""
        scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", 1) or 1)
        return cls(scale, getattr(config, "final_logit_softcapping", None))

    def __call__(self, logits: Tensor) -> Tensor:
        """The logits as the family means them."""
        logits = logits * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


class TokenHead(nn.Module):
    """Log-probabilities of some tokens, exact over the whole vocabulary and in fp32 whatever the weights are held in.

    Args:
        layer: The language model's own head; shared, not copied.
        shape: What the family does to its logits.
        tokens: Token ids that are asked for.
    """

    tokens: Tensor

    def __init__(self, layer: nn.Module, shape: Shape, tokens: Sequence[int]) -> None:
        super().__init__()
        self.layer = layer
        self.shape = shape
        self.register_buffer("tokens", torch.tensor(list(tokens), dtype=torch.int64), persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """Float32 (n, tokens) from last states (n, hidden)."""
        plain = _matrix(self.layer)
        with _as_written(states):
            total, asked = self._whole(states) if plain is None else self._in_blocks(states, *plain)
        return asked - total[:, None]

    def _in_blocks(self, states: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        states = states.float()

        def logits(rows: Any) -> Tensor:
            return self.shape(
                functional.linear(states, weight[rows].float(), None if bias is None else bias[rows].float())
            )

        blocks = [torch.logsumexp(logits(slice(start, start + BLOCK)), dim=1) for start in range(0, len(weight), BLOCK)]
        return torch.logsumexp(torch.stack(blocks), dim=0), logits(self.tokens)

    def _whole(self, states: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.shape(self.layer(states).float())
        return torch.logsumexp(logits, dim=1), logits[:, self.tokens]


class VerdictHead(nn.Module):
    """One logit a verdict: the log of the summed mass of its spellings, up to a constant of the row. What is trained.

    The rest of the vocabulary does not enter: a loss on these three teaches the verdict and nothing else.

    Args:
        layer: The language model's own head; shared, not copied.
        shape: What the family does to its logits.
        spellings: Of each verdict, in the order a, b, tie, the tokens that spell it.
    """

    tokens: Tensor

    def __init__(self, layer: nn.Module, shape: Shape, spellings: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.layer = layer
        self.shape = shape
        self.sizes = [len(tokens) for tokens in spellings]
        flat = [token for tokens in spellings for token in tokens]
        self.register_buffer("tokens", torch.tensor(flat, dtype=torch.int64), persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """Float32 (n, 3) from last states (n, hidden)."""
        plain = _matrix(self.layer)
        if plain is None:
            logits = self.layer(states)[:, self.tokens.to(states.device)].float()
        else:
            weight, bias = plain
            tokens = self.tokens.to(weight.device)  # training moves the model, and this head is no child of it
            own = None if bias is None else bias[tokens].float()
            with _as_written(states):
                logits = functional.linear(states.float(), weight[tokens].float(), own)
        parts = torch.split(self.shape(logits), self.sizes, dim=1)
        return torch.stack([torch.logsumexp(part, dim=1) for part in parts], dim=1)


def _as_written(states: Tensor) -> AbstractContextManager[Any]:
    """Mixed precision left aside: these logits are large, and in 16 bits they would be off by a tenth."""
    kind = states.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def _matrix(layer: nn.Module) -> tuple[Tensor, Tensor | None] | None:
    """Weight (vocabulary, hidden) and bias of a head that is nothing but these; None: quantised, or with an adapter."""
    if type(layer) is not nn.Linear or not layer.weight.is_floating_point():
        return None
    return layer.weight, layer.bias


def asking(model: Any, tokens: Sequence[int]) -> Pooled:
    """A language model, packed, whose outputs are log-probabilities of these tokens.

    Args:
        model: As `AutoModelForCausalLM` makes it, `peft`-wrapped or not. Its parameters are shared.
        tokens: Token ids.

    Raises:
        UsageError: The family is not one that can be packed exactly.
    """
    model = unwrapped(model)
    pooled = _pooled(model, TokenHead(model.get_output_embeddings(), Shape.of(model.config), tokens))
    if model.config.model_type not in PROVEN:
        some = torch.arange(0, pooled.vocabulary, max(1, pooled.vocabulary // 64)).tolist()
        tried = _pooled(model, TokenHead(model.get_output_embeddings(), Shape.of(model.config), some))
        prove(model, tried, lambda out: out.logits[:, -1].float().log_softmax(-1)[:, some])
    return pooled


def deciding(model: Any, spellings: Sequence[Sequence[int]]) -> Pooled:
    """A language model, packed, whose three outputs are the verdicts; differentiable.

    Args:
        model: As of `asking`.
        spellings: Of each verdict, in the order a, b, tie, the tokens that spell it.

    Raises:
        UsageError: As of `asking`.
    """
    asking(model, ())
    model = unwrapped(model)
    return _pooled(model, VerdictHead(model.get_output_embeddings(), Shape.of(model.config), spellings))


def unwrapped(model: Any) -> Any:
    """The model of transformers, with the layers of an adapter inside it.

    Raises:
        UsageError: The adapter is a prompt instead of weights.
    """
    if not hasattr(model, "get_base_model"):
        return model
    if getattr(model.active_peft_config, "is_prompt_learning", False):
        raise UsageError("a prompt-learning adapter cannot be packed", expected="LoRA or another weight adapter")
    return model.get_base_model()


def _pooled(model: Any, head: nn.Module) -> Pooled:
    backbone = getattr(model, "model", None)
    if not isinstance(getattr(backbone, "layers", None), nn.ModuleList):
        raise UsageError(
            f"the family {model.config.model_type!r} ({type(model).__name__}) cannot be packed",
            expected="a decoder such as Llama, Gemma 2 and 3, Qwen 2.5 and 3, or Mistral",
        )
    pooled = Pooled(backbone, "last", head)  # type: ignore[arg-type]
    if not pooled.causal:
        raise UsageError(f"{type(model).__name__} reads in both directions", expected="a causal language model")
    return pooled
