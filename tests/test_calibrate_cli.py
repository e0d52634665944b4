"""`tiebreak calibrate` as people run it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tiebreak import bundle, calibrate, cli
from tiebreak.predictions import softmax

SHARED = Path(__file__).parents[2] / "shared" / "data"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tiebreak", "calibrate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of a judge that is over-confident by 2, its votes with and without texts, and bad company."""
    folder = tmp_path_factory.mktemp("calibrate")
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(600, 3))
    honest, said = softmax(logits), softmax(2 * logits)
    codes = (honest.cumsum(axis=1) > rng.random((600, 1))).argmax(axis=1)
    ids = [f"v{i}" for i in range(600)]
    table = pl.DataFrame({"id": ids, "p_a": said[:, 0], "p_b": said[:, 1], "p_tie": said[:, 2]})
    table.write_parquet(folder / "p.parquet")
    table.write_csv(folder / "p.csv")
    table.with_columns(p_a=pl.lit(0.4), p_b=pl.lit(0.3), p_tie=pl.lit(0.3)).write_parquet(folder / "constant.parquet")
    votes = pl.DataFrame({"id": ids, "label": [("a", "b", "tie")[k] for k in codes]})
    votes.write_csv(folder / "votes.csv")
    texts = {name: [[f"{name} {i // 2}"] for i in range(600)] for name in ("prompt", "response_a", "response_b")}
    votes.with_columns(pl.Series(name, column) for name, column in texts.items()).write_parquet(
        folder / "votes.parquet"
    )
    one_hot = {
        name: (codes == k).astype(int) for k, name in enumerate(("winner_model_a", "winner_model_b", "winner_tie"))
    }
    pl.DataFrame({"id": ids, **one_hot}).write_csv(folder / "kaggle.csv")
    bundle.write(
        folder / "judge", bundle.Manifest(kind="features", name="mine", swap_equivariant=True), {"weights.txt": b"w"}
    )
    return folder


def test_it_prints_tables_and_writes_the_calibration(files: Path, tmp_path: Path) -> None:
    done = run(files / "p.parquet", "--labels", files / "votes.csv", "-o", tmp_path / "c.json")
    assert done.returncode == 0, done.stderr
    for expected in (
        "temperature",
        "dirichlet-symmetric",
        "prior",
        "reliability of symmetric",
        "over-confident",
        "best:",
    ):
        assert expected in done.stdout
    assert "wrote the symmetric calibration" in done.stderr
    scale = calibrate.load(tmp_path / "c.json").weight[0][0]
    assert scale == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("labels", ["kaggle.csv", "votes.parquet"])
def test_votes_in_other_forms_give_the_same_map(files: Path, tmp_path: Path, labels: str) -> None:
    for name in ("votes.csv", labels):
        done = run(files / "p.csv", "--labels", files / name, "-o", tmp_path / f"{name}.json", "--json")
        assert done.returncode == 0, done.stderr
    one, other = (calibrate.load(tmp_path / f"{name}.json") for name in ("votes.csv", labels))
    np.testing.assert_allclose(one.weight, other.weight, atol=1e-9)
    # Two votes share a prompt, where there are texts.
    assert json.loads(done.stdout)["groups"] == (300 if labels == "votes.parquet" else 600)


def test_json_holds_the_whole_study(files: Path) -> None:
    done = run(files / "p.parquet", "--labels", files / "votes.csv", "--json", "--method", "auto", "--repeats", "2")
    document = json.loads(done.stdout)
    assert document["json_version"] == 1
    assert list(document["methods"])[:2] == ["none", "prior"]
    value, low, high = document["methods"]["temperature"]["change"]
    assert low < value < high < 0
    assert document["best"] != "none"


