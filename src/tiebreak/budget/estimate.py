"""Time and memory of a run, from sizes alone.

    time     loading + operations of reading / (devices x peak rate x share) + writing, token by token
    memory   weights + keys and values + activations + what every process takes

Writing is bound by memory: each step reads all weights once for all texts that are written side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from tiebreak.budget.hardware import Hardware
from tiebreak.budget.lengths import Lengths
from tiebreak.budget.models import PRECISIONS, Model
from tiebreak.errors import UsageError

GIB: Final = 2.0**30

ENGINES: Final = {"vllm": 0.38, "ours": 0.38, "padded": 0.12}
"""Share of the peak rate that reading reaches on GPUs, with the quantised kernels of each.

`vllm` is taken from the one run of this kind that was published with all its sizes (34B AWQ on 2 x T4, `points`), and
`ours`, which packs in the same way, is taken to be equal until it is measured. `padded` (batches of transformers,
padded) is the middle of the 7B to 9B runs of `points`.
"""

CPU_SHARE: Final = 0.75
"""Share of the measured rate of matrix products that the packed engine reaches on a processor."""

READING: Final = 0.6
"""Share of the memory's bandwidth that writing reaches."""

DISK: Final = 0.5e9
"""Bytes a second that weights are loaded with."""

PROCESS: Final = {True: 0.5, False: 1.0}
"""GiB a device that torch and its libraries take, on a processor (True) and on a GPU."""

TEXTS: Final = 256
"""Texts written side by side at most."""

_BATCH: Final = {True: 4096, False: 8192}
"""Tokens of a micro-batch, on a processor (True) and on a GPU."""


@dataclass(frozen=True)
class Run:
    """What is to be done.

    Attributes:
        model: With which network.
        lengths: On which comparisons.
        hardware: Where.
        precision: One of `PRECISIONS`.
        engine: One of `ENGINES`.
        orders: 2 where both orders of the answers are judged.
        max_length: Tokens of a comparison at most.
        answer_tokens: Written a row and order, such as thoughts before a verdict; 0 reads the verdict at once.
        share: Of the rate that reading reaches; None: that of the engine.
        verdicts: Whether each sequence ends in logits of the vocabulary.
        texts: Written side by side at most.
    """

    model: Model
    lengths: Lengths
    hardware: Hardware
    precision: str = "fp16"
    engine: str = "ours"
    orders: int = 2
    max_length: int = 1024
    answer_tokens: int = 0
    share: float | None = None
    verdicts: bool = True
    texts: int = TEXTS

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision {self.precision!r}", expected=f"one of {', '.join(PRECISIONS)}")
        if self.engine not in ENGINES:
            raise UsageError(f"engine {self.engine!r}", expected=f"one of {', '.join(ENGINES)}")
        if self.orders not in {1, 2} or self.max_length < 1 or self.answer_tokens < 0:
            raise UsageError(
                f"{self.orders} orders of {self.max_length} tokens, {self.answer_tokens} written",
                expected="1 or 2 orders, a positive length",
            )

    def at(self, max_length: int) -> Run:
        """The same with another limit."""
        return replace(self, max_length=max_length)


@dataclass(frozen=True)
class Estimate:
    """What a run takes.

    Attributes:
        tokens: Read, both orders.
        petaflops: 10^15 operations of reading.
        loading: Seconds until the weights are there.
        reading: Seconds.
        writing: Seconds.
        weights: GiB on each device.
        cache: GiB of keys and values on each device.
        activations: GiB on each device.
        process: GiB on each device.
        room: Usable GiB of a device.
        cut: Share of the rows that the limit cuts.
    """

    tokens: float
    petaflops: float
    loading: float
    reading: float
    writing: float
    weights: float
    cache: float
    activations: float
    process: float
    room: float
    cut: float

    @property
    def hours(self) -> float:
        """In all."""
        return (self.loading + self.reading + self.writing) / 3600

    @property
    def memory(self) -> float:
        """GiB of a device, in all."""
        return self.weights + self.cache + self.activations + self.process

    @property
    def fits(self) -> bool:
        """Whether the devices have the memory."""
        return self.memory <= self.room * (1 + 1e-9)  # a cache that fills what is left fits


def estimate(run: Run) -> Estimate:
    """What a run takes."""
    model, where = run.model, run.hardware
    lengths, sequences = run.lengths.cut(run.max_length), run.lengths.rows * run.orders
    tokens = float(lengths.mean()) * sequences
    squares = float((lengths**2).mean()) * sequences
    operations = model.operations(tokens, squares, sequences, verdicts=run.verdicts and model.causal)
    share = run.share or (CPU_SHARE if where.processor else ENGINES[run.engine])
    rate = where.count * where.teraflops * 1e12 * share
    weights = model.weight_bytes(run.precision)
    batch = max(_BATCH[where.processor], run.orders * run.max_length)
    wide = 4.0 if run.precision == "fp32" else 2.0
    activations = batch * (4 * model.hidden + 2 * model.inner + model.queries + 2 * model.keys) * wide
    if run.verdicts and model.causal:
        activations += 4.0 * model.vocabulary * max(1.0, batch / float(lengths.mean()))
    held = [size / where.count / GIB for size in (weights, activations)]
    free = where.room_beside(sum(held) + PROCESS[where.processor])
    side, cache = _side_by_side(run, batch, float(lengths.mean()), free * where.count * GIB)
    writing = 0.0
    if run.answer_tokens:
        step = max(weights / (where.count * where.bandwidth * 1e9 * READING), 2.0 * model.linear * side / rate)
        writing = sequences / side * run.answer_tokens * step
    return Estimate(
        tokens, operations / 1e15, weights / DISK, operations / rate, writing, held[0], cache / where.count / GIB,
        held[1], PROCESS[where.processor], where.memory, run.lengths.share_cut(run.max_length),
    )  # fmt: skip


def _side_by_side(run: Run, batch: int, mean: float, free: float) -> tuple[float, float]:
    """Texts written side by side, and bytes of their keys and values.

    The packed engine keeps no cache where nothing is written; vLLM keeps one of at least a batch.
    """
    each = run.model.cache_bytes * (mean + run.answer_tokens)
    if not run.answer_tokens:
        return 1.0, float(run.model.cache_bytes * batch if run.engine == "vllm" else 0)
    most = max(1.0, min(run.texts, run.lengths.rows * run.orders))
    side = max(1.0, min(most, free // each if each else most))
    return side, side * each
