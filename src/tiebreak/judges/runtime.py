"""How a fine-tuned judge is to run on this machine. It never changes what is asked, only how it is computed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

AUTO: Final = "auto"


@dataclass(frozen=True)
class Runtime:
    """Choices of one run; the defaults leave each to the judge and the machine.

    Attributes:
        max_length: Tokens of one rendered comparison at most; None keeps the length the judge was trained with.
        max_tokens: Tokens of one micro-batch at most; None suits the device.
        precision: auto, fp32, bf16, fp16 or int8.
        devices: auto, cpu, cuda, or a list such as "cuda:0,cuda:1" that the layers are split over.
        swap: Swap policy: both, none or uncertain=SHARE; None keeps the judge's own.
        base: Where the base model lies on this machine, when it is not where it was at training.
    """

    max_length: int | None = None
    max_tokens: int | None = None
    precision: str = AUTO
    devices: str = AUTO
    swap: str | None = None
    base: str | None = None

    def chosen(self) -> list[str]:
        """The choices that were made, as options of the command line."""
        return [
            f"--{field.name.replace('_', '-')}" for field in fields(self) if getattr(self, field.name) != field.default
        ]
