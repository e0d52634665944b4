"""From votes to optimiser steps: which rows a step sees, and how they are cut into micro-batches.

A step has exactly `batches.rows` rows. Each row brings all its sequences (its swapped twin, each template) into that
very step. The order is made whole at the start from the seed, so that a step is a number and nothing else: a run that
goes on from step 120 asks for step 120. Memory decides only how a step is cut (`batches.tokens`), never what is in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import polars as pl

from tiebreak import comparisons
from tiebreak.engine import microbatches
from tiebreak.render import Rendered, Renderer, Sequences
from tiebreak.train.finetune.recipe import Batches, Recipe

MEGA: Final = 50
"""Steps whose rows are sorted together where lengths are grouped: large enough to sort well, small enough to mix."""


@dataclass(frozen=True)
class Examples:
    """Votes as token ids. A view of a row is one rendering of it: an order of the answers, a template.

    Attributes:
        sequences: All sequences of all views.
        members: Shape (rows, views, width): which sequences a view consists of; 1 for a classifier, 2 for a siamese.
        targets: Shape (rows, views, 3), float32, mirrored where the view is.
        weights: Shape (rows,), float64.
        truncated: Rows of which some text was cut.
        teachers: Probabilities of shape (rows, views, teachers, 3), float32, mirrored where the view is; 0 teachers
            where there are none.
    """

    sequences: Sequences
    members: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    truncated: int = 0
    teachers: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.members)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each view, shape (rows, views)."""
        total: np.ndarray = self.sequences.lengths[self.members].sum(axis=2)
        return total


def render(
    table: pl.DataFrame, renderers: Sequence[Renderer], judge: str, *, twin: bool, teachers: np.ndarray | None = None
) -> Examples:
    """Render votes for a judge.

    Args:
        table: Validated comparisons.
        renderers: One a template.
        judge: "classifier", "siamese" or "generative".
        twin: Whether each row is also rendered with its answers swapped. A siamese judge is swap-equivariant: the
            twin's loss and gradient are those of the row, so none is made.
        teachers: Probabilities of shape (rows, teachers, 3): what each teacher says of each row.
    """
    targets = np.nan_to_num(comparisons.targets(table)).astype(np.float32)
    taught = np.zeros((table.height, 0, 3), np.float32) if teachers is None else teachers.astype(np.float32)
    weights = table["weight"].fill_null(1.0).to_numpy().astype(np.float64)
    rows = table.height
    if judge == "siamese":
        rendered = renderers[0].render_answers(
            table["prompt"].to_list() * 2, table["response_a"].to_list() + table["response_b"].to_list()
        )
        members = np.arange(2 * rows).reshape(2, rows).T[:, None, :]
        cut_rows = rendered.truncated.reshape(2, rows).any(axis=0)
        return Examples(
            rendered.sequences, members, targets[:, None], weights, int(cut_rows.sum()), taught[:, None]
        )  # fmt: skip
    parts: list[Rendered] = []
    for renderer in renderers:
        parts += renderer.render_both(table) if twin else [renderer.render(table)]
    views = len(parts)
    members = np.arange(views * rows).reshape(views, rows).T[:, :, None]
    mirrored = (targets, targets[:, [1, 0, 2]]) if twin else (targets,)
    also = (taught, taught[..., [1, 0, 2]]) if twin else (taught,)
    return Examples(
        Sequences.concat(part.sequences for part in parts), members,
        np.stack(mirrored * len(renderers), axis=1), weights,
        int(np.logical_or.reduce([part.truncated for part in parts]).sum()),
        np.stack(also * len(renderers), axis=1),
    )  # fmt: skip


def count_steps(rows: int, recipe: Recipe) -> int:
    """Optimiser steps of a run over so many rows. The last step is filled up with rows of the next pass."""
    steps = math.ceil(round(recipe.epochs * rows, 6) / recipe.batches.rows)
    return max(1, steps if recipe.max_steps is None else min(steps, recipe.max_steps))


def order(rows: int, steps: int, per_step: int, seed: int, lengths: np.ndarray | None = None) -> np.ndarray:
    """The rows of each step: pass after pass over all rows, each pass shuffled anew.

    Args:
        rows: How many there are.
        steps: How many steps.
        per_step: Rows a step.
        seed: Of the shuffles.
        lengths: Tokens of each row: rows of like length then share a step. Rows are sorted within `MEGA` steps and
            the steps shuffled, so that no step hangs on the length of its neighbours.

    Returns:
        Row numbers of shape (steps, per_step).
    """
    needed = steps * per_step
    passes = [np.random.default_rng([seed, number]).permutation(rows) for number in range(math.ceil(needed / rows))]
    stream = np.concatenate(passes)[:needed]
    if lengths is None:
        return stream.reshape(steps, per_step)
    grouped = []
    for number, start in enumerate(range(0, needed, MEGA * per_step)):
        mega = stream[start : start + MEGA * per_step]
        by_length = mega[np.argsort(-lengths[mega], kind="stable")].reshape(-1, per_step)
        grouped.append(by_length[np.random.default_rng([seed, number, 1]).permutation(len(by_length))])
    return np.concatenate(grouped)


