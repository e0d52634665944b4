"""The C++ inner loops against plain torch: shapes of all remainders, windows, shared prefixes, threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from tiebreak.engine import cpu
from tiebreak.engine.cpu.matrices import Matrix, Precision
from tiebreak.engine.cpu.native import Kernels, Unavailable

KERNELS = cpu.load_kernels()
pytestmark = pytest.mark.skipif(isinstance(KERNELS, Unavailable), reason=getattr(KERNELS, "reason", "there"))
TOLERANCE = {"fp32": 1e-5, "bf16": 2e-2, "int8": 2e-2}
DTYPE = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.bfloat16}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def kernels() -> Kernels:
    assert isinstance(KERNELS, Kernels)
    return KERNELS


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 230), words=st.integers(1, 40), outputs=st.integers(1, 100), biased=st.booleans(),
    precision=st.sampled_from(["fp32", "bf16", "int8"]),
)  # fmt: skip
def test_a_product_is_torchs_for_every_remainder(
    rows: int, words: int, outputs: int, biased: bool, precision: Precision
) -> None:
    inputs = words * 4
    weight, bias = normal(outputs, inputs, seed=1), normal(outputs, seed=2) if biased else None
    x = normal(rows, inputs, seed=3).to(DTYPE[precision])
    found = Matrix(kernels(), weight, bias, precision)(x)
    exact = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    assert found.shape == exact.shape
    assert found.dtype == x.dtype
    assert (found - exact).abs().max() <= TOLERANCE[precision] * inputs**0.5 * 3


def test_bytes_are_exact_where_rounding_has_nothing_to_round() -> None:
    whole = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (64, 256), generator=whole).float()
    x = torch.randint(-127, 128, (20, 256), generator=whole).float()
    weight[:, 0] = 127.0  # the largest is 127, so that every scale is one
    x[:, [1, 193]] = -127.0  # and so for both groups of inputs
    found = Matrix(kernels(), weight, None, "int8")(x.bfloat16())
    assert torch.equal(found, F.linear(x, weight).bfloat16())


def test_columns_of_a_matrix_share_its_memory() -> None:
    for precision in ("fp32", "bf16", "int8"):
        whole = Matrix(kernels(), normal(96, 64), normal(96, seed=1), precision)  # type: ignore[arg-type]
        x = normal(7, 64, seed=2).to(DTYPE[precision])
        assert torch.equal(whole(x)[:, 32:96], whole.columns(32, 96)(x))


def test_a_row_does_not_depend_on_the_rows_beside_it_nor_on_threads() -> None:
    for precision in ("fp32", "bf16", "int8"):
        matrix = Matrix(kernels(), normal(64, 128), None, precision)  # type: ignore[arg-type]
        x = normal(301, 128, seed=1).to(DTYPE[precision])
        torch.set_num_threads(1)
        together = matrix(x)
        torch.set_num_threads(2)
        assert torch.equal(together, matrix(x))
        assert torch.equal(together, torch.cat([matrix(x[i : i + 1]) for i in range(301)]))


def test_a_word_that_is_not_whole_is_refused() -> None:
    with pytest.raises(ValueError, match="63 inputs are not a multiple of 2"):
        Matrix(kernels(), normal(64, 63), None, "bf16")
