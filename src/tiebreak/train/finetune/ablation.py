"""A recipe with and without a change, on the same rows, folds and seeds; each training can be gone on with.

What a training leaves is a table of predictions for the rows that were held out and the fingerprint of all that led to
it, in `OUTPUT/NAME/seed-K`; the judge itself is let go unless it is asked for. A second ablation into the same folder
finds the trainings without the change done.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak import comparisons, predictions, soft_labels, storage
from tiebreak.errors import UsageError
from tiebreak.train.finetune import differences, folding, starting, teachers, working
from tiebreak.train.finetune.differences import Ablation, Rows
from tiebreak.train.finetune.progress import Callback, Said, silence
from tiebreak.train.finetune.recipe import Recipe
from tiebreak.train.finetune.run import finetune

WITHOUT: Final = "without"
REPORT: Final = "ablation.json"

_ROWS: Final = ("train", "validation", "validation_share", "limit", "support_weight")
"""Keys of `data` that decide which rows there are."""


@dataclass(frozen=True)
class Votes:
    """The rows of every training, dealt once.

    Attributes:
        train: With the column `fold` where there are folds.
        validation: Rows held out where there are none.
        held_out: The rows that predictions are for, in their order.
        prior: Class shares of the rows trained on, for each held-out row, shape (rows, 3).
    """

    train: pl.DataFrame
    validation: pl.DataFrame | None
    held_out: pl.DataFrame
    prior: np.ndarray

    def rows(self) -> Rows:
        """The held-out rows as they are measured by."""
        held = self.held_out
        weights = held["weight"].fill_null(1.0).to_numpy()
        return Rows(comparisons.targets(held), weights, folding.groups(held).to_numpy(), self.prior)


def ablate(
    recipe: Recipe,
    changes: Mapping[str, Recipe],
    train: pl.DataFrame,
    validation: pl.DataFrame | None,
    output: Path,
    *,
    seeds: int = 3,
    keep: bool = False,
    resume: bool = True,
    report: Callback = silence,
) -> Ablation:
    """Train a recipe with and without each change, and compare what they say of held-out rows.

    Stopped or killed, the same call goes on. Under torchrun every process calls it.

    Args:
        recipe: Without a change. Its `folds` are used, else the validation rows.
        changes: The recipe with each change, by a name such as "weighting.kind=learning_progress".
        train: Comparisons with labels.
        validation: Comparisons held out; None with folds, or for a share of the groups.
        output: A folder for everything.
        seeds: Trainings of each side and fold, with the seeds `recipe.seed`, + 1, ...
        keep: Whether the judges are kept; they may be large.
        resume: Whether trainings that are there are used; False begins anew.
        report: Told of every event of the trainings.

    Raises:
        UsageError: A change does nothing, or has other rows, folds or seeds.
        StoppedError: The process was asked to stop; what is done is kept.
    """
    check(recipe, changes)
    output, votes = Path(output), deal(recipe, train, validation)
    sides = {WITHOUT: recipe, **changes}
    names = folders(list(sides))
    for folder in (output, *(output / name for name in names.values())):
        storage.make_directory(folder)
    found: dict[str, list[np.ndarray]] = {name: [] for name in sides}
    for number in range(seeds):
        for name, side in sides.items():
            own = side.model_copy(update={"seed": recipe.seed + number})
            place = output / names[name] / f"seed-{own.seed}"
            report(Said(f"seed {number + 1} of {seeds}, {name if name == WITHOUT else f'with {name}'}"))
            scored = _predictions(own, votes, place, keep=keep, resume=resume, report=report)
            found[name].append(predictions.probabilities(scored))
    stacked = {name: np.stack(each) for name, each in found.items()}
    without = stacked.pop(WITHOUT)
    measured = differences.measure(votes.rows(), without, stacked, folds=recipe.folds)
    if _first():
        storage.write_text(output / REPORT, json.dumps(measured.to_dict(), indent=1) + "\n")
    return measured


def check(recipe: Recipe, changes: Mapping[str, Recipe]) -> None:
    """Refuse what would compare different rows, or nothing.

    Raises:
        UsageError: There is such a change, or none at all, or a side wants teachers that it does not have.
    """
    if not changes:
        raise UsageError("no change is named", expected="KEY=VALUE", mend="weighting.kind=learning_progress")
    for side in (recipe, *changes.values()):
        teachers.settled(side)
    for name, changed in changes.items():
        if changed == recipe:
            raise UsageError(f"{name} changes nothing", expected="a value that the recipe does not have")
        moved = [f"data.{key}" for key in _ROWS if getattr(changed.data, key) != getattr(recipe.data, key)]
        moved += [key for key in ("folds", "seed") if getattr(changed, key) != getattr(recipe, key)]
        if moved:
            raise UsageError(
                f"{name} changes {', '.join(moved)}",
                expected="the same rows, folds and seeds on both sides",
                mend=f"--set {moved[0]}=VALUE changes both sides",
            )


def deal(recipe: Recipe, train: pl.DataFrame, validation: pl.DataFrame | None) -> Votes:
    """Which rows are held out when: decided once, by the recipe's own seed, for all sides and seeds.

    Raises:
        DataError: The votes cannot be used.
    """
    todo, _ = folding.parts(recipe, train, validation)
    held, priors = [], []
    for part in todo:
        if part.validation is None:
            raise UsageError("nothing is held out", expected="folds, or votes held out", mend="--folds 3")
        mass = comparisons.targets(part.train) * part.train["weight"].fill_null(1.0).to_numpy()[:, None]
        shares = mass.sum(axis=0) / mass.sum()
        at = np.arange(part.validation.height) if part.order is None else part.order
        held.append(part.validation.with_columns(pl.Series("row", at), pl.lit(part.fold, pl.Int64).alias("fold")))
        priors.append(pl.DataFrame(np.tile(shares, (len(at), 1)), schema=["a", "b", "tie"]))
    both = pl.concat([pl.concat(held), pl.concat(priors)], how="horizontal").sort("row")
    held_out = both.drop("row", "a", "b", "tie")
    prior = both.select("a", "b", "tie").to_numpy()
    if not recipe.folds:
        return Votes(todo[0].train, todo[0].validation, held_out, prior)
    usable = folding.labelled(train, "training", [])
    fold = np.full(usable.height, -1)
    fold[both["row"]] = both["fold"]
    dealt = pl.Series("fold", fold, pl.Int64)
    return Votes(usable.with_columns(dealt.set(dealt < 0, None)), None, held_out, prior)


def folders(names: list[str]) -> dict[str, str]:
    """A folder's name for each side: its words, and a digest of them where they had to be bent."""
    found = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._=-]+", "-", name)[:60]
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        found[name] = name if plain == name else f"{plain}-{digest}"
    return found


