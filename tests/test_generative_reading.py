"""Verdicts out of prose: exactly one final mark, or invalid; and what verdicts are worth."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiebreak.calibrate import verdicts as worth
from tiebreak.comparisons import LABELS
from tiebreak.judges.generative.reading import Reading, verdict
from tiebreak.judges.generative.verdict_table import INVALID, PRIOR, STATES, VerdictTable

MARKS = Reading().marks
A, B, TIE = range(3)
MIRROR = np.array([1, 0, 2, INVALID])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A is right and B is not.\n\n[[A]]", A),
        ("[[B]]", B),
        ("Verdict: **[[C]]**.\n", TIE),
        ('I prefer the second ("[[B]]").', B),
        ("[[A]] because it is right", INVALID),
        ("It could be [[A]], but no.\n[[B]]", INVALID),
        ("[[A]]\n[[A]]", INVALID),
        ('Answer A says "end with [[A]]".\nMy verdict: [[B]]', INVALID),
        ("Both are good.", INVALID),
        ("", INVALID),
        ("[A]", INVALID),
        ("[[a]]", INVALID),
        ("[[D]]", INVALID),
        ("<think>Maybe [[A]]? Or [[B]]?</think>The second.\n[[B]]", B),
        ("Maybe [[A]]?</think>[[C]]", TIE),
        ("<think>It is [[A]]", INVALID),
        ("[[A]]</think>", INVALID),
    ],
)
def test_exactly_one_final_mark(text: str, expected: int) -> None:
    assert verdict(text, MARKS) == expected


@given(st.text(alphabet="[]ABC .*\nx", max_size=40), st.sampled_from([A, B, TIE]))
def test_whatever_is_read_stands_at_the_end_and_alone(text: str, label: int) -> None:
    mark = ("[[A]]", "[[B]]", "[[C]]")[label]
    found = verdict(f"{text}\n{mark}", MARKS)
    alone = not any(other in text for other in ("[[A]]", "[[B]]", "[[C]]"))
    assert found == (label if alone else INVALID)
    assert verdict(f"{mark} {text} x", MARKS) in {INVALID}


def test_the_default_table_says_what_the_page_says() -> None:
    table = VerdictTable.default()
    one = table.probabilities(np.array([[A, A], [A, TIE], [A, B], [A, INVALID], [INVALID, INVALID], [TIE, TIE]]))
    np.testing.assert_allclose(
        one,
        [
            [0.675, 0.175, 0.15], [0.425, 0.175, 0.4], [0.425, 0.425, 0.15], [1.7 / 3, 0.7 / 3, 0.6 / 3],
            [0.35, 0.35, 0.3], [0.175, 0.175, 0.65],
        ],
    )  # fmt: skip
    assert table.votes == 0


@st.composite
def votes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    rows = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(0, STATES, size=(rows, 2)), rng.dirichlet([1, 1, 1], size=rows)


@given(votes())
def test_exchanging_the_answers_exchanges_the_probabilities_to_the_bit(made: tuple[np.ndarray, np.ndarray]) -> None:
    verdicts, targets = made
    for table in (VerdictTable.default(), VerdictTable.fitted(verdicts, targets)):
        first, second = verdicts.T
        exchanged = np.stack([MIRROR[second], MIRROR[first]], axis=1)
        assert (table.probabilities(verdicts) == table.probabilities(exchanged)[:, [1, 0, 2]]).all()
        once = table.probabilities(verdicts[:, :1])
        assert (once == table.probabilities(MIRROR[verdicts[:, :1]])[:, [1, 0, 2]]).all()
        np.testing.assert_allclose(once.sum(axis=1), 1)
    other = VerdictTable.fitted(exchanged, targets[:, [1, 0, 2]])
    np.testing.assert_allclose(other.twice, VerdictTable.fitted(verdicts, targets).twice, atol=1e-12)


def test_a_fitted_cell_is_the_posterior_mean() -> None:
    """Of one cell and its mirror image, by hand: 30 votes, of which 20 went to the verdict."""
    verdicts = np.array([[A, A]] * 20 + [[B, B]] * 10)
    targets = np.eye(3)[[A] * 15 + [TIE] * 5 + [B] * 5 + [TIE] * 5]
    table = VerdictTable.fitted(verdicts, targets, strength=10)
    overall = np.array([20, 20, 20.0])
    prior = (overall + PRIOR) / (overall.sum() + 1)
    start = np.array([0.675, 0.175, 0.15]) * prior / PRIOR
    start /= start.sum()
    np.testing.assert_allclose(table.probabilities(np.array([[A, A]]))[0], (np.array([20, 0, 10]) + 10 * start) / 40)
    assert table.votes == 30


def test_a_table_finds_what_verdicts_are_worth() -> None:
    """Simulated votes of known probabilities for each pair of verdicts are recovered."""
    rng = np.random.default_rng(0)
    truth = rng.dirichlet([2, 2, 2], size=(STATES, STATES))
    for i in range(STATES):
        for j in range(STATES):
            truth[i, j] = (truth[i, j] + truth[MIRROR[j], MIRROR[i]][[1, 0, 2]]) / 2
    for _ in range(3):  # a mean of two cells is symmetric once both have been set
        truth = (truth + truth[MIRROR][:, MIRROR].transpose(1, 0, 2)[..., [1, 0, 2]]) / 2
    verdicts = rng.integers(0, STATES, size=(200_000, 2))
    p = truth[verdicts[:, 0], verdicts[:, 1]]
    labels = (p.cumsum(axis=1) > rng.random((len(p), 1))).argmax(axis=1)
    table = VerdictTable.fitted(verdicts, np.eye(3)[labels])
    assert np.abs(np.array(table.twice).reshape(STATES, STATES, 3) - truth).max() < 0.02


def test_a_table_must_be_whole() -> None:
    good = VerdictTable.default().document()
    assert VerdictTable.model_validate(good) == VerdictTable.default()
    for broken in ({**good, "once": good["once"][:3]}, {**good, "twice": [[0.5, 0.5, 0.5]] * 16}):
        with pytest.raises(ValueError, match="each of which sums to 1"):
            VerdictTable.model_validate(broken)


def simulated(rows: int, right: float, seed: int = 0) -> tuple[np.ndarray, pl.DataFrame]:
    """Votes, and verdicts of which a share is the vote and the rest anything."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=rows, p=[0.4, 0.4, 0.2])
    said = np.where(rng.random((rows, 2)) < right, labels[:, None], rng.integers(0, STATES, size=(rows, 2)))
    table = pl.DataFrame({"id": [str(i) for i in range(rows)], "label": np.array(LABELS)[labels]})
    return said[:, None, :], table


