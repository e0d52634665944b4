"""Flat, HNSW and IVF: what they find, what is kept of them, and arrays that are no index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval_made import KERNEL, memory, remembered
from tiebreak.errors import BundleError
from tiebreak.judges.retrieval import index as indices
from tiebreak.judges.retrieval.hnsw import Graph
from tiebreak.judges.retrieval.index import Flat, Index, exact, kind_for
from tiebreak.judges.retrieval.ivf import Inverted
from tiebreak.judges.retrieval.memory import KINDS, Memory, combined
from tiebreak.judges.retrieval.votes import FILE, Votes

COUNT = 1500


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    votes = remembered(COUNT)
    return combined(votes.prompt, votes.difference, 0.5).astype(np.float32)


@pytest.fixture(scope="module")
def built(vectors: np.ndarray) -> dict[str, Index]:
    made = {name: kind.build(vectors) for name, kind in KINDS.items()}
    for index in made.values():
        index.tune(vectors)
    return made


def test_the_kind_follows_the_number_of_votes() -> None:
    sizes = (1, indices.FLAT_UP_TO, indices.FLAT_UP_TO + 1, indices.HNSW_UP_TO, indices.HNSW_UP_TO + 1)
    assert [kind_for(size) for size in sizes] == ["flat", "flat", "hnsw", "hnsw", "ivf"]


def test_flat_is_every_inner_product_sorted(vectors: np.ndarray, built: dict[str, Index]) -> None:
    queries = vectors[:7] + 0.1
    products, numbers = built["flat"].search(queries, 20)
    all_of_them = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    np.testing.assert_array_equal(numbers, np.argsort(-all_of_them, axis=1, kind="stable")[:, :20])
    np.testing.assert_allclose(products, np.sort(all_of_them, axis=1)[:, ::-1][:, :20], atol=1e-5)


def test_exact_search_in_blocks_finds_the_same(
    vectors: np.ndarray, built: dict[str, Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indices, "_BLOCK", 64)
    np.testing.assert_array_equal(exact(vectors, vectors[:9], 17), built["flat"].search(vectors[:9], 17)[1])


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_enough_of_the_nearest_are_found_and_the_least_effort_is_taken(
    vectors: np.ndarray, built: dict[str, Index], kind: str
) -> None:
    index = built[kind]
    queries = vectors[::5] + np.float32(0.01)
    truth = exact(vectors, queries, 16)
    assert indices.found(index.search(queries, 16)[1], truth) > 0.9
    assert index.effort in index.efforts


def test_recall_is_measured_and_not_assumed(vectors: np.ndarray) -> None:
    index = Inverted.build(vectors)
    index.lists[:] = 0
    broken = Inverted(index.centroids, index.codebook)
    broken._put(vectors, np.zeros(len(vectors), dtype=np.int32))
    assert broken.tune(vectors, least=0.999) > 0.999  # two votes that are equally far may change places
    assert broken.effort > Inverted.build(vectors).effort, "all votes in one list that is rarely the nearest"


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_kept_and_put_together_again_it_finds_the_same(vectors: np.ndarray, built: dict[str, Index], kind: str) -> None:
    index = built[kind]
    again = KINDS[kind].restore(index.shape(), vectors, index.tensors())
    for one, other in zip(index.search(vectors[:40], 12), again.search(vectors[:40], 12), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.shape() == index.shape()


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_what_is_asked_for_beyond_what_there_is_is_nothing(built: dict[str, Index], kind: str) -> None:
    few = KINDS[kind].build(np.eye(3, 8, dtype=np.float32))
    products, numbers = few.search(np.ones((2, 8), dtype=np.float32), 10)
    assert products.shape == numbers.shape == (2, 3)
    assert (np.isnan(products) == (numbers < 0)).all()


def test_votes_added_to_a_flat_index_are_as_if_they_had_been_there_from_the_start(tmp_path: Path) -> None:
    votes = remembered(400)
    whole = Memory.build(votes, KERNEL)
    grown = Memory.build(votes.picked(np.arange(250)), KERNEL).added(votes.picked(np.arange(250, 400)))
    assert whole.files() == grown.files()
    asked = remembered(30, seed=9)
    query = (asked.prompt.astype(np.float32), asked.difference.astype(np.float32), asked.row + 10_000, asked.group * 0)
    for name in ("similarity", "vote", "mirrored"):
        np.testing.assert_array_equal(*(getattr(one.near(*query), name) for one in (whole, grown)))


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_votes_added_to_the_others_are_found_with_the_recall_that_is_stated(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("tiebreak.judges.retrieval.memory.kind_for", lambda votes: kind)
    votes = remembered(COUNT)
    grown = Memory.build(votes.picked(np.arange(1000)), KERNEL).added(votes.picked(np.arange(1000, COUNT)))
    vectors = combined(votes.prompt, votes.difference, KERNEL.mix).astype(np.float32)
    queries = vectors[::3] + np.float32(0.01)
    recall = indices.found(grown.index.search(queries, 16)[1], exact(vectors, queries, 16))
    assert grown.shape.recall >= 0.95
    assert recall == pytest.approx(grown.shape.recall, abs=0.04)
    assert len(grown.index) == COUNT


def test_an_index_that_lost_its_recall_is_built_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiebreak.judges.retrieval.memory.kind_for", lambda votes: "ivf")
    votes = remembered(600)
    first = Memory.build(votes.picked(np.arange(300)), KERNEL)
    monkeypatch.setattr(Inverted, "efforts", property(lambda index: (1,)))
    before = first.index
    monkeypatch.setattr(before, "tune", lambda *_, **__: 0.5)
    grown = first.added(votes.picked(np.arange(300, 600)))
    assert grown.index is not before
    assert len(grown.index) == 600


def test_more_votes_than_a_kind_is_for_make_it_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indices, "FLAT_UP_TO", 300)
    votes = remembered(400)
    first = Memory.build(votes.picked(np.arange(300)), KERNEL)
    assert first.shape.kind == "flat"
    assert first.added(votes.picked(np.arange(300, 400))).shape.kind == "hnsw"


def damage(kind: str, name: str, change: Any) -> Any:
    def apply(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        changed = dict(tensors)
        if change is None:
            del changed[name]
        else:
            changed[name] = change(changed[name].copy())
        return changed

    return pytest.param(kind, apply, id=f"{kind}-{name}-{getattr(change, '__name__', change)}")


def _first(value: float) -> Any:
    def put(array: np.ndarray) -> np.ndarray:
        array[0] = value
        return array

    put.__name__ = str(value)
    return put


def _shorter(array: np.ndarray) -> np.ndarray:
    return array[:-1]


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.int64)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        damage("ivf", "lists", None), damage("ivf", "lists", _first(-1)), damage("ivf", "lists", _first(10_000)),
        damage("ivf", "lists", _shorter), damage("ivf", "lists", _wide), damage("ivf", "centroids", _first(np.nan)),
        damage("ivf", "centroids", _shorter), damage("ivf", "codebook", None), damage("ivf", "codebook", _shorter),
        damage("ivf", "codebook", _first(np.inf)),
        damage("hnsw", "entry", _first(COUNT)), damage("hnsw", "entry", None),
        damage("hnsw", "levels", _first(99)), damage("hnsw", "levels", _first(0)), damage("hnsw", "levels", _shorter),
        damage("hnsw", "neighbours", _first(COUNT)), damage("hnsw", "neighbours", _first(-2)),
        damage("hnsw", "neighbours", _shorter), damage("hnsw", "neighbours", _wide),
    ],
)  # fmt: skip
def test_arrays_that_are_no_index_are_refused_before_faiss_walks_along_them(
    vectors: np.ndarray, built: dict[str, Index], kind: str, change: Any
) -> None:
    with pytest.raises(BundleError, match=r"index\.safetensors"):
        KINDS[kind].restore(built[kind].shape(), vectors, change(built[kind].tensors()))


def test_a_link_on_a_level_where_its_vector_is_not_is_refused(vectors: np.ndarray, built: dict[str, Index]) -> None:
    tensors = {name: array.copy() for name, array in built["hnsw"].tensors().items()}
    levels = tensors["levels"]
    entry, low = int(tensors["entry"][0]), int(np.flatnonzero(levels == 1)[0])
    graph = built["hnsw"].faiss.hnsw
    begin = int(indices.library().vector_to_array(graph.offsets)[entry])
    tensors["neighbours"][begin + 2 * built["hnsw"].shape().links] = low
    with pytest.raises(BundleError, match="not on that level"):
        Graph.restore(built["hnsw"].shape(), vectors, tensors)


def test_votes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    votes = remembered(20)
    path = tmp_path / FILE
    for broken in (
        b"no tensors",
        Votes(votes.prompt[:-1], votes.difference, votes.targets, votes.row, votes.group).dump(),
        Votes(votes.prompt, votes.difference, -votes.targets, votes.row, votes.group).dump(),
        Votes(votes.prompt * np.float16("nan"), votes.difference, votes.targets, votes.row, votes.group).dump(),
        Votes(votes.prompt, votes.difference, votes.targets, votes.row.astype(np.int32), votes.group).dump(),
    ):
        path.write_bytes(broken)
        with pytest.raises(BundleError, match=FILE):
            Votes.load(path)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_near_is_the_best_of_both_ways_round(kind: str) -> None:
    found = memory(300, kind)
    found.index.effort = max(found.index.efforts, default=0)
    asked = remembered(25, seed=5)
    near = found.near(
        asked.prompt.astype(np.float32), asked.difference.astype(np.float32), asked.row + 999, asked.row * 0
    )
    votes, mix = found.votes, KERNEL.mix
    prompts = asked.prompt.astype(np.float64) @ votes.prompt.astype(np.float64).T
    answers = asked.difference.astype(np.float64) @ votes.difference.astype(np.float64).T
    both = np.concatenate([(1 - mix) * prompts + mix * answers, (1 - mix) * prompts - mix * answers], axis=1)
    best = np.sort(both, axis=1)[:, ::-1][:, : KERNEL.neighbours + 1]
    np.testing.assert_allclose(near.similarity, best, atol=2e-3)
    own = np.take_along_axis(both, near.vote + 300 * near.mirrored, axis=1)
    np.testing.assert_allclose(near.similarity, own, atol=2e-3)


def test_flat_has_no_effort() -> None:
    flat = Flat.build(np.eye(4, dtype=np.float32))
    assert flat.efforts == ()
    assert flat.tune(np.eye(4, dtype=np.float32)) == 1.0
