"""The ways to fewer bits, as data."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Final, Literal

from tiebreak.errors import UsageError

GROUP: Final = 128
"""Weights that share a scale, at most."""

Name = Literal["gptq-8", "gptq-4", "awq-4", "nf4", "int8"]


@dataclass(frozen=True)
class Method:
    """One way.

    Attributes:
        name: As `--method` takes it.
        bits: Of a weight.
        activation_bits: Bits that inputs are rounded to as they arrive, a scale a token; 16: they are left alone.
        algorithm: gptq: each weight is rounded, and those not yet rounded make up for the error on the calibration rows
            (Frantar et al., arXiv 2210.17323). awq: channels that see large inputs are scaled up before the rounding
            (Lin et al., arXiv 2306.00978). nf4: 16 values at the quantiles of a normal distribution (Dettmers et al.,
            arXiv 2305.14314).
        grouped: Whether `GROUP` weights of an output share a scale; else all of an output do.
        symmetric: Whether zero is the middle of the range; else a zero point is kept beside each scale.
        vllm: Where vLLM loads the result.
    """

    name: Name
    bits: Literal[4, 8]
    activation_bits: Literal[8, 16]
    algorithm: Literal["gptq", "awq", "nf4"]
    grouped: bool
    symmetric: bool
    vllm: str

    @property
    def calibrated(self) -> bool:
        """Whether rows of the training data decide how weights are rounded."""
        return self.algorithm != "nf4"


ANYWHERE: Final = "CUDA and CPU"

METHODS: Final = {
    method.name: method
    for method in (
        Method("gptq-8", 8, 16, "gptq", grouped=True, symmetric=True, vllm="CUDA; CPU with tiebreak's plugin"),
        Method("gptq-4", 4, 16, "gptq", grouped=True, symmetric=True, vllm=ANYWHERE),
        Method("awq-4", 4, 16, "awq", grouped=True, symmetric=False, vllm=ANYWHERE),
        Method("nf4", 4, 16, "nf4", grouped=True, symmetric=True, vllm="CUDA"),
        Method("int8", 8, 8, "gptq", grouped=False, symmetric=True, vllm=ANYWHERE),
    )
}


def find(name: str) -> Method:
    """The method of this name.

    Raises:
        UsageError: There is none.
    """
    for known, method in METHODS.items():
        if known == name:
            return method
    near = difflib.get_close_matches(name, METHODS, n=1, cutoff=0.4)
    raise UsageError(
        f"--method {name!r}", expected=f"one of {', '.join(METHODS)}", mend=f"--method {near[0]}" if near else ""
    )


def group_size(widths: set[int], most: int = GROUP) -> int:
    """The largest number of weights, at most `most`, that divides the inputs of every layer.

    llm-compressor and vLLM refuse a layer whose inputs a group does not divide (576 of SmolLM2 by 128), and vLLM reads
    layers that it fuses with one size, so that all have the same.

    Args:
        widths: Numbers of inputs of the layers.
        most: The size where nothing speaks against it.

    Raises:
        UsageError: Only groups below 32 would do, which no kernel of vLLM has.
    """
    for size in (most, 64, 32):
        if size <= most and all(width % size == 0 for width in widths):
            return size
    odd = min(width for width in widths if width % 32)
    raise UsageError(
        f"a layer with {odd} inputs, which no group of {most}, 64 or 32 divides",
        expected="a model whose widths are multiples of 32",
        mend="--method int8, which has a scale an output",
    )
