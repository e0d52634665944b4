"""Many requests at once. What was answered is kept at once; what was not is asked again, then named, never guessed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeVar

from tiebreak.errors import ResourceError
from tiebreak.judges.generative.backend import silent
from tiebreak.judges.generative.served.client import KEYS, Client
from tiebreak.judges.generative.served.faults import Fault
from tiebreak.judges.generative.served.limits import Backoff, Limits
from tiebreak.judges.generative.served.requests import Request
from tiebreak.judges.generative.served.settings import Served
from tiebreak.judges.generative.served.store import Store

PATIENCE: Final = 8
"""Requests given up one after another, without an answer between, before no more are tried."""

_KEPT: Final = ("model", "choices", "usage")

T = TypeVar("T")


@dataclass
class Tally:
    """What one call of `Asker.ask` took.

    Attributes:
        requests: Different requests that were wanted.
        reused: Of these, how many had been answered before.
        attempts: Sent, with those that brought nothing.
        prompt_tokens: Of new answers, as the server counted them.
        answer_tokens: Of new answers.
        faults: What went wrong on the way, and how often.
        seconds: From first to last.
    """

    requests: int = 0
    reused: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def cost(self, served: Served) -> float:
        """Of the new answers, in the currency of the prices."""
        return (self.prompt_tokens * served.price_prompt + self.answer_tokens * served.price_answer) / 1e6


class Asker:
    """Asks one server.

    Args:
        served: The server, its limits and prices.
        named: Whether the user named the address in this very run.
        store: Where answers are kept; None: in the user's cache.
        backoff: How long to wait between attempts.

    Attributes:
        tally: Of the last call.
    """

    def __init__(
        self, served: Served, *, named: bool = False, store: Store | None = None, backoff: Backoff | None = None
    ) -> None:
        self.served = served
        self.client = Client(served, named=named)
        self._store = store
        self.backoff = backoff or Backoff()
        self.tally = Tally()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._limits = Limits(served.requests_per_minute, served.tokens_per_minute, self._stop)
        self._unanswered = 0

    @cached_property
    def store(self) -> Store:
        """Where answers are kept; made when the first question is asked."""
        return self._store or Store.of(self.served)

    def ask(
        self, requests: Sequence[Request], read: Callable[[dict[str, Any]], T], *,
        rows: Sequence[int] | None = None, advance: Callable[[int], None] = silent,
    ) -> list[T]:  # fmt: skip
        """The answers, in order. Equal requests are sent once; answered ones not at all.

        Args:
            requests: What is asked.
            read: Reads an answer; raises `Fault` for one that is of no use.
            rows: Of each request the row that it is for; None: each is a row of its own.
            advance: Called with the number of rows just finished.

        Raises:
            ResourceError: Some were not answered. All that were are in the store.
        """
        started = time.perf_counter()
        self._stop.clear()
        self._unanswered = 0
        rows = range(len(requests)) if rows is None else rows
        left = Counter(rows)
        places: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            places.setdefault(request.key, []).append(place)
        self.tally = Tally(requests=len(places))
        answers = self._known(places, read)
        self.tally.reused = len(answers)

        def finished(key: str) -> None:
            done = 0
            for place in places[key]:
                left[rows[place]] -= 1
                done += left[rows[place]] == 0
            if done:
                advance(done)

        for key in answers:
            finished(key)
        wanted = [requests[found[0]] for key, found in places.items() if key not in answers]
        failed = self._ask(wanted, read, answers, finished)
        self.tally.seconds = time.perf_counter() - started
        if len(answers) < len(places):
            raise self._error(failed, len(places) - len(answers), sum(count > 0 for count in left.values()), len(left))
        return [answers[request.key] for request in requests]

    def _known(self, keys: dict[str, list[int]], read: Callable[[dict[str, Any]], T]) -> dict[str, T]:
        found: dict[str, T] = {}
        for key, answer in self.store.find(keys).items():
            try:
                found[key] = read(answer)
            except Fault:  # of an older version that was content with less: it is asked anew
                continue
        return found

    def _ask(
        self, wanted: Sequence[Request], read: Callable[[dict[str, Any]], T], answers: dict[str, T],
        finished: Callable[[str], None],
    ) -> list[Fault]:  # fmt: skip
        """Ask in several threads and fill `answers`; the faults for which requests were given up."""
        failed: list[Fault] = []
        if not wanted:
            return failed
        waiting = iter(wanted)
        with ThreadPoolExecutor(max_workers=min(self.served.concurrency, len(wanted))) as pool:
            running: dict[Future[T | None], str] = {}
            try:
                while True:
                    while len(running) < self.served.concurrency and not self._stop.is_set():
                        request = next(waiting, None)
                        if request is None:
                            break
                        running[pool.submit(self._one, request, read)] = request.key
                    if not running:
                        return failed
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        key = running.pop(future)
                        self._collect(future, key, answers, finished, failed)
            except BaseException:
                self._stop.set()
                self.client.abandon()
                raise

    def _collect(
        self, future: Future[T | None], key: str, answers: dict[str, T], finished: Callable[[str], None],
        failed: list[Fault],
    ) -> None:  # fmt: skip
        try:
            value = future.result()
        except Fault as fault:
            failed.append(fault)
            self._unanswered += 1
            if fault.remedy == "stop" or self._unanswered >= max(PATIENCE, self.served.concurrency):
                self._stop.set()
            return
        if value is not None:
            self._unanswered = 0
            answers[key] = value
            finished(key)

    def _one(self, request: Request, read: Callable[[dict[str, Any]], T]) -> T | None:
        """One request until it is answered or given up; None where it was stopped between two attempts."""
        last: Fault | None = None
        for attempt in range(1, self.served.attempts + 1):
            estimated = request.prompt_tokens + request.answer_tokens
            self._limits.take(estimated)
            if self._stop.is_set():
                break
            try:
                return self._attempt(request, read, estimated)
            except Fault as fault:
                last = self._judged(fault)
                with self._lock:
                    self.tally.faults[fault.what] += 1
                if last.remedy != "again" or attempt == self.served.attempts:
                    self.store.fail(request.key, last.what, last.detail, attempt)
                    raise last from None
                self._wait(attempt, last)
        if last is not None:
            self.store.fail(request.key, last.what, last.detail, attempt - 1)
            raise last
        return None

    def _attempt(self, request: Request, read: Callable[[dict[str, Any]], T], estimated: int) -> T:
        with self._lock:
            self.tally.attempts += 1
        answer = self.client.send(request)
        used = _used(answer)
        self._limits.settle(estimated, sum(used) or estimated)
        value = read(answer)
        self.store.keep(request.key, {name: answer.get(name) for name in _KEPT}, *used)
        with self._lock:
            self.tally.prompt_tokens += used[0]
            self.tally.answer_tokens += used[1]
        return value

    def _judged(self, fault: Fault) -> Fault:
        """A fault as it is, or one that ends all where the server asks for more patience than there is."""
        if fault.wait is not None and fault.wait > self.backoff.longest:
            return Fault(fault.what, "stop", f"the server asks to come back in {fault.wait:,.0f} s")
        return fault

    def _wait(self, attempt: int, fault: Fault) -> None:
        seconds = self.backoff.seconds(attempt, fault.wait)
        if fault.wait is not None:
            self._limits.pause(fault.wait)
        self._stop.wait(seconds)

    def _error(self, failed: list[Fault], missing: int, rows: int, of: int) -> ResourceError:
        kinds = Counter(fault.what for fault in failed)
        details = {fault.what: str(fault) for fault in failed}
        said = "; ".join(f"{count:,} x {details[what]}" for what, count in kinds.most_common())
        unasked = missing - len(failed)
        more = f"; {unasked:,} more were not asked after that" if unasked else ""
        return ResourceError(
            f"{self.served.url} ({self.served.model}): {rows:,} of {of:,} sequences left without an answer: "
            f"{said or 'stopped'}{more}",
            expected=f"an answer to each; what was answered stays in {self.store.path}",
            mend=self._mend(failed),
        )

    def _mend(self, failed: list[Fault]) -> str:
        again = "the same command once more (predict: --resume) asks for these alone"
        for fault in failed:
            if fault.what.startswith(("status 401", "status 403")):
                return f"{' or '.join(KEYS)} in the environment; then {again}"
            if fault.what.startswith("status 404"):
                return f"{self._offered()}; then {again}"
        return again

    def _offered(self) -> str:
        try:
            return f"one of the models that the server has: {', '.join(self.client.models()) or 'none'}"
        except Fault:
            return "the URL up to /v1, and the name that the server knows the model by"


def _used(answer: dict[str, Any]) -> tuple[int, int]:
    """Tokens of prompt and answer, as the server counted them; 0 where it does not say."""
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    prompt, written = (count if isinstance(count, int) else 0 for count in counts)
    return prompt, written
