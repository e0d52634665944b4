"""Cross-fitting: what is learned from votes is learned for each fold of rows from the votes of the other folds.

Calibrations and weights are few numbers fitted to many votes; even so a label that has seen its row's own vote would
tell the student a little of it. Here no label has.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np

from tiebreak import calibrate, dealing, pooling
from tiebreak.calibrate.families import FAMILIES
from tiebreak.calibrate.nested import fit_rows
from tiebreak.calibration import Calibration
from tiebreak.errors import DataError
from tiebreak.teach.combining.opinions import Opinions

FOLDS: Final = 5
AS_IS: Final = "none"


@dataclass(frozen=True)
class Recipe:
    """What makes one label of several opinions.

    Attributes:
        calibrations: One a teacher; None leaves its probabilities as they are.
        equivariant: Of each teacher, whether its map is averaged over both orders.
        weights: On the simplex, of the calibrated logits.
    """

    calibrations: tuple[Calibration | None, ...]
    equivariant: tuple[bool, ...]
    weights: np.ndarray

    def calibrated(self, p: np.ndarray) -> np.ndarray:
        """The opinions after calibration, shape (teachers, rows, 3). Exactly mirrored where they are and may be."""
        return np.stack([
            opinion if map_ is None else map_.apply_equivariant(opinion) if both else map_.apply(opinion)
            for opinion, map_, both in zip(p, self.calibrations, self.equivariant, strict=True)
        ])  # fmt: skip


@dataclass(frozen=True)
class Crossed:
    """Opinions after calibration, and weights, each row's without its own vote.

    Attributes:
        calibrated: Shape (teachers, rows, 3).
        weights: Shape (rows, teachers): the fitted weights that a row gets.
        recipe: Fitted on all votes: what a row without a vote gets.
    """

    calibrated: np.ndarray
    weights: np.ndarray
    recipe: Recipe


def cross_fit(opinions: Opinions, family: str, *, force: bool, seed: int) -> Crossed:
    """Fit a recipe for each fold of the rows with votes on the others, and one on all for the rest.

    Raises:
        DataError: Too few votes for the family (`force` allows that), or for folds.
    """
    used = opinions.fitting
    equivariant = tuple(calibrate.is_equivariant(table) for table in opinions.tables.values())
    if not used.any():
        return _unfitted(opinions, family, equivariant)
    fold = _folds(opinions, used, seed)
    recipe = _fit(opinions, used, family, equivariant, force=force, seed=seed)
    calibrated = recipe.calibrated(opinions.p)
    weights = np.tile(recipe.weights, (len(fold), 1))
    for number in np.unique(fold[fold >= 0]):
        inside = fold == number
        other = _fit(opinions, used & ~inside, family, equivariant, force=force, seed=seed)
        calibrated[:, inside] = other.calibrated(opinions.p[:, inside])
        weights[inside] = other.weights
    return Crossed(calibrated, weights, recipe)


def _unfitted(opinions: Opinions, family: str, equivariant: tuple[bool, ...]) -> Crossed:
    """Without votes there is nothing to fit: opinions as they are, equal weights."""
    if family != AS_IS:
        raise DataError(
            f"no vote to fit {family} on",
            expected="rows with votes that no teacher was trained on",
            mend="--calibrate none",
        )
    count, rows = opinions.p.shape[:2]
    recipe = Recipe((None,) * count, equivariant, np.full(count, 1 / count))
    return Crossed(opinions.p.copy(), np.full((rows, count), 1 / count), recipe)


def _fit(
    opinions: Opinions, rows: np.ndarray, family: str, equivariant: tuple[bool, ...], *, force: bool, seed: int
) -> Recipe:
    targets, weights = opinions.targets[rows], opinions.weights[rows]
    maps: list[Calibration | None] = []
    for p in opinions.p:
        if family == AS_IS:
            maps.append(None)
            continue
        known = calibrate.Rows.of(p[rows], targets, opinions.groups[rows], weights)
        known.check_enough(FAMILIES[family], force=force)
        maps.append(fit_rows(known, FAMILIES[family], seed)[0])
    recipe = Recipe(tuple(maps), equivariant, np.full(len(maps), 1 / len(maps)))
    calibrated = recipe.calibrated(opinions.p[:, rows])
    fitted = pooling.best_weights(calibrated, targets, weights, space="logits")
    return Recipe(recipe.calibrations, equivariant, fitted)


def _folds(opinions: Opinions, used: np.ndarray, seed: int) -> np.ndarray:
    """The fold of each row that anything is fitted on, -1 elsewhere: whole groups, dealt without a look at the votes.

    Not the folds of the teachers: there each fold's labels would be calibrated by what was learned of other teachers.
    """

    def draw(name: str) -> bytes:
        return hashlib.blake2b(f"{seed}\n{name}".encode(), digest_size=8).digest()

    dealt = np.full(len(used), -1)
    mass = np.ones((int(used.sum()), 1))
    dealt[used] = dealing.deal(opinions.groups[used], mass, [1 / FOLDS] * FOLDS, draw=draw)
    return dealt