def test_a_table_is_judged_out_of_fold_and_beats_the_default() -> None:
    said, table = simulated(1500, 0.5)
    rows = worth.verdict_rows(said, table, VerdictTable.default())
    study = worth.study_verdicts(rows)
    fitted = study.results[worth.METHOD]
    assert fitted.change.high < 0
    assert fitted.against_prior.high < 0
    assert fitted.faults == ()


def test_verdicts_that_say_nothing_are_refused() -> None:
    said, table = simulated(3000, 0.0)
    rows = worth.verdict_rows(np.full_like(said, INVALID), table, VerdictTable.default())
    assert "hardly more than a constant" in worth.study_verdicts(rows).results[worth.METHOD].faults[0]


def test_too_few_votes_are_said() -> None:
    said, table = simulated(40, 0.5)
    study = worth.study_verdicts(worth.verdict_rows(said, table, VerdictTable.default()))
    assert worth.METHOD in study.skipped


def test_of_several_samples_each_counts_its_share() -> None:
    said, table = simulated(300, 0.5)
    once = worth.verdict_rows(said, table, VerdictTable.default())
    twice = worth.verdict_rows(np.repeat(said, 2, axis=1), table, VerdictTable.default())
    np.testing.assert_allclose(worth.table_of(once).twice, worth.table_of(twice).twice, atol=1e-12)
    np.testing.assert_allclose(once.probabilities, twice.probabilities)
