"""Differences of log-loss over rows and seeds: closed forms, coverage of what is random, and verdicts in words."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tiebreak import scoring
from tiebreak.scoring import Bootstrap
from tiebreak.train.finetune import differences
from tiebreak.train.finetune.differences import Rows, measure

COUNT = 240


def rows(seed: int = 0, count: int = COUNT) -> Rows:
    rng = np.random.default_rng(seed)
    targets = np.eye(3)[rng.integers(0, 3, count)]
    return Rows(targets, rng.integers(1, 4, count).astype(float), rng.integers(0, count // 2, count),
                np.full((count, 3), 1 / 3))  # fmt: skip


def probabilities(held: Rows, gain: np.ndarray) -> np.ndarray:
    """The vote gets exp(gain) times as much as each other class."""
    logits = held.targets * gain[:, None]
    p = np.exp(logits)
    found: np.ndarray = p / p.sum(axis=1, keepdims=True)
    return found


def sides(held: Rows, shift: float, *, seeds: int = 3, noise: float = 0.1, wobble: float = 0.0) -> Any:
    rng = np.random.default_rng(5)
    base = rng.normal(0.5, 1.0, len(held.targets))
    without = [probabilities(held, base + rng.normal(0, noise, len(base))) for _ in range(seeds)]
    changed = [
        probabilities(held, base + shift + wobble * rng.normal() + rng.normal(0, noise, len(base)))
        for _ in range(seeds)
    ]  # fmt: skip
    return np.stack(without), np.stack(changed)


def test_one_seed_is_the_paired_interval_of_the_rows() -> None:
    held = rows()
    without, changed = sides(held, 0.1, seeds=1)
    (found,) = measure(held, without, {"change": changed}, folds=2).changes
    gap = scoring.row_log_loss(changed[0], held.targets) - scoring.row_log_loss(without[0], held.targets)
    assert found.difference == scoring.interval(gap, held.groups, weights=held.weights)
    assert found.differences == [pytest.approx(found.difference.value)]
    assert found.log_loss == pytest.approx(scoring.log_loss(changed[0], held.targets, held.weights))


def test_the_figure_is_the_mean_over_seeds_and_weights() -> None:
    held = rows()
    without, changed = sides(held, 0.1)
    found = measure(held, without, {"change": changed}, folds=0)
    gaps = [
        (held.weights * (scoring.row_log_loss(new, held.targets) - scoring.row_log_loss(old, held.targets))).sum()
        / held.weights.sum()
        for old, new in zip(without, changed, strict=True)
    ]
    (change,) = found.changes
    assert change.differences == pytest.approx(gaps)
    assert change.difference.value == pytest.approx(np.mean(gaps))
    assert change.log_loss - found.without.log_loss == pytest.approx(np.mean(gaps))
    assert (found.rows, found.groups, found.seeds, found.folds) == (COUNT, len(set(held.groups.tolist())), 3, 0)
    assert found.prior_log_loss == pytest.approx(np.log(3))


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.3, differences.HELPS), (-0.3, differences.HURTS), (0.0, differences.UNSEEN)]
)
def test_verdicts(shift: float, verdict: str) -> None:
    held = rows()
    without, changed = sides(held, shift, wobble=0.02)
    (found,) = measure(held, without, {"a change": changed}, folds=2).changes
    assert found.verdict == verdict
    assert found.sentence().startswith(f"a change: {verdict}; log-loss {found.difference.value:+.4f} [")
    assert ("would not be seen here" in found.sentence()) == (verdict == differences.UNSEEN)


def test_seeds_that_disagree_widen_the_interval() -> None:
    """The rows alone would call it a difference; the dice of the training may have made it."""
    held = rows()
    base = np.full(COUNT, 0.5)
    without = np.stack([probabilities(held, base)] * 3)
    changed = np.stack([probabilities(held, base + shift) for shift in (0.35, 0.25, -0.15)])
    (found,) = measure(held, without, {"change": changed}, folds=2).changes
    assert found.difference.value < 0
    assert found.verdict == differences.UNSEEN
    assert "lower in 2 of 3 seeds" in found.sentence()
    pooled = np.mean(
        [scoring.row_log_loss(p, held.targets) - scoring.row_log_loss(without[0], held.targets) for p in changed],
        axis=0,
    )
    assert scoring.interval(pooled, held.groups, weights=held.weights).high < 0


def test_two_sides_that_learned_nothing_say_nothing_about_the_change() -> None:
    held = rows()
    learned, astray = (np.stack([probabilities(held, np.full(COUNT, gain))]) for gain in (0.5, -0.5))
    found = measure(held, learned, {"change": astray}, folds=2)
    assert found.changes[0].verdict == differences.HURTS
    found = measure(held, astray, {"change": np.full_like(astray, 1 / 3)}, folds=2)
    assert found.changes[0].verdict == differences.NOTHING
    assert found.changes[0].difference.high < 0
    assert any("class shares" in note for note in found.notes)


def test_notes_say_what_the_interval_does_not_hold() -> None:
    held = rows()
    without, changed = sides(held, 0.1, seeds=1)
    notes = measure(held, without, {"one": changed, "two": without}, folds=2).notes
    assert any(note.startswith("one seed") for note in notes)
    assert any(note.startswith("2 changes") for note in notes)
    without, changed = sides(held, 0.1)
    assert measure(held, without, {"one": changed}, folds=2).notes == []


def test_nothing_to_resample_gives_no_interval_and_still_json() -> None:
    held = rows()
    alone = Rows(held.targets, held.weights, np.zeros(COUNT), held.prior)
    without, changed = sides(held, 0.3)
    found = measure(alone, without, {"change": changed}, folds=2)
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["changes"][0]["difference"]["low"] is None
    assert document["changes"][0]["verdict"] == differences.UNSEEN
    assert document["sentences"]


def test_the_interval_covers_what_it_should() -> None:
    """Rows, and seeds, are drawn again and again; the true difference is 0."""
    held, hits = rows(count=120), 0
    rng = np.random.default_rng(0)
    for _ in range(100):
        gain = rng.normal(0.5, 1, 120)
        both = [
            np.stack([probabilities(held, gain + rng.normal(0, 0.3, 120) + rng.normal(0, 0.02)) for _ in range(4)])
            for _ in range(2)
        ]
        found = differences.difference(*both, held, Bootstrap(held.groups, resamples=200), 0)
        hits += found.low <= 0 <= found.high
    assert 85 <= hits <= 100
