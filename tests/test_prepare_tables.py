"""Duplicates, overlap, leaks, cleaning, twins and figures: exact results on small tables, properties on random ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from prepare_rows import table, tables
from tiebreak import comparisons, prepare
from tiebreak.errors import DataError, UsageError

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not here")

POLICIES = ("keep-first", "majority", "soft")
LONG = "please write a short story about a lighthouse keeper who finds a bottle with a letter on a cold winter morning"

# One pair with five votes, the second and fifth cast the other way round; then a row of its own.
VOTES = [
    ("Which?", "One", "Two"), ("which? ", "two", "one"), ("Which?", "One", "Two"),
    ("Which?", "One", "Two"), ("Which?", "Two", "One"), ("Else?", "Three", "Four"),
]  # fmt: skip
LABELS = ["a", "a", "b", "tie", "a", None]  # on the sides of the first row: a, b, b, tie, b


@pytest.mark.parametrize(
    ("policy", "label", "soft", "weight", "changed"),
    [
        ("keep-first", "a", None, None, 0),
        ("majority", "b", None, None, 1),
        ("soft", "b", (0.2, 0.6, 0.2), 5.0, 1),
    ],
)
def test_votes_on_one_pair(policy, label, soft, weight, changed) -> None:
    kept, report = prepare.dedupe(table(*VOTES, label=LABELS), conflicts=policy)
    assert kept["id"].to_list() == ["0", "5"]
    row = kept.row(0, named=True)
    assert (row["response_a"], row["response_b"]) == (["One"], ["Two"])
    assert row["label"] == label
    assert row["weight"] == weight
    expected = (None, None, None) if soft is None else pytest.approx(soft)
    assert tuple(row[name] for name in comparisons.SOFT) == expected
    assert kept["label"][1] is None
    assert (report.rows, report.kept, report.conflicting, report.relabelled) == (6, 2, 1, changed)
    assert report.dropped == ["1", "2", "3", "4"]


def test_soft_votes_count_by_weight_and_an_even_split_is_a_tie() -> None:
    weighted = table(*VOTES[:2], label=["a", "a"], weight=[3.0, 1.0])
    kept, _ = prepare.dedupe(weighted, conflicts="soft")
    assert kept.select(*comparisons.SOFT, "weight").row(0) == (0.75, 0.25, 0.0, 4.0)
    even, _ = prepare.dedupe(weighted.with_columns(pl.lit(None, pl.Float64).alias("weight")), conflicts="soft")
    assert even["label"][0] == "tie"
    assert even.select("p_a", "p_b").row(0) == (0.5, 0.5)


def test_soft_merging_keeps_the_training_loss() -> None:
    frame = table(*VOTES, label=["a", "a", "b", "tie", "a", "b"], weight=[1.0, 2.0, 0.5, 1.0, 3.0, 1.0])
    log_p = np.log([0.5, 0.3, 0.2])
    mirror = [1, 0, 2]
    turned = np.array([0, 1, 0, 0, 1, 0], dtype=bool)
    given_rows = np.where(turned[:, None], log_p[mirror], log_p)
    before = -(frame["weight"].to_numpy()[:, None] * comparisons.targets(frame) * given_rows).sum()
    kept, _ = prepare.dedupe(frame, conflicts="soft")
    after = -(kept["weight"].to_numpy()[:, None] * comparisons.targets(kept) * log_p).sum()
    assert after == pytest.approx(before)


def test_an_unlabelled_first_copy_takes_the_first_label_there_is() -> None:
    for policy in POLICIES:
        kept, report = prepare.dedupe(table(*VOTES[:2], label=[None, "a"]), conflicts=policy)
        assert kept["label"].to_list() == ["b"]
        assert (report.conflicting, report.relabelled) == (0, 1)


def test_equal_prompts_with_other_answers_are_no_copies() -> None:
    kept, _ = prepare.dedupe(table(("p", "a", "b"), ("p", "a", "c"), ("q", "a", "b"), ("p", "b", "a")))
    assert kept["id"].to_list() == ["0", "1", "2"]
    assert kept["group"].n_unique() == 1


def test_unknown_policies_are_refused() -> None:
    with pytest.raises(UsageError, match="keep-first"):
        prepare.dedupe(table(("p", "a", "b")), conflicts="loudest")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="lose"):
        prepare.clean(table(("p", "a", "b")), empty="win")  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", POLICIES)
@settings(deadline=None, max_examples=40)
@given(tables())
def test_dedupe_is_idempotent_and_mirrors(policy, frame) -> None:
    once, report = prepare.dedupe(frame, conflicts=policy)
    assert report.kept + len(report.dropped) == report.rows == frame.height
    again, second = prepare.dedupe(once, conflicts=policy)
    assert again.equals(once, null_equal=True)
    assert second.dropped == []
    swapped, _ = prepare.dedupe(comparisons.swap(frame), conflicts=policy)
    assert swapped.equals(comparisons.swap(once), null_equal=True)


@settings(deadline=None)
@given(tables())
def test_twins_are_exact_mirrors(frame) -> None:
    frame = frame.with_columns(prepare.groups(frame))
    doubled = prepare.twins(frame)
    assert doubled[::2].equals(frame, null_equal=True)
    twins = doubled[1::2]
    assert twins["id"].to_list() == [f"{name}#swapped" for name in frame["id"]]
    assert comparisons.swap(twins).drop("id").equals(frame.drop("id"), null_equal=True)


ODD = [("p", "", " "), ("q", "", "text"), ("r", "text", None), ("s", "Same", "same "), (" ", "x", "y"), ("t", "x", "y")]


@pytest.mark.parametrize(
    ("policies", "ids", "labels"),
    [
        ({}, "12345", ["a", "a", "a", "a", None]),
        ({"both_empty": "keep"}, "012345", ["a", "a", "a", "a", "a", None]),
        ({"both_empty": "tie"}, "012345", ["tie", "a", "a", "a", "a", None]),
        ({"empty": "lose"}, "12345", ["b", "a", "a", "a", None]),
        ({"empty": "drop"}, "345", ["a", "a", None]),
        ({"identical": "tie"}, "12345", ["a", "a", "tie", "a", None]),
        ({"identical": "drop", "no_prompt": "drop", "no_label": "drop"}, "12", ["a", "a"]),
    ],
)
def test_cleaning_policies(policies, ids, labels) -> None:
    frame = table(*ODD, label=["a", "a", "a", "a", "a", None])
    kept, report = prepare.clean(frame, **policies)
    assert kept["id"].to_list() == list(ids)
    assert kept["label"].to_list() == labels
    assert report.found == {"both_empty": 1, "empty": 2, "identical": 1, "no_prompt": 1, "no_label": 1}
    assert sum(report.dropped.values()) == report.rows - report.kept == len(report.dropped_ids)
    before = frame.filter(frame["id"].is_in(list(ids)))["label"].to_list()
    assert sum(report.relabelled.values()) == sum(x != y for x, y in zip(before, labels, strict=True))


def test_relabelling_clears_the_soft_label_and_leaves_unlabelled_rows_alone() -> None:
    frame = table(("p", "", "text"), ("q", "", "text"), label=["a", None]).with_columns(
        pl.Series("p_a", [0.9, None]), pl.Series("p_b", [0.1, None]), pl.Series("p_tie", [0.0, None])
    )
    kept, report = prepare.clean(frame, empty="lose")
    assert kept["label"].to_list() == ["b", None]
    assert kept["p_a"].to_list() == [None, None]
    assert report.relabelled["empty"] == 1


def test_overlap_names_each_kind_and_drops() -> None:
    left = table((LONG, "a1", "b1"), ("p", "The answer", "Another"), ("", "x", ""))
    right = table(
        (LONG.upper(), "c", "d"), (LONG + " please", "e", "f"), ("q", "another", "the ANSWER"),
        ("", "y", "z"), ("", "", ""),
    )  # fmt: skip
    found = prepare.overlap(left, right)
    assert found.counts == {"same prompt": 1, "same pair": 1, "near prompt": 1, "near pair": 0}
    assert found.matches.select("row", "kind", "left_id").rows() == [
        (0, "same prompt", "0"), (1, "near prompt", "0"), (2, "same pair", "1")
    ]  # fmt: skip
    assert found.matches["similarity"].to_list() == [1.0, pytest.approx(19 / 20), 1.0]
    assert found.ids == ["0", "1", "2"]
    assert found.drop(right)["id"].to_list() == ["3", "4"]
    exact = prepare.overlap(left, right, near=False)
    assert exact.rows == [0, 2]


def test_overlap_tells_rows_apart_by_place_not_by_id() -> None:
    left = table(("p", "a", "b"))
    right = table(("p", "c", "d"), ("q", "e", "f")).with_columns(pl.lit("same").alias("id"))
    assert prepare.overlap(left, right).drop(right)["prompt"].to_list() == [["q"]]


@settings(deadline=None, max_examples=60)
@given(tables(), tables())
def test_overlap_is_symmetric_in_kind_and_blind_to_sides(left, right) -> None:
    there = prepare.overlap(left, right)
    assert prepare.overlap(left[:1], right[:1]).counts == prepare.overlap(right[:1], left[:1]).counts
    assert prepare.overlap(comparisons.swap(left), right).matches.equals(there.matches)
    again = prepare.overlap(left, there.drop(right), near=False)
    assert not again.rows


@settings(deadline=None, max_examples=40)
@given(tables(least=2))
def test_parts_of_a_split_do_not_overlap(frame) -> None:
    if prepare.groups(frame).n_unique() < 2:
        return
    parts = prepare.split(frame, fractions={"train": 0.6, "test": 0.4}, seed=1)
    assert not prepare.overlap(parts["train"], parts["test"]).rows
    assert sum(part.height for part in parts.values()) == frame.height


def labelled(rows: int = 600) -> tuple[np.random.Generator, np.ndarray, pl.DataFrame]:
    rng = np.random.default_rng(11)
    label = rng.choice(["a", "b", "tie"], rows, p=[0.4, 0.35, 0.25])
    harmless = pl.DataFrame(
        {
            "row": np.arange(rows),
            "question": rng.integers(0, 40, rows).astype(str),
            "hash": [f"h{n}" for n in rng.permutation(rows)],
            "model": rng.choice(["m1", "m2", "m3"], rows),
            "score": rng.normal(size=rows),
            "constant": np.ones(rows),
            "label": label,
        }
    )
    return rng, label, harmless


def test_ids_and_honest_columns_are_no_leaks() -> None:
    _, _, harmless = labelled()
    assert prepare.leaks(harmless, "label") == []
    assert prepare.leaks(harmless.sort("label"), "label") == []


def test_a_teacher_that_is_often_right_is_no_leak_and_its_copy_of_the_label_is() -> None:
    rng, label, harmless = labelled()
    codes = np.searchsorted(["a", "b", "tie"], label)
    teacher = np.where(rng.random(len(label)) < 0.6, codes, rng.integers(0, 3, len(label)))
    nearly = np.where(rng.random(len(label)) < 0.98, codes, rng.integers(0, 3, len(label)))
    frame = harmless.with_columns(
        pl.Series("teacher", teacher), pl.Series("argmax", codes), pl.Series("nearly", nearly)
    )
    found = prepare.leaks(frame, "label")
    assert [leak.columns for leak in found] == [("argmax",), ("nearly",)]
    assert found[0].kappa == 1.0
    assert {leak.tells for leak in found} == {"label"}
    assert {leak.level for leak in found} == {"leak"}


def test_leaks_of_one_class_by_threshold_by_comparison_and_by_argmax() -> None:
    rng, label, harmless = labelled()
    codes = np.searchsorted(["a", "b", "tie"], label)
    rows = len(label)
    logits = rng.normal(size=(rows, 3))
    logits[np.arange(rows), codes] += 8
    logits += rng.normal(scale=50, size=(rows, 1))
    rating = rng.normal(size=rows)
    frame = harmless.with_columns(
        pl.Series("was_tie", label == "tie"),
        pl.Series("margin", np.choose(codes, [2.0, -2.0, 0.0]) + rng.random(rows) * 0.5),
        pl.Series("rating_left", rating + np.choose(codes, [1, 0, 0])),
        pl.Series("rating_right", rating + np.choose(codes, [0, 1, 0])),
        pl.Series("t1", logits[:, 0]), pl.Series("t2", logits[:, 1]), pl.Series("t3", logits[:, 2]),
        pl.Series("only_for_ties", [1.0 if name == "tie" else None for name in label]),
    )  # fmt: skip
    found = {leak.columns: leak for leak in prepare.leaks(frame, "label")}
    assert found[("was_tie",)].tells == found[("only_for_ties",)].tells == "tie"
    assert found[("margin",)].tells == "label"
    assert found[("rating_left", "rating_right")].kind == "larger of two"
    assert found[("t1", "t2", "t3")].kind == "largest of three"
    assert "t1 / t2 / t3" in str(found[("t1", "t2", "t3")])


def test_our_own_soft_labels_are_a_remark() -> None:
    rows = [(f"p{i}", f"a{i}", f"b{i}") for i in range(90)]
    turned = np.array([np.roll([0.8, 0.1, 0.1], i % 3) for i in range(90)]) + np.linspace(0, 0.05, 90)[:, None]
    soft = pl.DataFrame(turned / turned.sum(axis=1, keepdims=True), schema=list(comparisons.SOFT))
    frame = table(*rows, label=[comparisons.LABELS[i % 3] for i in range(90)]).with_columns(soft)
    found = prepare.leaks(frame, "label")
    assert found
    assert {leak.level for leak in found} == {"remark"}


def test_leaks_refuse_what_is_no_label() -> None:
    _, _, harmless = labelled(20)
    with pytest.raises(DataError, match="no column 'vote'"):
        prepare.leaks(harmless, "vote")
    with pytest.raises(DataError, match="2 labels for 20 rows"):
        prepare.leaks(harmless, pl.Series(["a", "b"]))


def test_figures() -> None:
    frame = table(
        ("Hello there", "long answer", "short"), ("Привет, мир", "x", "longer one"), ("你好", "same", "Same"),
        ("こんにちは世界", "", "text"), ("Hello  THERE", "short", "long answer"), ("42?", None, " "),
        label=["a", "a", "tie", "b", None, "b"], model_a=["m"] * 6, model_b=["n"] * 5 + [None],
    )  # fmt: skip
    figures = prepare.stats(frame)
    assert figures.labels == {"a": 2, "b": 2, "tie": 1, "none": 1}
    assert figures.prior_log_loss == pytest.approx(-(0.8 * np.log(0.4) + 0.2 * np.log(0.2)))
    assert figures.scripts == {"Latin": 2, "Chinese": 1, "Cyrillic": 1, "Japanese": 1, "no letters": 1}
    assert figures.duplicates == {"rows": 1, "prompts": 5, "pairs": 4}
    assert figures.answers == {"identical": 1, "one empty": 1, "both empty": 1, "no prompt": 0}
    # The longer answer: A wins row 0; B is longer and loses row 1; B wins rows 3 and 5 (a single blank is longer).
    assert figures.longer_wins == (0.75, 4)
    assert figures.first_wins == (0.5, 4)
    assert figures.models == {"m": (6, pytest.approx(0.4)), "n": (5, pytest.approx(0.25))}
    assert figures.lengths["prompt, characters"]["max"] == 12
    assert figures.nulls["label"] == 1
    assert figures.groups == {"groups": 0, "largest": 0, "in several folds": 0}


def test_figures_count_groups_that_folds_tear_apart() -> None:
    frame = table(("p", "a", "b"), ("p", "c", "d"), ("q", "e", "f"), group=["x", "x", "y"], fold=[0, 1, 1])
    figures = prepare.stats(frame)
    assert figures.groups == {"groups": 2, "largest": 2, "in several folds": 1}
    assert figures.folds == {0: 1, 1: 2}


def test_an_empty_table_has_figures_too() -> None:
    figures = prepare.stats(table())
    assert (figures.rows, figures.prior_log_loss, figures.longer_wins) == (0, None, (None, 0))
    assert prepare.clean(table())[0].height == prepare.dedupe(table())[0].height == prepare.twins(table()).height == 0
    assert prepare.overlap(table(), table(("p", "a", "b"))).rows == []


@needs_data
def test_figures_of_real_votes_are_those_published_with_them() -> None:
    raw = pl.read_parquet(SHARED / "kaggle_lmsys_1k.parquet")
    label = pl.when(pl.col("winner_tie") == 1).then(pl.lit("tie")).when(pl.col("winner_model_a") == 1)
    votes = raw.with_columns(
        *(pl.col(name).str.json_decode(comparisons.TURNS) for name in comparisons.TEXTS),
        label.then(pl.lit("a")).otherwise(pl.lit("b")).alias("label"),
    )
    figures = prepare.stats(comparisons.validate(votes))
    assert figures.labels == {"a": 352, "b": 353, "tie": 295, "none": 0}
    assert figures.prior_log_loss == pytest.approx(1.0952, abs=5e-5)
    assert figures.longer_wins == (pytest.approx(0.634, abs=5e-4), 703)
    found = {leak.columns: leak.tells for leak in prepare.leaks(raw, votes["label"])}
    assert found == {("winner_model_a",): "a", ("winner_model_b",): "b", ("winner_tie",): "tie"}


@needs_data
def test_a_real_teacher_is_no_leak() -> None:
    assert prepare.leaks(pl.read_parquet(SHARED / "kaggle_lmsys_llm_predictions.parquet"), "label") == []
