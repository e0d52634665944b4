"""Frame and kept texts -> one sequence a row. All rows at once; only rows over the budget are looked at one by one.

A sequence is a row of *units*: a mark, a text (its kept head, a mark of the cut, its kept tail), and what ends it. All
tokens of all texts and marks lie in one pool; the sequences are one gather out of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tiebreak.errors import UsageError
from tiebreak.render.frame import Frame
from tiebreak.render.sequences import Sequences, gather, offsets_of
from tiebreak.render.templates import Template
from tiebreak.render.texts import Tokens
from tiebreak.render.truncation import KEEPS, POLICIES, Row

SEGMENTS = 5
"""Of a unit: mark, head, snip, tail, end."""


@dataclass(frozen=True)
class Column:
    """One kind of text (the prompts, the answers of A) of several rows.

    Attributes:
        tokens: Of every turn of every row, in order.
        missing: bool, a turn: whether it is null; such a turn has no tokens.
        mark: The template's mark for it.
    """

    tokens: Tokens
    missing: np.ndarray
    mark: str


@dataclass(frozen=True)
class Assembled:
    """Sequences, and for each kind of text the tokens it has and the tokens kept, int64 of shape (kinds, rows)."""

    sequences: Sequences
    tokens: np.ndarray
    kept: np.ndarray


class _Pool:
    """Arrays of ids, one after another, and where each begins."""

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []
        self._known: dict[tuple[str, int], tuple[int, int]] = {}
        self.size = 0

    def add(self, ids: np.ndarray) -> int:
        self._arrays.append(ids)
        self.size += len(ids)
        return self.size - len(ids)

    def once(self, key: tuple[str, int], ids: np.ndarray) -> tuple[int, int]:
        if key not in self._known:
            self._known[key] = (self.add(ids), len(ids))
        return self._known[key]

    def ids(self) -> np.ndarray:
        return np.concatenate(self._arrays)


class Assembler:
    """Puts texts into the frame of a template.

    Raises:
        UsageError: The budget is too small for the frame.
    """

    def __init__(self, template: Template, frame: Frame) -> None:
        self.template = template
        self.frame = frame
        self.kinds: tuple[str, ...] = (
            ("prompt", "answer_a") if template.name == "single" else ("prompt", "answer_a", "answer_b")
        )
        twice = template.layout == "conversations"
        self.cost = (2, 1, 1)[: len(self.kinds)] if twice else (1,) * len(self.kinds)
        self._fixed = len(frame.before) + len(frame.after) + (len(frame.second) if twice else 0)
        first = sum(
            cost * (len(frame.marks(kind, 1)[0]) + len(frame.missing()) + len(frame.end))
            for kind, cost in zip(self.kinds, self.cost, strict=True)
        )
        self.least = self._fixed + first
        if self.least > template.max_length:
            raise UsageError(
                f"max_length {template.max_length} is too small for the template {template.name}: its own words and "
                f"marks take {self.least} tokens with this tokenizer",
                expected=f"at least {self.least}, and some hundreds more for the texts",
                mend=f"max_length: {max(512, 4 * self.least)}",
            )

    def assemble(self, columns: Sequence[Column], turns: np.ndarray) -> Assembled:
        """One sequence a row.

        Args:
            columns: The kinds of text, each with every turn of every row.
            turns: int64 of shape (rows,): turns of each row.
        """
        work = _Work(self, columns, turns)
        work.cut_long_rows()
        return work.assembled()


class _Work:
    """One call of `assemble`; arrays of shape (kinds, turns of all rows) unless said otherwise."""

    def __init__(self, plan: Assembler, columns: Sequence[Column], turns: np.ndarray) -> None:
        self.plan = plan
        self.turns = turns
        self.first = offsets_of(turns)
        self.row = np.repeat(np.arange(len(turns)), turns)
        self.turn = np.arange(len(self.row)) - self.first[:-1][self.row]
        self.pool = _Pool()
        self.lengths = np.stack([column.tokens.lengths for column in columns])
        self.starts = np.stack([column.tokens.starts + self.pool.add(column.tokens.ids) for column in columns])
        most = int(turns.max(initial=0))
        marks = [self._marks(column, most) for column in columns]
        self.mark_starts = np.stack([start for start, _ in marks])
        self.mark_lengths = np.stack([length for _, length in marks])
        self.head = self.lengths.copy()
        self.tail = np.zeros_like(self.lengths)
        self.snip_starts = np.zeros_like(self.lengths)
        self.snip_lengths = np.zeros_like(self.lengths)
        self.alive = np.ones(len(self.row), dtype=bool)

    def _marks(self, column: Column, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the marks of a column lie, and how long they are: mark, and the words for a null after it."""
        missing = self.plan.frame.missing()
        places = [
            (self.pool.add(np.concatenate([mark, missing])), len(mark))
            for mark in self.plan.frame.marks(column.mark, most)
        ]
        table = np.array(places, dtype=np.int64).reshape(-1, 2)
        return table[self.turn, 0], table[self.turn, 1] + column.missing * len(missing)

    def cut_long_rows(self) -> None:
        """Let the policy of the template decide on every row that is over the budget."""
        template, cost = self.plan.template, np.array(self.plan.cost)
        budget = template.max_length - self.plan._fixed
        around = cost @ (self.mark_lengths + len(self.plan.frame.end))
        need = np.add.reduceat(around + cost @ self.lengths, self.first[:-1]) if len(self.turns) else np.zeros(0)
        policy = POLICIES[template.truncation]
        for row in np.flatnonzero(need > budget):
            own = slice(self.first[row], self.first[row + 1])
            texts = self.lengths[:, own].T.tolist()
            kept = policy(Row(texts, around[own].tolist(), budget, self.plan.cost, template.limits))
            for place, (wanted, given) in enumerate(zip(texts, kept, strict=True), start=int(self.first[row])):
                self._cut(place, wanted, given)

    def _cut(self, place: int, wanted: list[int], given: list[int] | None) -> None:
        self.alive[place] = given is not None
        for kind, tokens in enumerate(wanted):
            cap = given[kind] if given is not None else 0
            if cap < tokens:
                self._cut_text(kind, place, tokens, cap)

    def _cut_text(self, kind: int, place: int, tokens: int, cap: int) -> None:
        """Keep `cap` tokens of a text, the mark of the cut among them where it has room."""
        keep, snip = self._with_snip(tokens, cap)
        side = KEEPS[self.plan.template.truncation]
        head = {"head": keep, "tail": 0, "ends": keep - keep // 2}[side]
        self.head[kind, place] = head
        self.tail[kind, place] = keep - head
        self.snip_starts[kind, place], self.snip_lengths[kind, place] = snip

    def _with_snip(self, tokens: int, cap: int) -> tuple[int, tuple[int, int]]:
        """Tokens of text kept, and where the mark lies: the mark counts what it replaces, itself not included."""
        if self.plan.template.marks.snip and cap:
            keep = cap
            while keep > 0:
                mark = self.plan.frame.snip(tokens - keep)
                if keep + len(mark) <= cap:
                    return keep, self.pool.once(("snip", tokens - keep), mark)
                keep = min(keep - 1, cap - len(mark))
        return cap, (0, 0)

    def assembled(self) -> Assembled:
        """Put everything in order and gather it."""
        rows, kinds = len(self.turns), len(self.plan.kinds)
        units = [self._texts(kind, block) for block, kind in self._order()]
        frame = self.plan.frame
        units.insert(0, self._around(frame.before, block=-1))
        if self.plan.template.layout == "conversations":
            units.append(self._around(frame.second, block=0, last=True))
        units.append(self._around(frame.after, block=2, last=True))
        key, starts, lengths = (np.concatenate(parts, axis=-1) for parts in zip(*units, strict=True))
        order = np.lexsort(key[::-1])
        ids = gather(self.pool.ids(), starts.T[order].ravel(), lengths.T[order].ravel())
        sizes = np.bincount(key[0], weights=lengths.sum(axis=0), minlength=rows).astype(np.int64)
        own = np.stack([np.bincount(self.row, weights=self.lengths[kind], minlength=rows) for kind in range(kinds)])
        shown = (self.head + self.tail) * self.alive
        kept = np.stack([np.bincount(self.row, weights=shown[kind], minlength=rows) for kind in range(kinds)])
        return Assembled(Sequences(ids, offsets_of(sizes)), own.astype(np.int64), kept.astype(np.int64))

    def _order(self) -> list[tuple[int, int]]:
        """The texts of a turn in order, as (block, kind): two blocks where each answer has its own conversation."""
        if self.plan.template.layout == "conversations":
            return [(0, 0), (0, 1), (1, 0), (1, 2)]
        return [(0, kind) for kind in range(len(self.plan.kinds))]

    def _texts(self, kind: int, block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The units of one kind of text: sort key (row, block, turn, kind), starts and lengths of the segments."""
        end = self.plan.frame.end
        end_start, end_length = self.pool.once(("end", 0), end)
        full = np.full(len(self.row), end_start)
        key = np.stack([self.row, np.full_like(self.row, block), self.turn, np.full_like(self.row, kind)])
        head, tail = self.head[kind], self.tail[kind]
        begin = self.starts[kind]
        starts = [self.mark_starts[kind], begin, self.snip_starts[kind], begin + self.lengths[kind] - tail, full]
        lengths = [self.mark_lengths[kind], head, self.snip_lengths[kind], tail, np.full_like(head, end_length)]
        return key, np.stack(starts), np.stack(lengths) * self.alive

    def _around(self, ids: np.ndarray, block: int, *, last: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A unit of the frame, once a row: before all turns of its block or after them."""
        rows = np.arange(len(self.turns))
        start = self.pool.add(ids)
        turn = np.full_like(rows, np.iinfo(np.int64).max if last else -1)
        key = np.stack([rows, np.full_like(rows, block), turn, np.zeros_like(rows)])
        starts = np.zeros((SEGMENTS, len(rows)), dtype=np.int64)
        lengths = np.zeros((SEGMENTS, len(rows)), dtype=np.int64)
        starts[0], lengths[0] = start, len(ids)
        return key, starts, lengths
