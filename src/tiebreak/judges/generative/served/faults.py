"""What can go wrong between us and a server, and what helps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openai import APIStatusError

Remedy = Literal["again", "leave", "stop"]

_PASSING: Final = frozenset({408, 409, 425, 429})
"""Client errors that pass by themselves; all of 500 and above do too, as far as anyone knows."""

_FOR_GOOD: Final = {
    401: "the key was refused",
    402: "the server wants to be paid",
    403: "the key may not use this model",
    404: "there is no such model or address",
}
_EMPTY_PURSE: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_NO_MODEL: Final = frozenset({"model_not_found", "model_not_available"})
_SHOWN: Final = 200
"""Characters of a server's own words that are repeated."""


@dataclass
class Fault(Exception):  # noqa: N818 - most faults pass, and are no errors of anybody
    """One attempt that brought no usable answer.

    Attributes:
        what: What happened, in a few words that are the same for the same kind of fault.
        remedy: again: the next attempt may succeed. leave: this request will never succeed, others may. stop: no
            request will.
        detail: More about this one, such as the server's own words.
        wait: Seconds that the server asks us to wait.
    """

    what: str
    remedy: Remedy
    detail: str = ""
    wait: float | None = None

    def __str__(self) -> str:
        return f"{self.what} ({self.detail})" if self.detail else self.what


def of_status(error: APIStatusError) -> Fault:
    """The fault behind an answer with an error status."""
    status, code = error.status_code, str(error.code or error.type or "")
    detail = " ".join(str(error.message).split())[:_SHOWN]
    if code in _EMPTY_PURSE:
        return Fault(f"status {status}: nothing left on the account", "stop", detail)
    if status in _FOR_GOOD or code in _NO_MODEL:
        return Fault(f"status {status}: {_FOR_GOOD.get(status, _FOR_GOOD[404])}", "stop", detail)
    if status in _PASSING or status >= 500:
        said = "too many requests" if status == 429 else "the server failed" if status >= 500 else "not now"
        return Fault(f"status {status}: {said}", "again", detail, retry_after(error.response.headers))
    return Fault(f"status {status}: the request was refused", "leave", detail)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms`, or `retry-after` as seconds or as a date; None where nothing is said."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    try:
        return max(parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time(), 0.0)
    except (TypeError, ValueError):
        return None
