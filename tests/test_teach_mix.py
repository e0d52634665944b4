"""Pseudo-labelled pairs beside votes: what is dropped, what is counted, and the mirror."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import SHARED, tiebreak
from soft_rows import blurred, labels, votes
from tiebreak import cli, comparisons, ingest, judges, row_hashes, soft_labels
from tiebreak.comparisons import SOFT
from tiebreak.errors import DataError, UsageError
from tiebreak.teach import mixing

MIRROR = [1, 0, 2]
POOL_FILE, KAGGLE = SHARED / "arena_unlabelled_pool.parquet", SHARED / "kaggle_lmsys_1k.parquet"

VOTES = votes(40, seed=1)[0].with_columns(pl.lit("people").alias("source"))
_POOL, TRUTH = votes(60, seed=2)
POOL = _POOL.with_columns(pl.lit(None).cast(comparisons.LABEL).alias("label"), pl.lit("p").alias("id") + pl.col("id"))
SAID = blurred(TRUTH, 0.2)
TEACHER = labels(POOL, SAID, teacher="llama")


def test_votes_stay_as_they_are_and_pseudo_rows_say_what_they_are() -> None:
    mixed, report = mixing.mix(VOTES, POOL, TEACHER, margin=0.0, weight=0.25)
    assert mixed.height == 100
    assert mixed.head(40).drop("weight").equals(VOTES.drop("weight"))
    assert mixed["weight"].to_list() == [1.0] * 40 + [0.25] * 60
    pseudo = mixed.tail(60)
    assert pseudo["source"].unique().to_list() == ["pseudo:llama"]
    assert pseudo["label"].null_count() == pseudo["fold"].null_count() == 60
    assert (pseudo.select(SOFT).to_numpy() == SAID).all()
    assert (comparisons.targets(mixed)[40:] == SAID).all()
    assert (report.kept, report.vote_weight, report.pseudo_weight) == (60, 40.0, 15.0)
    assert report.mean == pytest.approx(SAID.mean(axis=0))
    assert any("have no folds" in note for note in report.notes)


@pytest.mark.parametrize(
    ("p", "undecided"),
    [
        ([0.36, 0.34, 0.30], True),  # neither side leads by more than .03, and the tie does not
        ([0.40, 0.34, 0.26], False),
        ([0.10, 0.10, 0.80], False),  # a confident tie: both answers alike, and no doubt
        ([0.34, 0.34, 0.32], True),
        ([0.32, 0.32, 0.36], False),
        ([0.33, 0.33, 0.34], True),  # a tie ahead by too little
        ([0.1, 0.5, 0.4], False),
    ],
)
def test_who_is_undecided(p: list[float], undecided: bool) -> None:
    rows = np.array([p, np.array(p)[MIRROR]])
    assert mixing.undecided(rows, 0.03).tolist() == [undecided] * 2


@given(st.lists(st.tuples(*[st.floats(0.01, 1)] * 3), min_size=1), st.floats(0, 1))
def test_doubt_grows_with_the_margin_and_has_no_side(rows: list[tuple[float, ...]], margin: float) -> None:
    p = np.array(rows)
    p /= p.sum(axis=1, keepdims=True)
    doubted = mixing.undecided(p, margin)
    assert (doubted == mixing.undecided(p[:, MIRROR], margin)).all()
    assert (doubted <= mixing.undecided(p, min(margin + 0.1, 1.0))).all()
    assert mixing.undecided(p, 1.0).all()


def test_everything_dropped_is_counted_once() -> None:
    known = pl.concat([VOTES, POOL.head(3).with_columns(pl.lit("v").alias("id") + pl.col("id"))])
    hidden = comparisons.swap(POOL[3:8]).with_columns(pl.lit("h").alias("id") + pl.col("id"))
    copy = comparisons.swap(POOL[20:22]).with_columns(pl.lit("c").alias("id") + pl.col("id"))
    voted = POOL[30:34].with_columns(pl.lit("a").cast(comparisons.LABEL).alias("label"))
    pool = pl.concat([POOL[:30], voted, POOL[34:], copy])
    said = SAID.copy()
    said[40:44] = [0.34, 0.33, 0.33]
    table = pl.concat(
        [labels(POOL, said, teacher="llama").head(58), labels(copy, SAID[20:22][:, MIRROR], teacher="llama")]
    )
    other = SAID.copy()
    other[45:50] = np.roll(SAID[45:50], 1, axis=1)
    theirs = labels(POOL, other, teacher="qwen").filter(POOL["id"] != POOL["id"][56])
    mixed, report = mixing.mix(
        known, pool, table, agreement={"qwen": theirs}, exclude={"test.parquet": hidden}, max_rows=30
    )
    assert report.dropped == {
        "a vote of their own (give them with --votes)": 4,
        "prompt or answers in the votes": 3,
        "prompt or answers in test.parquet": 5,
        "copies of another row of the pool": 2,
        "no label": 2,
        "undecided (margin 0.03)": report.dropped["undecided (margin 0.03)"],
        "no label of qwen": 1,
        "another verdict of qwen": report.dropped["another verdict of qwen"],
        "over 30 rows": report.dropped["over 30 rows"],
    }
    assert report.dropped["undecided (margin 0.03)"] >= 4
    assert report.dropped["another verdict of qwen"] >= 4
    assert report.pool == sum(report.dropped.values()) + report.kept
    assert report.kept == 30
    assert mixed.height == known.height + 30


def test_the_draw_does_not_depend_on_the_order_of_rows() -> None:
    backwards = POOL.reverse()
    one, _ = mixing.mix(VOTES, POOL, TEACHER, max_rows=10)
    other, _ = mixing.mix(VOTES, backwards, TEACHER, max_rows=10)
    assert set(one["id"]) == set(other["id"])
    assert set(one["id"]) != set(mixing.mix(VOTES, POOL, TEACHER, max_rows=10, seed=1)[0]["id"])


@settings(max_examples=8, deadline=None)
@given(st.floats(0, 0.4), st.integers(1, 60))
def test_swapping_everything_swaps_the_mixture_exactly(margin: float, most: int) -> None:
    other = labels(POOL, blurred(TRUTH, 0.5, seed=6), teacher="qwen")
    mixed, report = mixing.mix(VOTES, POOL, TEACHER, agreement={"qwen": other}, margin=margin, max_rows=most)
    turned = comparisons.swap(POOL)
    swapped, counted = mixing.mix(
        comparisons.swap(VOTES), turned, labels(turned, SAID[:, MIRROR], teacher="llama"),
        agreement={"qwen": labels(turned, blurred(TRUTH, 0.5, seed=6)[:, MIRROR], teacher="qwen")},
        margin=margin, max_rows=most,
    )  # fmt: skip
    assert swapped.equals(comparisons.swap(mixed))
    assert counted.dropped == report.dropped


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="the pool names an id more than once"):
        mixing.mix(VOTES, pl.concat([POOL, POOL.head(1)]), TEACHER)
    with pytest.raises(DataError, match="not those that were judged"):
        mixing.mix(VOTES, comparisons.swap(POOL), TEACHER)
    clash = POOL.with_columns(pl.when(pl.int_range(60) == 5).then(pl.lit(VOTES["id"][0])).otherwise("id").alias("id"))
    with pytest.raises(DataError, match="1 ids of the pool name other comparisons"):
        mixing.mix(VOTES, clash, labels(clash, SAID), margin=0)
    for weight, margin in ((-1.0, 0.0), (float("nan"), 0.0), (1.0, 1.5)):
        with pytest.raises(UsageError, match="margin"):
            mixing.mix(VOTES, POOL, TEACHER, weight=weight, margin=margin)


def test_an_empty_harvest_is_no_crash() -> None:
    mixed, report = mixing.mix(VOTES, POOL, TEACHER, margin=1.0)
    assert (mixed.height, report.kept, report.mean) == (40, 0, [])
    assert mixing.mix(VOTES, POOL.clear(), TEACHER)[0].height == 40


def test_folds_of_the_votes_stay_and_pseudo_rows_are_held_out_nowhere() -> None:
    folded = VOTES.with_columns(pl.Series("fold", np.arange(40) % 4))
    mixed, report = mixing.mix(folded, POOL, TEACHER)
    assert report.notes == []
    assert mixed["fold"].null_count() == report.kept


@pytest.mark.skipif(not POOL_FILE.exists(), reason="the folder of real votes is not here")
def test_real_unlabelled_pairs(tmp_path: Path) -> None:
    """The embedded judge as a teacher of the arena pool, beside the Kaggle votes."""
    pool = ingest.read(POOL_FILE)
    p = judges.load().predict(pool)
    about = {"teacher": "embedded", "swap_gap": p["swap_gap"], "in_sample": None, "rendering": None}
    labels(pool, p.select(SOFT).to_numpy(), **about).write_parquet(tmp_path / "labels.parquet")
    assert cli.run(["teach", "audit", str(tmp_path / "labels.parquet"), "--votes", str(POOL_FILE)]) == 0
    done = tiebreak(
        "teach", "mix", "--votes", KAGGLE, "--pool", POOL_FILE, "--labels", tmp_path / "labels.parquet",
        "--weight", ".3", "--max-rows", "1000", "--exact", "-o", tmp_path / "mixed.parquet", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counted = json.loads(done.stdout)
    assert counted["pool"] == 1855 == sum(counted["dropped"].values()) + counted["kept"]
    assert counted["kept"] == 1000
    assert counted["dropped"]["prompt or answers in the votes"] > 0
    mixed = comparisons.validate(pl.read_parquet(tmp_path / "mixed.parquet"))
    assert mixed.height == 2000
    assert counted["pseudo_weight"] == pytest.approx(300)
    kept = mixed.filter(mixed["source"] == "pseudo:embedded")
    aligned = soft_labels.align(soft_labels.read([tmp_path / "labels.parquet"]), kept)
    assert aligned.select(SOFT).equals(kept.select(SOFT))
    assert row_hashes.content(kept).equals(aligned["content"])


def test_labels_must_have_passed_their_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    VOTES.write_parquet("votes.parquet")
    POOL.write_parquet("pool.parquet")
    TEACHER.write_parquet("labels.parquet")
    command = ["teach", "mix", "--votes", "votes.parquet", "--pool", "pool.parquet", "--labels", "labels.parquet"]
    assert cli.run([*command, "-o", "mixed.parquet"]) == 3
    assert "was not audited" in capsys.readouterr().err
    assert cli.run(["teach", "audit", "labels.parquet", "--votes", "pool.parquet"]) == 0
    assert cli.run([*command, "-o", "mixed.parquet", "--dry-run"]) == 0
    assert not (tmp_path / "mixed.parquet").exists()
    assert cli.run([*command, "-o", "mixed.parquet", "--agreement", "labels.parquet"]) == 0
    assert "what became of the pool" in capsys.readouterr().out
    assert pl.read_parquet("mixed.parquet").height > 60
    assert cli.run([*command, "-o", "mixed.txt"]) == 2
