"""Groups hold together what belongs together, whatever the order of rows and sides; folds respect them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prepare_rows import table, tables
from tiebreak import comparisons, prepare
from tiebreak.errors import DataError, UsageError
from tiebreak.prepare import near, texts
from tiebreak.prepare.components import components

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not here")

LONG = "please write a short story about a lighthouse keeper who finds a bottle with a letter on a cold winter morning "
OTHER = "explain to a ten year old child how rain is made from the sea and why clouds float above the mountains long "


def partition(groups: pl.Series) -> list[int]:
    """The groups without their names: for each row the first row of its group."""
    first: dict[str, int] = {}
    return [first.setdefault(name, row) for row, name in enumerate(groups)]


def test_equal_after_normalisation() -> None:
    frame = table(
        ("What is ﬁre?", "It is hot.", "It is cold."),
        ("  what\tIS\n fire? ", "one", "two"),
        ("Something else", "IT IS  COLD.", "it is hot."),
        ("Unrelated", "three", "four"),
    )
    assert partition(prepare.groups(frame)) == [0, 0, 0, 3]


def test_all_turns_count() -> None:
    frame = table(
        (["hi", "tell me more"], ["a", "b"], ["c", "d"]),
        (["hi", "something else"], ["e", "f"], ["g", "h"]),
        ("hi tell me more", "i", "j"),
    )
    assert partition(prepare.groups(frame, near=False)) == [0, 1, 2]


def test_empty_prompts_and_empty_answers_join_nothing() -> None:
    frame = table(("", "one", "two"), (" ", "three", "four"), (None, "five", "six"), ("p", "", ""), ("q", None, " "))
    assert partition(prepare.groups(frame)) == [0, 1, 2, 3, 4]


def test_opening_line_stands_for_a_prompt_that_was_not_split_off() -> None:
    opening = "user: Where is the White House, and who lives in it?\n\nassistant: "
    frame = table(
        ("", opening + "In Washington.", opening + "In town."),
        ("", opening + "Far away.", opening + "Over there."),
        ("", opening + "On a hill.", "def broken(): pass"),
        ("", "user: Something quite different here.\n\nassistant: Yes.", "def other(): pass"),
    )
    assert partition(prepare.groups(frame, near=False)) == [0, 0, 0, 3]


def test_a_common_short_pair_does_not_join_its_prompts() -> None:
    few = table(*((f"question {i}", "Yes", "No") for i in range(20)))
    many = table(*((f"question {i}", "Yes", "No") for i in range(21)))
    assert prepare.groups(few, near=False).n_unique() == 1
    assert prepare.groups(many, near=False).n_unique() == 21
    assert prepare.grouping(many).common_pairs == 1


def test_near_duplicates_join_only_from_the_threshold_on() -> None:
    # 21 words make 19 shingles; another last word changes 1, so that the likeness is 18 / 20.
    first = LONG.strip()
    frame = table((first, "a", "b"), (first.removesuffix("morning") + "evening", "c", "d"), (OTHER, "e", "f"))
    assert len(first.split()) == 21
    assert partition(prepare.groups(frame, threshold=18 / 20 - 1e-9)) == [0, 0, 2]
    assert partition(prepare.groups(frame, threshold=18 / 20 + 1e-9)) == [0, 1, 2]
    assert partition(prepare.groups(frame, near=False)) == [0, 1, 2]


def test_near_pairs_join_whichever_side_they_stand_on() -> None:
    frame = table(("first", LONG, OTHER), ("second", OTHER + "indeed", LONG), ("third", LONG, "nothing of the kind"))
    assert partition(prepare.groups(frame)) == [0, 0, 2]


def test_scripts_without_spaces() -> None:
    chinese = "请你用简单的语言解释一下为什么天空是蓝色的而日落的时候却是红色的谢谢你的帮助"
    frame = table((chinese, "a", "b"), (chinese + "吧", "c", "d"), (chinese[::-1], "e", "f"))
    assert partition(prepare.groups(frame)) == [0, 0, 2]


def test_a_long_common_preamble_does_not_chain_everything() -> None:
    preamble = (LONG + OTHER) * 3
    rows = [(f"{preamble} q{i} w{i} e{i} r{i} t{i} y{i} u{i} i{i}", f"x{i}", f"y{i}") for i in range(120)]
    grouped = prepare.grouping(table(*rows, rows[0]))
    assert grouped.group.n_unique() == 120
    assert grouped.boilerplate > 0
    assert [(rows, prompts) for _, rows, prompts in grouped.largest] == [(2, 1)]


def test_given_groups_stay_together_unless_told_otherwise() -> None:
    frame = table(("p", "a", "b"), ("q", "c", "d"), ("r", "e", "f"), group=["x", "x", None])
    assert partition(prepare.groups(frame)) == [0, 0, 2]
    assert partition(prepare.groups(frame, keep_given=False)) == [0, 1, 2]


@settings(deadline=None, max_examples=60)
@given(tables(), st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_row_order_or_sides(frame: pl.DataFrame, random) -> None:
    order = list(range(frame.height))
    random.shuffle(order)
    groups = prepare.groups(frame)
    assert prepare.groups(frame[order]).to_list() == groups[order].to_list()
    assert prepare.groups(comparisons.swap(frame)).to_list() == groups.to_list()


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=0x24F), max_size=40))
def test_normalising_ignores_case_white_space_and_width(text: str) -> None:
    once = texts.normalise(text)
    assert once == texts.normalise(f"  {text}\n")
    assert once == " ".join(once.split())
    assert once == texts.normalise(text.casefold())


@settings(deadline=None)
@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
def test_components_agree_with_a_search(nodes: int, edges: list[tuple[int, int]]) -> None:
    edges = [(a % nodes, b % nodes) for a, b in edges]
    neighbours: dict[int, set[int]] = {n: {n} for n in range(nodes)}
    for a, b in edges:
        neighbours[a].add(b)
        neighbours[b].add(a)
    expected = []
    for node in range(nodes):
        seen, todo = {node}, [node]
        while todo:
            todo += (new := neighbours[todo.pop()] - seen)
            seen |= new
        expected.append(min(seen))
    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    assert components(nodes, ends[:, 0], ends[:, 1]).tolist() == expected


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdefg"), max_size=9).map(" ".join), min_size=2, max_size=8))
def test_jaccard_agrees_with_sets(corpus: list[str]) -> None:
    def shingles(text: str) -> set[tuple[str, ...]]:
        tokens = text.split()
        runs = {tuple(tokens[i : i + 3]) for i in range(len(tokens) - 2)}
        return runs or ({tuple(tokens)} if tokens else set())

    left, right = np.triu_indices(len(corpus), 1)
    sets = [shingles(text) for text in corpus]
    expected = [len(sets[a] & sets[b]) / max(len(sets[a] | sets[b]), 1) for a, b in zip(left, right, strict=True)]
    assert near.jaccard(near.shingle(pl.Series(corpus, dtype=pl.String)), left, right).tolist() == expected


def test_lsh_finds_what_comparing_all_pairs_finds() -> None:
    rng = np.random.default_rng(5)
    base = [rng.integers(0, 5_000, 80) for _ in range(60)]
    corpus = []
    for row in range(300):
        tokens = base[row % 60].copy()
        tokens[rng.random(80) < 0.03 * (row // 60)] = 9_999
        corpus.append(" ".join(map(str, tokens)))
    shingles = near.shingle(pl.Series(corpus))
    left, right = np.triu_indices(len(corpus), 1)
    true = set(zip(*(ends[near.jaccard(shingles, left, right) >= 0.8] for ends in (left, right)), strict=True))
    found = {pair for round_ in near.candidates(shingles, 0.8) for pair in zip(*round_, strict=True)}
    assert len(true) > 50
    assert len(true - found) <= len(true) * 0.02


@settings(deadline=None, max_examples=50)
@given(tables(least=4), st.integers(2, 4), st.integers(0, 5), st.booleans(), st.randoms(use_true_random=False))
def test_folds_are_a_partition_by_group(frame, k, seed, stratify, random) -> None:
    frame = frame.with_columns(prepare.groups(frame))
    if frame["group"].n_unique() < k:
        with pytest.raises(DataError, match="groups"):
            prepare.folds(frame, k, seed=seed)
        return
    folds = prepare.folds(frame, k, seed=seed, stratify=stratify)
    assert set(folds) == set(range(k))
    assert frame.with_columns(folds).group_by("group").agg(pl.col("fold").n_unique())["fold"].max() == 1
    order = list(range(frame.height))
    random.shuffle(order)
    assert prepare.folds(frame[order], k, seed=seed, stratify=stratify).to_list() == folds[order].to_list()


def test_folds_balance_rows_and_labels() -> None:
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 6, 400)
    group = np.repeat(np.arange(400), sizes).astype(str)
    label = rng.choice(["a", "b", "tie"], len(group), p=[0.6, 0.3, 0.1])
    rows = [(f"p{i}", f"a{i}", f"b{i}") for i in range(len(group))]
    frame = table(*rows, group=group.tolist(), label=label.tolist())
    dealt = frame.with_columns(prepare.folds(frame, 5, seed=3)).group_by("fold").agg(
        pl.len(), *((pl.col("label") == name).sum().alias(name) for name in comparisons.LABELS)
    )  # fmt: skip
    for column in ("len", "a", "b", "tie"):
        assert dealt[column].max() - dealt[column].min() <= 3
    assert prepare.folds(frame, 5, seed=3).to_list() != prepare.folds(frame, 5, seed=4).to_list()


def test_folds_make_groups_where_there_are_none() -> None:
    frame = table(*[(f"prompt {i % 4}", f"a{i}", f"b{i}") for i in range(12)])
    folds = prepare.folds(frame, 4, seed=0).to_list()
    assert sorted(folds[:4]) == [0, 1, 2, 3]
    assert folds == folds[:4] * 3


def test_split_keeps_shares_order_and_groups() -> None:
    frame = table(*[(f"prompt {i % 500}", f"a{i}", f"b{i}") for i in range(1000)])
    parts = prepare.split(frame, fractions={"train": 0.8, "valid": 0.1, "test": 0.1}, seed=7)
    assert {name: part.height for name, part in parts.items()} == {"train": 800, "valid": 100, "test": 100}
    for part in parts.values():
        assert part["id"].cast(pl.Int64).is_sorted()
    prompts = [set(part["prompt"].list.first()) for part in parts.values()]
    assert not prompts[0] & prompts[1] | prompts[0] & prompts[2] | prompts[1] & prompts[2]


@pytest.mark.parametrize("fractions", [{"all": 1.0}, {"a": 0.5, "b": 0.6}, {"a": 1.5, "b": -0.5}, {}])
def test_split_refuses_fractions_that_are_none(fractions: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="fractions"):
        prepare.split(table(("p", "a", "b")), fractions=fractions, seed=0)


def test_nonsense_arguments_are_refused() -> None:
    frame = table(("p", "a", "b"))
    with pytest.raises(UsageError, match="threshold"):
        prepare.groups(frame, threshold=0)
    with pytest.raises(UsageError, match="1 folds"):
        prepare.folds(frame, 1, seed=0)


def test_an_empty_table_has_no_groups() -> None:
    assert prepare.groups(table()).to_list() == []


@needs_data
def test_real_votes_on_thirteen_prompts_make_thirteen_groups() -> None:
    raw = pl.read_parquet(SHARED / "llmfao_crowd_votes.parquet").with_columns(
        pl.col(name).str.json_decode(comparisons.TURNS) for name in comparisons.TEXTS
    )
    grouped = prepare.grouping(comparisons.validate(raw))
    assert grouped.group.n_unique() == 13
    assert grouped.left["same prompt"] == 13