def _predictions(
    recipe: Recipe, votes: Votes, place: Path, *, keep: bool, resume: bool, report: Callback
) -> pl.DataFrame:
    """What one training says of the held-out rows: read, or trained for."""
    table, sign = place.with_name(f"{place.name}.parquet"), place.with_name(f"{place.name}.json")
    identity = _identity(recipe, votes)
    if resume and sign.is_file() and table.is_file():
        if json.loads(sign.read_text(encoding="utf-8"))["identity"] == identity:
            _tidy(place, keep)
            return pl.read_parquet(table)
        # The votes or the recipe were changed since: what is there belongs to another question.
        resume = False
    outcome = finetune(recipe, votes.train, votes.validation, place, resume=resume, report=report)
    assert outcome.validation is not None  # noqa: S101 - `deal` saw to it
    scored = predictions.align(outcome.validation, votes.held_out)
    if _first():
        with storage.replacing(table) as aside:
            scored.write_parquet(aside)
        document = {"identity": identity, "metrics": outcome.metrics, "warnings": outcome.warnings}
        storage.write_text(sign, json.dumps(document, indent=1) + "\n")
        _tidy(place, keep)
    return scored


def _tidy(place: Path, keep: bool) -> None:
    if _first() and not keep:
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(working.folder(place), ignore_errors=True)


def _identity(recipe: Recipe, votes: Votes) -> dict[str, Any]:
    """Fingerprints of all that decides what a training says."""
    todo, _ = folding.parts(recipe, votes.train, votes.validation)
    files = [file for named in recipe.data.teachers for file in soft_labels.files(named)]
    taught = {"teachers": [storage.sha256(file) for file in files]} if files else {}
    return {**working.identity(recipe, todo), **starting.identity(recipe), **taught}


def _first() -> bool:
    """Whether this process writes, of those that torchrun has started; between two trainings they are not joined."""
    return os.environ.get("RANK", "0") == "0"
