"""What a job computes, how long that takes and what it costs: estimates from sizes, before anything has run.

    arithmetic   tokens x operations a token, from the shape of the network (`networks`)
    hours        arithmetic / (GPUs x peak rate of one x share of it that is reached)
    cost         hours x GPUs x price of one for an hour

What is left out: the loading of models, jobs that wait in the queue, attention scores (a few per cent at 1,024
tokens), and everything that runs no network: importing, audits, calibrations, the ladder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from tiebreak.budget import gpus, networks
from tiebreak.budget.networks import Size
from tiebreak.flow.node import Node
from tiebreak.flow.rows import Rows
from tiebreak.flow.schema import Assume, Flow
from tiebreak.train.finetune import shapes
from tiebreak.train.finetune.recipe import Recipe

CALIBRATION: Final = 3
"""Forward passes that a quantiser makes over its calibration rows: statistics, and each block before and after."""


@dataclass(frozen=True)
class Work:
    """What a job reads and computes.

    Attributes:
        rows: Comparisons; None where that is not known.
        steps: Of an optimiser.
        tokens: That go through a network, forward or in a step.
        petaflops: 10^15 operations of all its GPUs together.
        alone: Of these, the ones that a single GPU does while the others wait.
        share: Of the peak rate, that is reached.
        weights: Bytes of weights and optimiser on each GPU; activations come on top.
    """

    rows: int | None = None
    steps: int | None = None
    tokens: float = 0.0
    petaflops: float = 0.0
    alone: float = 0.0
    share: float = 1.0
    weights: int | None = None


@dataclass(frozen=True)
class Estimate:
    """What a job takes.

    Attributes:
        work: What it computes.
        hours: Of wall-clock time; None where the rate of its machine is not known.
        gpu_hours: Hours times GPUs.
        cost: In the money of `resources.price`; None without a price.
    """

    work: Work
    hours: float | None
    gpu_hours: float
    cost: float | None


def estimate(node: Node, nodes: Mapping[str, Node], flow: Flow, rows: Rows) -> Estimate:
    """What a job takes.

    Args:
        node: The job.
        nodes: All jobs by name: whose judge is used is found among those that it rests on.
        flow: The flow.
        rows: How many rows its tables have, and how long they are.
    """
    done = _work(node, nodes, flow, rows)
    asked = node.resources
    rate = _teraflops(node)
    hours = None
    if not done.petaflops:
        hours = 0.0
    elif rate is not None:
        one = rate * done.share * 3.6  # PFLOP an hour
        hours = (done.petaflops - done.alone) / (one * max(node.gpus, 1)) + done.alone / one
    gpu_hours = (hours or 0.0) * node.gpus
    cost = None
    if asked.price is not None and hours is not None:
        cost = asked.price * (gpu_hours if node.gpus else hours)
    return Estimate(done, hours, gpu_hours, cost)


def _teraflops(node: Node) -> float | None:
    """The peak rate of one GPU of a job, or of its cores where it has none."""
    if not node.gpus:
        return gpus.CORE * node.threads
    found = gpus.find(node.resources.gpu or "")
    return None if found is None else found.teraflops


def _work(node: Node, nodes: Mapping[str, Node], flow: Flow, rows: Rows) -> Work:
    if node.stage in {"pretrain", "teacher", "student"} and node.recipe is not None:
        return _training(node.recipe, rows.pairs if node.stage == "pretrain" else None, node, flow, rows)
    if node.stage == "label":
        return _labelling(node, nodes, flow, rows)
    if node.stage in {"predict", "average", "merge", "compress"} and node.name.partition("-")[0] != "blend":
        return _judging(node, nodes, flow, rows)
    return Work(rows=rows.handled(node))


def _training(recipe: Recipe, pairs: int | None, node: Node, flow: Flow, rows: Rows) -> Work:
    """A training: its steps, its validations, and the held-out rows that the finished bundle scores, by one GPU."""
    size = _size(recipe)
    known, held = rows.trained(node, recipe) if pairs is None else _parted(pairs, recipe)
    if known is None:
        return Work()
    steps = math.ceil(round(recipe.epochs * known, 6) / recipe.batches.rows)
    steps = max(1, steps if recipe.max_steps is None else min(steps, recipe.max_steps))
    views = len(recipe.templates) * (1 + recipe.batches.twin) if recipe.judge != "siamese" else 2
    each = rows.tokens(recipe)
    trained = steps * recipe.batches.rows * views * each
    every = recipe.evaluation.every
    validations = math.ceil(1 / every) if every < 1 else math.ceil(steps / every)
    scored = min(held, recipe.evaluation.rows or held)
    validated = validations * scored * (2 if recipe.evaluation.swap else 1) * each
    finished = held * 2 * each
    work = Work(rows=known, steps=steps, tokens=trained + validated + finished, share=flow.assume.training)
    if size is None:
        return work
    alone = finished * size.forward / 1e15
    flops = (trained * size.training + validated * size.forward) / 1e15 + alone
    return replace(work, petaflops=flops, alone=alone if node.gpus > 1 else 0.0, weights=size.training_bytes)


def _parted(pairs: int, recipe: Recipe) -> tuple[int, int]:
    held = round(pairs * recipe.data.validation_share)
    return pairs - held, held


def _labelling(node: Node, nodes: Mapping[str, Node], flow: Flow, rows: Rows) -> Work:
    """Each vote by the one fold that has not seen it, rows of no fold by all of them; both orders; a shard its part."""
    recipe = _judge(node, nodes)
    folds = flow.data.folds
    if rows.train is None:
        return Work()
    judged = rows.train + folds * (rows.test or 0) + folds * (rows.pool or 0)
    shards = _shards(node)
    return _forward(recipe, round(judged / shards), 2, flow.assume, rows)


def _shards(node: Node) -> int:
    words = node.command
    return int(words[words.index("--shard") + 1].partition("/")[2]) if "--shard" in words else 1


def _judging(node: Node, nodes: Mapping[str, Node], flow: Flow, rows: Rows) -> Work:
    """Test rows judged once or twice; validation rows by each candidate; a quantiser's rows and its report."""
    recipe, assume = _judge(node, nodes), flow.assume
    if node.stage == "predict":
        if rows.test is None:
            return Work()
        orders = 1 if "none" in node.command else 2
        return _forward(recipe, rows.test, orders, assume, rows, longest=flow.predict.max_length)
    if rows.validation is None:
        return Work()
    if node.stage == "average":
        # Four candidates, and each fold's own judge for the mean of probabilities.
        return _forward(recipe, rows.validation, 2 * (4 + flow.data.folds), assume, rows)
    work = _forward(recipe, rows.validation, 2 * 2, assume, rows)
    if node.stage == "compress":
        extra = _forward(recipe, flow.compress.rows, CALIBRATION, assume, rows)
        slower = extra.petaflops * assume.judging / assume.compressing
        return replace(work, tokens=work.tokens + extra.tokens, petaflops=work.petaflops + slower)
    return work


def _forward(
    recipe: Recipe | None, rows: int, orders: int, assume: Assume, known: Rows, longest: int | None = None
) -> Work:
    if recipe is None:
        return Work(rows=rows)
    size = _size(recipe)
    tokens = rows * orders * known.tokens(recipe, longest) * (2 if recipe.judge == "siamese" else 1)
    if size is None:
        return Work(rows=rows, tokens=tokens)
    held = size.weight_bytes
    return Work(rows=rows, tokens=tokens, petaflops=tokens * size.forward / 1e15, share=assume.judging, weights=held)


def _judge(node: Node, nodes: Mapping[str, Node]) -> Recipe | None:
    """The recipe of the judge that a job uses: of the nearest training that its command's judges come from."""
    judges = [nodes[name] for name in node.inputs if nodes[name].stage not in {"data", "combine", "audit"}]
    for each in judges:
        found = each.recipe or _judge(each, nodes)
        if found is not None:
            return found
    return None


def _size(recipe: Recipe) -> Size | None:
    settings = shapes.settings(recipe.base)
    return None if settings is None else networks.size(settings, recipe)
