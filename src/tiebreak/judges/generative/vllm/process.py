"""vLLM as a process beside us: started, asked, ended, and what is said when it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final

import numpy as np

from tiebreak.errors import ResourceError, TiebreakError, UsageError
from tiebreak.judges.generative.backend import silent
from tiebreak.judges.generative.vllm import worker

WORKER: Final = Path(worker.__file__)

QUIET: Final = {
    "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "WARNING",
}  # fmt: skip
"""Nothing is fetched and nothing is reported to anyone."""

_SHOWN: Final = 3
_PATIENCE: Final = 20
_FAREWELL: Final = 5


@dataclass(frozen=True)
class Engine:
    """How vLLM is to run a model.

    Attributes:
        arguments: Of `vllm.LLM`.
        adapter: Folder of a LoRA adapter; None: the model alone.
        variables: Environment variables of the process; those that the user has set already stay.
        bound: Environment variables that the choice of devices decides.
    """

    arguments: Mapping[str, Any]
    adapter: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    bound: Mapping[str, str] = field(default_factory=dict)


class Worker:
    """One running vLLM with one model.

    Args:
        python: Of an environment with vLLM.
        engine: What it runs.

    Attributes:
        about: versions, platform (cpu, cuda, ...), dtype, quantization, max_model_len.

    Raises:
        UsageError: vLLM refuses the model or a choice.
        ResourceError: It died, or memory is not enough.
    """

    def __init__(self, python: Path, engine: Engine) -> None:
        self._log: IO[bytes] = TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [str(python), "-I", str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            env={**QUIET, **engine.variables, **os.environ, **engine.bound},
            start_new_session=True,  # vLLM has processes of its own, which end with it
        )  # fmt: skip
        self._end = weakref.finalize(self, _end, self._process, self._log)
        adapter = None if engine.adapter is None else str(engine.adapter.resolve())
        try:
            self.about: dict[str, Any] = self.ask({"engine": dict(engine.arguments), "adapter": adapter})[0]
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._end.alive and self._process.poll() is None

    def ask(
        self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None,
        advance: Callable[[int], None] = silent,
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:  # fmt: skip
        """Send a request and wait for its answer.

        Args:
            header: The request.
            arrays: What goes with it.
            advance: Called with the number of sequences just finished.

        Raises:
            UsageError: vLLM refuses the model or a choice.
            ResourceError: The process died or memory is not enough.
        """
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None or not self._end.alive:
            raise ResourceError("the process of vLLM has been ended")
        try:
            worker.send(requests, header, arrays)
        except (BrokenPipeError, ValueError):
            raise self._died() from None
        while True:
            try:
                message = worker.receive(answers)
            except BaseException:  # interrupted: the answer that is still to come would be taken for the next one's
                self.close()
                raise
            if message is None:
                raise self._died()
            found, results = message
            if "done" in found:
                advance(found["done"])
            elif "failed" in found:
                raise _refused(found["failed"])
            else:
                return found["answer"], results

    def close(self) -> None:
        """End the process and give its memory back."""
        self._end()

    def _died(self) -> TiebreakError:
        process = self._process
        try:
            code = process.wait(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            _kill(process)
            code = process.wait()
        words = self._last_words()
        self.close()
        mend = "the same command goes on with what was finished (--resume); --max-tokens, --precision or more devices"
        if code < 0:
            return ResourceError(
                f"the process of vLLM (pid {process.pid}) was killed by signal {-code}, as when memory runs out",
                expected="memory for the model and its KV cache (on a CPU: VLLM_CPU_KVCACHE_SPACE, in GiB)",
                mend=mend,
            )
        said = " / ".join(words) or f"exit code {code}"
        return ResourceError(f"the process of vLLM (pid {process.pid}) ended: {said}", mend=mend)

    def _last_words(self) -> list[str]:
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").splitlines()
        return [line.strip() for line in lines if line.strip()][-_SHOWN:]


def _refused(words: str) -> TiebreakError:
    """What vLLM says of a model that it cannot load, or of a request."""
    kind, _, text = words.partition(": ")
    said = " / ".join(line.strip() for line in text.splitlines() if line.strip())[:600]
    if "memory" in text.lower() or kind in {"OutOfMemoryError", "EngineDeadError", "MemoryError"}:
        return ResourceError(f"vLLM: {said or kind}", mend="fewer tokens (--max-length), fewer bits, or more devices")
    return UsageError(
        f"vLLM refuses: {said or kind}",
        expected="a causal language model of a family and a format that this version of vLLM reads",
        mend="--backend transformers",
    )


def _end(process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    """By closing its input, which it reads as the end; by force if it does not listen, or left processes behind."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):  # what was never sent cannot be sent any more
                stream.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_FAREWELL)
    _kill(process)
    process.wait()
    log.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The process and those that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
