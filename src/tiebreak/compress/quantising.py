"""The worker in its environment: what it is given, its progress, and what it says when it fails."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import numpy as np

from tiebreak import storage
from tiebreak.compress.environment import Environment
from tiebreak.compress.listening import Listener
from tiebreak.compress.methods import Method
from tiebreak.errors import ResourceError, TiebreakError
from tiebreak.render import Sequences
from tiebreak.stopping import arriving

WORKER: Final = Path(__file__).with_name("worker.py")
LOG: Final = "worker.log"
GRID: Final = 20
"""Scales that AWQ tries for each group of layers; what llm-compressor does by itself."""

_PART: Final = re.compile(r"\((\d+)/(\d+)\): ")
_NOTHING_OUTSIDE: Final = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "DO_NOT_TRACK": "1"}
_SHOWN: Final = 3


def write_calibration(folder: Path, sequences: Sequences) -> None:
    """The token ids of the calibration rows, for the worker."""
    from safetensors.numpy import save_file

    with storage.replacing(folder / "calibration.safetensors") as aside:
        save_file(
            {"ids": sequences.ids.astype(np.int64), "offsets": np.ascontiguousarray(sequences.offsets, dtype=np.int64)},
            aside,
        )


def write_settings(folder: Path, method: Method, group: int | None, ignore: list[str], grid: int = GRID) -> None:
    """What the worker is to do."""
    document: dict[str, Any] = {
        "algorithm": method.algorithm, "bits": method.bits, "activation_bits": method.activation_bits,
        "symmetric": method.symmetric, "group": group, "ignore": ignore, "grid": grid,
    }  # fmt: skip
    storage.write_text(folder / "settings.json", json.dumps(document, indent=1) + "\n")


def run(environment: Environment, folder: Path, listener: Listener) -> None:
    """Have the worker make `quantised/` in the folder.

    Raises:
        ResourceError: It was killed, as a system does that runs out of memory.
        TiebreakError: It failed; the whole of what it said is in `worker.log`.
    """
    command = [str(environment.python), "-I", str(WORKER), str(folder.resolve())]
    with (
        (folder / LOG).open("w", encoding="utf-8") as log,
        listener.progress("quantise", None, "layers") as advance,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
            env={**os.environ, **_NOTHING_OUTSIDE},
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None  # noqa: S101 - it was asked for
        done = 0
        try:
            for line in arriving(process.stdout):  # a bar's carriage returns end lines too
                log.write(line)
                if (found := _PART.search(line)) and int(found[1]) > done:
                    advance(int(found[1]) - done)
                    done = int(found[1])
        except BaseException:
            process.kill()
            raise
    if process.returncode or not (folder / "quantised").is_dir():
        raise _failed(process.returncode, folder / LOG)


def _failed(code: int, log: Path) -> TiebreakError:
    if code < 0:
        return ResourceError(
            f"llm-compressor was killed by signal {-code}, as happens when memory runs out",
            expected="memory for the model in the type of its weights, twice",
            mend="fewer or shorter calibration rows: --rows 64",
        )
    lines = [line.strip() for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    return TiebreakError(
        f"llm-compressor failed: {' / '.join(lines[-_SHOWN:]) or f'exit code {code}'}",
        expected="a decoder of a family that it knows",
        mend=f"read {log}; --method gptq-8 and int8 know the most families",
    )
