"""How an engine is to run: what a caller may choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tiebreak.engine.batches import WINDOW
from tiebreak.errors import UsageError

AUTO: Final = "auto"
PRECISIONS: Final = (AUTO, "fp32", "bf16", "fp16", "int8")


@dataclass(frozen=True)
class Options:
    """Choices of one engine; the defaults leave each to the model and the machine.

    Attributes:
        max_tokens: Tokens of one micro-batch at most; None suits the device.
        precision: auto, fp32, bf16, fp16 or int8.
        devices: auto, cpu, cuda, or a list such as "cuda:0,cuda:1" that the layers are split over; "ranks" makes
            every process of torchrun one stage.
        share_prefix: Compute the common prefix of a pair once (causal models).
        window: How many sequences are looked at together when micro-batches are filled.
        streams: Micro-batches computed side by side on a CPU, each with its share of the threads; None: one a thread
            where an encoder's own loops run, which wait for memory more than they share work, else one.
    """

    max_tokens: int | None = None
    precision: str = AUTO
    devices: str = AUTO
    share_prefix: bool = True
    window: int = WINDOW
    streams: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision {self.precision!r}", expected=f"one of {', '.join(PRECISIONS)}")
        for name in ("max_tokens", "window", "streams"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} = {value}", expected="at least 1")
