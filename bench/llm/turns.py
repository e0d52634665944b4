"""Peers that take turns: each process answers for the ways to run that it has, one at a time, when asked.

Needs numpy alone, so that any Python of any peer can load it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def serve(ways: dict[str, Callable[[], np.ndarray]], **about: Any) -> None:
    """Answer until standard input ends: first what there is, then for each name seconds, CPU seconds and logits."""
    sys.stdout.write(json.dumps({"names": list(ways), **about}) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        started, spent = time.perf_counter(), time.process_time()
        logits = ways[line.strip()]()
        answer = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - spent}
        sys.stdout.write(json.dumps(answer | {"logits": np.asarray(logits).tolist()}) + "\n")
        sys.stdout.flush()