def test_a_bundle_gets_a_calibrated_copy_and_a_second_calibration_replaces_the_first(
    files: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    done = run(files / "p.parquet", "--labels", files / "votes.csv", "--judge", files / "judge", "-o", first)
    assert done.returncode == 0, done.stderr
    calibration = bundle.read(first).calibration
    assert calibration is not None
    assert (first / "weights.txt").read_bytes() == b"w"
    assert bundle.read(files / "judge").calibration is None
    assert bundle.read(first).metrics["calibration"]["methods"]["none"]  # type: ignore[index,call-overload]

    raw = pl.read_parquet(files / "p.parquet")
    p = calibration.apply(raw.select("p_a", "p_b", "p_tie").to_numpy())
    raw.with_columns(p_a=p[:, 0], p_b=p[:, 1], p_tie=p[:, 2]).write_parquet(tmp_path / "calibrated.parquet")
    done = run(tmp_path / "calibrated.parquet", "--labels", files / "votes.csv", "--judge", first, "-o", second)
    assert "calibrated already" in done.stderr
    again = bundle.read(second).calibration
    assert again is not None
    np.testing.assert_allclose(again.weight, calibration.weight, atol=1e-7)


def test_apply_writes_a_calibrated_table(files: Path, tmp_path: Path) -> None:
    run(files / "p.parquet", "--labels", files / "votes.csv", "-o", tmp_path / "c.json")
    done = run(files / "p.csv", "--apply", tmp_path / "c.json", "-o", tmp_path / "out.parquet")
    assert done.returncode == 0, done.stderr
    p = pl.read_parquet(files / "p.parquet").select("p_a", "p_b", "p_tie").to_numpy()
    out = pl.read_parquet(tmp_path / "out.parquet")
    np.testing.assert_allclose(
        out.select("p_a", "p_b", "p_tie").to_numpy(), calibrate.load(tmp_path / "c.json").apply(p), atol=1e-12
    )
    assert out["id"].to_list() == [f"v{i}" for i in range(600)]


def test_a_constant_teacher_ends_with_6_writes_nothing_and_can_be_forced(files: Path, tmp_path: Path) -> None:
    arguments = (files / "constant.parquet", "--labels", files / "votes.csv", "-o", tmp_path / "c.json")
    done = run(*arguments)
    assert done.returncode == 6
    assert "the same for every row" in done.stderr
    assert "symmetric * !" in done.stdout
    assert not (tmp_path / "c.json").exists()
    done = run(*arguments, "--force")
    assert done.returncode == 0
    assert json.loads((tmp_path / "c.json").read_text())["forced"]


def test_a_closed_pipe_does_not_cost_the_file(files: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tiebreak", "calibrate", str(files / "p.parquet"), "--labels"]
    command += [str(files / "votes.csv"), "-o", str(tmp_path / "c.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=120) == 0
    assert calibrate.load(tmp_path / "c.json").method == "symmetric"


def test_a_dry_run_writes_nothing(files: Path, tmp_path: Path) -> None:
    done = run(files / "p.parquet", "--labels", files / "votes.csv", "-o", tmp_path / "c.json", "--dry-run")
    assert done.returncode == 0
    assert "600 labelled rows" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["p.parquet"], 2, "--labels"),
        (["p.parquet", "--labels", "votes.csv", "--method", "platt"], 2, "platt"),
        (["p.parquet", "--labels", "votes.csv", "--columns", "x,y"], 2, "three names"),
        (["p.parquet", "--labels", "votes.csv", "--columns", "x,y,z"], 3, "columns x, y, z missing"),
        (["p.parquet", "--labels", "votes.csv", "-o", "out"], 2, "--judge"),
        (["p.parquet", "--labels", "p.parquet"], 3, "p.parquet"),
        (["p.parquet", "--apply", "votes.csv", "-o", "x.csv"], 3, "not JSON"),
        (["p.parquet", "--apply", "c.json", "--labels", "votes.csv"], 2, "--apply"),
        (["missing.parquet", "--labels", "votes.csv"], 3, "missing.parquet"),
        (["p.txt", "--labels", "votes.csv"], 2, "suffix"),
    ],
)
def test_mistakes_have_their_exit_code_and_one_line(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    placed = [str(files / a) if a.endswith((".parquet", ".csv", ".json", ".txt")) else a for a in arguments]
    assert cli.run(["calibrate", *placed]) == code
    message = capsys.readouterr().err
    assert said in message
    assert len(message.strip().splitlines()) == 1


def test_the_verdicts_of_a_judge_are_no_labels(files: Path, tmp_path: Path) -> None:
    columns = [pl.lit("a").alias("label"), pl.lit(0.0).alias("swap_gap"), pl.lit(False).alias("truncated")]
    pl.read_parquet(files / "p.parquet").with_columns(columns).write_parquet(tmp_path / "p.parquet")
    done = run(tmp_path / "p.parquet", "--labels", tmp_path / "p.parquet")
    assert done.returncode == 3
    assert "verdicts of a judge" in done.stderr


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not here")
def test_two_models_and_their_votes_in_one_file() -> None:
    file = SHARED / "kaggle_lmsys_llm_predictions.parquet"
    done = run(file, "--labels", file, "--columns", "m2_a,m2_b,m2_tie", "--json")
    assert done.returncode == 0, done.stderr
    assert "rounded, scaled to sum 1" in done.stderr
    methods = json.loads(done.stdout)["methods"]
    assert methods["none"]["log_loss"][0] == pytest.approx(0.9389, abs=5e-5)
    assert methods["symmetric"]["change"][2] < -0.01
