"""What a step computes: the weighted mean over its rows, whatever the cut, the padding and the order of sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import finetune_rows
import tiny
from tiebreak import comparisons
from tiebreak.judges.model import JudgeModel
from tiebreak.render import Renderer, template
from tiebreak.train.finetune import collating
from tiebreak.train.finetune.collating import Steps, count_steps, cut, deal, order, render
from tiebreak.train.finetune.loop import due, micro_loss
from tiebreak.train.finetune.loss import cross_entropy
from tiebreak.train.finetune.padding import pad
from tiebreak.train.finetune.recipe import Optimiser, Recipe
from tiebreak.train.finetune.schedule import share

VOTES = finetune_rows.votes(24)
CPU = torch.device("cpu")


def recipe(**changes: Any) -> Recipe:
    return finetune_rows.recipe(Path("nowhere"), **changes)


def examples(judge: str = "classifier", *, twin: bool = True, templates: tuple[str, ...] = ("plain",)) -> Any:
    names = ("single",) if judge == "siamese" else templates
    renderers = [Renderer(template(name, max_length=300), tiny.tokenizer()) for name in names]
    return render(VOTES, renderers, judge, twin=twin)


def gradient(model: JudgeModel, chosen: Recipe, seen: Any, **where: int) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradient of step 0."""
    plan = order(len(seen), 1, chosen.batches.rows, chosen.seed)
    model.zero_grad()
    loss = torch.zeros(())
    for micro in Steps(seen, plan, chosen.batches, **where)[0]["micro_batches"]:
        part = micro_loss(model, micro, chosen, CPU)
        part.backward()
        loss += part.detach()
    return float(loss), {
        name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None and p.requires_grad
    }


def model(family: str, kind: str = "classifier") -> JudgeModel:
    network = tiny.model(family)
    if kind == "siamese":
        from tiebreak.judges.siamese.head import PairHead

        network.score = PairHead(64)
    return JudgeModel(network, kind)


def close(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor], bound: float) -> None:
    assert left.keys() == right.keys()
    for name in left:
        scale = max(1.0, float(right[name].abs().max()))
        assert float((left[name] - right[name]).abs().max()) <= bound * scale, name


@pytest.mark.parametrize("family", ["llama", "gemma2", "bert", "deberta-v2"])
def test_padding_free_gradients_are_those_of_a_padded_batch(family: str) -> None:
    network, seen = model(family), examples()
    loss, free = gradient(network, recipe(batches__tokens=700), seen)
    pad(network.pooled)
    padded_loss, padded = gradient(network, recipe(batches__tokens=1500, batches__packing="padded"), seen)
    assert loss == pytest.approx(padded_loss, abs=1e-5)
    assert max(float(g.abs().max()) for g in free.values()) > 1e-3
    close(free, padded, 1e-5)


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_one_micro_batch_or_many_give_the_same_loss_and_gradient(family: str) -> None:
    network, seen = model(family), examples(templates=("plain", "blackpearl"))
    whole = recipe(batches__tokens=10**6)
    loss, full = gradient(network, whole, seen)
    assert len(Steps(seen, order(24, 1, 8, 3), whole.batches)[0]["micro_batches"]) == 1
    for tokens in (4000, 300, 1):
        cut_loss, parts = gradient(network, recipe(batches__tokens=tokens), seen)
        assert cut_loss == pytest.approx(loss, abs=1e-5)
        close(parts, full, 1e-5)


def test_a_siamese_judge_likewise() -> None:
    network, seen = model("llama", "siamese"), examples("siamese")
    loss, full = gradient(network, recipe(batches__tokens=10**6), seen)
    cut_loss, parts = gradient(network, recipe(batches__tokens=200), seen)
    assert cut_loss == pytest.approx(loss, abs=1e-5)
    close(parts, full, 1e-5)


def test_the_loss_of_a_step_is_the_weighted_mean_of_its_rows() -> None:
    """The closed form: sum over rows of weight x mean over views of cross-entropy, over the sum of weights."""
    network, seen, chosen = model("llama"), examples(), recipe(loss__smoothing=0.1, batches__tokens=300)
    loss, _ = gradient(network, chosen, seen)
    rows = order(24, 1, 8, chosen.seed)[0]
    table = VOTES[rows.tolist()]
    by_hand, weights = np.zeros(8), table["weight"].to_numpy()
    for view, frame in enumerate((table, comparisons.swap(table))):
        ids = examples().sequences
        targets = comparisons.targets(frame) * 0.9 + 0.1 / 3
        for i, row in enumerate(rows):
            one = torch.from_numpy(ids[int(seen.members[row, view, 0])].astype(np.int64))[None]
            logits = network.model(input_ids=one).logits[0].detach().double().numpy()
            by_hand[i] -= (targets[i] * (logits - np.log(np.exp(logits).sum()))).sum() / 2
    assert loss == pytest.approx((by_hand * weights).sum() / weights.sum(), abs=1e-5)


