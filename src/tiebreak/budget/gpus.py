"""What GPUs can do at most: dense matrix products with tensor cores, their memory, and how fast they read it.

Figures are the makers' own, without sparsity. V100, T4, A10, A100, L4, L40S, H100, H200: NVIDIA's data sheets of these
names (V100 SXM2; A100 SXM; H100 and H200 SXM, half of the figures printed there, which are with sparsity, as are those
of L4 and L40S). RTX 3090 and 4090: NVIDIA's Ampere GA102 and Ada architecture papers, FP16 with FP32 accumulation.
P100: its FP16 rate, it has no tensor cores.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU.

    Attributes:
        name: As people say it.
        teraflops: Peak rate in 16 bits, 10^12 operations a second.
        memory: GiB of the largest version; a smaller one is told by `resources.gpu_memory`.
        bandwidth: Of its memory, 10^9 bytes a second.
    """

    name: str
    teraflops: float
    memory: float
    bandwidth: float


GPUS: Final = (
    Gpu("P100", 21.2, 16, 732), Gpu("T4", 65, 16, 320), Gpu("V100", 125, 32, 900), Gpu("A10", 125, 24, 600),
    Gpu("L4", 121, 24, 300), Gpu("3090", 71, 24, 936), Gpu("4090", 165, 24, 1008), Gpu("A100", 312, 80, 2039),
    Gpu("L40S", 362, 48, 864), Gpu("H100", 989, 80, 3350), Gpu("H200", 989, 141, 4800),
)  # fmt: skip

CORE: Final = 0.16
"""Teraflops of a processor's core: two AVX-512 units, fused multiply-add, FP32, at 2.5 GHz."""


def find(name: str) -> Gpu | None:
    """The GPU behind a cluster's name for it, such as `a100`, `nvidia_a100_80gb` or `tesla_t4`; None if unknown."""
    words = re.findall(r"[a-z]*\d+[a-z]?", name.lower())
    return next((gpu for word in words for gpu in GPUS if gpu.name.lower() in {word, word.removeprefix("rtx")}), None)
