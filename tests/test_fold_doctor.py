"""The doctor on folds and curves: what is worth nothing gets weight 0 and is told so; rising curves have a name."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiebreak.errors import DataError, GateError
from tiebreak.train.finetune import doctor
from tiebreak.train.finetune.progress import Figures, Validated

PRIOR = 1.09723
"""Log-loss of the class shares on the votes of S3's run."""

FIRST = {2000: 0.9415, 3000: 0.955, 4000: 0.981, 5000: 1.061, 6000: 1.067, 7000: 1.217}
"""The curve of its first fold as published, while accuracy stayed between .51 and .55."""


def validated(step: int, log_loss: float, accuracy: float) -> Validated:
    figures = Figures(log_loss, accuracy, accuracy, [[5, 1, 1], [1, 5, 1], [1, 1, 5]], PRIOR, 0.1, 0.3, None, 21)
    return Validated(step, 7000, figures, False, 0.0)


def test_the_published_fold_that_went_on_training_is_over_confident() -> None:
    curve = [validated(step, loss, 0.54 if step == 2000 else 0.52) for step, loss in FIRST.items()]
    found = doctor.diagnose(curve, curve[0].figures, [1.0], fold=0)
    assert len(found) == 1
    assert found[0].startswith(
        "fold 0: the validation log-loss rises: 0.9415 at step 2000, 1.2170 at step 7000, worse than uniform (1.0986); "
        "the bundle holds step 2000. The accuracy holds meanwhile (0.540, then 0.520)"
    )
    assert "over-confident" in found[0]


def test_a_curve_that_rises_while_accuracy_falls_is_not_called_over_confident() -> None:
    curve = [validated(1, 0.95, 0.55), validated(2, 1.0, 0.45)]
    (found,) = doctor.diagnose(curve, curve[0].figures, [1.0])
    assert "rises" in found
    assert "over-confident" not in found


def test_the_published_fold_that_was_worse_than_uniform_is_not_kept_because_it_may_still_help() -> None:
    curve = [validated(2000, 1.2291, 0.434)]
    (found,) = doctor.diagnose(curve, curve[0].figures, [1.0], fold=2)
    assert found.startswith("fold 2: no better than the prior and worse than uniform: log-loss 1.2291")
    assert "leave this fold out: nothing says that it may still help" in found
    (single,) = doctor.diagnose(curve, curve[0].figures, [1.0])
    assert "fold" not in single
    # The three folds as published at step 2,000: the gains over the prior are .15573, .14483 and none.
    weights = doctor.fold_weights([0.9415, 0.9524, 1.2291], [PRIOR] * 3)
    assert weights == pytest.approx([0.15573 / 0.30056, 0.14483 / 0.30056, 0], abs=1e-12)


def test_a_fold_must_beat_uniform_too() -> None:
    # A prior that is worse than uniform (shares of the training rows that are not those of the held-out rows).
    assert doctor.fold_weights([1.0, 1.12], [1.2, 1.2]).tolist() == [1, 0]
    assert doctor.worthless(1.12, 1.2) == (
        "worse than uniform: log-loss 1.1200, always predicting the class shares gives 1.2000, three equal "
        "probabilities give 1.0986"
    )
    assert str(doctor.worthless(math.log(3), 1.2)).startswith("no better than uniform")
    assert doctor.worthless(1.0, 1.05) is None


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_log_loss_that_is_no_number_weighs_nothing(loss: float) -> None:
    assert doctor.fold_weights([loss, 1.0], [1.09, 1.09]).tolist() == [0, 1]


def test_folds_that_all_learned_nothing_are_refused_with_their_figures() -> None:
    with pytest.raises(GateError, match=r"no fold is better.*fold 0: no better than the prior.*fold 1: its log-loss"):
        doctor.fold_weights([1.095, math.nan], [1.09, 1.09])
    with pytest.raises(DataError, match="2 log-losses and 1 of the prior"):
        doctor.fold_weights([1.0, 1.0], [1.09])
    with pytest.raises(DataError, match="0 log-losses"):
        doctor.fold_weights([], [])


losses = st.lists(st.floats(0.3, 2.0), min_size=1, max_size=8)


@given(losses, st.floats(0.9, 1.2))
def test_weights_follow_the_gains(drawn: list[float], prior: float) -> None:
    drawn = [*drawn, 0.5]
    weights = doctor.fold_weights(drawn, [prior] * len(drawn))
    assert weights.sum() == pytest.approx(1)
    for loss, weight in zip(drawn, weights, strict=True):
        assert (weight > 0) == (doctor.worthless(loss, prior) is None)
    assert (np.diff(weights[np.argsort(drawn)]) <= 0).all()


def test_a_weighting_that_hardly_acted_is_told() -> None:
    curve = [validated(1, 0.95, 0.55)]
    (found,) = doctor.diagnose(curve, curve[0].figures, [1.0], fold=1, factors=[0.0, 0.004, 0.008])
    assert found.startswith("fold 1: the weighting hardly acted: the factors of the rows vary by 0.0040")
    assert doctor.diagnose(curve, curve[0].figures, [1.0], factors=[0.0, 0.03]) == []
    assert doctor.diagnose(curve, curve[0].figures, [1.0]) == []
