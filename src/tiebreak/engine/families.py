"""Where each family of models keeps its backbone, how it pools, and what its head is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from torch import Tensor, nn

from tiebreak.errors import UsageError

Pooling = Literal["last", "first", "mean"]

PROVEN: Final = frozenset(
    {"llama", "gemma2", "gemma3_text", "qwen2", "qwen3", "mistral", "bert", "deberta-v2", "modernbert"}
)
"""Families that the tests hold exact; a model of another one has to prove itself when it is taken apart."""


@dataclass(frozen=True)
class Parts:
    """A sequence classifier taken apart; the parameters stay shared.

    Attributes:
        backbone: Token ids to hidden states.
        pooling: Which state stands for a sequence.
        head: (n, hidden) to (n, outputs).
    """

    backbone: nn.Module
    pooling: Pooling
    head: nn.Module


class FirstTokenHead(nn.Module):
    """The pooler of BERT or DeBERTa, which wants (n, tokens, hidden) and takes the first token, then the classifier.

    BERT's pooler belongs to the backbone, so that the two may differ in precision.
    """

    def __init__(self, pooler: nn.Module, dropout: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.pooler, self.dropout, self.classifier = pooler, dropout, classifier

    def forward(self, states: Tensor) -> Tensor:
        """Logits (n, outputs) from first-token states (n, hidden)."""
        pooled = self.dropout(self.pooler(states.unsqueeze(1)))
        logits: Tensor = self.classifier(pooled.to(next(self.classifier.parameters()).dtype))
        return logits


def parts(model: Any) -> Parts:
    """Take an `AutoModelForSequenceClassification` apart.

    Raises:
        UsageError: The family is not one that can be packed exactly.
    """
    kind = model.config.model_type
    if kind == "bert":
        return Parts(model.bert, "first", FirstTokenHead(model.bert.pooler, model.dropout, model.classifier))
    if kind == "deberta-v2":
        return Parts(model.deberta, "first", FirstTokenHead(model.pooler, model.dropout, model.classifier))
    if kind == "modernbert":
        pooling: Pooling = "mean" if model.config.classifier_pooling == "mean" else "first"
        return Parts(model.model, pooling, nn.Sequential(model.head, model.drop, model.classifier))
    if hasattr(model, "score") and hasattr(getattr(model, "model", None), "layers"):
        return Parts(model.model, "last", model.score)
    raise UsageError(
        f"the family {kind!r} ({type(model).__name__}) cannot be packed",
        expected="BERT, DeBERTa-v2/v3, ModernBERT, or a decoder such as Llama, Gemma 2 and 3, Qwen 2.5 and 3, Mistral",
    )


def furthest(config: Any, backbone: nn.Module) -> int | None:
    """The longest sequence whose answer stands by itself; None: any.

    Absolute positions come to an end. Rotary embeddings of the kinds `dynamic` and `longrope` change with the longest
    row of a batch, once that is longer than what the model was first trained on.
    """
    table = getattr(getattr(backbone, "embeddings", None), "position_embeddings", None)
    limits = [table.num_embeddings] if isinstance(table, nn.Embedding) else []
    rope = getattr(config, "rope_parameters", None) or {}
    for kind in (rope, *rope.values()):
        if isinstance(kind, dict) and kind.get("rope_type") in {"dynamic", "longrope"}:
            limits.append(kind.get("original_max_position_embeddings") or config.max_position_embeddings)
    return min(limits, default=None)
