"""The audit: every kind of unfit teacher is refused for the right reason, and fit ones pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from conftest import SHARED, tiebreak
from soft_rows import blurred, labels, summed_log_likelihoods, votes
from tiebreak import cli, comparisons, ingest, soft_labels
from tiebreak.errors import DataError
from tiebreak.predictions import softmax
from tiebreak.scoring import interval
from tiebreak.teach import auditing
from tiebreak.teach.auditing import Findings, Labels

ROWS = 1200
VOTES, TRUTH = votes(ROWS)
GOOD = blurred(TRUTH, 0.3)
LLMS = SHARED / "kaggle_lmsys_llm_predictions.parquet"
KAGGLE = SHARED / "kaggle_lmsys_1k.parquet"
real = pytest.mark.skipif(not LLMS.exists(), reason="the folder of real votes is not here")


def audited(p: np.ndarray, **about: object) -> Findings:
    return auditing.audit(Labels(labels(VOTES, p, **about)), VOTES)


def foreign(ids: pl.Series, p: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({"id": ids, "p_a": p[:, 0], "p_b": p[:, 1], "p_tie": p[:, 2]})


def audited_foreign(table: pl.DataFrame, path: Path, **how: object) -> Findings:
    table.write_parquet(path / "foreign.parquet")
    read = auditing.read([path / "foreign.parquet"], **how)  # type: ignore[arg-type]
    return auditing.audit(read, VOTES)


def estimate(findings: Findings, name: str) -> list[float]:
    found = findings.figures[name]
    assert isinstance(found, list)
    return [float(x) for x in found]  # type: ignore[arg-type]


def why(findings: Findings) -> str:
    return " | ".join(findings.faults)


# The four refusals that the chain was built for.


@pytest.fixture(scope="module")
def real_votes(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, Path]:
    if not KAGGLE.exists():
        pytest.skip("the folder of real votes is not here")
    table = ingest.read(KAGGLE)
    path = tmp_path_factory.mktemp("votes") / "votes.parquet"
    table.with_columns(pl.Series("fold", np.arange(table.height) % 5)).write_parquet(path)
    return pl.read_parquet(path), path


def test_summed_response_log_likelihoods_as_logits_are_refused(
    real_votes: tuple[pl.DataFrame, Path], tmp_path: Path
) -> None:
    """S3's teacher, with the lengths of real answers."""
    table, path = real_votes
    a, b = (
        table.select(pl.col(name).list.join("", ignore_nulls=True).str.len_chars()).to_series().to_numpy()
        for name in ("response_a", "response_b")
    )
    z = summed_log_likelihoods(a, b)
    pl.DataFrame({"id": table["id"], "z_a": z[:, 0], "z_b": z[:, 1], "z_tie": z[:, 2]}).write_csv(tmp_path / "s3.csv")
    done = tiebreak("teach", "audit", tmp_path / "s3.csv", "--votes", path, "--logits", "z_a,z_b,z_tie")
    assert done.returncode == 6
    assert "log-likelihoods summed over the answer's tokens, no preferences" in done.stderr
    assert "the label is almost nothing but length" in done.stderr
    assert "not clearly better than the class shares'" in done.stderr
    assert "Traceback" not in done.stderr
    # Softmaxed before it was handed on, the same teacher is refused as well.
    p = softmax(z)
    foreign(table["id"], p).write_parquet(tmp_path / "softmaxed.parquet")
    assert cli.run(["teach", "audit", str(tmp_path / "softmaxed.parquet"), "--votes", str(path)]) == 6
    audit = json.loads((tmp_path / "softmaxed.parquet.audit.json").read_text())
    assert any("nothing but length" in fault for fault in audit["faults"])


def test_a_label_table_with_one_folds_rows_missing_is_refused(
    real_votes: tuple[pl.DataFrame, Path], tmp_path: Path
) -> None:
    table, path = real_votes
    whole = labels(table, _knowing(table), fold=table["fold"])
    whole.filter(pl.col("fold") != 2).write_parquet(tmp_path / "labels.parquet")
    done = tiebreak("teach", "audit", tmp_path / "labels.parquet", "--votes", path)
    assert done.returncode == 6
    assert "200 of 1,000 rows have no label" in done.stderr
    assert "not one row of fold 2 has one" in done.stderr
    with pytest.raises(DataError, match="not one row of fold 2 has one"):
        soft_labels.read_audit(tmp_path / "labels.parquet")


