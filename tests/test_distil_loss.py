"""The losses with teachers: each preset against a closed form and against torch's own modules, with its gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from tiebreak.train.finetune.loss import Terms, cross_entropy, loss, terms
from tiebreak.train.finetune.recipe import Loss

PRESETS = ("cross_entropy", "blackpearl", "wsdm1", "hinton", "conflict")


def rows(count: int = 6, teachers: int = 2, *, soft: bool = False, seed: int = 0) -> tuple[Tensor, ...]:
    """Logits, targets, weights, teachers."""
    rng = np.random.default_rng(seed)
    targets = rng.dirichlet([1, 1, 1], count) if soft else np.eye(3)[rng.integers(0, 3, count)]
    return tuple(
        torch.tensor(values, dtype=torch.float32)
        for values in (
            rng.normal(size=(count, 3)) * 2, targets, rng.dirichlet(np.ones(count)),
            rng.dirichlet([0.7, 0.7, 0.7], (count, teachers)),
        )
    )  # fmt: skip


def by_torch(logits: Tensor, targets: Tensor, weights: Tensor, teachers: Tensor, chosen: Terms) -> Tensor:
    """The same loss a row and a teacher at a time, by torch's own functions in float64."""
    total = torch.zeros((), dtype=torch.float64)
    t = chosen.temperature
    for row in range(len(logits)):
        z, y = logits[row : row + 1].double(), targets[row : row + 1].double()
        value = chosen.cross_entropy * functional.cross_entropy(z, y)
        divisor = chosen.cross_entropy
        for teacher in teachers[row].double():
            if chosen.conflict is not None and (teacher * y[0]).sum() < chosen.conflict:
                continue
            softened = torch.softmax(torch.log(teacher) / t, dim=0)[None]
            kl = functional.kl_div(torch.log_softmax(z / t, dim=1), softened, reduction="batchmean")
            cosine = functional.cosine_embedding_loss(torch.softmax(z, dim=1), teacher[None], torch.ones(1))
            value = value + chosen.kl * t**2 * kl + chosen.cosine * cosine
            divisor += chosen.kl + chosen.cosine
        total = total + weights[row].double() * value / divisor
    return total


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_in_closed_form(preset: str) -> None:
    """One row, one teacher, student (1/2, 1/4, 1/4), teacher (1/4, 1/4, 1/2), vote a."""
    student, teacher = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.25, 0.5])
    ce, cosine = math.log(2), 1 - 0.3125 / 0.375
    kl = 0.5 * math.log(2) - 0.25 * math.log(2)
    # At temperature 2 probabilities go by their square roots: (r, 1, 1) / (2 + r) with r the root of 2.
    r = math.sqrt(2)
    kl_2 = (r - 1) / (2 + r) * math.log(r)
    expected = {
        "cross_entropy": ce,
        "blackpearl": (ce + kl + cosine) / 3,
        "wsdm1": (0.5 * ce + kl + cosine) / 2.5,
        "hinton": 0.7 * 4 * kl_2 + 0.3 * ce,
        "conflict": ce,  # the teacher gives the vote 1/4, less than 0.3
    }[preset]
    found = loss(
        torch.tensor(student).log()[None], torch.tensor([[1.0, 0, 0]]), torch.ones(1),
        Loss(preset=preset, alpha=0.7), torch.tensor(teacher)[None, None],
    )  # fmt: skip
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_the_formulas_of_the_winners() -> None:
    """BlackPearl divides five equal terms by five; WSDM's first halves the vote and divides by 2.5."""
    assert terms(Loss(preset="blackpearl"), 2) == Terms(1, 1, 1, 1, None)
    assert terms(Loss(preset="wsdm1"), 1) == Terms(0.5, 1, 1, 1, None)
    assert terms(Loss(preset="hinton", alpha=0.6), 3) == Terms(pytest.approx(0.4), pytest.approx(0.2), 0, 2, None)
    assert terms(Loss(preset="conflict"), 2) == Terms(1, 1, 1, 1, 0.3)
    assert terms(Loss(preset="conflict", conflict=0.1, kl=3, temperature=2), 2) == Terms(1, 3, 1, 2, 0.1)
    assert terms(Loss(kl=3, cosine=3), 1) == Terms(1, 3, 3, 1, None)


CHOICES: list[dict[str, Any]] = [
    *({"preset": preset} for preset in PRESETS),
    {"preset": "hinton", "temperature": 5.0, "alpha": 0.9},
    {"preset": "conflict", "conflict": 0.5, "temperature": 3.0},
    {"kl": 3.0, "cosine": 3.0},
    {"preset": "wsdm1", "cross_entropy": 0.0, "temperature": 0.5},
]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_loss_and_gradient_against_torch(choice: dict[str, Any], count: int, soft: bool) -> None:
    logits, targets, weights, teachers = rows(12, count, soft=soft, seed=count)
    chosen = Loss(**choice)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = loss(ours, targets, weights, chosen, teachers)
    expected = by_torch(theirs, targets, weights, teachers, terms(chosen, count))
    assert found.item() == pytest.approx(expected.item(), abs=2e-6)
    torch.testing.assert_close(
        torch.autograd.grad(found, ours)[0], torch.autograd.grad(expected, theirs)[0], atol=2e-6, rtol=1e-5
    )


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_a_swapped_row_has_the_loss_of_the_row(choice: dict[str, Any]) -> None:
    logits, targets, weights, teachers = rows(40, soft=True)
    swapped = (x[..., [1, 0, 2]] for x in (logits, targets, teachers))
    one = loss(logits, targets, weights, Loss(**choice), teachers)
    z, y, t = swapped
    assert float(loss(z, y, weights, Loss(**choice), t)) == pytest.approx(one.item(), abs=1e-6)


