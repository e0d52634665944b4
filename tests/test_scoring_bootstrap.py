"""Intervals: exact sums, coverage by simulation, groups and pairs."""

from __future__ import annotations

import numpy as np
import pytest

from tiebreak.scoring import bootstrap
from tiebreak.scoring.bootstrap import Bootstrap, Estimate, interval, ratio


def test_sums_of_the_data_and_of_the_resamples_are_sums_of_whole_groups() -> None:
    groups = np.array(["x", "y", "x", "z", "y"])
    values = np.array([1.0, 10, 2, 100, 20])
    sums = Bootstrap(groups, resamples=500, seed=3).sum(values)
    assert sums.shape == (501,)
    assert sums[0] == 133
    # Three groups are drawn three times: every resample is made of 3, 30 and 100.
    possible = {a + b + c for a in (3, 30, 100) for b in (3, 30, 100) for c in (3, 30, 100)}
    assert set(sums[1:]) <= possible
    assert len(set(sums[1:])) == 10


def test_sums_by_class_leave_negative_classes_out_and_add_up() -> None:
    rng = np.random.default_rng(0)
    groups, by, values = rng.integers(9, size=60), rng.integers(-1, 4, size=60), rng.normal(size=(60, 2))
    boot = Bootstrap(groups, resamples=20)
    parts = boot.sum(values, by=by, size=4)
    assert parts.shape == (21, 4, 2)
    assert parts[0, 2] == pytest.approx(values[by == 2].sum(axis=0))
    assert parts.sum(axis=1) == pytest.approx(boot.sum(values * (by >= 0)[:, None]))


def test_same_seed_same_interval() -> None:
    rng = np.random.default_rng(1)
    values, groups = rng.normal(size=300), rng.integers(40, size=300)
    assert interval(values, groups, seed=5) == interval(values, groups, seed=5)
    assert interval(values, groups, seed=5) != interval(values, groups, seed=6)


def test_width_follows_the_number_of_groups_not_of_rows() -> None:
    values = np.random.default_rng(2).normal(size=100)
    alone = interval(values, np.arange(100), resamples=2000)
    copied = interval(np.repeat(values, 25), np.repeat(np.arange(100), 25), resamples=2000)
    naive = interval(np.repeat(values, 25), np.arange(2500), resamples=2000)
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low)
    assert naive.high - naive.low < (alone.high - alone.low) / 4


def test_coverage_by_simulation() -> None:
    """Correlated votes: the group interval covers the truth about 95 times in 100, the row interval much less often."""
    rng = np.random.default_rng(3)
    covered = naive = 0
    for trial in range(200):
        groups = np.repeat(np.arange(80), 6)
        values = 1 + np.repeat(rng.normal(size=80), 6) + 0.3 * rng.normal(size=480)
        honest = interval(values, groups, resamples=300, seed=trial)
        rows = interval(values, np.arange(480), resamples=300, seed=trial)
        covered += honest.low <= 1 <= honest.high
        naive += rows.low <= 1 <= rows.high
    assert 0.88 <= covered / 200 <= 0.99
    assert naive / 200 < 0.75


def test_paired_difference_is_narrower_than_two_intervals_and_has_the_right_sign() -> None:
    rng = np.random.default_rng(4)
    worse = rng.normal(1, 1, size=400)
    better = worse - 0.1 + 0.05 * rng.normal(size=400)
    pair = interval(better - worse, np.arange(400))
    assert pair.high < 0
    assert pair.value == pytest.approx(-0.1, abs=0.01)
    one = interval(better, np.arange(400))
    assert pair.high - pair.low < (one.high - one.low) / 5


def test_many_groups_are_bundled_and_the_interval_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).normal(size=20_000)
    whole = interval(values, np.arange(20_000), resamples=400)
    monkeypatch.setattr(bootstrap, "MAX_UNITS", 1000)
    bundled = interval(values, np.arange(20_000), resamples=400)
    assert bundled.value == pytest.approx(whole.value)
    assert bundled.high - bundled.low == pytest.approx(whole.high - whole.low, rel=0.2)
    boot = Bootstrap(np.arange(20_000))
    assert boot.groups == 20_000


def test_a_single_group_has_no_interval() -> None:
    estimate = interval(np.array([1.0, 3]), np.array([7, 7]))
    assert estimate.value == 2
    assert np.isnan([estimate.low, estimate.high]).all()
    assert str(estimate) == "2.0000"


def test_centred_interval_holds_the_value_and_is_never_below_zero() -> None:
    draws = np.concatenate([[0.01], np.random.default_rng(6).normal(0.05, 0.01, 1000)])
    assert Estimate.of(draws).low > 0.01
    centred = Estimate.of(draws, centred=True)
    assert 0 <= centred.low < 0.01 < centred.high


def test_ratio_without_anything_below_is_nan_not_a_warning() -> None:
    assert np.isnan(ratio(np.array([1.0, 0]), np.array([0.0, 0]))).all()
    assert str(Estimate.of(np.array([np.nan, 1.0]))) == "-"
