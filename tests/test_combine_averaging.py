"""The four ways of averaging adapters, as algebra: closed forms on hand-made factors, and properties."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiebreak.combine import adapter as adapters
from tiebreak.combine import averaging
from tiebreak.combine.adapter import Adapter, Factors
from tiebreak.errors import DataError

SHAPES = {"model.layers.0.q_proj": (6, 5), "model.layers.0.up_proj": (9, 5), "model.layers.1.q_proj": (6, 5)}
DOCUMENT = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}}
FEW = settings(max_examples=12, deadline=None, derandomize=True)


def hand_made(seed: int, ranks: int | list[int] = 2, scale: float = 2.0) -> Adapter:
    """Random factors; the rank of each module, or one for all."""
    draw = torch.Generator().manual_seed(seed)
    each = ranks if isinstance(ranks, list) else [ranks] * len(SHAPES)
    factors = {
        name: Factors(torch.randn(r, inputs, generator=draw), torch.randn(outputs, r, generator=draw), scale)
        for (name, (outputs, inputs)), r in zip(SHAPES.items(), each, strict=True)
    }
    kept = {"base_model.model.score.weight": torch.randn(3, 5, generator=draw)}
    return Adapter(factors, kept, adapters.configured(DOCUMENT, factors))


def product(one: Adapter, name: str) -> np.ndarray:
    """scale * B A, by numpy."""
    found = one.factors[name]
    whole: np.ndarray = found.scale * (found.b.double().numpy() @ found.a.double().numpy())
    return whole


def mean_of_products(parts: list[Adapter], weights: list[float], name: str) -> np.ndarray:
    return np.sum([w * product(one, name) for one, w in zip(parts, weights, strict=True)], axis=0)


THREE = [hand_made(seed) for seed in range(3)]
UNEVEN = [hand_made(0, 2, 2.0), hand_made(1, 3, 0.5), hand_made(2, [1, 4, 2], 1.5)]
WEIGHTS = [0.5, 0.3, 0.2]


@pytest.mark.parametrize("parts", [THREE, UNEVEN], ids=["alike", "ranks and scales differ"])
def test_exact_is_the_mean_of_the_products(parts: list[Adapter]) -> None:
    made = averaging.exact(parts, WEIGHTS)
    for name in SHAPES:
        np.testing.assert_allclose(product(made, name), mean_of_products(parts, WEIGHTS, name), atol=1e-6)
        assert made.factors[name].rank == sum(one.factors[name].rank for one in parts)


def test_tensors_is_the_product_of_the_means_which_is_something_else() -> None:
    """What is between them is the covariance of the factors, written out pair by pair."""
    made, mean = averaging.tensors(THREE, WEIGHTS), averaging.exact(THREE, WEIGHTS)
    found = averaging.interference(THREE, WEIGHTS)
    above = below = 0.0
    for name in SHAPES:
        a = [one.factors[name].a.double().numpy() for one in THREE]
        b = [one.factors[name].b.double().numpy() for one in THREE]
        cross = sum(
            0.5 * WEIGHTS[i] * WEIGHTS[j] * 2.0 * (b[i] - b[j]) @ (a[i] - a[j]) for i in range(3) for j in range(3)
        )
        gap = product(mean, name) - product(made, name)
        np.testing.assert_allclose(gap, cross, atol=1e-5)
        assert np.abs(gap).max() > 0.1
        exactly = mean_of_products(THREE, WEIGHTS, name)
        assert found.modules[name] == pytest.approx(np.linalg.norm(cross) / np.linalg.norm(exactly), rel=1e-5)
        above, below = above + np.sum(np.square(cross)), below + np.sum(exactly**2)
    assert found.overall == pytest.approx((above / below) ** 0.5, rel=1e-5)


def test_tensors_of_other_scales_folds_them_into_b() -> None:
    parts = [hand_made(0, scale=2.0), hand_made(1, scale=0.5)]
    made = averaging.tensors(parts, [0.5, 0.5])
    for name in SHAPES:
        a = sum(one.factors[name].a for one in parts) / 2
        b = sum(one.factors[name].b * one.factors[name].scale for one in parts) / 2
        np.testing.assert_allclose(product(made, name), b @ a, atol=1e-5)


def test_tensors_of_other_ranks_does_not_exist() -> None:
    assert averaging.no_tensors(THREE) is None
    assert "ranks 2, 3, 1" in str(averaging.no_tensors(UNEVEN))
    with pytest.raises(DataError, match="have no mean"):
        averaging.tensors(UNEVEN, WEIGHTS)


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_svd_cuts_off_the_tail_of_the_singular_values(rank: int) -> None:
    mean = averaging.exact(THREE, WEIGHTS)
    made, error = averaging.svd(mean, rank)
    above = below = 0.0
    for name in SHAPES:
        whole = mean_of_products(THREE, WEIGHTS, name)
        u, values, v = np.linalg.svd(whole, full_matrices=False)
        np.testing.assert_allclose(product(made, name), (u[:, :rank] * values[:rank]) @ v[:rank], atol=1e-5)
        tail, all_of_it = np.sum(values[rank:] ** 2), np.sum(values**2)
        assert error.modules[name] == pytest.approx((tail / all_of_it) ** 0.5, abs=1e-6)
        off = np.linalg.norm(product(made, name) - whole) / np.linalg.norm(whole)
        assert off == pytest.approx(error.modules[name], abs=1e-5)
        above, below = above + tail, below + all_of_it
        assert made.factors[name].rank == rank
    assert error.overall == pytest.approx((above / below) ** 0.5, abs=1e-6)


@pytest.mark.parametrize("parts", [THREE, UNEVEN])
def test_svd_at_full_rank_is_exact(parts: list[Adapter]) -> None:
    made, error = averaging.svd(averaging.exact(parts, WEIGHTS), 100)
    for name in SHAPES:
        np.testing.assert_allclose(product(made, name), mean_of_products(parts, WEIGHTS, name), atol=1e-5)
    assert error.overall == pytest.approx(0, abs=1e-6)
    assert made.factors["model.layers.0.q_proj"].rank == 5, "never more than the module has"


def test_heads_are_averaged() -> None:
    head = "base_model.model.score.weight"
    want = sum(w * one.kept[head] for one, w in zip(THREE, WEIGHTS, strict=True))
    for made in (averaging.tensors(THREE, WEIGHTS), averaging.exact(THREE, WEIGHTS)):
        torch.testing.assert_close(made.kept[head], want)
    assert (
        averaging.svd(averaging.exact(THREE, WEIGHTS), 2)[0]
        .kept[head]
        .equal(averaging.exact(THREE, WEIGHTS).kept[head])
    )


@FEW
@given(seed=st.integers(0, 999), count=st.integers(1, 4), ranks=st.integers(1, 4), data=st.data())
def test_the_order_of_the_judges_does_not_matter(seed: int, count: int, ranks: int, data: Any) -> None:
    parts = [hand_made(seed + i, ranks) for i in range(count)]
    weights = np.array(data.draw(st.lists(st.floats(0.05, 1), min_size=count, max_size=count)))
    weights /= weights.sum()
    order = data.draw(st.sampled_from(list(permutations(range(count)))))
    ways: list[Any] = [averaging.tensors, averaging.exact, lambda p, w: averaging.svd(averaging.exact(p, w), ranks)[0]]
    for way in ways:
        one = way(parts, weights.tolist())
        other = way([parts[i] for i in order], weights[list(order)].tolist())
        for name in SHAPES:
            np.testing.assert_allclose(product(one, name), product(other, name), atol=2e-5)
        torch.testing.assert_close(one.kept, other.kept)


@FEW
@given(seed=st.integers(0, 999), count=st.integers(1, 5), ranks=st.lists(st.integers(1, 5), min_size=3, max_size=3))
def test_equal_adapters_give_the_adapter_itself(seed: int, count: int, ranks: list[int]) -> None:
    one = hand_made(seed, ranks)
    parts, weights = [one] * count, [1 / count] * count
    same = averaging.tensors(parts, weights)
    assert same.document == one.document
    for name in SHAPES:
        assert same.factors[name].a.equal(one.factors[name].a)
        assert same.factors[name].b.equal(one.factors[name].b)
    assert averaging.interference(parts, weights).overall < 1e-6
    mean = averaging.exact(parts, weights)
    cut, error = averaging.svd(mean, max(ranks))
    assert error.overall < 1e-6, "n copies of one product have its rank"
    for made in (mean, cut):
        for name in SHAPES:
            np.testing.assert_allclose(product(made, name), product(one, name), atol=2e-5)
        assert made.kept["base_model.model.score.weight"].equal(one.kept["base_model.model.score.weight"])


@FEW
@given(seed=st.integers(0, 999), rank=st.integers(1, 4))
def test_no_adapter_of_its_rank_is_nearer_than_svd(seed: int, rank: int) -> None:
    parts = [hand_made(seed), hand_made(seed + 1)]
    mean = averaging.exact(parts, [0.5, 0.5])
    made, _ = averaging.svd(mean, rank)
    rng = np.random.default_rng(seed)
    for name in SHAPES:
        whole = product(mean, name)
        gap = np.linalg.norm(product(made, name) - whole)
        found = made.factors[name]
        for _ in range(5):
            a, b = (part.double().numpy() + 0.05 * rng.normal(size=part.shape) for part in (found.a, found.b))
            assert np.linalg.norm(b @ a - whole) >= gap - 1e-6


def test_a_stopped_weight_leaves_a_judge_out() -> None:
    for way in (averaging.tensors, averaging.exact):
        for name in SHAPES:
            np.testing.assert_allclose(product(way(THREE, [0, 1, 0]), name), product(THREE[1], name), atol=1e-6)


def test_written_and_read_again_it_is_the_same(tmp_path: Path) -> None:
    made = averaging.exact(UNEVEN, WEIGHTS)
    adapters.write(made, tmp_path)
    again = adapters.read(tmp_path)
    assert again.document == made.document
    for name in SHAPES:
        np.testing.assert_allclose(product(again, name), product(made, name), atol=1e-7)
        assert again.factors[name].rank == made.factors[name].rank
    assert again.kept["base_model.model.score.weight"].equal(made.kept["base_model.model.score.weight"])
    first = (tmp_path / "adapter_model.safetensors").read_bytes()
    adapters.write(again, tmp_path)
    assert (tmp_path / "adapter_model.safetensors").read_bytes() == first


def test_the_configuration_gives_each_module_its_rank_and_its_scale() -> None:
    found = averaging.exact(UNEVEN, WEIGHTS).document
    assert found["use_rslora"] is False
    assert {found["r"], *found["rank_pattern"].values()} == {6, 9, 7}
    assert set(found["rank_pattern"]) <= set(SHAPES)
    ranks, alphas = ({name: found[key].get(name, found[of]) for name in SHAPES} for key, of in
                     (("rank_pattern", "r"), ("alpha_pattern", "lora_alpha")))  # fmt: skip
    assert ranks == alphas, "scales were folded into B, so alpha / r is 1 everywhere"
    assert list(ranks.values()) == [6, 9, 7]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"use_dora": True}, "DoRA"), ({"bias": "all"}, "bias all"), ({"peft_type": "IA3"}, "peft_type IA3"),
     ({"init_lora_weights": "pissa_niter_4"}, "pissa"), ({"target_parameters": ["x"]}, "parameters")],
)  # fmt: skip
def test_adapters_of_another_kind_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    adapters.write(THREE[0], tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=said):
        adapters.read(tmp_path)


def test_a_damaged_adapter_is_refused(tmp_path: Path) -> None:
    one = THREE[0]
    broken = {**one.factors, "model.layers.0.q_proj": Factors(torch.randn(2, 5), torch.randn(6, 3), 1.0)}
    adapters.write(Adapter(broken, one.kept, one.document), tmp_path)
    with pytest.raises(DataError, match=r"q_proj do not fit"):
        adapters.read(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"no such thing")
    with pytest.raises(DataError, match="cannot be read"):
        adapters.read(tmp_path)