@dataclass(frozen=True)
class MicroBatch:
    """What goes through the model at once.

    Attributes:
        sequences: Its sequences.
        pairs: Shape (rows, 2): which two sequences make a row of a siamese judge; None for a classifier.
        targets: Shape (rows, 3), float32.
        weights: Shape (rows,), float32. Over all micro-batches and processes of a step they sum to 1.
        teachers: Shape (rows, teachers, 3), float32.
        rows: Shape (rows,): which row of the step each one is a view of; -1 in a spare micro-batch.
    """

    sequences: Sequences
    pairs: np.ndarray | None
    targets: np.ndarray
    weights: np.ndarray
    teachers: np.ndarray | None
    rows: np.ndarray


class Steps:
    """The steps of a run, by number: this process's micro-batches of each.

    Args:
        examples: The votes.
        order: From `order`.
        batches: How a step is cut.
        rank: Number of this process.
        world: Number of processes. All get the same number of micro-batches (a spare one has weight 0), because
            sharded weights are gathered by all of them together.
    """

    def __init__(self, examples: Examples, order: np.ndarray, batches: Batches, *, rank: int = 0, world: int = 1):
        self._examples = examples
        self._order = order
        self._batches = batches
        self._rank = rank
        self._world = world
        self._lengths = examples.lengths

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, step: int) -> dict[str, Any]:
        """`micro_batches` of this process, and `rows`, their `row_weights`, and `tokens` over all processes."""
        rows = self._order[step]
        views = self._lengths.shape[1]
        number = np.repeat(np.arange(len(rows)), views)
        units = np.stack([rows[number], np.tile(np.arange(views), len(rows)), number], axis=1)
        lengths = self._lengths[units[:, 0], units[:, 1]]
        total = self._examples.weights[rows].sum()
        weights = self._examples.weights[units[:, 0]] / (views * max(total, np.finfo(np.float32).tiny))
        shares = [
            [share[part] for part in cut(lengths[share], self._batches.tokens, self._batches.packing)]
            for share in deal(lengths, self._world)
        ]
        mine = [self._micro_batch(units[part], weights[part]) for part in shares[self._rank]]
        spare = units[[int(lengths.argmin())]] * [1, 1, 0] - [0, 0, 1]
        missing = max(len(parts) for parts in shares) - len(mine)
        mine += [self._micro_batch(spare, np.zeros(1))] * missing
        of_rows = self._examples.weights[rows]
        return {"micro_batches": mine, "rows": len(rows), "row_weights": of_rows, "tokens": int(lengths.sum())}

    def _micro_batch(self, units: np.ndarray, weights: np.ndarray) -> MicroBatch:
        members = self._examples.members[units[:, 0], units[:, 1]]
        return MicroBatch(
            self._examples.sequences.pick(members.reshape(-1)),
            np.arange(members.size).reshape(members.shape) if members.shape[1] == 2 else None,
            self._examples.targets[units[:, 0], units[:, 1]],
            weights.astype(np.float32),
            None if self._examples.teachers is None else self._examples.teachers[units[:, 0], units[:, 1]],
            units[:, 2],
        )


def deal(lengths: np.ndarray, world: int) -> list[np.ndarray]:
    """Deal the sequences of a step to processes, to and fro by length, so that each has about as many tokens."""
    if world == 1:
        return [np.arange(len(lengths))]
    ranked = np.argsort(-lengths, kind="stable")
    turn = np.arange(len(ranked)) % (2 * world)
    owner = np.minimum(turn, 2 * world - 1 - turn)
    return [ranked[owner == process] for process in range(world)]


def cut(lengths: np.ndarray, tokens: int, packing: Literal["padding_free", "padded"]) -> list[np.ndarray]:
    """Cut sequences into micro-batches of at most so many tokens, padding counted; a longer sequence stands alone."""
    if packing == "padding_free":
        return microbatches(lengths, tokens) if len(lengths) else []
    parts: list[list[int]] = []
    for index in np.argsort(-lengths, kind="stable"):
        if parts and lengths[parts[-1][0]] * (len(parts[-1]) + 1) <= tokens:
            parts[-1].append(int(index))
        else:
            parts.append([int(index)])
    return [np.array(part) for part in parts]
