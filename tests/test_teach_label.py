"""Soft labels out of fold: each row by those who never saw it, whoever is killed and however the work is shared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from conftest import SHARED
from predict_faults import environment
from teachers_made import fold_teachers, loaded_once, teacher
from tiebreak import comparisons, ingest, judges, predict, row_hashes, samples, soft_labels, storage, train
from tiebreak.bundle import Manifest
from tiebreak.cli import run as cli_run
from tiebreak.errors import BundleError, DataError, StoppedError, UsageError
from tiebreak.judges.features import FeaturesJudge
from tiebreak.teach import labelling
from tiebreak.teach.labelling import Shard, Teacher, Team, run

__all__ = ["loaded_once"]

Cli = Callable[..., subprocess.CompletedProcess[str]]


def folded(folds: int = 3) -> pl.DataFrame:
    votes = samples.votes()
    return votes.with_columns(id=pl.format("row {}", pl.int_range(pl.len())), fold=pl.int_range(pl.len()) * 7 % folds)


def labelled(votes: pl.DataFrame, bundles: list[Path], output: Path, **choices: Any) -> pl.DataFrame:
    in_sample = choices.pop("in_sample", False)
    name = choices.pop("name", None)
    team = labelling.read(bundles, name)
    return labelling.label(labelling.plan(votes, team, output, **choices), in_sample=in_sample).labels


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three fold teachers of the sample votes."""
    return fold_teachers(tmp_path_factory.mktemp("made") / "teachers", folded())


def said(directory: Path, votes: pl.DataFrame) -> np.ndarray:
    return np.array(judges.load(directory).predict(votes).select(comparisons.SOFT).to_numpy())


def test_each_row_gets_exactly_the_word_of_the_teacher_of_its_fold(folds: list[Path], tmp_path: Path) -> None:
    votes = folded()
    found = labelled(votes, folds, tmp_path / "labels.parquet")
    expected = np.stack([said(directory, votes) for directory in folds])[votes["fold"], np.arange(votes.height)]
    assert (found.select(comparisons.SOFT).to_numpy() == expected).all()
    assert found.columns == list(soft_labels.SCHEMA)
    assert found["id"].equals(votes["id"])
    assert found["content"].equals(row_hashes.content(votes))
    assert found["fold"].equals(votes["fold"])
    revisions = [storage.sha256(directory / "judge.json")[:16] for directory in folds]
    assert found["revision"].to_list() == [revisions[fold] for fold in votes["fold"]]
    assert found["in_sample"].to_list() == [False] * votes.height
    assert set(found["teacher"]) == {"made"}
    assert found["rendering"].null_count() == votes.height
    assert_frame_equal(soft_labels.read([tmp_path / "labels.parquet"]), found)
    assert_frame_equal(
        soft_labels.align(found, votes.sample(30, seed=1))["id"].to_frame(), votes.sample(30, seed=1)["id"].to_frame()
    )
    assert not (tmp_path / "labels.parquet.run").exists()


def test_teachers_may_be_named_in_any_order_or_by_their_folder(folds: list[Path], tmp_path: Path) -> None:
    votes = folded()
    for number, bundles in enumerate(([folds[0].parent], folds[::-1])):
        labelled(votes, bundles, tmp_path / f"{number}.parquet")
    assert (tmp_path / "0.parquet").read_bytes() == (tmp_path / "1.parquet").read_bytes()


def test_several_teachers_that_never_saw_a_row_share_it(folds: list[Path], tmp_path: Path) -> None:
    unseen = samples.votes().with_columns(prompt=pl.concat_list(pl.lit("anew"), pl.col("prompt").list.slice(1)))
    found = labelled(unseen, folds, tmp_path / "labels.parquet")
    mean = np.mean([said(directory, unseen) for directory in folds], axis=0)
    np.testing.assert_allclose(found.select(comparisons.SOFT).to_numpy(), mean, rtol=0, atol=1e-15)
    assert found["fold"].null_count() == unseen.height
    assert set(found["revision"].str.count_matches(r"\+")) == {2}
    assert found["in_sample"].to_list() == [False] * unseen.height


