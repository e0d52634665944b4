"""Where a judge is to run: GPUs of one kind, or the processor of this machine."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final, Self

from tiebreak.budget import gpus
from tiebreak.errors import UsageError

USABLE: Final = 0.92
"""Share of a GPU's memory that a program gets: driver, ECC and context take the rest (a T4 of 16 GiB has 14.7)."""

CPU_BANDWIDTH: Final = 15.0
"""10^9 bytes a second that a core reads: of a server processor, about this much with two memory channels a core."""

_NAME: Final = re.compile(r"(?:(\d+)x)?(.+)")


@dataclass(frozen=True)
class Hardware:
    """Devices that a model is split over.

    Attributes:
        name: As people say it.
        count: Devices.
        teraflops: Peak rate of one in 16 bits (of a processor: as it was measured, or of its cores).
        memory: Usable GiB of one.
        bandwidth: Of its memory, 10^9 bytes a second.
        processor: Whether it is the processor of this machine.
    """

    name: str
    count: int
    teraflops: float
    memory: float
    bandwidth: float
    processor: bool = False

    @classmethod
    def parse(cls, text: str, *, teraflops: float | None = None) -> Self:
        """From `t4`, `2xt4`, `a100`, or `cpu` for this machine.

        Args:
            text: The name.
            teraflops: A measured rate in place of the maker's.

        Raises:
            UsageError: Such a GPU is not known.
        """
        if text == "cpu":
            return cls._processor(teraflops)
        found = _NAME.fullmatch(text.strip().lower())
        kind = gpus.find(found[2]) if found else None
        if found is None or kind is None:
            known = ", ".join(gpu.name.lower() for gpu in gpus.GPUS)
            raise UsageError(f"hardware {text!r}", expected=f"cpu, or one of {known}, such as a100 or 2xt4")
        count = int(found[1] or 1)
        if count < 1:
            raise UsageError(f"hardware {text!r}", expected="at least one device")
        name = f"{count} x {kind.name}" if count > 1 else kind.name
        return cls(name, count, teraflops or kind.teraflops, kind.memory * USABLE, kind.bandwidth)

    def room_beside(self, held: float) -> float:
        """GiB of a device beside what it holds."""
        return max(0.0, self.memory - held)

    @classmethod
    def _processor(cls, teraflops: float | None) -> Self:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        rate = teraflops or cores * gpus.CORE
        return cls(f"cpu ({cores} cores)", 1, rate, _memory(), cores * CPU_BANDWIDTH, processor=True)


def _memory() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, OSError, ValueError):
        return 8.0
