"""A process of vLLM for one model, on the devices that were asked for."""

from __future__ import annotations

from pathlib import Path

from tiebreak.errors import UsageError
from tiebreak.judges.generative.vllm import choices, place
from tiebreak.judges.generative.vllm.process import Worker
from tiebreak.judges.runtime import AUTO, Runtime
from tiebreak.listening import Listener


def start(
    folder: Path,
    runtime: Runtime,
    listener: Listener,
    *,
    max_length: int,
    adapter: Path | None = None,
    writes: bool = False,
) -> Worker:
    """Start vLLM; see `choices.engine` for the arguments.

    Raises:
        UsageError: vLLM refuses the model or a choice, or is built for other devices.
        ResourceError: It died, or no environment can be made.
    """
    engine = choices.engine(folder, runtime, max_length=max_length, adapter=adapter, writes=writes)
    python = place.find(listener).python
    worker = Worker(python, engine)
    asked, there = runtime.devices.partition(":")[0].partition(",")[0], worker.about["platform"]
    if asked not in (AUTO, there):
        worker.close()
        raise UsageError(
            f"--devices {runtime.devices}: the vLLM of {python} runs on {there}",
            expected=f"--devices {AUTO}, or a vLLM that is built for {asked}",
            mend=f"{place.PYTHON}=PYTHON of another environment",
        )
    return worker
