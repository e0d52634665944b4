"""Runs that others measured: what the estimates are held against.

All are of the LMSYS competition on Kaggle, 25,000 hidden rows on 2 x T4, as their authors tell them. Who ran one order
or both, and how many rows were padded to the limit, is mostly not told: one order and a mean of 658 tokens (1,000
public rows, Llama 3's tokens) are taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tiebreak.budget.estimate import Run, estimate
from tiebreak.budget.hardware import Hardware
from tiebreak.budget.lengths import Lengths
from tiebreak.budget.models import Model

ROWS: Final = 25_000
MEAN: Final = 658.0


@dataclass(frozen=True)
class Point:
    """A run.

    Attributes:
        name: Of the model.
        model: For `Model.of`, or its fields.
        precision: Of the weights.
        engine: That it comes nearest to.
        max_length: Tokens of a comparison at most.
        hours: That it took.
    """

    name: str
    model: str | dict[str, object]
    precision: str
    engine: str
    max_length: int
    hours: float

    def run(self) -> Run:
        """As it is estimated."""
        made = Model.of(self.model) if isinstance(self.model, str) else Model.configured(self.name, self.model)
        lengths = Lengths.around(MEAN, ROWS)
        return Run(made, lengths, Hardware.parse("2xt4"), self.precision, self.engine, 1, self.max_length)

    @property
    def ratio(self) -> float:
        """Predicted over measured hours."""
        return estimate(self.run()).hours / self.hours


_DEBERTA_LARGE: Final[dict[str, object]] = {
    "model_type": "deberta-v2", "vocab_size": 128_100, "hidden_size": 1024, "intermediate_size": 4096,
    "num_hidden_layers": 24, "num_attention_heads": 16, "max_position_embeddings": 512, "relative_attention": True,
    "position_buckets": 256, "position_biased_input": False, "type_vocab_size": 0, "norm_rel_ebd": "layer_norm",
}  # fmt: skip

POINTS: Final = (
    Point("Yi-34B, AWQ", "yi-1.5-34b", "awq-4", "vllm", 1024, 5.0),
    Point("Llama-3-8B (or Mistral-7B)", "llama-3-8b", "fp16", "padded", 1800, 4.0),
    Point("Gemma-2-9B, 4 bits", "gemma-2-9b", "nf4", "padded", 2048, 4.0),
    Point("DeBERTa-v3-large", _DEBERTA_LARGE, "fp16", "padded", 1800, 1.5),
)
