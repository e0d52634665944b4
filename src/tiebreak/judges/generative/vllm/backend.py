"""The backend on vLLM: token ids in, log-probabilities of the verdicts' tokens out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tiebreak.errors import UsageError
from tiebreak.judges.base import resolve
from tiebreak.judges.base.loading import checkpoint
from tiebreak.judges.generative.backend import Masses, silent
from tiebreak.judges.generative.vllm.process import Worker
from tiebreak.judges.generative.vllm.starting import start
from tiebreak.judges.runtime import Runtime
from tiebreak.listening import SILENT, Listener
from tiebreak.render.sequences import Sequences

if TYPE_CHECKING:
    from tiebreak.judges.generative.judge import GenerativeJudge
    from tiebreak.judges.generative.settings import Settings
    from tiebreak.judges.generative.verdicts import Tree


class VllmBackend:
    """Scores verdicts with vLLM, in a process beside this one that starts with the first question.

    Args:
        folder: The checkpoint: config.json and weights.
        runtime: How to run.
        max_length: Tokens of one sequence at most, without its verdict.
        adapter: Folder of a LoRA adapter.
        listener: Told when an environment has to be made.

    Attributes:
        report: Of the last call.
    """

    def __init__(
        self,
        folder: Path,
        runtime: Runtime,
        *,
        max_length: int,
        adapter: Path | None = None,
        listener: Listener = SILENT,
    ) -> None:
        self.report: dict[str, Any] = {}
        self._folder, self._runtime, self._adapter = folder, runtime, adapter
        self._max_length = max_length
        self._listener = listener
        self._worker: Worker | None = None
        self._room = 0

    @classmethod
    def of(cls, settings: Settings, runtime: Runtime, directory: Path, judge: GenerativeJudge) -> Self:
        """The backend for one judge; its weights are read by vLLM alone.

        Raises:
            UsageError: The judge's weights are in a form that vLLM cannot take, or a choice is not one it has.
        """
        if settings.four_bits is not None:
            raise UsageError(
                f"--backend vllm: the weights of this judge are in 4 bits ({settings.four_bits}) as bitsandbytes makes "
                "them when they are loaded",
                expected="plain, AWQ or GPTQ weights",
                mend="tiebreak combine merge, then tiebreak compress --method awq-4",
            )
        adapter = directory if settings.adapter else None
        folder = checkpoint(resolve(judge.base()))
        longest = judge.renderer.template.max_length + len(judge.prefix)
        return cls(folder, runtime, max_length=longest, adapter=adapter)

    def masses(
        self, sequences: Sequences, tree: Tree, *, pairs: np.ndarray | None = None,
        advance: Callable[[int], None] = silent,
    ) -> Masses:  # fmt: skip
        """Masses of the verdicts after each sequence.

        Spellings of several tokens are asked node by node, side by side, so that all but the first find the sequence
        in the prefix cache; so does the second order of a pair.

        Raises:
            ResourceError: The process died.
            UsageError: vLLM refuses the model.
        """
        started = time.perf_counter()
        order = beside(len(sequences), pairs)
        chosen = sequences.pick(order)
        worker = self._running(max(map(len, tree.nodes)) + 1)
        header = {"request": "score", "nodes": tree.nodes, "children": tree.children}
        told, results = worker.ask(header, {"ids": chosen.ids, "offsets": chosen.offsets}, advance)
        found = np.empty_like(results["log_probs"])
        found[order] = results["log_probs"]
        log_mass = tree.fold(np.split(found, np.cumsum([len(tokens) for tokens in tree.children])[:-1], axis=1))
        self._account(worker, sequences, tree, told, time.perf_counter() - started)
        covered = np.exp(log_mass).sum(axis=1) if told["whole"] else np.full(len(sequences), np.nan)
        return Masses(log_mass, np.zeros_like(log_mass), covered)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._worker is not None and self._worker.alive

    @property
    def process(self) -> int | None:
        """Number of the process, if one was started."""
        return None if self._worker is None else self._worker.pid

    def close(self) -> None:
        """End the process; the next question starts another."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _running(self, answer: int) -> Worker:
        """The process, with room for an answer of so many tokens."""
        if self._worker is None or answer > self._room or not self.alive:
            self.close()
            self._worker = start(
                self._folder, self._runtime, self._listener,
                max_length=self._max_length + answer, adapter=self._adapter,
            )  # fmt: skip
            self._room = answer
        return self._worker

    def _account(self, worker: Worker, sequences: Sequences, tree: Tree, told: dict[str, Any], seconds: float) -> None:
        about = worker.about
        tokens = len(tree.nodes) * int(sequences.offsets[-1]) + len(sequences) * sum(map(len, tree.nodes))
        self.report = {
            "backend": "vllm", "devices": [about["platform"]], "precision": about["dtype"],
            "quantization": about["quantization"], "versions": about["versions"], "tokens": tokens,
            "tokens_computed": tokens - told["cached"], "tokens_shared": told["cached"], "seconds": seconds,
            "whole_vocabulary": told["whole"],
        }  # fmt: skip


def beside(count: int, pairs: np.ndarray | None) -> np.ndarray:
    """An order of all sequences in which those of a pair are neighbours, int64 (count,)."""
    if pairs is None or not len(pairs):
        return np.arange(count)
    leader = np.arange(count)
    leader[pairs[:, 1]] = pairs[:, 0]
    return np.argsort(leader, kind="stable")
