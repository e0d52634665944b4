"""Budgets: sizes that are published, sums by hand, lengths that fit, and the runs that others measured."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiebreak
from tiebreak import bundle, comparisons, samples
from tiebreak.budget import Hardware, Lengths, Model, Run, curve, estimate, gpus, longest
from tiebreak.budget.estimate import CPU_SHARE, ENGINES, GIB
from tiebreak.budget.points import POINTS
from tiebreak.budget.trial import compare
from tiebreak.bundle import Manifest
from tiebreak.errors import DataError, ResourceError, UsageError
from tiebreak.render.sequences import Sequences

Cli = Callable[..., subprocess.CompletedProcess[str]]
S2 = POINTS[0].run()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llama-3-8b", 8_030_261_248), ("gemma-2-9b", 9_241_705_984), ("smollm2-135m", 134_515_008),
        ("qwen2.5-7b", 7_615_616_512), ("yi-1.5-34b", 34_388_917_248), ("llama-3-70b", 70_553_706_496),
    ],
)  # fmt: skip
def test_shapes_have_the_published_number_of_weights(name: str, parameters: int) -> None:
    assert Model.of(name).parameters == parameters


@given(count=st.floats(0.05, 500))
@settings(max_examples=50, deadline=None)
def test_a_count_makes_a_model_of_that_many_weights(count: float) -> None:
    model = Model.of(f"{count:.3f}b")
    assert model.parameters == pytest.approx(count * 1e9, rel=1e-2)
    block = 12 * model.hidden**2 * model.blocks
    assert 0.4 < model.linear / block < 2
    assert model.keys <= model.hidden


def test_a_count_stands_for_the_model_of_that_size() -> None:
    counted = estimate(replace(S2, model=Model.of("34.4b")))
    assert counted.hours == pytest.approx(estimate(S2).hours, rel=0.05)
    assert counted.memory == pytest.approx(estimate(S2).memory, rel=0.05)


def test_arithmetic_by_hand() -> None:
    """Ten rows of 100 tokens, both orders, a network of one block that can be added up on paper."""
    model = Model("tiny", linear=1000, rest=500, blocks=1, hidden=8, inner=16, queries=8, keys=4, vocabulary=50,
                  window=None, causal=True)  # fmt: skip
    where = Hardware("one", 2, teraflops=1e-6, memory=10.0, bandwidth=1e-6)
    run = Run(model, Lengths(np.array([100.0]), 10, ""), where, "fp16", "vllm", 2, 100)
    found = estimate(run)
    scores = 2 * 2 * 100 * 100 * 8 / 2
    operations = 20 * (2 * 1000 * 100 + scores + 2 * 50 * 8)
    assert found.petaflops * 1e15 == pytest.approx(operations)
    assert found.reading == pytest.approx(operations / (2 * 1e6 * ENGINES["vllm"]))
    assert found.weights * GIB == pytest.approx(1500 * 2 / 2)
    assert found.cache * GIB == pytest.approx(2 * 1 * 4 * 2 * 8192 / 2)
    assert found.writing == 0
    assert estimate(replace(run, orders=1)).reading == pytest.approx(found.reading / 2)
    assert estimate(run.at(50)).tokens == 20 * 50
    thinking = estimate(replace(run, answer_tokens=7))
    step = max(3000 / (2 * 1e-6 * 1e9 * 0.6), 2 * 1000 * 20 / (2 * 1e6 * ENGINES["vllm"]))
    assert thinking.writing == pytest.approx(7 * step)  # all twenty side by side


def test_a_cache_that_fills_what_is_left_fits() -> None:
    thinking = replace(S2, model=Model.of("gemma-2-9b"), precision="int8", answer_tokens=200)
    for length, found in curve(thinking):
        assert found.fits, length
        assert found.cache > estimate(replace(thinking, answer_tokens=0).at(length)).cache
        assert found.writing > 0


def test_a_processor_reaches_a_share_of_its_own_rate() -> None:
    run = Run(Model.of("smollm2-135m"), Lengths.around(600, 100), Hardware.parse("cpu", teraflops=0.25), "bf16")
    found = estimate(run)
    assert found.reading == pytest.approx(found.petaflops * 1e15 / (0.25e12 * CPU_SHARE))
    assert estimate(replace(run, share=0.5)).reading == pytest.approx(found.petaflops * 1e15 / (0.25e12 * 0.5))


def test_few_bits_take_the_memory_that_they_are_known_to_take() -> None:
    yi = Model.of("yi-1.5-34b")
    assert yi.weight_bytes("awq-4") / 1e9 == pytest.approx(20, rel=0.05)  # "34B 4-bit = 20 GB"
    assert yi.weight_bytes("fp16") == 2 * yi.parameters
    assert yi.weight_bytes("nf4") < yi.weight_bytes("awq-4") < yi.weight_bytes("int8") < yi.weight_bytes("bf16")
    assert Model.of("llama-3-8b").cache_bytes == 2 * 32 * 1024 * 2
    assert Model.of("minilm-l6").cache_bytes == 0


def test_the_runs_that_others_measured() -> None:
    """Decoders within a third. DeBERTa's eager, padded attention is bound by memory, and is told of in the docs."""
    ratios = {point.name: point.ratio for point in POINTS}
    assert all(0.75 < ratio < 1.33 for name, ratio in ratios.items() if "DeBERTa" not in name)
    assert ratios["DeBERTa-v3-large"] < 0.5


