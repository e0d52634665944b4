"""combine blend: weights that suit the votes, judged out of fold, kept, and used again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import polars as pl
import pytest

from conftest import SHARED
from tiebreak import pooling, predictions, scoring
from tiebreak.combine import blend as blending
from tiebreak.comparisons import LABELS
from tiebreak.errors import DataError, UsageError
from tiebreak.judges import EMBEDDED
from tiebreak.predictions import softmax

Cli = Callable[..., CompletedProcess[str]]


def made(rows: int = 400, seed: int = 0) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
    """Three tables: two that each see half of the truth, and a noise; and the votes."""
    rng = np.random.default_rng(seed)
    halves = rng.normal(size=(2, rows, 3))
    truth = softmax(halves.sum(axis=0))
    votes = (truth.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    ids = pl.Series("id", [str(i) for i in range(rows)])
    said = {"one": softmax(halves[0]), "two": softmax(halves[1]), "noise": softmax(rng.normal(size=(rows, 3)))}
    tables = {name: predictions.build(ids, p, swap_gap=0.0) for name, p in said.items()}
    return tables, pl.DataFrame({"id": ids, "label": np.array(LABELS)[votes]})


TABLES, VOTES = made()
TARGETS = np.eye(3)[[LABELS.index(label) for label in VOTES["label"]]]


def opinions() -> np.ndarray:
    return np.stack([predictions.probabilities(table) for table in TABLES.values()])


def test_weights_are_those_that_the_votes_ask_for() -> None:
    blend = blending.fit(TABLES, VOTES, space="logits")
    assert blend.names == ["one", "two", "noise"]
    assert blend.weights[2] < 0.1
    assert min(blend.weights[:2]) > 0.3
    assert sum(blend.weights) == pytest.approx(1)
    assert blend.rule == "fitted"
    done = blending.apply(blend, list(TABLES.values()))
    want = pooling.logarithmic(opinions(), np.array(blend.weights))
    np.testing.assert_array_equal(predictions.probabilities(done), want)
    alone = [scoring.log_loss(p, TARGETS) for p in opinions()]
    assert scoring.log_loss(want, TARGETS) < min(alone)
    tables = blend.study["tables"]
    assert [one["log_loss"][0] for one in tables.values()] == pytest.approx(alone)  # type: ignore[union-attr,index,call-overload]


def test_the_rules() -> None:
    weights = {rule: blending.fit(TABLES, VOTES, rule=rule).weights for rule in ("equal", "single", "fitted")}
    assert weights["equal"] == pytest.approx([1 / 3] * 3)
    assert sorted(weights["single"]) == [0, 0, 1]
    losses = {rule: scoring.log_loss(pooling.linear(opinions(), np.array(w)), TARGETS) for rule, w in weights.items()}
    assert losses["fitted"] == min(losses.values())
    twins = {"one": TABLES["one"], "again": TABLES["one"]}
    assert blending.fit(twins, VOTES).rule == "equal", "nothing to choose between"


def test_tables_meet_by_id_and_what_is_known_of_them_is_kept() -> None:
    blend = blending.fit(TABLES, VOTES)
    mixed = {
        "one": TABLES["one"].sample(fraction=1, shuffle=True, seed=1),
        "two": TABLES["two"].with_columns(truncated=pl.lit(True), swap_gap=pl.lit(0.25)),
        "noise": TABLES["noise"].reverse(),
    }
    assert blending.fit(mixed, VOTES).weights == blend.weights
    done = blending.apply(blend, list(mixed.values()), VOTES)
    assert done["id"].equals(VOTES["id"])
    assert done["truncated"].all()
    assert done["swap_gap"].null_count() == done.height, "how far the orders disagree is not known of a mean"
    assert (blending.apply(blend, list(TABLES.values()))["swap_gap"] == 0).all()


def test_rows_without_a_vote_are_blended_and_not_learned_from() -> None:
    half = VOTES.with_columns(label=pl.when(pl.int_range(pl.len()) < 200).then("label"))
    blend = blending.fit(TABLES, half)
    first = {name: table.head(200) for name, table in TABLES.items()}
    assert blend.weights == blending.fit(first, VOTES.head(200)).weights
    assert blending.apply(blend, list(TABLES.values()), half).height == 400


def test_swapping_the_answers_swaps_the_blend_bit_by_bit() -> None:
    blend = blending.fit(TABLES, VOTES, rule="fitted")
    mirrored = [table.with_columns(p_a=pl.col("p_b"), p_b=pl.col("p_a")).drop("label") for table in TABLES.values()]
    given, swapped = blending.apply(blend, list(TABLES.values())), blending.apply(blend, mirrored)
    assert given["p_a"].equals(swapped["p_b"].alias("p_a"))
    assert given["p_tie"].equals(swapped["p_tie"])


def test_what_is_refused(tmp_path: Path) -> None:
    one = {"one": TABLES["one"]}
    with pytest.raises(UsageError, match="1 table to blend"):
        blending.fit(one, VOTES)
    with pytest.raises(UsageError, match="--rule"):
        blending.fit(TABLES, VOTES, rule="median")
    with pytest.raises(UsageError, match="space"):
        blending.fit(TABLES, VOTES, space="ranks")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no prediction"):
        blending.fit({**one, "two": TABLES["two"].head(10)}, VOTES)
    blend = blending.fit(TABLES, VOTES)
    with pytest.raises(DataError, match="2 tables for 3 weights"):
        blending.apply(blend, [TABLES["one"], TABLES["two"]])
    blending.save(blend, tmp_path / "w.json")
    assert blending.load(tmp_path / "w.json") == blend
    for change in ({"weights": [0.5, 0.2, 0.2]}, {"weights": [2, -1, 0]}, {"weights": [1.0]}, {"space": "x"}):
        (tmp_path / "bad.json").write_text(json.dumps(blend.model_dump(mode="json") | change))
        with pytest.raises(DataError, match="weights"):
            blending.load(tmp_path / "bad.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DataError, match="holds no weights"):
        blending.load(tmp_path / "bad.json")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for name, table in TABLES.items():
        table.write_parquet(folder / f"{name}.parquet")
    VOTES.write_csv(folder / "votes.csv")
    return folder


def test_the_command(cli: Cli, files: Path) -> None:
    ran = cli("combine", "blend", "one.parquet", "two.parquet", "noise.parquet", "--labels", "votes.csv",
              "--space", "logits", "-o", "blended.csv", cwd=files)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "fitted *" in ran.stdout
    assert "kept: fitted, mean of logits" in ran.stdout
    blend = blending.load(files / "blended.weights.json")
    done = pl.read_csv(files / "blended.csv", schema_overrides={"id": pl.String})
    np.testing.assert_allclose(
        predictions.probabilities(done), pooling.logarithmic(opinions(), np.array(blend.weights)), atol=1e-12
    )
    again = cli("combine", "blend", "noise=noise.parquet", "one=one.parquet", "two=two.parquet", "--apply",
                "blended.weights.json", "-o", "again.csv", "--json", cwd=files)  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["blend"]["rule"] == "fitted"
    later = pl.read_csv(files / "again.csv", schema_overrides={"id": pl.String})
    assert later.equals(done), "matched by name, not by place"
    assert not (files / "again.weights.json").exists()


def test_the_command_refuses_in_words(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tiebreak.cli import run

    tables = [str(files / f"{name}.parquet") for name in ("one", "two")]
    assert run(["combine", "blend", *tables, "-o", str(files / "x.csv")]) == 2
    assert "--labels and --apply" in capsys.readouterr().err
    assert run(["combine", "blend", tables[0], tables[0], "--labels", "v", "-o", str(files / "x.csv")]) == 2
    assert "two tables are called 'one'" in capsys.readouterr().err
    assert run(["combine", "blend", *tables, "--labels", "v", "-o", str(files / "x.txt")]) == 2
    assert not (files / "x.csv").exists()


def sliced(rows: int = 3000) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
    """Two judges: one that knows the rows of one turn and one that knows those of two, and neither knows which."""
    rng = np.random.default_rng(0)
    logits = 1.5 * rng.normal(size=(rows, 3))
    turns = rng.integers(1, 3, size=rows)
    votes = (softmax(logits).cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    noise = rng.normal(size=(2, rows, 3))
    ids = pl.Series("id", [str(i) for i in range(rows)])
    said = {
        "short": softmax(np.where((turns == 1)[:, None], logits, noise[0])),
        "long": softmax(np.where((turns == 2)[:, None], logits, noise[1])),
    }
    texts = {
        name: [[f"{name} {row}"] * int(n) for row, n in enumerate(turns)]
        for name in ("prompt", "response_a", "response_b")
    }
    labels = pl.DataFrame({"id": ids, **texts, "label": np.array(LABELS)[votes]})
    return {name: predictions.build(ids, p, swap_gap=0.0) for name, p in said.items()}, labels


def test_slices_are_kept_where_they_surely_help() -> None:
    tables, votes = sliced()
    blend = blending.fit(tables, votes, slices="turns")
    assert blend.rule == "sliced"
    assert blend.slices is not None
    (one_short, _), (_, two_long) = blend.slices.weights
    assert min(one_short, two_long) > 0.8
    done = predictions.probabilities(blending.apply(blend, list(tables.values()), votes))
    targets = np.eye(3)[[LABELS.index(label) for label in votes["label"]]]
    study: Any = blend.study
    found = study["rules"]["sliced"]["log_loss"][0]
    assert scoring.log_loss(done, targets) == pytest.approx(found, abs=0.01)
    assert found < study["rules"]["fitted"]["log_loss"][0] - 0.1
    with pytest.raises(DataError, match="need the texts"):
        blending.apply(blend, list(tables.values()))
    with pytest.raises(UsageError, match="--slices"):
        blending.fit(tables, votes, slices="colour")
    with pytest.raises(UsageError, match="--rule 'sliced'"):
        blending.fit(tables, votes, rule="sliced")


def test_slices_that_are_all_alike_are_drawn_to_the_common_weights_and_not_kept() -> None:
    blend = blending.fit(TABLES, VOTES, slices="agreement", rule="sliced")
    assert blend.slices is not None
    for row in blend.slices.weights:
        np.testing.assert_allclose(row, blend.weights, atol=0.1)
    assert blending.fit(TABLES, VOTES, slices="agreement").rule != "sliced"


def test_weights_are_read_from_a_file_and_from_a_bundle(tmp_path: Path) -> None:
    from tiebreak.combine import blend_bundle
    from tiebreak.combine.asking import Opinion

    tables, votes = sliced(600)
    blend = blending.fit(tables, votes, slices="turns", rule="sliced")
    blending.save(blend, tmp_path / "w.json")
    assert blending.load(tmp_path / "w.json") == blend
    opinions = [Opinion(name, table, None) for name, table in tables.items()]
    assert blend_bundle.write(blend, opinions, tmp_path / "bundle", name="made") == []
    assert blending.load(tmp_path / "bundle") == blend
    with pytest.raises(DataError, match="not a blend"):
        blending.load(EMBEDDED)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data are not here")
def test_two_real_judges_are_better_together_than_the_better_one() -> None:
    from tiebreak.ingest import judged

    frame = judged.read_file(SHARED / "kaggle_lmsys_llm_predictions.parquet")
    tables = {
        model: judged.prediction_table(frame, [f"{model}_{c}" for c in ("a", "b", "tie")], where="")[0]
        for model in ("m1", "m2")
    }
    study: Any = blending.fit(tables, judged.label_table(frame, where=""), space="logits").study
    alone = {name: one["log_loss"][0] for name, one in study["tables"].items()}
    assert alone == pytest.approx({"m1": 0.9488, "m2": 0.9389}, abs=1e-4)
    fitted = study["rules"]["fitted"]
    assert fitted["log_loss"][0] == pytest.approx(0.9092, abs=2e-4)
    value, _, high = fitted["against_single"]
    assert value == pytest.approx(-0.0296, abs=3e-4)
    assert high < -0.02
