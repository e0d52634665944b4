"""A small run on this machine beside its prediction: the check that an estimate deserves before it is believed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tiebreak.budget.estimate import Run, estimate
from tiebreak.budget.hardware import Hardware
from tiebreak.budget.lengths import Lengths
from tiebreak.budget.models import Model
from tiebreak.errors import ResourceError, UsageError
from tiebreak.judges.base import Base
from tiebreak.judges.base.loading import require
from tiebreak.render.sequences import Sequences
from tiebreak.train.finetune import shapes

if TYPE_CHECKING:
    from tiebreak.engine import Engine

MOST: Final = 3_000_000_000
"""Weights of a model that a trial makes at most."""

SECONDS: Final = 20.0
"""That a trial is meant to take."""


@dataclass(frozen=True)
class Trial:
    """A run and its prediction.

    Attributes:
        hardware: This machine; a processor with the rate of matrix products that it reached just before and after.
        precision: fp32 or 16 bits.
        rows: Sequences that were read.
        tokens: In all.
        predicted: Seconds of reading.
        measured: Seconds, loading not counted; of the processor where torch has one thread.
        expected_share: Of the rate of matrix products, that the prediction reckons with.
    """

    hardware: Hardware
    precision: str
    rows: int
    tokens: int
    predicted: float
    measured: float
    expected_share: float

    @property
    def ratio(self) -> float:
        """Predicted over measured seconds."""
        return self.predicted / self.measured

    @property
    def share(self) -> float:
        """Of the rate of matrix products, that was reached."""
        return self.ratio * self.expected_share


def trial(run: Run, model: str, *, seconds: float = SECONDS, seed: int = 0) -> Trial:
    """Read some random tokens with the packed engine, random weights in the very shape of the model.

    A GPU of this machine is tried where the run is one for GPUs, and held against its maker's figures; otherwise the
    processor. Neither words nor weights change how long a product of matrices takes. The rows are drawn from the
    lengths of the run, and are as many as should take `seconds`.

    Args:
        run: Whose model, lengths, limit and precision count.
        model: The name that `Model.of` read.
        seconds: To be spent, about.
        seed: Of rows and tokens.

    Raises:
        UsageError: The model is only a count of parameters.
        ResourceError: It is too large to be made here.
        MissingExtraError: torch or transformers is not installed.
    """
    require("a trial")
    if run.model.parameters > MOST:
        raise ResourceError(
            f"{model}: {run.model.parameters / 1e9:.0f} billion weights are too many for a trial here",
            expected=f"at most {MOST / 1e9:.0f} billion",
            mend="--measure with a smaller model of the family: the share of the peak rate is what is checked",
        )
    where = _here(run)
    precision = "fp32" if run.precision == "fp32" else "bf16" if where.processor else "fp16"
    engine = _engine(model, precision, "cpu" if where.processor else "cuda")
    here = replace(
        run, hardware=where, precision=precision, orders=1, verdicts=False, answer_tokens=0, share=None,
        max_length=min(run.max_length, run.model.window or run.max_length),
    )  # fmt: skip
    sequences = _rows(here, seconds, seed)
    engine.logits(sequences.pick(np.arange(min(2, len(sequences)))))  # what is made once is made now
    clock = _clock() if where.processor else time.perf_counter
    started = clock()
    engine.logits(sequences)
    measured = clock() - started
    if where.processor:  # others may be at work here, now more, now less
        rate = (where.teraflops + _here(run).teraflops) / 2
        here = replace(here, hardware=replace(where, teraflops=rate))
    return compare(here, sequences, measured)


def _clock() -> Callable[[], float]:
    """Seconds: of the processor where one thread computes, which others cannot lengthen; else of the wall."""
    import torch

    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def _here(run: Run) -> Hardware:
    """A GPU, where the run is for GPUs and this machine has one; else the processor, as fast as it is now."""
    import torch

    if not run.hardware.processor and torch.cuda.is_available():
        return Hardware.parse(torch.cuda.get_device_name(0))
    return Hardware.parse("cpu", teraflops=_rate(run.model, run.precision) / 1e12)


def compare(run: Run, sequences: Sequences, measured: float) -> Trial:
    """A measured run of exactly these sequences beside its prediction."""
    lengths = sequences.lengths.astype(np.float64)
    exact = replace(run, lengths=Lengths(lengths, len(lengths), "a trial"), max_length=int(lengths.max()))
    predicted = estimate(exact)
    operations = predicted.petaflops * 1e15
    share = operations / (predicted.reading * run.hardware.count * run.hardware.teraflops * 1e12)
    return Trial(
        run.hardware, run.precision, len(lengths), int(lengths.sum()), predicted.reading, measured, share
    )  # fmt: skip


def _rows(run: Run, seconds: float, seed: int) -> Sequences:
    """Rows of the run's lengths, about as many as the seconds allow, at least eight."""
    rng = np.random.default_rng(seed)
    one = estimate(replace(run, lengths=replace(run.lengths, rows=1))).reading
    count = int(np.clip(seconds / one, 8, 4096))
    lengths = rng.choice(run.lengths.cut(run.max_length), size=count).astype(np.int64)
    words = min(1000, run.model.vocabulary - 1)
    return Sequences.of(rng.integers(1, words, size=max(1, length)) for length in lengths)


def _rate(model: Model, precision: str) -> float:
    """Operations a second of matrix products of the model's own shapes."""
    import torch

    from tiebreak.engine.cpu.rate import matrix_rate

    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    wide = 2 * model.inner if model.causal else model.inner
    products = (
        (model.hidden, model.queries + 2 * model.keys), (model.queries, model.hidden), (model.hidden, wide),
        (model.inner, model.hidden),
    )  # fmt: skip
    return matrix_rate(dtype, seconds=2.0, shapes=products, clock=_clock())


def _engine(model: str, precision: str, device: str) -> Engine:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from tiebreak.engine import Engine, Options, machine

    base = Base(name="shape", shape=model) if model in shapes.names() else Base(name=model)
    found: dict[str, Any] | None = shapes.settings(base)
    if found is None:
        raise UsageError(f"model {model!r} for a trial", expected="a shape or a model on this machine, no count")
    fields = {**found, "num_labels": 3}
    fields.pop("quantization_config", None)
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    config.pad_token_id = config.pad_token_id or 0
    made = AutoModelForSequenceClassification.from_config(
        config, dtype=machine.DTYPES[precision], attn_implementation="eager"
    )
    return Engine(made, Options(precision=precision, devices=device))
