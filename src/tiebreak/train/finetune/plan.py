"""What a recipe would do with these votes, without doing it: parameters, steps, tokens, memory, time, the first row.

Works offline and at the real size of any model: the network is built on torch's meta device, which knows shapes and
holds no weights.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from torch import nn

from tiebreak import samples
from tiebreak.judges.base import tokenizer
from tiebreak.judges.model import JudgeModel
from tiebreak.render import Renderer
from tiebreak.train.finetune import folding, memory, modelling, preview, self_distilling, shapes, starting, teachers
from tiebreak.train.finetune.collating import count_steps, render
from tiebreak.train.finetune.memory import Memory
from tiebreak.train.finetune.recipe import Recipe
from tiebreak.train.finetune.teachers import Coverage, Teacher
from tiebreak.train.finetune.terms import in_words, terms

SAMPLE: Final = 1000
"""Rows that are rendered to learn how long they are."""

CHARACTERS: Final = 3.6
"""Characters of a token, where the tokenizer is not here: about what English prose and code have."""


@dataclass(frozen=True)
class Parameters:
    """Counts of weights."""

    total: int
    trainable: int
    head: int


@dataclass(frozen=True)
class Work:
    """Steps and tokens.

    Attributes:
        rows: Labelled votes; None where none were given.
        train_rows: Votes of one training, the largest where there are folds.
        validation_rows: Votes held out from it.
        trainings: 1, or the folds.
        steps: Optimiser steps of all trainings together.
        sequences_per_step: Rows a step, times the orders, templates or answers of a row.
        tokens_per_step: On average; without votes, at most.
        micro_batches_per_step: That a step is cut into, over all processes.
        longest: Tokens of the longest sequence seen; without votes, the most that the templates allow.
        truncated: Share of the rows of which something is cut; None where that is not known.
        measured: Whether the tokenizer counted the tokens; otherwise they are guessed from characters.
    """

    rows: int | None
    train_rows: int | None
    validation_rows: int | None
    trainings: int
    steps: int | None
    sequences_per_step: int
    tokens_per_step: int
    micro_batches_per_step: int
    longest: int
    truncated: float | None
    measured: bool

    @property
    def tokens(self) -> int | None:
        """Of all steps, without validation."""
        return None if self.steps is None else self.steps * self.tokens_per_step


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        parameters: Weights.
        work: Steps and tokens.
        memory: Bytes in each process.
        petaflops: Of all steps (10^15 floating-point operations); None without votes.
        seconds: At the given rate; None without votes or without a rate.
        first_row: The first vote as it is read: one text, or two with a siamese judge.
        loss: What is minimised, as a line of text.
        teachers: How far the labels of each teacher reach; empty without teachers or without votes.
        tokenized: Whether the model's own tokenizer made `first_row`; otherwise it is the template's bare text.
        notes: What a person should know, in plain words.
    """

    parameters: Parameters
    work: Work
    memory: Memory
    petaflops: float | None
    seconds: float | None
    first_row: list[str]
    tokenized: bool
    notes: list[str]
    loss: str
    teachers: list[Coverage]

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain values, for JSON."""
        document = asdict(self)
        document["work"]["tokens"] = self.work.tokens
        document["memory"]["total"] = self.memory.total
        return document


def plan(
    recipe: Recipe,
    train: pl.DataFrame | None = None,
    validation: pl.DataFrame | None = None,
    *,
    processes: int = 1,
    rate: float | None = None,
    fold: int | None = None,
) -> Plan:
    """Work out what a run will take.

    Args:
        recipe: The recipe.
        train: Comparisons as `finetune` would get them; None plans a step only.
        validation: Comparisons held out.
        processes: Over how many it would be spread.
        rate: Tokens a second, over all processes, where it is known from a run before.
        fold: The one fold that would be trained; None for all.

    Raises:
        UsageError: The recipe does not fit its model.
        DataError: The votes cannot be used.
    """
    notes: list[str] = starting.notes(recipe)
    recipe, taught = _taught(recipe, fold, notes)
    renderers = _renderers(recipe, notes)
    work = _work(recipe, train, validation, fold, renderers, notes)
    model = modelling.build(recipe, meta=True)
    parameters = count(model)
    flops = None if work.tokens is None else _flops_per_token(model, recipe) * work.tokens / 1e15
    sizes = memory.estimate(model, recipe, processes=processes)
    row = (samples.votes() if train is None else train).head(1)
    if renderers:
        text = preview.rendered(renderers[0], recipe, row)
    else:
        text = preview.untokenised(recipe.templates[0], recipe, row)
    seconds = None if rate is None or work.tokens is None else work.tokens / rate
    loss = in_words(recipe.loss, max(1, len(taught)))
    reach = [] if train is None else [teachers.coverage(one, folding.labelled(train, "training", [])) for one in taught]
    return Plan(parameters, work, sizes, flops, seconds, text, bool(renderers), notes, loss, reach)


def _taught(recipe: Recipe, fold: int | None, notes: list[str]) -> tuple[Recipe, list[Teacher]]:
    """The recipe as it would run, and its teachers; a loss that still waits for its teachers is a note here."""
    known = teachers.read(recipe.data.teachers)
    if not recipe.self_distil and not known and terms(recipe.loss, 1).taught:
        notes.append(f"the preset {recipe.loss.preset} hears teachers, none are named yet (--teacher LABELS); the loss "
                     "is shown for one")  # fmt: skip
        return recipe, []
    settled = teachers.settled(recipe, fold=fold)
    if settled.self_distil:
        count = settled.folds or self_distilling.FOLDS
        notes.append(f"self_distil: before that, {count} folds on the votes alone, which are not counted here")
    return settled, known


def count(model: JudgeModel) -> Parameters:
    """How many weights there are, are trained, and are trained in the head. Frozen twins inside peft count once."""
    own = [(name, p) for name, p in model.named_parameters() if ".original_module." not in name]
    return Parameters(
        total=sum(p.numel() for _, p in own),
        trainable=sum(p.numel() for _, p in own if p.requires_grad),
        head=sum(p.numel() for module in modelling.top(model) for p in module.parameters() if p.requires_grad),
    )


def _renderers(recipe: Recipe, notes: list[str]) -> list[Renderer]:
    if not shapes.here(recipe.base):
        notes.append(f"{recipe.base.name} is not on this machine: shapes are those of {recipe.base.shape}, and tokens "
                     f"are guessed at {CHARACTERS} characters each")  # fmt: skip
        return []
    own = tokenizer(recipe.base)
    return [Renderer(template, own) for template in recipe.templates]


def _work(
    recipe: Recipe, train: pl.DataFrame | None, validation: pl.DataFrame | None, fold: int | None,
    renderers: list[Renderer], notes: list[str],
) -> Work:  # fmt: skip
    longest = max(template.max_length for template in recipe.templates)
    views = 1 if recipe.judge == "siamese" else len(recipe.templates) * (1 + recipe.batches.twin)
    sequences = recipe.batches.rows * views * (2 if recipe.judge == "siamese" else 1)
    if train is None:
        notes.append("without votes: steps are not known, and tokens are the most that there can be")
        tokens = sequences * longest
        micro = math.ceil(tokens / max(recipe.batches.tokens, longest))
        trainings = 1 if fold is not None else max(1, recipe.folds)
        return Work(None, None, None, trainings, None, sequences, tokens, micro, longest, None, measured=False)
    parts, said = folding.parts(recipe, train, validation)
    parts = parts if fold is None else [folding.only(parts, fold)]
    notes += said
    largest = max(parts, key=lambda part: part.train.height)
    lengths, truncated = _lengths(recipe, largest.train, renderers)
    tokens = round(float(lengths.mean()) * sequences)
    held = None if largest.validation is None else largest.validation.height
    return Work(
        rows=folding.labelled(train, "training", []).height,
        train_rows=largest.train.height,
        validation_rows=held,
        trainings=len(parts),
        steps=sum(count_steps(part.train.height, recipe) for part in parts),
        sequences_per_step=sequences,
        tokens_per_step=tokens,
        micro_batches_per_step=math.ceil(tokens / max(recipe.batches.tokens, int(lengths.max()))),
        longest=int(lengths.max()),
        truncated=truncated,
        measured=bool(renderers),
    )


def _lengths(recipe: Recipe, table: pl.DataFrame, renderers: list[Renderer]) -> tuple[np.ndarray, float | None]:
    """Tokens of the sequences of some rows, and the share of rows that are cut."""
    rows = table.sample(min(SAMPLE, table.height), seed=recipe.seed)
    if renderers:
        examples = render(rows, renderers, recipe.judge, twin=False)
        return examples.sequences.lengths, examples.truncated / rows.height
    prompt, a, b = (rows[name].list.join("", ignore_nulls=True).str.len_chars().to_numpy() for name in _TEXTS)
    parts = [prompt + a, prompt + b] if recipe.judge == "siamese" else [prompt + a + b]
    guessed = [
        np.minimum((characters + len(template.instruction + template.suffix)) / CHARACTERS, template.max_length)
        for template in recipe.templates
        for characters in parts
    ]
    return np.ceil(np.concatenate(guessed)), None


_TEXTS: Final = ("prompt", "response_a", "response_b")


def _flops_per_token(model: JudgeModel, recipe: Recipe) -> float:
    """Two operations a weight of every matrix forward, as many for the gradient of its input, and of itself if trained.

    Blocks below the first trained weight need no backward pass; checkpointing computes forward once more. Attention
    scores, a few per cent at these lengths, are left out.
    """
    forward = backward = 0.0
    reached = False
    for block in modelling.blocks(model):
        layers = [module.weight for module in block.modules() if isinstance(module, nn.Linear)]
        size = sum(weight.numel() for weight in layers)
        trained = sum(weight.numel() for weight in layers if weight.requires_grad)
        reached = reached or any(p.requires_grad for p in block.parameters())
        forward += size * (2 if recipe.checkpointing and reached else 1)
        backward += size + trained if reached else 0
    return 2 * (forward + backward)
