"""The arithmetic of compression: parity against closed forms, packed weights against an independent packing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.special import rel_entr

from tiebreak.compress import parity
from tiebreak.compress.methods import METHODS, find, group_size
from tiebreak.errors import DataError, UsageError
from tiebreak.judges.base import compressed


def measured(original: list[list[float]], changed: list[list[float]], targets: list[list[float]]) -> parity.Parity:
    return parity.measure(
        np.array(original), np.array(changed), np.array(targets), np.arange(len(original)), np.ones(len(original))
    )


def test_parity_is_what_the_closed_forms_say() -> None:
    nothing = [float("nan")] * 3
    found = measured(
        [[0.5, 0.25, 0.25], [0.2, 0.2, 0.6], [0.4, 0.3, 0.3]],
        [[0.25, 0.5, 0.25], [0.2, 0.2, 0.6], [0.4, 0.3, 0.3]],
        [[1, 0, 0], [0, 0, 1], nothing],
    )
    assert (found.rows, found.labelled, found.verdict_changes) == (3, 2, 1)
    assert found.change is not None
    assert found.change.value == pytest.approx(np.log(2) / 2)  # one vote of two lost half its probability
    assert found.log_loss == pytest.approx((np.log(2) - np.log(0.6)) / 2)
    assert found.compressed_log_loss == pytest.approx((np.log(4) - np.log(0.6)) / 2)
    assert found.kl.value == pytest.approx((0.5 * np.log(2) - 0.25 * np.log(2)) / 3)
    assert found.largest_change == 0.25
    assert not found.passed


def test_weights_of_rows_count_in_the_losses() -> None:
    original, changed = np.array([[0.5, 0.25, 0.25]] * 2), np.array([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]])
    found = parity.measure(original, changed, np.eye(3)[[0, 0]], np.arange(2), np.array([3.0, 1.0]))
    assert found.change is not None
    assert found.change.value == pytest.approx(0.75 * np.log(2))
    assert found.change.low <= found.change.value <= found.change.high


def test_without_votes_only_the_judges_are_compared() -> None:
    found = measured([[0.5, 0.25, 0.25]], [[0.25, 0.5, 0.25]], [[float("nan")] * 3])
    assert found.change is None
    assert found.log_loss is None
    assert found.passed
    assert found.document()["log_loss_change"] is None
    assert found.document()["kl"][0] > 0


@pytest.mark.parametrize(("loss", "passes"), [(0.0049, True), (0.0051, False)])
def test_the_gate_is_at_five_thousandths(loss: float, passes: bool) -> None:
    p = 0.5
    worse = p * np.exp(-loss)
    found = measured([[p, 0.25, 0.25]], [[worse, 0.25, 0.75 - worse]], [[1, 0, 0]])
    assert found.passed is passes


@given(st.lists(st.lists(st.floats(0.001, 1), min_size=6, max_size=6), min_size=1, max_size=8))
def test_kl_is_scipys(rows: list[list[float]]) -> None:
    both = np.array(rows).reshape(-1, 2, 3)
    both /= both.sum(axis=2, keepdims=True)
    p, q = both[:, 0], both[:, 1]
    assert np.allclose(parity.row_kl(p, q), np.maximum(rel_entr(p, q).sum(axis=1), 0), atol=1e-12)
    assert (parity.row_kl(p, p) == 0).all()


@pytest.mark.parametrize(
    ("widths", "size"), [({4096, 14336}, 128), ({576, 1536}, 64), ({96, 64}, 32), ({128}, 128), ({3584, 14336}, 128)]
)
def test_the_group_divides_every_layer(widths: set[int], size: int) -> None:
    assert group_size(widths) == size


def test_widths_that_no_group_divides_are_refused_with_another_way() -> None:
    with pytest.raises(UsageError, match=r"100 inputs.*int8"):
        group_size({128, 100})
    with pytest.raises(UsageError, match="--method gptq-4"):
        find("gptq4")
    assert all(find(name).name == name for name in METHODS)


def packed(numbers: np.ndarray, bits: int) -> torch.Tensor:
    """Written a bit at a time into a whole number: nothing of how the reader goes about it."""
    per = 32 // bits
    words = np.zeros((len(numbers), -(-numbers.shape[1] // per)), dtype=np.uint32)
    for row, values in enumerate(numbers):
        for place, value in enumerate(values):
            unsigned = int(value) + 2 ** (bits - 1)
            for bit in range(bits):
                if unsigned >> bit & 1:
                    words[row, place // per] |= np.uint32(1 << (bits * (place % per) + bit))
    return torch.from_numpy(words.view(np.int32))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([4, 8]), st.integers(1, 5), st.integers(1, 40), st.integers(0, 99))
def test_integers_come_back_from_their_words(bits: int, rows: int, columns: int, seed: int) -> None:
    half = 2 ** (bits - 1)
    numbers = np.random.default_rng(seed).integers(-half, half, (rows, columns))
    found = compressed.unpack(packed(numbers, bits), bits, columns)
    assert found.shape == (rows, columns)
    assert np.array_equal(found.numpy(), numbers)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zero_points", [False, True])
@pytest.mark.parametrize("groups", [1, 4])
def test_a_weight_is_integer_minus_zero_point_times_scale(bits: int, zero_points: bool, groups: int) -> None:
    rng = np.random.default_rng(bits + groups)
    half, outputs, inputs = 2 ** (bits - 1), 16, 32
    numbers = rng.integers(-half, half, (outputs, inputs))
    scales = rng.uniform(0.5, 2, (outputs, groups)).astype(np.float32)
    zeros = rng.integers(-half, half, (outputs, groups)) if zero_points else np.zeros((outputs, groups))
    expected = np.empty((outputs, inputs))
    for o in range(outputs):
        for i in range(inputs):
            group = i // (inputs // groups)
            expected[o, i] = (numbers[o, i] - zeros[o, group]) * scales[o, group]
    parts = {
        "weight_packed": packed(numbers, bits), "weight_scale": torch.from_numpy(scales),
        "weight_shape": torch.tensor([outputs, inputs]),
    }  # fmt: skip
    if zero_points:
        parts["weight_zero_point"] = packed(zeros.T, bits).T.contiguous()
    assert np.allclose(compressed.plain(parts, bits).numpy(), expected, rtol=1e-6)


def test_whole_int8_and_groups_in_any_order() -> None:
    numbers = torch.randint(-127, 128, (6, 8), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    scales = torch.arange(1.0, 7)[:, None]
    assert torch.equal(compressed.plain({"weight": numbers, "weight_scale": scales}, 8), numbers.float() * scales)
    member = torch.tensor([0, 1] * 4)
    two = torch.tensor([[1.0, 10.0]]).repeat(6, 1)
    found = compressed.plain({"weight": numbers, "weight_scale": two, "weight_g_idx": member}, 8)
    assert torch.equal(found, numbers.float() * torch.tensor([1.0, 10.0] * 4))


def quantised(**changes: object) -> dict[str, object]:
    weights = {"type": "int", "strategy": "group", "num_bits": 4} | changes
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"g": {"weights": weights}},
    }


@pytest.mark.parametrize("change", [{"type": "float"}, {"num_bits": 3}, {"strategy": "block"}])
def test_a_scheme_that_would_be_read_wrongly_is_refused(tmp_path, change) -> None:
    with pytest.raises(DataError, match="weights compressed as pack-quantized"):
        compressed.check(quantised(**change), tmp_path)
    compressed.check(quantised(), tmp_path)
    with pytest.raises(DataError, match="nvfp4"):
        compressed.check(quantised() | {"format": "nvfp4-pack-quantized"}, tmp_path)


def test_a_checkpoint_with_a_part_missing_names_the_layer(tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a.weight_packed": torch.zeros(2, 1, dtype=torch.int32), "a.weight_scale": torch.ones(2, 1)}, path)
    with pytest.raises(DataError, match="weights of a cannot be unpacked"):
        compressed.read([path], quantised(), torch.float32)