def test_doubled_ids_are_refused(real_votes: tuple[pl.DataFrame, Path], tmp_path: Path) -> None:
    table, path = real_votes
    whole = labels(table, _knowing(table))
    pl.concat([whole, whole.head(7)]).write_parquet(tmp_path / "labels.parquet")
    done = tiebreak("teach", "audit", tmp_path / "labels.parquet", "--votes", path)
    assert done.returncode == 6
    assert "7 ids occur more than once" in done.stderr
    assert f"for example {table['id'][0]!r}" in done.stderr


def test_labels_aligned_by_position_are_refused(
    real_votes: tuple[pl.DataFrame, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row numbers for ids; and the right ids beside probabilities of a table in another order."""
    table, path = real_votes
    p = _knowing(table)
    foreign(pl.Series("id", range(1000)).cast(pl.String), p).write_csv(tmp_path / "numbered.csv")
    done = tiebreak("teach", "audit", tmp_path / "numbered.csv", "--votes", path)
    assert done.returncode == 6
    assert "the labels' ids are the row numbers from 0: they were aligned by position" in done.stderr
    foreign(table["id"], np.roll(p, 1, axis=0)).write_csv(tmp_path / "shifted.csv")
    assert cli.run(["teach", "audit", str(tmp_path / "shifted.csv"), "--votes", str(path), "--json"]) == 6
    assert "the labels belong to other rows: shifted by +1 row" in " ".join(
        json.loads(capsys.readouterr().out)["faults"]
    )
    moved = labels(table, p).with_columns(pl.Series("id", np.roll(table["id"].to_numpy(), 1)))
    moved.write_parquet(tmp_path / "hashed.parquet")
    assert cli.run(["teach", "audit", str(tmp_path / "hashed.parquet"), "--votes", str(path)]) == 6
    assert "judged under the id of another row, as if aligned by position" in capsys.readouterr().err


def _knowing(table: pl.DataFrame) -> np.ndarray:
    """A good teacher of real votes: knows most of them, and says so with modesty."""
    rng = np.random.default_rng(3)
    return softmax(0.9 * comparisons.targets(table) + 0.6 * rng.normal(size=(table.height, 3)))


# Fit teachers pass.


@real
@pytest.mark.parametrize(("teacher", "log_loss", "accuracy"), [("m1", 0.9488, 0.545), ("m2", 0.9389, 0.562)])
def test_real_judges_of_real_votes_pass(
    teacher: str, log_loss: float, accuracy: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    llms = tmp_path / "llm.parquet"
    llms.write_bytes(LLMS.read_bytes())
    columns = f"{teacher}_a,{teacher}_b,{teacher}_tie"
    command = ["teach", "audit", str(llms), "--votes", str(llms), "--columns", columns, "--name", teacher, "--json"]
    assert cli.run(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"]
    assert not found["forced"]
    assert found["teacher"] == teacher
    assert found["figures"]["log_loss"][0] == pytest.approx(log_loss, abs=5e-5)
    assert found["figures"]["accuracy"][0] == pytest.approx(accuracy, abs=5e-4)
    assert found["figures"]["coverage"] == 1
    assert soft_labels.read_audit(tmp_path / "llm.parquet").passed


def test_a_good_teacher_passes_and_its_figures_are_those_of_plain_arithmetic() -> None:
    findings = audited(GOOD)
    assert findings.faults == []
    targets = comparisons.targets(VOTES)
    losses = -np.log(GOOD[targets > 0])
    share = targets.mean(axis=0)
    against = interval(losses + np.log(share)[targets.argmax(axis=1)], np.arange(ROWS))
    assert estimate(findings, "log_loss")[0] == pytest.approx(losses.mean(), abs=1e-12)
    value, low, high = estimate(findings, "against_prior")
    assert value == pytest.approx(against.value, abs=1e-12)
    assert low == pytest.approx(against.low, abs=0.01)
    assert high == pytest.approx(against.high, abs=0.01)
    assert findings.figures["entropy_mean"] == pytest.approx(-(GOOD * np.log(GOOD)).sum(axis=1).mean(), abs=1e-12)
    assert findings.figures["mean"] == pytest.approx(GOOD.mean(axis=0), abs=1e-12)


def test_a_shy_teacher_passes_and_a_shouting_one_is_sent_to_be_calibrated() -> None:
    shy = audited(softmax(0.3 * np.log(GOOD)))
    assert shy.faults == []
    assert any("mends it" in warning for warning in shy.warnings)
    shouting = audited(softmax(6 * np.log(GOOD)))
    assert "calibrated it would be (-" in why(shouting)
    assert len(shouting.faults) == 1


# What is wrong by itself.


@pytest.mark.parametrize(
    ("name", "p", "reason"),
    [
        ("constant", np.tile([0.4, 0.35, 0.25], (ROWS, 1)), "the teacher says the same of every row"),
        ("inverted", GOOD[:, [1, 0, 2]], "better with A and B changed round"),
        ("columns mixed up", GOOD[:, [2, 0, 1]], "better if their columns are tie, a, b"),
        ("noise", softmax(np.random.default_rng(5).normal(size=(ROWS, 3))), "not clearly better than the class"),
        ("tie made up", np.column_stack([GOOD[:, :2] / GOOD[:, :2].sum(1, keepdims=True) * 0.8, np.full(ROWS, 0.2)]),
         "p_tie is 0.2 in every row although people do vote tie"),
        ("no tie", np.column_stack([GOOD[:, :2] / GOOD[:, :2].sum(1, keepdims=True), np.zeros(ROWS)]),
         "p_tie is 0 in every row although people do vote tie"),
        ("certain", np.eye(3)[GOOD.argmax(axis=1)], "the labels are certainties"),
    ],
)  # fmt: skip
def test_an_unfit_teacher_is_refused(name: str, p: np.ndarray, reason: str) -> None:
    assert reason in why(audited(p))


def test_a_tie_computed_from_the_other_two_is_refused_where_it_is_worse_than_the_share_of_ties() -> None:
    logits = 3 * np.log(GOOD)
    for made, told in (
        (logits[:, :2].mean(1), "mean"),
        (logits[:, :2].max(1), "larger"),
        (logits[:, :2].min(1) + 1, "smaller"),
    ):
        findings = audited(softmax(np.column_stack([logits[:, :2], made])))
        assert f"p_tie was made up, not predicted: its logit is the {told} of the other two" in why(findings)
    distance = np.abs(np.log(GOOD[:, 0] / GOOD[:, 1]))
    tie = 0.9 * np.exp(-distance)
    side = 1 / (1 + (GOOD[:, 1] / GOOD[:, 0]) ** 2)
    findings = audited(np.column_stack([side * (1 - tie), (1 - side) * (1 - tie), tie]))
    assert "it is a function of how far A and B differ" in why(findings)
    # A tie that is derived and does no harm is told, not refused.
    shares = 0.33 + 0.02 * np.exp(-distance)
    findings = audited(np.column_stack([side * (1 - shares), (1 - side) * (1 - shares), shares]))
    assert not any("p_tie" in fault for fault in findings.faults)
    assert any("p_tie was derived" in warning for warning in findings.warnings)


def test_a_teacher_of_lengths_is_refused_though_people_like_length() -> None:
    rng = np.random.default_rng(7)
    a, b = (VOTES[name].list.join("").str.len_chars().to_numpy().astype(float) for name in ("response_a", "response_b"))
    gap = (a - b) / 60
    drawn = (softmax(np.column_stack([gap, -gap, 0 * gap])).cumsum(1) > rng.random((ROWS, 1))).argmax(1)
    table = VOTES.with_columns(pl.Series("label", np.array(comparisons.LABELS)[drawn]).cast(comparisons.LABEL))
    tie = rng.normal(size=ROWS)
    p = softmax(np.column_stack([gap / 2, -gap / 2, tie * 0.5]) + 0.1 * rng.normal(size=(ROWS, 3)))
    findings = auditing.audit(Labels(labels(table, p)), table)
    assert estimate(findings, "against_prior")[2] < 0
    assert len(findings.faults) == 1
    assert "almost nothing but length" in findings.faults[0]


def test_numbers_that_no_head_puts_out_are_no_logits(tmp_path: Path) -> None:
    logits = np.log(GOOD) - 80
    table = pl.DataFrame({"id": VOTES["id"], "x": logits[:, 0], "y": logits[:, 1], "z": logits[:, 2]})
    assert "log-likelihoods of texts" in why(audited_foreign(table, tmp_path, logits=["x", "y", "z"]))
    fine = table.with_columns(pl.col("x", "y", "z") + 80)
    assert audited_foreign(fine, tmp_path, logits=["x", "y", "z"]).faults == []


# Labels of other rows, without a hash to tell.


def _sorted_back(p: np.ndarray) -> np.ndarray:
    """Judged in the order of length, as engines do, and never put back."""
    lengths = VOTES.select(
        pl.sum_horizontal(pl.col(name).list.join("").str.len_chars() for name in comparisons.TEXTS)
    ).to_series().to_numpy()  # fmt: skip
    return p[np.argsort(lengths, kind="stable")]


@pytest.mark.parametrize(
    ("p", "reason"),
    [
        (np.roll(GOOD, 3, axis=0), "shifted by +3 rows"),
        (np.roll(GOOD, -200, axis=0), "shifted by -200 rows"),
        (GOOD[::-1], "in reverse"),
        (_sorted_back(GOOD), "sorted by length"),
        (GOOD[VOTES["id"].arg_sort().to_numpy()], "sorted by id"),
        (np.concatenate([GOOD[:600], np.roll(GOOD[600:], 1, axis=0)]), "with the label 1 row further on, rows 601 to"),
    ],
)  # fmt: skip
def test_labels_of_other_rows_are_recognised_by_the_votes(p: np.ndarray, reason: str, tmp_path: Path) -> None:
    findings = audited_foreign(foreign(VOTES["id"], p), tmp_path)
    assert reason in why(findings)
    assert "the labels belong to other rows" in why(findings)


def test_ids_that_were_put_on_a_file_in_another_order(tmp_path: Path) -> None:
    findings = audited_foreign(foreign(VOTES["id"].sort(), GOOD), tmp_path)
    assert "aligned by their position in the file" in why(findings)


def test_shuffled_labels_are_refused_though_no_order_is_found(tmp_path: Path) -> None:
    shuffled = GOOD[np.random.default_rng(0).permutation(ROWS)]
    findings = audited_foreign(foreign(VOTES["id"], shuffled), tmp_path)
    assert "not clearly better than the class shares'" in why(findings)
    assert findings.figures["other_order"] is None


def test_a_part_whose_labels_know_nothing_is_told(tmp_path: Path) -> None:
    many, truth = votes(4000, seed=9)
    p = blurred(truth, 0.1)
    p[1200:1600] = p[1200:1600][np.random.default_rng(0).permutation(400)]
    findings = auditing.audit(Labels(labels(many, p)), many)
    assert any("rows 1,201 to 1,600 know next to nothing" in warning for warning in findings.warnings)


@pytest.mark.parametrize("seed", range(3))
def test_no_other_order_is_seen_where_there_is_none(seed: int) -> None:
    """Fit teachers, weak teachers and noise: the alarm of other rows stays silent."""
    table, truth = votes(400, seed=100 + seed)
    for p in (blurred(truth, 0.5), blurred(truth, 3.0), blurred(np.roll(truth, 7, axis=1), 1.0)):
        findings = auditing.audit(Labels(labels(table, p)), table)
        assert not any("belong to other rows" in fault for fault in findings.faults)


# Where the labels come from.


def test_labels_of_the_teachers_own_training_rows_are_refused_unless_allowed() -> None:
    inside = pl.Series(np.arange(ROWS) < 30)
    findings = audited(GOOD, in_sample=inside)
    assert findings.faults[0].startswith("30 rows with a vote were in the teacher's training data")
    allowed = auditing.audit(Labels(labels(VOTES, GOOD, in_sample=inside)), VOTES, allow_in_sample=True)
    assert allowed.faults == []
    assert allowed.figures["in_sample_share"] == 30 / ROWS
    unvoted = VOTES.with_columns(pl.when(~inside).then("label").alias("label"))
    assert auditing.audit(Labels(labels(VOTES, GOOD, in_sample=inside)), unvoted).faults == []


def test_unknown_training_rows_are_a_warning_and_a_memory_is_guessed() -> None:
    findings = audited(GOOD, in_sample=None)
    assert findings.faults == []
    assert any("nobody knows" in warning for warning in findings.warnings)
    memory = softmax(4 * comparisons.targets(VOTES) + np.random.default_rng(0).normal(size=(ROWS, 3)))
    assert any(
        "was the teacher trained on these votes" in warning for warning in audited(memory, in_sample=None).warnings
    )


def test_one_table_is_one_teacher_that_reads_one_way() -> None:
    half = np.arange(ROWS) < ROWS // 2
    two = pl.Series(np.where(half, "one", "two"))
    assert "labels of 2 teachers in one table" in why(audited(GOOD, teacher=two))
    assert "rows were rendered in 2 ways" in why(audited(GOOD, rendering=two))
    folds = pl.Series(np.arange(ROWS) % 2)
    assert "was labelled by several revisions" in why(audited(GOOD, fold=folds, revision=two))
    assert audited(GOOD, fold=folds, revision=folds.cast(pl.String)).faults == []


def test_a_fold_teacher_that_learned_nothing_is_refused_though_the_others_carry_it() -> None:
    fold = np.arange(ROWS) % 4
    collapsed = np.where((fold == 2)[:, None], np.full(3, 1 / 3) + 0 * GOOD, GOOD)
    findings = audited(collapsed, fold=pl.Series(fold))
    assert estimate(findings, "against_prior")[2] < 0
    assert len(findings.faults) == 1
    assert "the teacher of fold 2 is no better than the class shares" in findings.faults[0]
    assert audited(GOOD, fold=pl.Series(fold)).faults == []


def test_other_texts_and_changed_sides_are_told_apart() -> None:
    table = labels(VOTES, GOOD)
    swapped = pl.concat([comparisons.swap(VOTES.head(5)), VOTES.tail(ROWS - 5)])
    assert "the texts of 5 rows are not those that were judged under their ids; 5 have A and B changed round" in why(
        auditing.audit(Labels(table), swapped)
    )
    edited = VOTES.with_columns(
        pl.when(pl.int_range(ROWS) < 4).then(pl.concat_list(pl.lit("new"))).otherwise("prompt").alias("prompt")
    )
    assert "the texts of 4 rows are not those that were judged under their ids" in why(
        auditing.audit(Labels(table), edited)
    )


# Rows.


def test_only_voted_rows_may_be_demanded() -> None:
    partly = VOTES.with_columns(pl.when(pl.int_range(ROWS) < 800).then("label").alias("label"))
    table = labels(partly, GOOD).head(800)
    assert "400 of 1,200 rows have no label" in why(auditing.audit(Labels(table), partly))
    assert auditing.audit(Labels(table), partly, require_all=False).faults == []


def test_rows_that_are_no_probabilities_are_counted(tmp_path: Path) -> None:
    p = GOOD.copy()
    p[3], p[10], p[11] = [np.nan, 0.5, 0.5], [0.5, 0.6, 0.5], [1.2, -0.1, -0.1]
    findings = audited_foreign(foreign(VOTES["id"], p), tmp_path)
    assert "3 labels are not three finite probabilities with sum 1" in why(findings)
    assert findings.figures["broken_rows"] == 3
    rounded = audited_foreign(foreign(VOTES["id"], GOOD.round(3)), tmp_path)
    assert rounded.faults == []
    assert int(str(rounded.figures["scaled_rows"])) > 100


def test_few_votes_and_none_are_told() -> None:
    few = VOTES.with_columns(pl.when(pl.int_range(ROWS) < 12).then("label").alias("label"))
    noise = softmax(np.random.default_rng(1).normal(size=(ROWS, 3)))
    findings = auditing.audit(Labels(labels(few, noise)), few)
    assert "on 12 groups: too few to tell" in why(findings)
    none = VOTES.with_columns(pl.lit(None).cast(comparisons.LABEL).alias("label"))
    findings = auditing.audit(Labels(labels(none, GOOD)), none)
    assert findings.faults == []
    assert any("could not be measured" in warning for warning in findings.warnings)
    assert "hardly more than a constant" in why(
        auditing.audit(Labels(labels(none, softmax(0.01 * np.log(GOOD)))), none)
    )
    with pytest.raises(DataError, match="name an id more than once"):
        auditing.audit(Labels(labels(VOTES, GOOD)), pl.concat([VOTES, VOTES.head(1)]))


# The command.


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    VOTES.write_parquet("votes.parquet")
    labels(VOTES, GOOD).write_parquet("good.parquet")
    labels(VOTES, GOOD[:, [1, 0, 2]]).write_parquet("bad.parquet")
    return tmp_path


def test_force_is_recorded_and_opens_the_door_to_training(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["teach", "audit", "bad.parquet", "--votes", "votes.parquet"]) == 6
    assert "REFUSED" in capsys.readouterr().out
    with pytest.raises(DataError, match="the audit refused teacher made"):
        soft_labels.read_audit(place / "bad.parquet")
    assert cli.run(["teach", "audit", "bad.parquet", "--votes", "votes.parquet", "--force"]) == 0
    assert "is used by force although" in capsys.readouterr().err
    audit = soft_labels.read_audit(place / "bad.parquet")
    assert (audit.passed, audit.forced) == (False, True)
    assert any("changed round" in fault for fault in audit.faults)
    assert cli.run(["teach", "audit", "good.parquet", "--votes", "votes.parquet", "--force"]) == 0
    assert not soft_labels.read_audit(place / "good.parquet").forced
    labels(VOTES, GOOD).head(3).write_parquet("good.parquet")
    with pytest.raises(DataError, match="not the file that was audited"):
        soft_labels.read_audit(place / "good.parquet")


def test_shards_are_one_table_and_each_gets_the_audit(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = labels(VOTES, GOOD)
    table.head(500).write_parquet("labels.shard-1-of-2.parquet")
    table.tail(700).write_parquet("labels.shard-2-of-2.parquet")
    assert cli.run(["teach", "audit", "labels.shard-1-of-2.parquet", "--votes", "votes.parquet"]) == 6
    capsys.readouterr()
    assert cli.run(["teach", "audit", "labels.shard-*.parquet", "--votes", "votes.parquet", "--json"]) == 0
    for shard in place.glob("labels.shard-*.parquet"):
        assert soft_labels.read_audit(shard).rows == ROWS
    assert len(json.loads(capsys.readouterr().out)["files"]) == 2


def test_a_foreign_table_becomes_one_that_can_be_trained_on(place: Path) -> None:
    logits = np.log(GOOD)
    pl.DataFrame({"id": VOTES["id"], "x": logits[:, 0], "y": logits[:, 1], "z": logits[:, 2]}).write_csv("llm.csv")
    command = ["teach", "audit", "llm.csv", "--votes", "votes.parquet", "--logits", "x,y,z"]
    assert cli.run([*command, "-o", "labels.parquet", "--name", "llama"]) == 0
    kept = soft_labels.read([place / "labels.parquet"])
    assert soft_labels.read_audit(place / "labels.parquet").passed
    assert kept["teacher"].unique().to_list() == ["llama"]
    aligned = soft_labels.align(kept, VOTES)
    assert aligned.select("p_a", "p_b", "p_tie").to_numpy() == pytest.approx(GOOD, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["none.parquet"], 2, "no such file"),
        (["good.parquet", "--columns", "x,y"], 2, "expected three names"),
        (["good.parquet", "--columns", "x,y,z", "--logits", "x,y,z"], 2, "expected one of them"),
        (["good.parquet", "--columns", "x,y,z"], 3, "columns x, y, z missing"),
        (["good.parquet", "--columns", "id,p_b,p_tie"], 3, "are not all numbers"),
    ],
)
def test_what_cannot_be_read_is_said(
    arguments: list[str], code: int, said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["teach", "audit", *arguments, "--votes", "votes.parquet"]) == code
    assert said in capsys.readouterr().err


def test_a_foreign_table_needs_texts_to_be_kept(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    VOTES.select("id", pl.col("label").cast(pl.String)).write_csv("only-labels.csv")
    command = ["teach", "audit", "good.parquet", "--votes", "only-labels.csv"]
    assert cli.run(command) == 0
    assert "was not looked at" in capsys.readouterr().err
    assert cli.run([*command, "-o", "kept.parquet"]) == 2


def test_labels_shape(votes: Callable[[int], pl.DataFrame]) -> None:
    """Votes with doubled ids are the caller's fault, and told so."""
    with pytest.raises(DataError, match="dedupe"):
        auditing.audit(Labels(labels(VOTES, GOOD)), votes(10))
