"""Two sequences that begin alike: their common tokens computed once.

The two presentation orders of a row share the instruction and the question, and with a causal model common tokens have
common states. The second sequence of a pair is packed right after the first and leaves its shared tokens out; its own
tokens attend to the first one's keys and go on counting positions where the prefix ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from tiebreak.engine.packed import Ragged
from tiebreak.errors import UsageError

SHORTEST: Final = 32
"""Shorter prefixes are not worth the gathered keys."""


@dataclass(frozen=True)
class Unit:
    """What stays together in one micro-batch: a sequence, or a pair of which the second reuses a prefix.

    Attributes:
        members: One or two indices of sequences.
        shared: Tokens that the second takes from the first.
        tokens: Tokens to compute.
    """

    members: tuple[int, ...]
    shared: int
    tokens: int

    @property
    def reuse(self) -> tuple[int, ...]:
        """`reuse` of `pack` for the members."""
        return (0,) if len(self.members) == 1 else (0, self.shared)


def singles(sequences: Ragged, indices: tuple[int, ...]) -> list[Unit]:
    """Each sequence by itself."""
    return [Unit((i,), 0, len(sequences[i])) for i in indices]


def units(sequences: Ragged, pairs: np.ndarray | None, *, shortest: int = SHORTEST) -> list[Unit]:
    """Every sequence in one unit, in the order of the first member.

    Args:
        sequences: Token ids.
        pairs: (m, 2) indices of sequences that may begin alike, each sequence in one pair at most; None: no pairs.
        shortest: A shorter common prefix is not shared.

    Raises:
        UsageError: A sequence is in two pairs, or an index is not one of a sequence.
    """
    partner: dict[int, int] = {}
    members = np.empty((0, 2), dtype=np.int64) if pairs is None else np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    if members.size and (members.min() < 0 or members.max() >= len(sequences)):
        raise UsageError(f"a pair names a sequence outside 0 .. {len(sequences) - 1}", expected="indices of sequences")
    if len(np.unique(members)) != members.size:
        raise UsageError("a sequence is in two pairs", expected="each sequence in one pair at most")
    for first, second in members.tolist():
        partner[first], partner[second] = second, first
    found: list[Unit] = []
    done: set[int] = set()
    for i in range(len(sequences)):
        if i in done:
            continue
        shared = common_prefix(sequences[i], sequences[partner[i]]) if i in partner else 0
        if shared >= shortest:
            pair = (i, partner[i])
            found.append(Unit(pair, shared, sum(len(sequences[j]) for j in pair) - shared))
            done.add(partner[i])
        else:
            found += singles(sequences, (i,))
    return found


def common_prefix(first: np.ndarray, second: np.ndarray) -> int:
    """How many first tokens two sequences have in common; at least one of the second is left, its verdict."""
    n = min(len(first), len(second) - 1)
    differs = first[:n] != second[:n]
    return int(np.argmax(differs)) if differs.any() else n