def test_what_fits_nine_hours_on_two_t4() -> None:
    """S2's question: 34B in AWQ, 25,000 rows."""
    one = longest(S2, 9.0)
    assert (one.max_length, one.bound) == (4096, "window")
    both = longest(replace(S2, orders=2), 9.0)
    assert both.bound == "hours"
    assert both.max_length is not None
    assert 512 < both.max_length < 1024
    assert longest(replace(S2, precision="fp16"), 9.0).bound == "memory"
    assert longest(replace(S2, precision="fp16"), 9.0).max_length is None


@given(
    hours=st.floats(0.01, 100),
    mean=st.floats(50, 5000),
    orders=st.sampled_from([1, 2]),
    name=st.sampled_from(["7b", "34b", "minilm-l6"]),
)
@settings(max_examples=60, deadline=None)
def test_the_longest_that_fits_is_the_longest(hours: float, mean: float, orders: int, name: str) -> None:
    run = replace(S2, lengths=Lengths.around(mean, 25_000), orders=orders, model=Model.of(name))
    found = longest(run, hours)
    if found.max_length is not None:
        assert found.estimate.hours <= hours
        assert found.estimate.fits
    if found.bound in {"hours", "memory"}:
        beyond = estimate(run.at((found.max_length or 0) + 64))
        assert beyond.hours > hours or not beyond.fits


def test_a_curve_rises_and_ends_with_the_window() -> None:
    points = curve(replace(S2, orders=2))
    assert [length for length, _ in points] == [256, 512, 768, 1024, 1536, 2048, 3072, 4096]
    hours = [found.hours for _, found in points]
    assert hours == sorted(hours)
    assert [found.cut for _, found in points] == sorted((found.cut for _, found in points), reverse=True)


def test_lengths_of_votes() -> None:
    votes = samples.votes()
    found = Lengths.of(votes, rows=1000)
    chars = sum(len(text or "") for name in comparisons.TEXTS for turns in votes[name] for text in turns)
    assert found.rows == 1000
    assert (found.tokens.mean() - 60) * 4.6 == pytest.approx(chars / votes.height, rel=0.01)  # and the turns' ends

    def by_character(texts: list[str], **_: object) -> dict[str, list[str]]:
        return {"input_ids": texts}

    characters = Lengths.of(votes, by_character).tokens - 60
    assert np.allclose(characters, 4.6 * (found.tokens - 60))
    assert Lengths.around(700, 10).tokens.mean() == pytest.approx(700)
    for wrong in ((0, 10), (10, 0)):
        with pytest.raises(UsageError):
            Lengths.around(*wrong)
    with pytest.raises(UsageError, match="at least one row"):
        Lengths.of(votes.head(0))