@pytest.mark.parametrize("world", [2, 3, 5])
def test_the_shares_of_processes_add_up_to_the_step(world: int) -> None:
    network, seen, chosen = model("llama"), examples(), recipe(batches__tokens=300)
    loss, full = gradient(network, chosen, seen)
    parts = [gradient(network, chosen, seen, rank=rank, world=world) for rank in range(world)]
    assert sum(part[0] for part in parts) == pytest.approx(loss, abs=1e-5)
    close({name: sum(part[1][name] for part in parts) for name in full}, full, 1e-5)
    plan = order(24, 1, 8, chosen.seed)
    counts = {len(Steps(seen, plan, chosen.batches, rank=r, world=world)[0]["micro_batches"]) for r in range(world)}
    assert len(counts) == 1


def test_a_row_of_weight_zero_counts_for_nothing() -> None:
    import polars as pl

    seen = examples()
    weights = seen.weights.copy()
    plan = order(24, 1, 8, 3)
    weights[plan[0, 0]] = 0
    silent = collating.Examples(seen.sequences, seen.members, seen.targets, weights)
    flipped = seen.targets.copy()
    flipped[plan[0, 0]] = flipped[plan[0, 0]][:, [2, 0, 1]]
    other = collating.Examples(seen.sequences, seen.members, flipped, weights)
    network = model("llama")
    left, right = gradient(network, recipe(), silent), gradient(network, recipe(), other)
    assert left[0] == right[0]
    close(left[1], right[1], 0)
    assert isinstance(VOTES, pl.DataFrame)


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 12), st.booleans())
def test_every_row_comes_once_a_pass_in_steps_of_one_size(rows: int, steps: int, size: int, grouped: bool) -> None:
    lengths = np.random.default_rng(1).integers(1, 99, rows) if grouped else None
    plan = order(rows, steps, size, 7, lengths)
    assert plan.shape == (steps, size)
    counts = np.bincount(plan.ravel(), minlength=rows)
    assert counts.max() - counts.min() <= 1
    assert np.array_equal(plan, order(rows, steps, size, 7, lengths))


def test_a_longer_run_begins_as_the_shorter_one() -> None:
    assert np.array_equal(order(17, 4, 5, 0), order(17, 9, 5, 0)[:4])
    assert not np.array_equal(order(17, 4, 5, 0), order(17, 4, 5, 1))


def test_length_grouping_puts_like_lengths_together() -> None:
    lengths = np.random.default_rng(0).integers(10, 1000, 4000)
    spread = lengths[order(4000, 250, 16, 0, lengths)].std(axis=1).mean()
    assert spread < 0.05 * lengths[order(4000, 250, 16, 0)].std(axis=1).mean()


def test_steps_of_a_run() -> None:
    assert count_steps(100, recipe(epochs=1)) == 13
    assert count_steps(96, recipe(epochs=1)) == 12
    assert count_steps(100, recipe(epochs=0.3)) == 4
    assert count_steps(100, recipe(epochs=9, max_steps=5)) == 5


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 200), st.integers(1, 6))
def test_cuts_and_shares_lose_nothing(lengths: list[int], tokens: int, world: int) -> None:
    sizes = np.array(lengths)
    for packing in ("padding_free", "padded"):
        parts = cut(sizes, tokens, packing)
        assert sorted(np.concatenate(parts)) == list(range(len(sizes)))
        for part in parts:
            used = sizes[part].sum() if packing == "padding_free" else sizes[part].max() * len(part)
            assert used <= tokens or len(part) == 1
    shares = deal(sizes, world)
    assert len(shares) == world
    assert sorted(np.concatenate(shares)) == list(range(len(sizes)))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_cross_entropy_against_torch() -> None:
    logits, labels = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0])
    hard = torch.nn.functional.one_hot(labels, 3)
    ours = cross_entropy(logits, hard, torch.full((5,), 0.2), smoothing=0.2)
    theirs = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.2)
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)


def test_the_learning_rate_goes_up_and_down() -> None:
    cosine = Optimiser(warmup=0.2, schedule="cosine", final_lr=0.1)
    rates = [share(cosine, step, 10) for step in range(11)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert rates[6] == pytest.approx(0.55)
    assert rates[10] == pytest.approx(0.1)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert [share(Optimiser(warmup=0, schedule="linear"), step, 4) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]
    assert {share(Optimiser(warmup=0, schedule="constant"), step, 4) for step in range(4)} == {1.0}


def test_what_is_due_when() -> None:
    assert due(4, 10) == {4, 8, 10}
    assert due(0.2, 10) == {2, 4, 6, 8, 10}
    assert due(0.001, 3) == {1, 2, 3}
    assert due(50, 10) == {10}
