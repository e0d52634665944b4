"""The engine: answers do not depend on how they are computed; errors say what to do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tiny
from engine_rows import TIGHT, largest, padded, pairs, sequences
from tiebreak.engine import Engine, Options, Packed, Pooled, machine, pack, pipeline
from tiebreak.engine.flow import Ahead
from tiebreak.errors import ResourceError, UsageError
from tiebreak.render import Sequences

ROWS = sequences(*np.random.default_rng(1).integers(1, 90, size=40))
HALF = 0.15
"""bf16 keeps 8 bits. Logits here are of size 2 to 4, and the tiny models' weights eight times those of trained ones."""


def engine(family: str = "llama", **options: Any) -> Engine:
    return Engine(tiny.model(family), Options(**{"precision": "fp32", **options}))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_engine_gives_what_the_padded_model_gives(family: str) -> None:
    with torch.no_grad():
        expected = padded(tiny.model(family), ROWS)
    got = engine(family, max_tokens=200).logits(Sequences.of(ROWS))
    assert got.dtype == np.float32
    assert largest(got, expected) <= TIGHT


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_any_number_of_devices_gives_the_same_rows(family: str) -> None:
    """To the last bit between stages; one CPU has inner loops of its own."""
    rows, index = pairs(8, 40)
    one, two, three = (engine(family, max_tokens=300, devices=",".join(["cpu"] * n)) for n in (1, 2, 3))
    expected = two.logits(rows, pairs=index)
    assert np.array_equal(three.logits(rows, pairs=index), expected)
    assert largest(one.logits(rows, pairs=index), expected) <= TIGHT
    assert [len(run.report["devices"]) for run in (one, two, three)] == [1, 2, 3]


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(len(ROWS))), budget=st.integers(1, 900), window=st.integers(1, 60),
       devices=st.sampled_from(["cpu", "cpu,cpu"]), streams=st.integers(1, 3))  # fmt: skip
def test_order_batch_and_budget_do_not_matter(
    order: list[int], budget: int, window: int, devices: str, streams: int
) -> None:
    expected = _EXPECTED[0] if _EXPECTED else _EXPECTED.append(engine().logits(ROWS)) or _EXPECTED[0]
    run = engine(max_tokens=budget, window=window, devices=devices, streams=streams)
    got = run.logits([ROWS[i] for i in order])
    assert largest(got, expected[order]) <= TIGHT


_EXPECTED: list[np.ndarray] = []


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_bf16_rows_do_not_depend_on_their_batch(family: str) -> None:
    whole = engine(family, precision="bf16").logits(ROWS)
    for options in ({"max_tokens": 1}, {"max_tokens": 100}, {"devices": "cpu,cpu"}):
        assert largest(engine(family, precision="bf16", **options).logits(ROWS), whole) <= HALF
    assert 0 < largest(whole, engine(family).logits(ROWS)) <= HALF


@pytest.mark.parametrize("family", tiny.DECODERS)
def test_pairs_compute_their_prefix_once(family: str) -> None:
    rows, index = pairs(6, 40)
    run = engine(family, max_tokens=400)
    got = run.logits(rows, pairs=index)
    assert largest(got, engine(family, share_prefix=False).logits(rows, pairs=index)) <= TIGHT
    tokens = sum(map(len, rows))
    assert (run.report["tokens"], run.report["tokens_shared"]) == (tokens, 6 * 40)
    assert run.report["tokens_computed"] == tokens - 6 * 40


def test_encoders_share_nothing() -> None:
    rows, index = pairs(3, 40)
    run = engine("bert")
    run.logits(rows, pairs=index)
    assert run.report["tokens_shared"] == 0


def test_a_swapped_pair_of_tables_gives_the_same_bits() -> None:
    rows, index = pairs(6, 40)
    first = engine(max_tokens=400).logits(rows, pairs=index)
    again = engine(max_tokens=400).logits(rows, pairs=index)
    assert np.array_equal(first, again)


def test_embeddings_are_the_states_before_the_head() -> None:
    run = engine()
    states = torch.from_numpy(run.embeddings(ROWS))
    assert states.shape == (len(ROWS), 64)
    with torch.no_grad():
        assert largest(run.pooled.head(states), run.logits(ROWS)) <= TIGHT


def test_embeddings_share_prefixes_too() -> None:
    rows, index = pairs(4, 40)
    run = engine()
    assert largest(run.embeddings(rows, pairs=index), run.embeddings(rows)) <= TIGHT * 10
    run.embeddings(rows, pairs=index)
    assert run.report["tokens_shared"] == 160


def test_no_rows_give_no_logits() -> None:
    assert engine().logits([]).shape == (0, 3)
    assert engine().embeddings([]).shape == (0, 64)


def test_progress_counts_every_row_once() -> None:
    steps: list[int] = []
    engine(max_tokens=200, devices="cpu,cpu").logits(ROWS, advance=steps.append)
    assert sum(steps) == len(ROWS)
    assert len(steps) > 3


