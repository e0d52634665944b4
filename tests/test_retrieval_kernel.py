"""From neighbours to probabilities: closed forms, smoothness, mirrors."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tiebreak.judges.retrieval.kernel import Kernel, Near, distribution, weigh

PRIOR = np.array([0.35, 0.35, 0.3])


def near(similarity: list[float], mirrored: list[bool] | None = None) -> Near:
    count = len(similarity)
    sides = [False] * count if mirrored is None else mirrored
    return Near(np.array([similarity]), np.arange(count)[None], np.array([sides]))


def kernel(neighbours: int = 8, bandwidth: float = 0.5, shrinkage: float = 1.0) -> Kernel:
    return Kernel(neighbours=neighbours, mix=0.5, bandwidth=bandwidth, shrinkage=shrinkage)


def test_one_neighbour_that_is_equal_counts_as_much_as_a_prior_of_one_vote() -> None:
    found = distribution(near([1.0]), np.array([[1.0, 0.0, 0.0]]), PRIOR, kernel())
    np.testing.assert_allclose(found, [[(1 + 0.35) / 2, 0.35 / 2, 0.3 / 2]], rtol=1e-15)


def test_weights_are_exponentials_less_that_of_the_first_that_does_not_count() -> None:
    similarity = np.array([[0.9, 0.5, 0.2, 0.1]])
    expected = np.exp((similarity[:, :2] - 1) / 0.5) - np.exp((0.2 - 1) / 0.5)
    np.testing.assert_allclose(weigh(similarity, kernel(2)), expected, rtol=1e-15)


def test_far_from_all_votes_the_prior_is_what_is_said() -> None:
    found = distribution(near([-30.0, -31.0]), np.eye(3)[:2], PRIOR, kernel())
    np.testing.assert_allclose(found, PRIOR[None], atol=1e-20)


def test_without_any_neighbour_too() -> None:
    nothing = Near(np.full((2, 3), np.nan), np.zeros((2, 3), dtype=np.int64), np.zeros((2, 3), dtype=bool))
    np.testing.assert_allclose(distribution(nothing, np.eye(3), PRIOR, kernel()), [PRIOR, PRIOR])


def test_a_mirrored_neighbour_speaks_for_the_other_side() -> None:
    plain = distribution(near([0.8]), np.array([[0.7, 0.1, 0.2]]), PRIOR, kernel())
    turned = distribution(near([0.8], [True]), np.array([[0.7, 0.1, 0.2]]), PRIOR, kernel())
    assert plain[0, 0] > plain[0, 1]
    np.testing.assert_array_equal(plain[:, [1, 0, 2]], turned)


sides = st.lists(st.tuples(st.floats(-1, 1), st.booleans(), st.integers(0, 2)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(sides, st.integers(1, 14), st.floats(0.02, 2), st.floats(1e-6, 1e3))
def test_mirrors_to_the_last_bit_and_probabilities_are_some(
    rows: list[tuple[float, bool, int]], k: int, bandwidth: float, shrinkage: float
) -> None:
    rows = sorted(rows, key=lambda row: -row[0])
    targets = np.eye(3)[[row[2] for row in rows]]
    similarity, turned = [row[0] for row in rows], [row[1] for row in rows]
    chosen = kernel(k, bandwidth, shrinkage)
    given_ = distribution(near(similarity, turned), targets, PRIOR, chosen)
    other = distribution(near(similarity, [not side for side in turned]), targets, PRIOR, chosen)
    np.testing.assert_array_equal(given_[:, [1, 0, 2]], other)
    assert (given_ > 0).all()
    assert abs(given_.sum() - 1) < 1e-12


def test_which_of_two_equally_near_votes_is_the_last_that_counts_changes_nothing() -> None:
    targets = np.eye(3)
    one = Near(np.array([[0.9, 0.4, 0.4]]), np.array([[0, 1, 2]]), np.zeros((1, 3), dtype=bool))
    other = Near(np.array([[0.9, 0.4, 0.4]]), np.array([[0, 2, 1]]), np.zeros((1, 3), dtype=bool))
    first, second = (distribution(one_, targets, PRIOR, kernel(2)) for one_ in (one, other))
    np.testing.assert_array_equal(first, second)


def test_a_rounding_error_at_the_edge_moves_no_probability() -> None:
    targets = np.eye(3)
    one = Near(np.array([[0.9, 0.4, 0.4 - 1e-7]]), np.array([[0, 1, 2]]), np.zeros((1, 3), dtype=bool))
    other = Near(np.array([[0.9, 0.4 - 1e-7, 0.4 - 2e-7]]), np.array([[0, 2, 1]]), np.zeros((1, 3), dtype=bool))
    first, second = (distribution(one_, targets, PRIOR, kernel(2)) for one_ in (one, other))
    assert np.abs(first - second).max() < 1e-6
