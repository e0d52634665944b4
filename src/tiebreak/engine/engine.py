"""Rows in, logits out: micro-batches without padding, packed ahead of the computation."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from tiebreak.engine import encoders, fast, machine, memory, prefix, tail
from tiebreak.engine.batches import microbatches
from tiebreak.engine.checks import check_finite, check_sequences
from tiebreak.engine.flow import Ahead, Collector, Job, drive
from tiebreak.engine.options import Options
from tiebreak.engine.packed import Packed, Ragged, pack
from tiebreak.engine.pipeline import Pipeline
from tiebreak.engine.pooled import Pooled
from tiebreak.engine.prefix import Unit
from tiebreak.engine.ranks import Relay

MAX_TOKENS: Final = {"cpu": 4096, "cuda": 16384}
"""Tokens of a micro-batch when nobody chose: enough to keep the device busy, halved when memory is short."""


def _nothing(count: int) -> None:
    """No one watches the progress."""


class Engine:
    """Scores token sequences with a sequence classifier.

    Args:
        model: A sequence classifier of transformers, `peft`-wrapped or not, or a `Pooled`. The engine takes it over:
            moves it to the devices, changes its precision, puts it in evaluation mode.
        options: How to run.

    Attributes:
        report: How the last call ran: devices, precision, attention, tokens (computed, given, saved by shared
            prefixes), micro-batches, seconds, halvings of the budget, fallbacks.

    Raises:
        UsageError: A device or a precision is not to be had here, or the family cannot be packed.
        ResourceError: The weights do not fit on the devices.
    """

    def __init__(self, model: Any, options: Options | None = None) -> None:
        self.options = options or Options()
        self.pooled = (model if isinstance(model, Pooled) else Pooled.split(model)).eval()
        self.devices = machine.devices(
            self.options.devices, machine.expected_bytes(self.pooled, self.options.precision)
        )
        self.precision = machine.precision(self.options.precision, self.devices)
        self.max_tokens = self.options.max_tokens or MAX_TOKENS.get(self.devices[0].type, MAX_TOKENS["cpu"])
        self.halvings = 0
        self.fallbacks: list[str] = []
        self.report: dict[str, Any] = {}
        self._pipeline: Pipeline | None = None
        self._relay: Relay | None = None
        try:
            self._prepare()
        except RuntimeError as error:
            if memory.is_out_of_memory(error):
                raise memory.no_room(machine.size(self.pooled), self._where) from None
            raise
        own_loops = encoders.fast_path(self.pooled.backbone) is not None
        self._streams = self.options.streams or (torch.get_num_threads() if own_loops else 1)

    @property
    def _where(self) -> str:
        return ", ".join(map(str, self.devices))

    def _prepare(self) -> None:
        """Precision first, then places: what moves is already small."""
        quantised = machine.is_quantised(self.pooled)
        alone = self.options.devices != machine.RANKS and len(self.devices) == 1
        if quantised:
            self.precision = "as loaded"
        elif self.precision in machine.DTYPES:
            machine.cast(self.pooled.backbone, machine.DTYPES[self.precision])
        if alone:
            self.pooled.to(self.devices[0])
            self.fallbacks += [] if quantised else fast.speed_up(self.pooled, self.precision, self.devices[0])
            if self.pooled.pooling == "last":
                tail.install(self.pooled.backbone)
            return
        fast.refuse_int8(self.precision, "several devices")
        if self.options.devices == machine.RANKS:
            self._relay = Relay(self.pooled, self.devices[0])
        else:
            self._pipeline = Pipeline(self.pooled, self.devices)

    @property
    def workers(self) -> int:
        """Micro-batches in flight: one a stage and one that waits between two of them, or one a stream of a CPU."""
        if self._pipeline is not None:
            return len(self.devices) + 1
        return self._streams if self.devices[0].type == "cpu" and self._relay is None else 1

    def logits(
        self, sequences: Ragged, *, pairs: np.ndarray | None = None, advance: Callable[[int], None] = _nothing
    ) -> np.ndarray:
        """Logits of each sequence. A row's answer does not depend on what it is computed with.

        Args:
            sequences: Token ids.
            pairs: (m, 2) indices of sequences that may begin alike; the common prefix of two is computed once.
            advance: Called with the number of sequences just finished, from any thread, never from two at once.

        Returns:
            float32 (n, outputs), in the order of the sequences.

        Raises:
            UsageError: A token is not one of the model's, a sequence is empty or too long for it, or a logit is not
                finite in this precision.
            ResourceError: Memory is not enough for one sequence.
        """
        return self._run(sequences, pairs, self.pooled.forward, advance)

    def embeddings(
        self, sequences: Ragged, *, pairs: np.ndarray | None = None, advance: Callable[[int], None] = _nothing
    ) -> np.ndarray:
        """Pooled states before the head, float32 (n, hidden); everything else as of `logits`."""
        return self._run(sequences, pairs, self.pooled.embed, advance)

    def _run(
        self, sequences: Ragged, pairs: np.ndarray | None, compute: Callable[[Packed], Tensor],
        advance: Callable[[int], None],
    ) -> np.ndarray:  # fmt: skip
        started, before = time.perf_counter(), self.halvings
        check_sequences(sequences, self.pooled)
        units = prefix.units(sequences, pairs if self.options.share_prefix and self.pooled.causal else None)
        collected = Collector(len(sequences), advance)
        threads = torch.get_num_threads()
        finished: list[Job] = []
        try:
            if self.workers > 1 and self.devices[0].type == "cpu":
                side_by_side = len(self.devices) if self._pipeline is not None else self.workers
                torch.set_num_threads(max(1, threads // side_by_side))
            todo = units
            while todo:
                todo = self._attempt(sequences, todo, compute, collected, finished)
            collected.finish()
        finally:
            torch.set_num_threads(threads)
        rows = collected.rows() if len(sequences) else self._no_rows(compute)
        rows = rows if self._relay is None else self._relay.share(rows)
        self._report(sequences, finished, self.halvings - before, time.perf_counter() - started)
        check_finite(rows, self.precision)
        return rows

    def _attempt(
        self, sequences: Ragged, todo: list[Unit], compute: Callable[[Packed], Tensor], collected: Collector,
        finished: list[Job],
    ) -> list[Unit]:  # fmt: skip
        """Compute what fits, adding to `finished`; gives what is left to do after memory ran out."""
        plan = microbatches(np.array([unit.tokens for unit in todo]), self.max_tokens, window=self.options.window)
        jobs = Ahead(self._pack(sequences, [todo[int(i)] for i in batch]) for batch in plan)

        def work(job: Job) -> None:
            with torch.inference_mode(), self._turn():
                rows = compute(job.packed.to(self.devices[0], non_blocking=True))
                collected.add(job.members, rows)
            finished.append(job)

        try:
            failed = drive(jobs, work, self.workers)
        finally:
            jobs.close()
        if failed is None:
            return []
        done = {unit.members[0] for job in finished for unit in job.units}
        return self._smaller(sequences, [unit for unit in todo if unit.members[0] not in done], failed)

    def _pack(self, sequences: Ragged, units: list[Unit]) -> Job:
        members = [sequences[i] for unit in units for i in unit.members]
        packed = pack(members, reuse=[tokens for unit in units for tokens in unit.reuse])
        return Job(units, packed.pinned() if self.devices[0].type == "cuda" else packed)

    def _turn(self) -> AbstractContextManager[None]:
        return nullcontext() if self._pipeline is None else self._pipeline.turn()

    def _smaller(self, sequences: Ragged, left: list[Unit], failed: Job) -> list[Unit]:
        """What to try next, after `failed` ran out of memory."""
        memory.release()
        tokens = failed.packed.tokens
        unit = failed.units[0]
        if self._relay is not None or (len(failed.units) == 1 and len(unit.members) == 1):
            raise memory.too_small(tokens, self._where)
        self.halvings += 1
        self.max_tokens = max(1, min(self.max_tokens, tokens) // 2)
        if len(failed.units) == 1:
            left = [other for other in left if other is not unit] + prefix.singles(sequences, unit.members)
        return left

    def _no_rows(self, compute: Callable[[Packed], Tensor]) -> np.ndarray:
        with torch.inference_mode(), self._turn():
            width = compute(pack([np.zeros(1, dtype=np.int64)], self.devices[0])).shape[1]
        return np.empty((0, width), dtype=np.float32)

    def _report(self, sequences: Ragged, finished: list[Job], halvings: int, seconds: float) -> None:
        given = sum(len(sequences[i]) for i in range(len(sequences)))
        computed = sum(job.packed.tokens for job in finished)
        self.report = {
            "devices": [str(device) for device in self.devices],
            "stages": getattr(self._pipeline or self._relay, "bounds", None),
            "precision": self.precision,
            "attention": fast.attention_names(self.pooled, self.devices[0]),
            "sequences": len(sequences),
            "tokens": given,
            "tokens_computed": computed,
            "tokens_shared": given - computed,
            "micro_batches": len(finished),
            "max_tokens": self.max_tokens,
            "halvings": halvings,
            "fallbacks": list(self.fallbacks),
            "seconds": seconds,
        }