def made_team(trained: list[frozenset[str] | None]) -> Team:
    manifest = Manifest(kind="features", name="made", swap_equivariant=True)
    return Team("made", tuple(Teacher(Path(), manifest, str(i), i, one) for i, one in enumerate(trained)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nobody_labels_what_it_was_trained_on(data: st.DataObject) -> None:
    votes = folded()
    rows, teachers = votes.height, data.draw(st.integers(1, 4))
    trained = [data.draw(st.none() | st.sets(st.integers(0, rows - 1))) for _ in range(teachers)]
    swapped = data.draw(st.booleans())
    shown = comparisons.swap(votes) if swapped else votes
    hashes = row_hashes.unordered(votes)
    routes = labelling.routes(
        shown, made_team([None if one is None else frozenset(hashes[list(one)]) for one in trained])
    )
    for row in range(rows):
        saw = [one is not None and row in one for one in trained]
        labels = routes.labels[row].tolist()
        if all(saw):
            assert labels == saw
            assert routes.in_sample[row] is True
        else:
            assert labels == [not one for one in saw]
            used_silent = any(one is None for one in trained)
            assert routes.in_sample[row] is (None if used_silent else False)
    counts = routes.counts
    assert sum(counts.values()) == rows
    assert counts["in_sample"] == sum(all(one is not None and row in one for one in trained) for row in range(rows))


def test_rows_that_every_teacher_was_trained_on_are_refused_or_marked(tmp_path: Path) -> None:
    votes = folded()
    bundles = [teacher(tmp_path / "one", votes.head(40)), teacher(tmp_path / "two", votes.tail(30), heat=2)]
    with pytest.raises(DataError, match=r"every one of these teachers was trained on 10 of 60 rows") as refusal:
        labelled(votes, bundles, tmp_path / "labels.parquet")
    assert "--in-sample" in refusal.value.mend
    assert not list(tmp_path.glob("labels*"))
    found = labelled(votes, bundles, tmp_path / "labels.parquet", in_sample=True)
    assert found["in_sample"].to_list() == [False] * 30 + [True] * 10 + [False] * 20
    p = found.select(comparisons.SOFT).to_numpy()
    one, two = (said(directory, votes) for directory in bundles)
    assert (p[:30] == two[:30]).all()
    assert (p[40:] == one[40:]).all()
    np.testing.assert_allclose(p[30:40], ((one + two) / 2)[30:40], atol=1e-15)
    with pytest.raises(DataError, match=r"the teacher was trained on 40 of 60 rows \(or on their swapped twins\)"):
        labelled(comparisons.swap(votes), bundles[:1], tmp_path / "other.parquet")


def test_a_teacher_that_does_not_say_what_it_was_trained_on_leaves_it_open(folds: list[Path], tmp_path: Path) -> None:
    votes = folded()
    found = labelled(votes, [], tmp_path / "embedded.parquet")
    assert found["in_sample"].null_count() == votes.height
    assert (found.select(comparisons.SOFT).to_numpy() == said(judges.EMBEDDED, votes)).all()
    silent = teacher(tmp_path / "silent", None, heat=3)
    mixed = labelled(votes, [folds[0], silent], tmp_path / "mixed.parquet")
    assert mixed["in_sample"].null_count() == votes.height
    alone = votes["fold"] != 0
    assert (mixed.filter(alone).select(comparisons.SOFT).to_numpy() == said(silent, votes.filter(alone))).all()


def test_swapped_votes_get_swapped_labels_to_the_last_bit(folds: list[Path], tmp_path: Path) -> None:
    votes = folded().with_columns(fold=None)
    for name, bundles in (
        ("folds", folds),
        ("mean", [teacher(tmp_path / n, None, heat=h) for n, h in (("a", 1.3), ("b", 0.7))]),
    ):
        one = labelled(votes, bundles, tmp_path / f"{name}.parquet")
        other = labelled(comparisons.swap(votes), bundles, tmp_path / f"{name}-swapped.parquet")
        assert (one.select("p_a", "p_b", "p_tie").to_numpy() == other.select("p_b", "p_a", "p_tie").to_numpy()).all()
        same = [name for name in soft_labels.SCHEMA if name not in {"p_a", "p_b", "content"}]
        assert_frame_equal(one.select(same), other.select(same))


@pytest.mark.parametrize("count", [2, 5])
def test_shards_together_are_the_whole(count: int, folds: list[Path], tmp_path: Path) -> None:
    votes = folded().head(4 if count == 5 else 60)
    whole = labelled(votes, folds, tmp_path / "labels.parquet")
    for number in range(1, count + 1):
        labelled(votes, folds, tmp_path / "labels.parquet", shard=Shard(number, count))
    files = [tmp_path / f"labels.shard-{number}-of-{count}.parquet" for number in range(1, count + 1)]
    assert_frame_equal(soft_labels.read(files), whole)
    heights = [pl.read_parquet(file).height for file in files]
    assert max(heights) - min(heights) <= 1


@given(st.integers(0, 200), st.integers(1, 9), st.integers(1, 40))
def test_shards_cut_between_grains_and_leave_nothing_out(height: int, count: int, grain: int) -> None:
    cuts = [Shard(number, count).rows(height, grain) for number in range(1, count + 1)]
    assert cuts[0][0] == 0
    assert cuts[-1][1] == height
    assert all(before[1] == after[0] for before, after in pairwise(cuts))
    assert all(cut % grain == 0 or cut == height for pair in cuts for cut in pair)


class Judged:
    """Counts rows, and fails when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[str] = []
        self.left: int | None = None
        judge = FeaturesJudge.score

        def score(self_: FeaturesJudge, table: pl.DataFrame) -> Any:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left = None if self.left is None else self.left - 1
            self.rows += table["id"].to_list()
            return judge(self_, table)

        monkeypatch.setattr(FeaturesJudge, "score", score)


def test_stopped_anywhere_it_goes_on_and_judges_nothing_twice(
    folds: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    votes, output = folded(), tmp_path / "labels.parquet"
    monkeypatch.setattr(predict, "CHUNK_ROWS", 16)
    judged = Judged(monkeypatch)
    labelled(votes, folds, tmp_path / "never-stopped.parquet")
    once, judged.rows = sorted(judged.rows), []
    for chunks in (0, 1, 3, 2):
        judged.left = chunks
        with pytest.raises(KeyboardInterrupt):
            labelled(votes, folds, output)
        assert not output.exists()
    judged.left = None
    plan = labelling.plan(votes, labelling.read(folds), output)
    assert sum(run.finished(plan)) == len(judged.rows)
    outcome = labelling.label(plan)
    assert (outcome.reused, outcome.judged) == (sum(run.finished(plan)) - outcome.judged, votes.height - outcome.reused)
    assert sorted(judged.rows) == once == sorted(votes["id"])
    assert output.read_bytes() == (tmp_path / "never-stopped.parquet").read_bytes()
    again = labelling.label(labelling.plan(votes, labelling.read(folds), output))
    assert again.whole
    assert again.judged == 0
    assert len(judged.rows) == votes.height


def test_a_part_that_was_damaged_is_judged_again(
    folds: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    votes, output = folded(), tmp_path / "labels.parquet"
    judged = Judged(monkeypatch)
    judged.left = 2
    with pytest.raises(KeyboardInterrupt):
        labelled(votes, folds, output)
    part = next(output.with_name("labels.parquet.run").glob("*.parts/*.parquet"))
    part.write_bytes(part.read_bytes()[:100])
    judged.left = None
    found = labelled(votes, folds, output)
    assert_frame_equal(found, labelled(votes, folds, tmp_path / "other.parquet"))


def test_other_votes_and_other_judges_never_meet_each_others_parts(
    folds: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    votes, output = folded(), tmp_path / "labels.parquet"
    judged = Judged(monkeypatch)
    judged.left = 2
    with pytest.raises(KeyboardInterrupt):
        labelled(votes, folds, output)
    judged.left = None
    other = votes.with_columns(response_a=pl.col("response_b"), response_b=pl.col("response_a"))
    assert_frame_equal(labelled(other, folds, output), labelled(other, folds, tmp_path / "alone.parquet"))
    assert_frame_equal(labelled(votes, folds, output), labelled(votes, folds, tmp_path / "first.parquet"))
    renamed = labelled(votes, folds, output, name="somebody")
    assert set(renamed["teacher"]) == {"somebody"}


def test_asked_to_stop_it_stops_between_chunks(folds: list[Path], tmp_path: Path) -> None:
    plan = labelling.plan(folded(), labelling.read(folds), tmp_path / "labels.parquet")
    ask = predict.Progress(advance=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(StoppedError, match="the same command goes on"):
        labelling.label(plan, progress=ask)
    assert sum(run.finished(plan)) == 20
    assert labelling.label(plan).reused == 20


def test_two_at_once_on_one_output_is_refused(folds: list[Path], tmp_path: Path) -> None:
    plan = labelling.plan(folded(), labelling.read(folds), tmp_path / "labels.parquet")
    with run._working(plan), pytest.raises(UsageError, match="another process is at work"):
        labelling.label(plan)


@pytest.mark.slow
def test_killed_outright_it_goes_on_with_the_same_bytes(folds: list[Path], tmp_path: Path) -> None:
    folded().write_parquet(tmp_path / "votes.parquet")
    labelled(folded(), folds, tmp_path / "never-killed.parquet")
    body = """
with open(here / "judged", "a") as stream:
    stream.write("".join(f"{name}\\n" for name in table["id"]))
if not first_time("first") and first_time("killed"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    variables = environment(tmp_path, body, condition="'teach' in sys.orig_argv")
    words = ["teach", "label", "votes.parquet", "-j", str(folds[0].parent), "-o", "labels.parquet"]
    command = [sys.executable, "-m", "tiebreak", *words]
    codes = [
        subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **variables}, capture_output=True, check=False
        ).returncode
        for _ in range(2)
    ]
    assert codes == [-signal.SIGKILL, 0]
    assert (tmp_path / "labels.parquet").read_bytes() == (tmp_path / "never-killed.parquet").read_bytes()
    times = pl.Series((tmp_path / "judged").read_text().split("\n")[:-1]).value_counts()
    assert times.filter(pl.col("count") > 1).height == 20  # the chunk that was being judged when it was killed


def test_what_cannot_be_labelled_is_said(folds: list[Path], tmp_path: Path) -> None:
    votes = folded()
    output = tmp_path / "labels.parquet"
    with pytest.raises(DataError, match=r"4 rows share their ids with others \(for example id 'row 0'\)"):
        labelled(pl.concat([votes, votes.head(2)]), folds, output)
    with pytest.raises(UsageError, match=r"labels.csv"):
        labelled(votes, folds, tmp_path / "labels.csv")
    with pytest.raises(UsageError, match="are the same judge"):
        labelling.read([folds[0], folds[0].parent])
    with pytest.raises(BundleError, match="not a judge bundle"):
        labelling.read([tmp_path])
    other = teacher(tmp_path / "other", votes, heat=4, name="other-fold-1")
    with pytest.raises(UsageError, match="judges of different names: made, other"):
        labelling.read([folds[0], other])
    assert labelling.read([folds[0], other], "both").name == "both"
    for text in ("0/2", "3/2", "1", "1/0", "a/b"):
        with pytest.raises(UsageError, match="--shard"):
            Shard.parse(text)


def test_teachers_that_read_comparisons_in_different_ways_are_refused() -> None:
    def network(number: int, fingerprint: str, kind: str = "classifier") -> Teacher:
        manifest = Manifest(kind=kind, name="made", swap_equivariant=True, settings={"fingerprint": fingerprint})
        return Teacher(Path(f"fold-{number}"), manifest, str(number), number, frozenset())

    check = labelling.teachers._check_alike
    check([network(0, "x"), network(1, "x")])
    with pytest.raises(DataError, match=r"fold-0 and fold-1 read comparisons in different ways.*fingerprints x, y"):
        check([network(0, "x"), network(1, "y")])
    with pytest.raises(DataError, match="fold-0 is a classifier judge, fold-1 a siamese judge"):
        check([network(0, "x"), network(1, "x", "siamese")])


def test_texts_that_were_changed_after_the_training_are_noticed(folds: list[Path], tmp_path: Path) -> None:
    votes, team = folded(), labelling.read(folds)
    assert labelling.plan(votes, team, tmp_path / "l.parquet").surprise == ""
    assert labelling.plan(votes.with_columns(fold=None), team, tmp_path / "l.parquet").surprise == ""
    cleaned = votes.with_columns(
        prompt=pl.when(pl.int_range(pl.len()) < 5).then(pl.concat_list(pl.lit("hm"), pl.col("prompt").list.slice(1)))
        .otherwise(pl.col("prompt"))
    )  # fmt: skip
    assert labelling.plan(cleaned, team, tmp_path / "l.parquet").surprise.startswith("5 rows are of a fold")


def test_the_fold_is_found_where_training_put_it(tmp_path: Path) -> None:
    made = teacher(tmp_path / "x", None)
    manifest = judges.load(made).manifest
    for changes, folder, expected in (
        ({"metrics": {"fold": 4}, "name": "n-fold-2"}, "fold-1", 4),
        ({"settings": {"fold": 3}, "name": "n-fold-2"}, "fold-1", 3),
        ({"name": "n-fold-2"}, "fold-1", 2),
        ({"name": "n"}, "fold-1", 1),
        ({"name": "unfold-2"}, "x", None),
    ):
        changed = manifest.model_copy(update=changes)
        assert labelling.teachers._fold(changed, tmp_path / folder) == expected


def test_no_rows_make_no_labels(folds: list[Path], tmp_path: Path) -> None:
    assert labelled(folded().head(0), folds, tmp_path / "labels.parquet").height == 0


def test_the_command_line(cli: Cli, folds: list[Path], tmp_path: Path) -> None:
    folded().write_parquet(tmp_path / "votes.parquet")
    command = ("teach", "label", "votes.parquet", "-j", folds[0].parent, "-o", "labels.parquet")
    done = cli(*command, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [(one["fold"], one["rows"]) for one in document["teachers"]] == [(fold, 20) for fold in range(3)]
    assert (document["out_of_sample"], document["in_sample"], document["unknown"]) == (60, 0, 0)
    assert document["judged"] == 60
    assert "next: tiebreak teach audit labels.parquet --votes votes.parquet" in done.stderr
    bytes_before = (tmp_path / "labels.parquet").read_bytes()
    again = cli(*command, cwd=tmp_path)
    assert "nothing was done" in again.stderr
    assert (tmp_path / "labels.parquet").read_bytes() == bytes_before


def test_the_options_of_the_command_line(
    folds: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folded().write_parquet("votes.parquet")
    command = ["teach", "label", "votes.parquet", "-o", "m.parquet", "-j", str(folds[0])]
    assert cli_run([*command, "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "60 rows: 20 out of sample, 40 in sample" in said.out
    assert "every teacher was trained on 40 rows: refused without --in-sample" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["votes.parquet"]
    assert cli_run(command) == 3
    assert "the teacher was trained on 40 of 60 rows" in capsys.readouterr().err
    assert cli_run([*command, "--in-sample", "--shard", "2/3", "--limit", "45"]) == 0
    assert "warning: 30 rows were trained on by every teacher; their labels are marked" in capsys.readouterr().err
    assert pl.read_parquet("m.shard-2-of-3.parquet").height == 15
    assert cli_run([*command, "--precision", "int8"]) == 2
    assert cli_run([*command, "--shard", "4/3"]) == 2


def test_real_votes_by_fold_teachers_trained_for_it(tmp_path: Path) -> None:
    if not SHARED.exists():
        pytest.skip("the shared data are not here")
    votes = ingest.read(SHARED / "kaggle_lmsys_1k.parquet").head(240)
    votes = votes.with_columns(fold=pl.int_range(pl.len()) % 2)
    bundles = []
    for fold in range(2):
        judge = train.train_features(votes, train.Recipe(folds=2, fold=fold))
        assert judge.manifest.name == f"features-fold-{fold}"
        bundles.append(tmp_path / f"features-{fold}")
        judge.save(bundles[-1])
        kept = judges.load(bundles[-1])
        kept.save(tmp_path / "copy")
        trained = row_hashes.read_trained(tmp_path / "copy")
        assert trained == frozenset(row_hashes.unordered(votes.filter(pl.col("fold") != fold)))
    found = labelled(votes, bundles, tmp_path / "labels.parquet")
    assert found["fold"].equals(votes["fold"])
    for fold, directory in enumerate(bundles):
        mine = votes.filter(pl.col("fold") == fold)
        assert (found.filter(pl.col("fold") == fold).select(comparisons.SOFT).to_numpy() == said(directory, mine)).all()
    with pytest.raises(DataError, match="trained on 120 of 240 rows"):
        labelled(votes, bundles[:1], tmp_path / "in.parquet")


def test_a_features_judge_of_a_fold_needs_the_fold() -> None:
    votes = samples.votes()
    with pytest.raises(DataError, match="fold 1: the votes have no column fold"):
        train.check_votes(votes, train.Recipe(fold=1))
    with pytest.raises(DataError, match=r"fold 5: the column fold holds \[0, 1\]"):
        train.check_votes(votes.with_columns(fold=pl.int_range(pl.len()) % 2), train.Recipe(fold=5))
    some = votes.with_columns(
        fold=pl.when(pl.int_range(pl.len()) < 10).then(0).when(pl.int_range(pl.len()) < 50).then(1)
    )
    assert train.check_votes(some, train.Recipe(fold=0, folds=2)).height == 50  # rows of no fold are trained on
