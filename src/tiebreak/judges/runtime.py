"""How a fine-tuned judge is to run on this machine. It never changes what is asked, only how it is computed."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, fields
from typing import Final, Literal, Self

from tiebreak.errors import UsageError

AUTO: Final = "auto"
PRECISIONS: Final = (AUTO, "fp32", "bf16", "fp16", "int8")
BACKENDS: Final = ("transformers", "vllm", "openai")

_DEVICES: Final = re.compile(r"auto|ranks|cuda|cpu(,cpu)*|cuda:\d+(,cuda:\d+)*")
_UNCERTAIN: Final = re.compile(r"uncertain=(\d*\.?\d+)")


@dataclass(frozen=True)
class Swap:
    """Which presentation orders of a comparison are judged.

    Attributes:
        policy: both: each comparison in both orders, averaged. none: as given, once. uncertain: all once, and the
            `share` of them whose first verdict is nearest to a toss-up in the other order too (WSDM Cup, 12th place).
        share: From 0 to 1.
    """

    policy: Literal["both", "none", "uncertain"] = "both"
    share: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `both`, `none` or `uncertain=SHARE`.

        Raises:
            UsageError: It is none of these.
        """
        if text in {"both", "none"}:
            return cls(text)  # type: ignore[arg-type]
        found = _UNCERTAIN.fullmatch(text)
        if found is None or float(found[1]) > 1:
            near = difflib.get_close_matches(text, ("both", "none", "uncertain=0.4"), n=1, cutoff=0.4)
            raise UsageError(
                f"swap policy {text!r}",
                expected="both, none, or uncertain=SHARE with a share from 0 to 1",
                mend=f"--swap {near[0]}" if near else "",
            )
        return cls("uncertain", float(found[1]))

    @property
    def equivariant(self) -> bool:
        """Whether exchanging the answers exchanges the probabilities exactly."""
        return self.policy != "none"


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
        backend: What runs a generative judge: transformers, vllm or openai; None is the judge's own.
        server: URL of an OpenAI-compatible server, for the backend openai.

    Raises:
        UsageError: A choice is not one that there is.
    """

    max_length: int | None = None
    max_tokens: int | None = None
    precision: str = AUTO
    devices: str = AUTO
    swap: str | None = None
    base: str | None = None
    backend: str | None = None
    server: str | None = None

    def __post_init__(self) -> None:
        for name in ("max_length", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} {value}", expected="a number of tokens, at least 1")
        if self.precision not in PRECISIONS:
            raise _unknown("precision", self.precision, PRECISIONS)
        if not _DEVICES.fullmatch(self.devices):
            raise _unknown("devices", self.devices, (AUTO, "cpu", "cuda", "cuda:0,cuda:1"))
        if self.backend is not None and self.backend not in BACKENDS:
            raise _unknown("backend", self.backend, BACKENDS)
        if self.swap is not None:
            Swap.parse(self.swap)

    def chosen(self) -> list[str]:
        """The choices that were made, as options of the command line."""
        return [
            f"--{field.name.replace('_', '-')}" for field in fields(self) if getattr(self, field.name) != field.default
        ]


def _unknown(what: str, value: str, known: tuple[str, ...]) -> UsageError:
    near = difflib.get_close_matches(value, known, n=1, cutoff=0.4)
    return UsageError(
        f"{what} {value!r}", expected=f"one of {', '.join(known)}", mend=f"--{what} {near[0]}" if near else ""
    )