def test_the_report_says_how_it_ran() -> None:
    run = engine(max_tokens=200, devices="cpu,cpu")
    run.logits(ROWS)
    assert run.report["devices"] == ["cpu", "cpu"]
    assert run.report["stages"] == [0, 1, 3]
    assert run.report["precision"] == "fp32"
    assert run.report["attention"] == ["one SDPA a sequence"]
    assert run.report["tokens"] == sum(map(len, ROWS))
    assert run.report["micro_batches"] >= run.report["tokens"] / 200
    assert run.report["seconds"] > 0


# --- precision ------------------------------------------------------------------------------------------------------


def test_automatic_precision_is_what_the_cpu_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(machine, "_cpu_multiplies_bf16", lambda there=there: there)
        assert engine(precision="auto").precision == expected


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_automatic_precision_of_a_gpu(
    capability: tuple[int, int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert machine.precision("auto", [torch.device("cuda", 0)]) == expected


def test_casting_leaves_rotary_frequencies_alone() -> None:
    run = engine(precision="bf16")
    assert {p.dtype for p in run.pooled.backbone.parameters()} == {torch.bfloat16}
    assert run.pooled.backbone.rotary_emb.inv_freq.dtype == torch.float32
    assert run.pooled.head.weight.dtype == torch.float32


def test_logits_that_are_not_finite_are_an_error() -> None:
    model = tiny.model("llama")
    with torch.no_grad():
        model.score.weight.fill_(torch.inf)
    with pytest.raises(UsageError, match=r"40 of 40 sequences have logits that are not finite in fp32"):
        Engine(model, Options(precision="fp32")).logits(ROWS)


# --- memory ---------------------------------------------------------------------------------------------------------


def short_of_memory(run: Engine, limit: int, error: Exception) -> list[int]:
    """Have every micro-batch over `limit` tokens fail as a device does; gives the sizes that were tried."""
    tried: list[int] = []
    forward = run.pooled.forward

    def limited(packed: Packed) -> torch.Tensor:
        tried.append(packed.tokens)
        if packed.tokens > limit:
            raise error
        return forward(packed)

    run.pooled.forward = limited  # type: ignore[method-assign]
    return tried


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_out_of_memory_halves_the_budget_and_goes_on(error: Exception, devices: str) -> None:
    run = engine(max_tokens=1000, devices=devices)
    tried = short_of_memory(run, 260, error)
    got = run.logits(ROWS)
    assert largest(got, engine().logits(ROWS)) <= TIGHT
    assert run.report["halvings"] >= 2
    assert run.report["max_tokens"] <= 260 * 2
    assert max(tried) > 260
    tried.clear()
    run.logits(ROWS)
    assert run.report["halvings"] == 0, "the smaller budget is kept"


def test_a_pair_that_does_not_fit_is_taken_apart() -> None:
    rows, index = pairs(2, 60)
    run = engine(max_tokens=500)
    short_of_memory(run, max(map(len, rows)), MemoryError())
    assert largest(run.logits(rows, pairs=index), engine().logits(rows)) <= TIGHT
    assert run.report["tokens_shared"] == 60, "one of the two pairs was taken apart in the end"


def test_weights_that_do_not_fit_are_an_error_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Pooled, "to", full)
    with pytest.raises(ResourceError, match=r"weights \(0\.0 GiB\); expected .*; to mend: --devices"):
        engine()


@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_one_sequence_that_does_not_fit_is_an_error_with_its_mend(devices: str) -> None:
    run = engine(max_tokens=1000, devices=devices)
    short_of_memory(run, 50, MemoryError())
    with pytest.raises(ResourceError, match=r"not enough for one sequence of \d+ tokens; expected .*; to mend: "):
        run.logits(ROWS)


@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_any_other_error_comes_through(devices: str) -> None:
    before = set(threading.enumerate())
    run = engine(max_tokens=100, devices=devices)
    short_of_memory(run, 50, RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        run.logits(ROWS)
    assert set(threading.enumerate()) <= before, "no thread is left behind"


# --- what cannot be computed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [-1, 400])
def test_a_token_that_is_not_the_models_is_refused(token: int) -> None:
    with pytest.raises(UsageError, match=rf"sequence 1 has token {token}; expected tokens 0 .. 399"):
        engine().logits([np.array([7]), np.array([7, token])])


def test_a_sequence_longer_than_the_positions_is_refused() -> None:
    with pytest.raises(UsageError, match="sequence 0 has 513 tokens; expected at most 512"):
        engine("bert").logits(sequences(513))
    assert engine("llama").logits(sequences(513)).shape == (1, 3)


def test_an_empty_sequence_is_refused() -> None:
    with pytest.raises(UsageError, match="sequence 1 has no tokens"):
        engine().logits([np.array([7]), np.array([], dtype=np.int64)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": "gpu"}, "device 'gpu' is not known"),
        ({"devices": "cuda:7"}, "device 'cuda:7' is not on this machine"),
        ({"devices": ",".join(["cpu"] * 4)}, "3 layers cannot be split over 4 devices"),
        ({"devices": "ranks"}, "without a process group"),
    ],
)
def test_devices_that_are_not_there_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        engine(**options)


@pytest.mark.parametrize("options", [{"precision": "bf8"}, {"max_tokens": 0}, {"window": 0}, {"streams": 0}])
def test_choices_outside_their_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Options(**options)


# --- the pipeline ---------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=8), before=st.integers(0, 60),
       after=st.integers(0, 60), data=st.data())  # fmt: skip
def test_layers_are_split_as_evenly_as_they_can_be(sizes: list[int], before: int, after: int, data: Any) -> None:
    stages = data.draw(st.integers(1, len(sizes)))

    def fullest(bounds: tuple[int, ...]) -> int:
        held = [sum(sizes[a:b]) for a, b in pairwise(bounds)]
        held[0] += before
        held[-1] += after
        return max(held)

    bounds = pipeline.split(sizes, stages, before=before, after=after)
    assert len(bounds) == stages + 1
    assert bounds[0] == 0
    assert bounds[-1] == len(sizes)
    assert all(a < b for a, b in pairwise(bounds))
    every = _partitions(len(sizes), stages)
    assert fullest(tuple(bounds)) == min(map(fullest, every))


def _partitions(layers: int, stages: int) -> Iterator[tuple[int, ...]]:
    return ((0, *cuts, layers) for cuts in combinations(range(1, layers), stages - 1))


def test_micro_batches_are_in_different_stages_at_the_same_time() -> None:
    """The first micro-batch stays in stage 1 until the second was in stage 0: one at a time would wait for ever."""
    run = engine(max_tokens=100, devices="cpu,cpu")
    second = threading.Event()
    entries = []
    layers = pipeline.layers(run.pooled.backbone)

    def first_layer(*_: Any) -> None:
        entries.append(1)
        if len(entries) > 1:
            second.set()

    def last_layer(*_: Any) -> None:
        assert second.wait(20), "stage 0 did not go on"

    layers[0].register_forward_pre_hook(first_layer)
    layers[-1].register_forward_pre_hook(last_layer)
    assert largest(run.logits(ROWS), engine().logits(ROWS)) <= TIGHT


def test_no_two_micro_batches_are_in_one_stage() -> None:
    run = engine(max_tokens=60, devices="cpu,cpu,cpu")
    inside = [0, 0, 0]
    most = [0, 0, 0]
    for s, layer in enumerate(pipeline.layers(run.pooled.backbone)):

        def enter(*_: Any, s: int = s) -> None:
            inside[s] += 1
            most[s] = max(most[s], inside[s])

        def leave(*_: Any, s: int = s) -> None:
            inside[s] -= 1

        layer.register_forward_pre_hook(enter)
        layer.register_forward_hook(leave)
    run.logits(ROWS)
    assert most == [1, 1, 1]


def test_what_a_stage_needs_is_copied_to_its_device_once() -> None:
    """The meta device stands in for a second GPU."""
    stages = engine(devices="cpu,cpu")._pipeline
    assert stages is not None
    there, states = torch.device("meta"), torch.ones(2)
    packed = pack(ROWS[:2])
    with stages.turn():
        moved = stages._moved({"rotary": (states, states), "packed": packed, "cache": None, "flag": True}, there)
        assert moved["rotary"][0].device == moved["packed"].input_ids.device == there
        assert moved["rotary"][0] is moved["rotary"][1] is stages._moved(states, there)
        assert moved["packed"] is stages._moved(packed, there)
        assert (moved["cache"], moved["flag"]) == (None, True)
        assert stages._moved(states, torch.device("cpu")) is states


def test_ahead_raises_where_the_item_would_have_come() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("third")

    ahead = Ahead(items())
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(ahead)
    with pytest.raises(StopIteration):
        next(ahead)
    ahead.close()


def test_ahead_can_be_left_early() -> None:
    before = set(threading.enumerate())
    ahead = Ahead(iter(range(10**9)))
    assert next(ahead) == 0
    ahead.close()
    assert set(threading.enumerate()) <= before


def test_a_pooled_model_can_be_given_in_the_place_of_a_classifier() -> None:
    pooled = Pooled(tiny.model("bert").bert, "mean", nn.Identity())
    assert Engine(pooled, Options(precision="fp32")).logits(ROWS[:2]).shape == (2, 64)


def test_an_encoder_on_a_cpu_computes_as_many_micro_batches_side_by_side_as_there_are_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        sequences = [np.arange(10, 10 + n) for n in (5, 9, 17, 30, 4, 11)]
        alone = Engine(tiny.model("bert"), Options(precision="fp32", max_tokens=16, streams=1))
        beside = Engine(tiny.model("bert"), Options(precision="fp32", max_tokens=16))
        assert (alone.workers, beside.workers) == (1, 2)
        np.testing.assert_allclose(beside.logits(sequences), alone.logits(sequences), atol=1e-5)
        assert Engine(tiny.model("llama"), Options(precision="fp32")).workers == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