def test_hardware_is_named_as_people_do() -> None:
    two = Hardware.parse("2xt4")
    assert (two.count, two.teraflops, two.bandwidth, two.name) == (2, 65, 320, "2 x T4")
    assert Hardware.parse("A100").count == 1
    assert Hardware.parse("cpu").processor
    assert all(gpu.bandwidth > 200 for gpu in gpus.GPUS)
    for wrong in ("2xtpu", "0xt4", ""):
        with pytest.raises(UsageError, match="hardware"):
            Hardware.parse(wrong)


def test_what_cannot_be_planned(tmp_path: Path) -> None:
    for change in ({"precision": "int3"}, {"engine": "x"}, {"orders": 3}, {"max_length": 0}):
        with pytest.raises(UsageError):
            replace(S2, **change)
    with pytest.raises(UsageError, match="nothing-of-this-name"):
        Model.of("nothing-of-this-name")
    with pytest.raises(DataError, match="rwkv"):
        Model.configured("x", {"model_type": "rwkv"})


def test_a_trial_is_compared_with_exactly_what_it_read() -> None:
    run = Run(Model.of("smollm2-135m"), Lengths.around(600, 100), Hardware.parse("cpu", teraflops=0.25), "bf16",
              orders=1, verdicts=False)  # fmt: skip
    sequences = Sequences.of(np.zeros(length, dtype=np.int64) for length in (100, 300))
    found = compare(run, sequences, measured=2.0)
    operations = 2 * run.model.linear * 400 + 2 * 576 * 30 * (100**2 + 300**2)
    assert found.predicted == pytest.approx(operations / (0.25e12 * CPU_SHARE))
    assert found.ratio == pytest.approx(found.predicted / 2)
    assert found.share == pytest.approx(operations / 2 / 0.25e12)


def test_a_model_is_read_from_a_bundle_or_a_checkpoint(tmp_path: Path) -> None:
    shape = Path(tiebreak.__file__).parent / "recipes" / "shapes" / "smollm2-135m.json"
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text(shape.read_text())
    assert Model.of(str(checkpoint)).parameters == 134_515_008
    base = {"name": str(checkpoint)}
    bundle.write(
        tmp_path / "judge", Manifest(kind="classifier", name="j", swap_equivariant=False, settings={"base": base}), {}
    )
    assert Model.of(str(tmp_path / "judge")).parameters == 134_515_008
    bundle.write(
        tmp_path / "whole", Manifest(kind="classifier", name="j", swap_equivariant=False), {"config.json": shape}
    )
    assert Model.of(str(tmp_path / "whole")).linear == Model.of("smollm2-135m").linear
    bundle.write(tmp_path / "none", Manifest(kind="features", name="j", swap_equivariant=False), {})
    with pytest.raises(DataError, match="without a network"):
        Model.of(str(tmp_path / "none"))


@pytest.mark.slow
def test_a_trial_runs_here() -> None:
    from tiebreak.budget.trial import trial

    run = Run(Model.of("minilm-l6"), Lengths.around(100, 100), Hardware.parse("cpu"), "fp32", max_length=1024)
    found = trial(run, "minilm-l6", seconds=0.5)
    assert found.rows >= 8
    assert found.predicted > 0
    assert found.measured > 0
    assert found.hardware.teraflops > 0
    with pytest.raises(UsageError, match="no count"):
        trial(replace(run, model=Model.of("20m")), "20m")


def test_a_model_too_large_for_a_trial() -> None:
    from tiebreak.budget.trial import trial

    with pytest.raises(ResourceError, match="too many"):
        trial(S2, "yi-1.5-34b")


def test_the_command(cli: Cli, tmp_path: Path) -> None:
    told = cli("plan-budget", "--rows", "25000", "--tokens", "658", "--model", "yi-1.5-34b", "--precision", "awq-4",
               "--engine", "vllm", "--hardware", "2xt4", "--hours", "9")  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert "fits 9 h: max length 832" in told.stdout
    samples.votes().write_parquet(tmp_path / "votes.parquet")
    document = json.loads(
        cli("plan-budget", tmp_path / "votes.parquet", "--model", "7b", "--hardware", "l4", "--json").stdout
    )
    assert document["rows"] == 60
    assert document["longest"]["bound"] == "rows"
    assert document["trial"] is None
    assert cli("plan-budget", "--rows", "5").returncode == 2
    assert pl.read_parquet(tmp_path / "votes.parquet").height == 60
