"""Bundles of blends and cascades: judges inside a bundle, asked, calibrated, labelling and refused like any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from conftest import SHARED
from tiebreak import bundle, comparisons, judges, pooling, predictions, row_hashes, samples
from tiebreak.cli import run
from tiebreak.combine import asking
from tiebreak.errors import BundleError, DataError, UsageError
from tiebreak.judges.blend import BlendJudge
from tiebreak.judges.cascade import CascadeJudge
from tiebreak.judges.runtime import Runtime

SAMPLES = comparisons.validate(samples.votes())
TRAIN, TEST = SAMPLES.head(30), SAMPLES.tail(30)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Votes, a judge trained on half of them, and a blend and a cascade of it and the embedded one."""
    folder = tmp_path_factory.mktemp("judges")
    TRAIN.write_parquet(folder / "train.parquet")
    TEST.write_parquet(folder / "test.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["-q", "train", "features", "--data", "train.parquet", "-o", "mine"]) == 0
        both = ["embedded", "mine", "--labels", "test.parquet"]
        assert run(["-q", "combine", "blend", *both, "--rule", "fitted", "--space", "logits", "-o", "blended"]) == 0
        costs = ["--cost", "embedded=1", "--cost", "mine=4", "--route", "margin", "--answer", "last"]
        assert run(["-q", "combine", "cascade", *both, *costs, "--budget", "0.6", "-o", "cascade"]) == 0
        yield folder


def said(judge: str | Path | None, table: pl.DataFrame = SAMPLES) -> np.ndarray:
    return predictions.probabilities(judges.load(judge).predict(table))


def test_a_blend_is_the_pool_of_what_its_judges_say(place: Path) -> None:
    judge = judges.load(place / "blended")
    assert isinstance(judge, BlendJudge)
    mix = judge.settings.mix
    assert judge.settings.names == ["embedded", "mine"]
    want = pooling.logarithmic(np.stack([said(None), said(place / "mine")]), np.array(mix.weights))
    np.testing.assert_array_equal(predictions.probabilities(judge.predict(SAMPLES)), want)
    study = judge.manifest.metrics["blend"]
    assert isinstance(study, dict)
    assert {"equal", "single", "fitted"} == study["rules"].keys()  # type: ignore[union-attr]


def test_a_cascade_says_what_the_judge_says_to_whom_a_row_went(place: Path) -> None:
    judge = judges.load(place / "cascade")
    assert isinstance(judge, CascadeJudge)
    route = judge.settings.stages[0].route
    assert route is not None
    first = said(None)
    on = route.bias - route.weights[0] * np.abs(first[:, 0] - first[:, 1]) > route.price
    assert 5 < on.sum() < 55
    done = predictions.probabilities(judge.predict(SAMPLES))
    np.testing.assert_array_equal(done[~on], first[~on])
    np.testing.assert_array_equal(done[on], said(place / "mine", SAMPLES.filter(pl.Series(on))))
    np.testing.assert_allclose(done[on], said(place / "mine")[on], atol=1e-12)
    assert judge.costs().tolist() == [1.0, 4.0]


@pytest.mark.parametrize("name", ["blended", "cascade"])
def test_exchanging_the_answers_exchanges_the_probabilities_exactly(place: Path, name: str) -> None:
    assert bundle.read(place / name).swap_equivariant
    there, back = said(place / name), said(place / name, comparisons.swap(SAMPLES))
    np.testing.assert_array_equal(there, back[:, [1, 0, 2]])


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data are not here")
def test_on_real_rows_too_the_twin_takes_the_same_way(place: Path) -> None:
    from tiebreak import ingest

    rows = ingest.read(SHARED / "kaggle_lmsys_1k.parquet").head(60)
    there, back = said(place / "cascade", rows), said(place / "cascade", comparisons.swap(rows))
    np.testing.assert_array_equal(there, back[:, [1, 0, 2]])
    parts = [said(place / "cascade", part) for part in rows.iter_slices(25)]
    np.testing.assert_allclose(np.concatenate(parts), there, atol=1e-12)


def test_a_bundle_goes_where_a_bundle_goes(place: Path) -> None:
    """Saved, moved without its judges' places, calibrated, labelling, evaluated, and a member of the next."""
    judges.load(place / "cascade").save(place / "copy")
    shutil.move(place / "copy", place / "elsewhere")
    np.testing.assert_array_equal(said(place / "elsewhere"), said(place / "cascade"))

    assert run(["-q", "predict", "test.parquet", "-j", "blended", "--chunk-rows", "7", "-o", "p.parquet"]) == 0
    assert pl.read_parquet("p.parquet").height == 30
    fit = ["-q", "calibrate", "p.parquet", "--labels", "test.parquet", "--judge", "blended", "-o", "calibrated"]
    assert run([*fit, "--method", "temperature", "--force"]) == 0
    calibration = bundle.read(place / "calibrated").calibration
    assert calibration is not None
    np.testing.assert_array_equal(said(place / "calibrated"), calibration.apply_equivariant(said(place / "blended")))

    assert run(["-q", "evaluate", "p.parquet", "--labels", "test.parquet", "-j", "blended"]) == 0
    assert run(["-q", "compare", "-j", "cascade", "-p", "Name a prime.", "-a", "7", "-b", "8"]) == 0
    assert run(["-q", "teach", "label", "test.parquet", "-j", "blended", "-o", "labels.parquet"]) == 0
    labels = pl.read_parquet("labels.parquet")
    np.testing.assert_array_equal(labels.select("p_a", "p_b", "p_tie").to_numpy(), said(place / "blended", TEST))

    both = ["combine", "blend", "blended", "cascade", "--labels", "test.parquet", "--rule", "equal", "-o", "nested"]
    assert run(["-q", *both]) == 0
    want = pooling.linear(np.stack([said(place / "blended"), said(place / "cascade")]))
    np.testing.assert_array_equal(said(place / "nested"), want)
    assert not judges.has_network(bundle.read(place / "nested"))


def test_it_was_trained_on_what_its_judges_were_trained_on(place: Path) -> None:
    manifest = bundle.read(place / "blended")
    assert [one.name for one in manifest.training][-1] == "train"
    assert len(manifest.training) == len(judges.load().manifest.training) + 1
    assert row_hashes.read_trained(place / "blended") is None, "the embedded judge does not say which rows"
    shutil.copytree(place / "mine", place / "twin", dirs_exist_ok=True)
    two = ["-q", "combine", "blend", "mine", "twin", "--labels", "test.parquet", "-o", "known"]
    assert run(two) == 0
    assert row_hashes.read_trained(place / "known") == frozenset(row_hashes.unordered(TRAIN))


def test_a_judge_of_weight_0_is_not_in_the_bundle(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = ["combine", "blend", "embedded", "mine", "--labels", "test.parquet", "--rule", "single", "-o", "single"]
    assert run(alone) == 0
    assert "embedded: of weight 0" in capsys.readouterr().err
    assert not (place / "single" / "members" / "embedded").exists()
    np.testing.assert_array_equal(said(place / "single"), said(place / "mine"))


def test_a_judge_that_knows_the_votes_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = ["combine", "blend", "embedded", "mine", "--labels", "train.parquet", "-o", "bad"]
    assert run(known) == 3
    assert "mine was trained on 30 of these 30 votes" in capsys.readouterr().err
    assert not Path("bad").exists()
    assert run([*known, "--in-sample"]) == 0
    assert "trusts it too much" in capsys.readouterr().err
    swapped = comparisons.swap(TRAIN)
    source = asking.parse([f"mine={place / 'mine'}"])[0]
    with pytest.raises(DataError, match="30 of these 30"):
        asking.unseen(source, swapped, in_sample=False)
    with pytest.raises(DataError, match="have no texts"):
        asking.unseen(source, TRAIN.select("id", "label"), in_sample=False)


def test_out_of_fold_predictions_may_stand_for_a_judge(place: Path) -> None:
    judges.load().predict(TRAIN).write_parquet("oof.parquet")
    fit = ["combine", "blend", "mine=oof.parquet@mine", "again=oof.parquet@embedded", "--labels", "train.parquet"]
    assert run(["-q", *fit, "--rule", "equal", "-o", "oof"]) == 0
    want = pooling.linear(np.stack([said(place / "mine"), said(None)]))
    np.testing.assert_array_equal(said(place / "oof"), want)


def test_judges_may_be_named_where_they_lie(place: Path) -> None:
    shutil.copytree(place / "mine", place / "far", dirs_exist_ok=True)
    fit = ["-q", "combine", "blend", "embedded", "far", "--labels", "test.parquet", "--rule", "fitted", "--refer"]
    assert run([*fit, "-o", "refers"]) == 0
    assert {path.name for path in (place / "refers" / "members").iterdir()} == {"embedded"}
    assert said(place / "refers").shape == (60, 3)
    document = json.loads((place / "far" / "judge.json").read_text())
    (place / "far" / "judge.json").write_text(json.dumps({**document, "name": "another"}))
    with pytest.raises(BundleError, match="another judge than member"):
        said(place / "refers")
    shutil.rmtree(place / "far")
    with pytest.raises(UsageError, match="is not at"):
        said(place / "refers")


def test_damaged_and_foreign_members_are_refused(place: Path) -> None:
    def damaged(name: str) -> Path:
        return Path(shutil.copytree(place / "blended", place / name))

    altered = damaged("altered") / "members" / "mine" / "judge.json"
    altered.write_text(altered.read_text() + " ")
    with pytest.raises(BundleError, match="was altered"):
        judges.load(place / "altered")

    outside = damaged("outside")
    document = json.loads((outside / "judge.json").read_text())
    document["settings"]["members"][1]["place"] = "../mine"
    (outside / "judge.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match="not among its files"):
        said(outside)

    missing = damaged("missing")
    document = json.loads((missing / "judge.json").read_text())
    del document["files"]["members/mine/linear.safetensors"]
    (missing / "judge.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match="is missing"):
        said(missing)


def test_choices_of_a_run_go_to_whom_they_concern(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="no judge among embedded, mine"):
        judges.load(place / "blended", Runtime(devices="cpu"))
    assert run(["predict", "test.parquet", "-j", "blended", "--devices", "cpu", "-o", "q.parquet"]) == 2
    assert "a blend judge has no such choice" in capsys.readouterr().err


def test_opinions_are_read_as_they_are_written(place: Path) -> None:
    found = asking.parse(["a=x.csv#p,q,r@mine", "y.parquet", "mine", "embedded", "z=embedded", "w=v=1.csv"])
    assert [one.name for one in found] == ["a", "y", "mine", "embedded", "z", "w"]
    assert found[0].columns == ["p", "q", "r"]
    assert (found[0].predictions, found[0].judge) == (Path("x.csv"), Path("mine"))
    assert (found[1].predictions, found[1].judge) == (Path("y.parquet"), None)
    assert [one.judge for one in found[2:5]] == [Path("mine"), judges.EMBEDDED, judges.EMBEDDED]
    assert found[5].predictions == Path("v=1.csv")
    for wrong, words in (
        (["a.csv#x,y"], "expected three"),
        (["a.csv@nowhere"], "no judge bundle"),
        (["train.parquet@test.parquet"], "no judge bundle"),
        (["a=x.csv", "a=y.csv"], "two tables are called"),
    ):
        with pytest.raises(UsageError, match=words):
            asking.parse(wrong)


@pytest.mark.parametrize("output", ["x.txt", "mine", "new.csv/x"])
def test_places_that_cannot_be_written_are_refused_before_any_work(place: Path, output: str) -> None:
    assert run(["combine", "blend", "embedded", "mine", "--labels", "test.parquet", "-o", output]) in {2, 5}
    assert (place / "mine" / "trained_rows.txt").is_file()


def test_costs_are_measured_where_nobody_says(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["combine", "cascade", "embedded", "mine=oof2.parquet@mine", "--labels", "test.parquet", "--keep", "0.5"]
    judges.load(place / "mine").predict(TEST).write_parquet("oof2.parquet")
    assert run([*fit, "--route", "entropy", "-o", "timed", "--json"]) == 0
    told = capsys.readouterr()
    assert told.err.count("ms a row, measured here") == 2
    assert min(json.loads(told.out)["cascade"]["costs"]) > 0
    assert "seconds" in (place / "timed.report" / "index.html").read_text()
