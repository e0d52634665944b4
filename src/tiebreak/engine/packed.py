"""Several token sequences laid end to end: one micro-batch without a single padding token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tiebreak.errors import UsageError


class Ragged(Protocol):
    """What is packed: `tiebreak.render.Sequences`, or a list of integer arrays."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Keys:
    """Where attention finds its keys when some sequences take their first tokens from a neighbour.

    Attributes:
        index: int64 (K,): the row of every key in the packed batch, sequence after sequence.
        cu_seqlens: int32 (n + 1,): the bounds of each sequence's keys within `index`.
        max_seqlen: The longest run of keys.
    """

    index: Tensor
    cu_seqlens: Tensor
    max_seqlen: int


@dataclass(frozen=True)
class Packed:
    """One micro-batch. T tokens of n sequences, tensors on one device.

    Attributes:
        input_ids: int64 (T,).
        position_ids: int64 (T,): restart at each sequence; a sequence that reuses a prefix goes on after it.
        cu_seqlens: int32 (n + 1,): the bounds of each sequence's own tokens.
        max_seqlen: The longest run of own tokens.
        bounds: `cu_seqlens` as Python numbers, so that nobody has to ask the device for them.
        reused: For each sequence, how many of its first tokens are those of the sequence before it and were left out.
        keys: Set if any sequence reuses tokens.
    """

    input_ids: Tensor
    position_ids: Tensor
    cu_seqlens: Tensor
    max_seqlen: int
    bounds: tuple[int, ...]
    reused: tuple[int, ...] = field(default=())
    keys: Keys | None = None

    def __len__(self) -> int:
        """How many sequences it holds."""
        return len(self.bounds) - 1

    @property
    def tokens(self) -> int:
        """T: how many tokens are computed."""
        return self.bounds[-1]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Packed:
        """The same micro-batch on another device."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        return self._each(moved)

    def pinned(self) -> Packed:
        """The same micro-batch in page-locked memory, from which a copy to a GPU does not stop the host."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: _Change) -> Packed:
        keys = self.keys
        if keys is not None:
            keys = Keys(change(keys.index), change(keys.cu_seqlens), keys.max_seqlen)
        return replace(
            self, input_ids=change(self.input_ids), position_ids=change(self.position_ids),
            cu_seqlens=change(self.cu_seqlens), keys=keys,
        )  # fmt: skip


class _Change(Protocol):
    def __call__(self, tensor: Tensor, /) -> Tensor: ...


def pack(
    sequences: Ragged, device: torch.device | str = "cpu", *, reuse: Sequence[int] | np.ndarray | None = None
) -> Packed:
    """Lay sequences end to end.

    Args:
        sequences: Token ids of each sequence, none empty.
        device: Where the tensors are to live.
        reuse: For each sequence the number of first tokens it shares with the sequence before it and that are to be
            computed once only (causal models alone can do that). Never two in a row, never a whole sequence.

    Raises:
        UsageError: A sequence is empty, or `reuse` breaks its rules.
    """
    rows = [np.asarray(sequences[i]) for i in range(len(sequences))]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    if not rows or not lengths.all():
        where = f"sequence {int(np.argmin(lengths))}" if rows else "the micro-batch"
        raise UsageError(f"{where} has no tokens", expected="at least one token a sequence")
    taken = np.zeros(len(rows), dtype=np.int64) if reuse is None else np.asarray(reuse, dtype=np.int64)
    _check_reuse(taken, lengths)
    own = lengths - taken
    bounds = np.concatenate([[0], np.cumsum(own)])
    ids = np.concatenate([row[start:] for row, start in zip(rows, taken, strict=True)]).astype(np.int64)
    positions = np.concatenate([np.arange(start, end) for start, end in zip(taken, lengths, strict=True)])
    packed = Packed(
        input_ids=torch.from_numpy(ids),
        position_ids=torch.from_numpy(positions),
        cu_seqlens=torch.from_numpy(bounds.astype(np.int32)),
        max_seqlen=int(own.max()),
        bounds=tuple(bounds.tolist()),
        reused=tuple(taken.tolist()),
        keys=_keys(bounds, taken) if taken.any() else None,
    )
    return packed if torch.device(device).type == "cpu" else packed.to(device)


def _check_reuse(taken: np.ndarray, lengths: np.ndarray) -> None:
    before = np.concatenate([[0], lengths[:-1]])
    wrong = (taken < 0) | (taken >= lengths) | (taken > before)
    wrong[1:] |= (taken[1:] > 0) & (taken[:-1] > 0)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise UsageError(
            f"sequence {at} cannot reuse {taken[at]} tokens",
            expected="fewer than it has, not more than the whole sequence before it has",
        )


def _keys(bounds: np.ndarray, taken: np.ndarray) -> Keys:
    runs = []
    for i, prefix in enumerate(taken):
        own = np.arange(bounds[i], bounds[i + 1])
        runs.append(np.concatenate([np.arange(bounds[i - 1], bounds[i - 1] + prefix), own]) if prefix else own)
    ends = np.concatenate([[0], np.cumsum([len(run) for run in runs])]).astype(np.int32)
    return Keys(torch.from_numpy(np.concatenate(runs)), torch.from_numpy(ends), int(max(len(run) for run in runs)))
