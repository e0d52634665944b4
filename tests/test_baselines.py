"""The baseline ladder: what each rung learns, that nothing leaks, and what people see of it."""

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tiebreak import baselines, cli, comparisons, predictions, samples
from tiebreak.baselines import learners
from tiebreak.bundle import Manifest, TrainingSource
from tiebreak.errors import DataError, MissingExtraError, UsageError
from tiebreak.judges import Judge, Scores
from tiebreak.scoring import metrics

SHARED = Path(__file__).parents[2] / "shared" / "data"
MIRROR = [1, 0, 2]
QUICK = ("uniform", "prior", "length")


def longer_wins(rows: int, seed: int = 0) -> pl.DataFrame:
    """Votes of people who mostly like the longer answer, and call answers of like length a tie."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 120, size=(rows, 2))
    lean = np.log(lengths[:, 0] / lengths[:, 1])
    scores = np.stack([1.5 * lean, -1.5 * lean, 0.5 - np.abs(lean)], axis=1) + rng.gumbel(size=(rows, 3))
    words = np.array(["pear", "plum", "fig", "lime", "kiwi", "date", "nut", "oat", "rye", "tea"])

    def text(count: int) -> list[str]:
        return [" ".join(rng.choice(words, size=count))]

    frame = pl.DataFrame({
        "id": [str(i) for i in range(rows)],
        "prompt": [[f"Question {i} of {rng.integers(10**9)}?"] for i in range(rows)],
        "response_a": [text(n) for n in lengths[:, 0]],
        "response_b": [text(n) for n in lengths[:, 1]],
        "label": [comparisons.LABELS[k] for k in scores.argmax(axis=1)],
    })  # fmt: skip
    return comparisons.validate(frame)


VOTES = longer_wins(400)


class Fixed(Judge):
    """Says the same of every row."""

    kind = "fixed"

    def score(self, table: pl.DataFrame) -> Scores:
        p = np.tile([0.25, 0.25, 0.5], (table.height, 1))
        return Scores(p, np.zeros(len(p)), np.zeros(len(p), dtype=bool))

    def weights(self) -> dict[str, bytes]:
        raise NotImplementedError

    @classmethod
    def from_bundle(cls, manifest: Manifest, directory: Path) -> "Fixed":
        raise NotImplementedError


def fixed(*training: TrainingSource) -> Fixed:
    return Fixed(Manifest(kind="fixed", name="fixed", swap_equivariant=True, training=list(training)))


def by_name(ladder: baselines.Ladder) -> dict[str, baselines.Rung]:
    return {rung.name: rung for rung in ladder.rungs}


def test_the_lower_rungs_stand_where_arithmetic_puts_them() -> None:
    rungs = by_name(baselines.ladder(VOTES, only=QUICK))
    shares = comparisons.targets(VOTES).mean(axis=0)
    entropy = -(shares * np.log(shares)).sum()
    assert rungs["uniform"].metrics["log_loss"].value == pytest.approx(np.log(3))
    assert rungs["uniform"].metrics["brier"].value == pytest.approx(2 / 3)
    # Out of fold, so a little worse than the entropy of the shares.
    assert entropy <= rungs["prior"].metrics["log_loss"].value < entropy + 0.01
    assert rungs["uniform"].metrics["accuracy"].value == pytest.approx(1 / 3)
    assert rungs["uniform"].difference is None


def test_length_is_found_where_people_vote_by_it() -> None:
    length = by_name(baselines.ladder(VOTES, only=QUICK))["length"]
    assert length.difference is not None
    assert length.difference.high < -0.1


@pytest.mark.parametrize("name", ["length", "tfidf"])
def test_a_rung_that_learns_is_exactly_swap_equivariant(name: str) -> None:
    both = pl.concat([VOTES, comparisons.swap(VOTES)])
    rows = learners.labelled(both, np.arange(both.height))
    predicted = learners.LEARNERS[name](rows, 0)(np.arange(300), np.arange(300, 800))
    # The last 100 votes, and then all 400 swapped: compare the votes that both parts hold.
    given, swapped = predicted[:100], predicted[400:]
    np.testing.assert_array_equal(swapped[:, MIRROR], given)
    np.testing.assert_allclose(predicted.sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize("name", ["prior", "length", "tfidf"])
def test_a_rung_does_not_see_the_votes_that_it_predicts(name: str) -> None:
    inside, outside = np.arange(300), np.arange(300, 400)
    other = VOTES.with_columns(
        label=pl.when(pl.int_range(pl.len()) >= 300).then(pl.lit("tie")).otherwise(pl.col("label").cast(pl.String))
        .cast(comparisons.LABEL)
    )  # fmt: skip
    one, two = (
        learners.LEARNERS[name](learners.labelled(votes, np.arange(400)), 0)(inside, outside)
        for votes in (VOTES, other)
    )
    np.testing.assert_array_equal(one, two)


def test_a_soft_label_counts_as_its_parts() -> None:
    """A vote of (.5, .25, .25) teaches the same as four hard votes of a quarter of its weight."""
    few, rest = VOTES.head(60), VOTES.slice(60, 60)
    soft = few.with_columns(p_a=pl.lit(0.5), p_b=pl.lit(0.25), p_tie=pl.lit(0.25))
    quarter = few.with_columns(weight=pl.lit(0.25))
    parts = [quarter.with_columns(label=pl.lit(label).cast(comparisons.LABEL)) for label in ("a", "a", "b", "tie")]
    predicted = []
    for votes in (pl.concat([soft, rest]), pl.concat([*parts, rest])):
        rows = learners.labelled(votes, np.arange(votes.height))
        inside, outside = np.split(np.arange(votes.height), [votes.height - 60])
        predicted.append(learners.length(rows, 0)(inside, outside))
    np.testing.assert_allclose(*predicted, atol=1e-9)


def test_copies_of_a_vote_never_help_to_predict_it() -> None:
    """Labels are noise and every vote is there three times: a leak between folds would look like skill."""
    rng = np.random.default_rng(1)
    noise = VOTES.head(120).with_columns(
        label=pl.Series([comparisons.LABELS[k] for k in rng.integers(0, 3, size=120)]).cast(comparisons.LABEL)
    )
    copies = pl.concat([noise.with_columns(id=pl.col("id") + f"-{n}") for n in range(3)])
    ladder = baselines.ladder(copies, only=("prior", "tfidf"))
    assert ladder.groups == 120
    words = by_name(ladder)["tfidf"].difference
    assert words is not None
    assert words.value > -0.01


def test_figures_are_those_of_evaluate_and_predictions_join_the_ladder() -> None:
    p = np.random.default_rng(2).dirichlet([2, 2, 2], size=VOTES.height)
    table = predictions.build(VOTES["id"], p).sample(fraction=1.0, shuffle=True, seed=0)
    ladder = baselines.ladder(VOTES, only=("uniform", "judge"), judge=fixed(), predictions={"mine": table})
    assert [rung.name for rung in ladder.rungs] == ["uniform", "judge", "mine"]
    mine, targets = ladder.rungs[2].metrics, comparisons.targets(VOTES)
    assert mine["log_loss"].value == pytest.approx(metrics.log_loss(p, targets))
    assert mine["accuracy"].value == pytest.approx(metrics.accuracy(p, targets))
    assert mine["brier"].value == pytest.approx(metrics.brier(p, targets))
    assert mine["ece"].value == pytest.approx(metrics.classwise_ece(p, targets))
    gap = ladder.rungs[2].difference
    assert gap is not None
    assert gap.value == pytest.approx(mine["log_loss"].value - ladder.rungs[1].metrics["log_loss"].value)


def test_rows_without_a_label_are_left_out_everywhere() -> None:
    unlabelled = VOTES.with_columns(
        label=pl.when(pl.int_range(pl.len()) < 100).then(None).otherwise(pl.col("label"))
    )  # fmt: skip
    table = predictions.build(VOTES["id"], np.tile([0.2, 0.3, 0.5], (400, 1)))
    ladder = baselines.ladder(unlabelled, only=QUICK, predictions={"mine": table})
    assert ladder.rows == 300
    expected = metrics.log_loss(np.tile([0.2, 0.3, 0.5], (300, 1)), comparisons.targets(VOTES.tail(300)))
    assert by_name(ladder)["mine"].metrics["log_loss"].value == pytest.approx(expected)


def test_a_judge_trained_on_these_votes_is_marked() -> None:
    very = TrainingSource(name="x", rows=400, fingerprint=comparisons.fingerprint(VOTES))
    kin = TrainingSource(name="arena", rows=9, fingerprint="0")
    assert "in-sample" in baselines.in_sample(fixed(very), VOTES)[0]
    assert "probably" in baselines.in_sample(fixed(kin), VOTES.with_columns(source=pl.lit("arena")))[0]
    assert baselines.in_sample(fixed(kin), VOTES) == ()
    ladder = baselines.ladder(VOTES, only=("judge",), judge=fixed(very))
    assert ladder.rungs[0].remarks


def test_the_same_seed_gives_the_same_ladder_and_repeats_are_averaged() -> None:
    one, two = (baselines.ladder(VOTES, only=("length",), repeats=2, seed=4).to_json() for _ in range(2))
    assert one == two
    singles = [baselines.ladder(VOTES, only=("length",), seed=s).rungs[0].metrics["log_loss"].value for s in (4, 5)]
    assert one["rungs"]["length"]["log_loss"][0] == pytest.approx(np.mean(singles))


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


def test_a_rung_whose_extra_is_missing_is_named_and_the_others_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "lightgbm", "sklearn", "sklearn.linear_model", "sklearn.feature_extraction")
    rungs = by_name(baselines.ladder(VOTES, judge=fixed()))
    for name in ("features", "tfidf"):
        assert rungs[name].missing == 'pip install "tiebreak[train]"'
        assert not rungs[name].metrics
    assert rungs["judge"].metrics
    # The difference goes to the last rung that was measured.
    gap = rungs["judge"].difference
    assert gap is not None
    assert gap.value == pytest.approx(
        rungs["judge"].metrics["log_loss"].value - rungs["length"].metrics["log_loss"].value
    )
    with pytest.raises(MissingExtraError):
        baselines.ladder(VOTES, only=("tfidf",))


def test_mistakes() -> None:
    with pytest.raises(UsageError, match="knn"):
        baselines.ladder(VOTES, only=("knn",))
    table = predictions.build(VOTES["id"], np.tile([0.2, 0.3, 0.5], (400, 1)))
    with pytest.raises(UsageError, match="another name"):
        baselines.ladder(VOTES, only=QUICK, predictions={"prior": table})
    with pytest.raises(DataError, match="no prediction"):
        baselines.ladder(VOTES, only=QUICK, predictions={"mine": table.head(10)})
    with pytest.raises(DataError, match="at least 20"):
        baselines.ladder(VOTES.head(10), only=QUICK)


# The command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("baselines")
    VOTES.write_parquet(folder / "votes.parquet")
    p = np.random.default_rng(3).dirichlet([2, 2, 2], size=400)
    predictions.build(VOTES["id"], p).write_csv(folder / "p.csv")
    return folder


def test_the_command_prints_a_table_and_writes_csv(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [option for name in QUICK for option in ("--only", name)]
    mine = f"mine={files / 'p.csv'}"
    code = cli.run(["baselines", str(files / "votes.parquet"), *names, "-p", mine, "-o", str(files / "out.csv")])
    assert code == 0
    shown = capsys.readouterr().out
    for expected in ("400 votes in 400 groups", "uniform", "1.0986", "length only", "mine"):
        assert expected in shown
    table = pl.read_csv(files / "out.csv")
    assert table["rung"].to_list() == [*QUICK, "mine"]
    assert (table["log_loss_low"] <= table["log_loss"] + 1e-9).all()


def test_json_and_limit(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["baselines", str(files / "votes.parquet"), "--only", "prior", "-p", f"mine={files / 'p.csv'}"]
    assert cli.run([*arguments, "--json", "--limit", "100"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["json_version"] == 1
    assert document["rows"] == 100
    value, low, high = document["rungs"]["mine"]["log_loss"]
    assert low < value < high


def test_missing_extras_end_with_0_unless_asked_for(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch, "lightgbm", "sklearn", "sklearn.linear_model", "sklearn.feature_extraction")
    assert cli.run(["baselines", str(files / "votes.parquet")]) == 0
    said = capsys.readouterr()
    assert said.err.count('needs pip install "tiebreak[train]"') == 2
    assert said.out.count("not measured") == 2
    assert "embedded judge" in said.out
    assert cli.run(["baselines", str(files / "votes.parquet"), "--only", "features"]) == 4


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--only", "knn"], 2, "knn"),
        (["-p", "file.csv"], 2, "NAME=FILE"),
        (["-o", "out.txt"], 2, ".csv"),
        (["-p", "mine=nowhere.csv"], 3, "nowhere.csv"),
    ],
)
def test_mistakes_on_the_command_line(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    assert cli.run(["baselines", str(files / "votes.parquet"), *arguments]) == code
    assert said in capsys.readouterr().err


def test_the_samples_go_up_the_whole_ladder() -> None:
    ladder = baselines.ladder(samples.votes(), folds=2)
    assert all(rung.metrics for rung in ladder.rungs)
    assert [rung.name for rung in ladder.rungs] == list(baselines.TITLES)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not here")
def test_on_real_votes_length_beats_the_prior_and_the_judge_is_marked() -> None:
    from tiebreak import ingest

    votes = ingest.read(SHARED / "kaggle_lmsys_1k.parquet")
    rungs = by_name(baselines.ladder(votes, only=(*QUICK, "judge")))
    assert rungs["prior"].metrics["log_loss"].value == pytest.approx(1.0952, abs=0.001)
    assert rungs["length"].difference is not None
    assert rungs["length"].difference.high < -0.02
    assert "in-sample" in rungs["judge"].remarks[0]