@given(st.lists(st.floats(0.001, 1), min_size=3, max_size=3), st.sampled_from(PRESETS[1:]), st.floats(0.25, 8))
@settings(max_examples=40, deadline=None)
def test_a_student_that_says_what_its_teacher_says_has_no_loss_from_it(
    mass: list[float], preset: str, temperature: float
) -> None:
    p = torch.tensor(mass, dtype=torch.float64)
    p = (p / p.sum())[None]
    logits = p.log().float().requires_grad_()
    settings = Loss(preset=preset, cross_entropy=0.0, temperature=temperature, conflict=0.0)
    found = loss(logits, torch.tensor([[1.0, 0, 0]]), torch.ones(1), settings, p[:, None])
    assert found.item() == pytest.approx(0, abs=2e-5)
    assert torch.autograd.grad(found, logits)[0].abs().max() < 2e-4


def test_micro_batches_add_up() -> None:
    logits, targets, weights, teachers = rows(10)
    for preset in PRESETS:
        whole = loss(logits, targets, weights, Loss(preset=preset), teachers)
        parts = [
            loss(logits[cut], targets[cut], weights[cut], Loss(preset=preset), teachers[cut])
            for cut in (slice(0, 1), slice(1, 7), slice(7, 10))
        ]
        assert float(sum(parts)) == pytest.approx(whole.item(), abs=1e-6)


def test_a_teacher_that_contradicts_the_vote_is_not_heard_in_that_row_alone() -> None:
    logits, targets, _, _ = rows(2)
    vote = targets.argmax(dim=1)
    agreeing = torch.full((2, 3), 0.1).scatter(1, vote[:, None], 0.8)
    against = torch.full((2, 3), 0.45).scatter(1, vote[:, None], 0.1)
    teachers = torch.stack([agreeing, torch.stack([agreeing[0], against[1]])], dim=1)
    chosen = Loss(preset="conflict")
    each = [loss(logits, targets, torch.eye(2)[row], chosen, teachers) for row in range(2)]
    # Row 0 hears both and divides by 5, row 1 hears the first alone and divides by 3.
    blackpearl = Loss(preset="blackpearl")
    assert each[0] == loss(logits, targets, torch.eye(2)[0], blackpearl, teachers)
    assert each[1] == pytest.approx(float(loss(logits, targets, torch.eye(2)[1], blackpearl, teachers[:, :1])))
    nobody = Loss(preset="conflict", cross_entropy=0.0, conflict=1.0)
    assert float(loss(logits, targets, torch.ones(2), nobody, teachers)) == 0.0


def test_a_soft_vote_is_contradicted_by_what_a_draw_of_both_would_agree_on() -> None:
    """A teacher that says of a soft vote the very same is heard at every threshold up to a third."""
    third = torch.full((1, 3), 1 / 3)
    args = (torch.tensor([[2.0, 0, 0]]), third, torch.ones(1))
    heard = loss(*args, Loss(preset="conflict", conflict=0.33), third[:, None])
    assert heard.item() == pytest.approx(float(loss(*args, Loss(preset="blackpearl"), third[:, None])))
    assert heard.item() != pytest.approx(float(loss(*args, Loss())))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_against_its_formula(gamma: float) -> None:
    logits, targets, weights, _ = rows(8)
    ours, theirs = logits.clone().requires_grad_(), logits.double().requires_grad_()
    found = loss(ours, targets, weights, Loss(focal=gamma))
    p_y = (torch.softmax(theirs, dim=1) * targets).sum(dim=1)
    expected = (weights * (1 - p_y) ** gamma * -torch.log(p_y)).sum()
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    torch.testing.assert_close(
        torch.autograd.grad(found, ours)[0], torch.autograd.grad(expected, theirs)[0].float(), atol=1e-6, rtol=1e-4
    )


def test_what_is_nearly_certain_has_a_finite_gradient() -> None:
    """Logits as far apart as fp32 exp can bear, a teacher with a probability of 0."""
    logits = torch.tensor([[90.0, -90.0, 0.0], [-90.0, 90.0, 0.0]], requires_grad=True)
    targets, teachers = torch.tensor([[1.0, 0, 0]] * 2), torch.tensor([[[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]]])
    for choice in ({"focal": 0.5}, {"preset": "blackpearl", "focal": 2.0}, {"preset": "hinton", "temperature": 10.0}):
        found = loss(logits, targets, torch.ones(2), Loss(**choice), teachers)
        assert torch.isfinite(found)
        assert torch.isfinite(torch.autograd.grad(found, logits)[0]).all()


def test_without_teachers_it_is_the_cross_entropy_bit_by_bit() -> None:
    logits, targets, weights, _ = rows(9, soft=True)
    plain = cross_entropy(logits, targets, weights, 0.1)
    empty = torch.zeros(9, 0, 3)
    assert loss(logits, targets, weights, Loss(smoothing=0.1), None) == plain
    assert loss(logits, targets, weights, Loss(smoothing=0.1), empty) == plain
    assert loss(logits, targets, weights, Loss(preset="blackpearl", smoothing=0.1), empty) == plain


def test_half_precision_is_computed_in_fp32() -> None:
    logits, targets, weights, teachers = rows(9)
    rounded = logits.bfloat16()
    found = loss(rounded, targets, weights, Loss(preset="blackpearl"), teachers)
    assert found == loss(rounded.float(), targets, weights, Loss(preset="blackpearl"), teachers)
