"""Requests and tokens a minute, and pauses: shared by all threads that ask one server."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """How long to wait before another attempt: doubling, with full jitter (Brooker, AWS Architecture Blog, 2015).

    Attributes:
        first: Seconds, at most, before the second attempt.
        most: Seconds before any attempt.
        longest: Seconds that a server may ask us to wait; who asks for more is not coming back today.
    """

    first: float = 1.0
    most: float = 60.0
    longest: float = 900.0

    def seconds(self, attempt: int, asked: float | None) -> float:
        """Seconds to wait after the attempt of this number, from 1.

        Args:
            attempt: How many were made.
            asked: What the server asks for; never less than that, and a little more, that not all come back at once.
        """
        ceiling = min(self.most, self.first * 2 ** min(attempt - 1, 30))
        jitter = random.uniform(0, ceiling)  # noqa: S311 - spreads requests, hides nothing
        return jitter if asked is None else asked + min(jitter, 0.1 * asked + self.first)


class Limits:
    """Evenly spaced requests: never more than allowed in any minute, and no bursts.

    Args:
        requests: A minute, at most; None: no limit.
        tokens: A minute, at most; None: no limit.
        stop: Ends every wait.
        clock: Seconds.
    """

    def __init__(
        self, requests: float | None, tokens: float | None, stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._each = 60.0 / requests if requests else 0.0
        self._token = 60.0 / tokens if tokens else 0.0
        self._stop = stop
        self._clock = clock
        self._lock = threading.Lock()
        self._next = clock()
        self._open = clock()

    def take(self, tokens: int) -> None:
        """Wait until a request with so many tokens may be sent, or until `stop`."""
        with self._lock:
            start = max(self._next, self._open, self._clock())
            self._next = start + max(self._each, self._token * tokens)
        self.wait_until(start)
        while (now_open := self._open) > self._clock() and not self._stop.is_set():  # a pause that came meanwhile
            self.wait_until(now_open)

    def settle(self, estimated: int, used: int) -> None:
        """Correct the account when it is known how many tokens a request took."""
        with self._lock:
            self._next += self._token * (used - estimated)

    def pause(self, seconds: float) -> None:
        """Send nothing for so long: the server asked for it."""
        with self._lock:
            self._open = max(self._open, self._clock() + seconds)

    def wait_until(self, moment: float) -> None:
        """Wait, or until `stop`."""
        self._stop.wait(max(0.0, moment - self._clock()))
