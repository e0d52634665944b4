"""Dealing rows to parts: whole groups, with what they hold spread in proportion to the parts' shares.

One greedy deal for everybody. Callers differ in what a row holds (`mass`), in whether scarce columns count as much as
common ones (`standardised`), and in the hash that orders groups of one size (`draw`). These stay apart on purpose: a
deal is part of a published split or of a run that is gone on with, so each caller's must never change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tiebreak.errors import DataError


def deal(
    groups: Sequence[str] | np.ndarray, mass: np.ndarray, shares: Sequence[float], *, draw: Callable[[str], bytes],
    standardised: bool = False,
) -> np.ndarray:  # fmt: skip
    """The number of the part each row goes to.

    Large groups go first, each to the part whose filling it makes least uneven; among groups of one size those with the
    lesser `draw`. So neither the order of rows nor that of groups matters.

    Args:
        groups: The group of each row, shape (rows,).
        mass: What is spread, shape (rows, columns): such as the probability of each label. Its sum over the columns is
            the size of a row.
        shares: The wanted share of each part; their sum is 1.
        draw: A digest of a group's name (and of a seed).
        standardised: Whether the size is spread as one more column, and each column c counts 1 / sqrt(total of c): a
            scarce label is spread as carefully as a common one.

    Returns:
        Part numbers of shape (rows,).

    Raises:
        DataError: There are fewer groups than parts.
    """
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < len(shares):
        raise DataError(
            f"{len(names)} groups of rows for {len(shares)} parts",
            expected="at least one group a part",
            mend="fewer parts, or rows of more groups (equal or nearly equal texts are one group)",
        )
    held = np.zeros((len(names), mass.shape[1]))
    np.add.at(held, codes, mass)
    size, turns = held.sum(axis=1), [draw(str(name)) for name in names]
    order = sorted(range(len(names)), key=lambda group: (-size[group], turns[group]))
    owner = np.empty(len(names), np.int64)
    owner[order] = _greedy(_standardised(held, size)[order] if standardised else held[order], shares)
    dealt: np.ndarray = owner[codes]
    return dealt


def _standardised(held: np.ndarray, size: np.ndarray) -> np.ndarray:
    columns = np.column_stack([size, held])
    totals = columns.sum(axis=0)
    # A column of total 0 is all zeros; any weight will do.
    scaled: np.ndarray = columns / np.maximum(totals, 1) * np.sqrt(totals / max(totals[0], 1))
    return scaled


def _greedy(held: np.ndarray, shares: Sequence[float]) -> list[int]:
    """Deal groups, given as rows, in order; each goes where the sum of squared fillings over shares grows least."""
    filled = np.zeros((len(shares), held.shape[1]))
    wanted = np.asarray(shares)
    parts = []
    for group in held:
        growth = (group * (2 * filled + group)).sum(axis=1) / wanted
        part = int(growth.argmin())
        filled[part] += group
        parts.append(part)
    return parts
