"""Answers that were paid for, on disk: content-addressed, so that nothing is asked twice, whoever asks."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from tiebreak.errors import ResourceError
from tiebreak.judges.generative.served.requests import place
from tiebreak.judges.generative.served.settings import Served
from tiebreak.storage import CACHE, cache_folder

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, answer TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, answer_tokens INTEGER NOT NULL,
    at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (
    key TEXT PRIMARY KEY, what TEXT NOT NULL, detail TEXT NOT NULL, attempts INTEGER NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
"""
_MANY: Final = 500
"""Keys looked up in one statement."""

_BUSY: Final = 60.0
"""Seconds to wait for another process that writes."""


@dataclass(frozen=True)
class Account:
    """What a store holds.

    Attributes:
        answers: Requests that were answered.
        prompt_tokens: Of these, as the server counted them.
        answer_tokens: Of these.
        failures: Requests that were given up and not answered since.
    """

    answers: int
    prompt_tokens: int
    answer_tokens: int
    failures: int


class Store:
    """The answers of one model. Threads and processes may share it; an answer is there as soon as `keep` returns.

    Prompts are not kept: what was asked is a digest.

    Args:
        path: The SQLite file; made where it is not there.

    Raises:
        ResourceError: It cannot be made or read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(
                f"the cache {path.parent} cannot be made: {error.strerror or error}",
                mend=f"{CACHE}=FOLDER with a folder that can be written",
            ) from error
        with self._errors():
            self._file = sqlite3.connect(path, timeout=_BUSY, check_same_thread=False, isolation_level=None)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=NORMAL")
            self._file.executescript(_TABLES)
        weakref.finalize(self, self._file.close)

    @classmethod
    def of(cls, served: Served) -> Self:
        """The store of a served model, in the user's cache (`TIEBREAK_CACHE` names another)."""
        return cls(path_of(served))

    def find(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The answers that are there, by key."""
        wanted = list(keys)
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(wanted), _MANY):
            some = wanted[start : start + _MANY]
            marks = ",".join("?" * len(some))
            with self._errors():
                rows = self._file.execute(f"SELECT key, answer FROM answers WHERE key IN ({marks})", some)  # noqa: S608
                found.update((key, json.loads(answer)) for key, answer in rows)
        return found

    def keep(self, key: str, answer: dict[str, Any], prompt_tokens: int, answer_tokens: int) -> None:
        """Keep an answer; a failure of the same request is forgotten."""
        text = json.dumps(answer, separators=(",", ":"))
        with self._errors():
            self._file.execute("BEGIN IMMEDIATE")
            self._file.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)",
                (key, text, prompt_tokens, answer_tokens, time.time()),
            )
            self._file.execute("DELETE FROM failures WHERE key = ?", (key,))
            self._file.execute("COMMIT")

    def fail(self, key: str, what: str, detail: str, attempts: int) -> None:
        """Keep what became of a request that was given up."""
        with self._errors():
            self._file.execute(
                "INSERT INTO failures VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
                "what = excluded.what, detail = excluded.detail, attempts = attempts + excluded.attempts, "
                "at = excluded.at",
                (key, what, detail, attempts, time.time()),
            )

    def failures(self) -> list[tuple[str, str, str, int]]:
        """Requests that were given up and not answered since: key, what happened last, its detail, attempts so far."""
        with self._errors():
            return list(self._file.execute("SELECT key, what, detail, attempts FROM failures ORDER BY key"))

    def account(self) -> Account:
        """What the store holds."""
        with self._errors():
            answers = self._file.execute(
                "SELECT count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(answer_tokens), 0) FROM answers"
            ).fetchone()
            (failures,) = self._file.execute("SELECT count(*) FROM failures").fetchone()
        return Account(answers[0], answers[1], answers[2], failures)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                if getattr(self, "_file", None) is not None and self._file.in_transaction:
                    self._file.rollback()
                raise ResourceError(
                    f"{self.path}: {error}",
                    expected="the file of answers that tiebreak made, on a disk with room",
                    mend=f"{CACHE}=FOLDER names another place; answers in a damaged file are lost if it is removed",
                ) from error


def path_of(served: Served) -> Path:
    """Where the answers of a served model are kept."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", served.model).strip("-.")[-60:]
    digest = hashlib.sha256(json.dumps(place(served)).encode()).hexdigest()[:12]
    return cache_folder() / "served" / f"{name}-{digest}.sqlite"
