"""`tiebreak predict` and `compare` on the command line: what they refuse, what they foresee, what they tell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from tiebreak import cli, judges, predictions, samples
from tiebreak.bundle import Manifest
from tiebreak.cli.meter import Meter
from tiebreak.judges import Judge, Scores
from tiebreak.predict import Progress, predict_file


@pytest.fixture
def votes_file(tmp_path: Path) -> Path:
    samples.votes().write_parquet(tmp_path / "votes.parquet")
    return tmp_path / "votes.parquet"


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """What says of itself to be a fine-tuned judge; nothing in it is ever loaded here."""
    (tmp_path / "tuned").mkdir()
    manifest = Manifest(kind="classifier", name="tuned", swap_equivariant=True)
    (tmp_path / "tuned" / "judge.json").write_text(manifest.model_dump_json())
    return tmp_path / "tuned"


def run(capsys, *arguments: str | Path) -> tuple[int, str, str]:  # type: ignore[no-untyped-def]
    code = cli.run([str(argument) for argument in arguments])
    out, said = capsys.readouterr()
    return code, out, said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--engine", "spark"], "--engine 'spark'; expected one of local, torchrun, ray"),
        (["--engine", "local", "--workers", "4000"], "expected 1 to"),
        (["--workers", "0"], "greater than or equal to 1;"),
        (["--precision", "fp8"], "one of auto, fp32, bf16, fp16, int8"),
        (["--devices", "gpu"], "devices 'gpu'"),
        (["--swap", "sometimes"], "both, none, or uncertain=SHARE"),
        (["--max-length", "512"], "--max-length: a features judge has no such choice"),
        (["--max-length", "3"], "greater than or equal to 16"),
        (["--precision", "int8", "--base", "x"], "--precision, --base: a features judge has no such choice"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(options, words, votes_file, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    code, _, said = run(capsys, "predict", votes_file, "-o", tmp_path / "p.parquet", *options)
    assert code == 2
    assert words in said
    assert not (tmp_path / "p.parquet.parts").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--devices", "cuda:0,cuda:7"], "cuda:7"),
        (["--devices", "ranks"], "whole copies of the judge"),
    ],
)
def test_devices_that_are_not_there_are_named(options, words, votes_file, tuned, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    code, _, said = run(capsys, "predict", votes_file, "-j", tuned, "-o", tmp_path / "p.parquet", *options)
    assert code == 2
    assert words in said


def test_a_pipe_has_one_worker(votes_file, capsys) -> None:  # type: ignore[no-untyped-def]
    for options in (["--engine", "torchrun"], ["--workers", "2"]):
        code, _, said = run(capsys, "predict", votes_file, "-o", "-", *options)
        assert code == 2
        assert "-o FILE" in said


def test_a_plain_checkpoint_is_pointed_to_wrap(votes_file, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    code, _, said = run(capsys, "predict", votes_file, "-j", tmp_path / "model", "-o", tmp_path / "p.csv")
    assert code == 3
    assert f"tiebreak wrap {tmp_path / 'model'} -o BUNDLE --template" in said


def test_a_dry_run_counts_and_writes_nothing(votes_file, tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    before = sorted(tmp_path.iterdir())
    code, out, said = run(
        capsys, "predict", votes_file, "-o", tmp_path / "p.parquet", "--chunk-rows", "7", "--workers", "2",
        "--dry-run", "--json",
    )  # fmt: skip
    assert code == 0, said
    assert sorted(tmp_path.iterdir()) == before
    found = json.loads(out)
    assert {key: found[key] for key in ("rows", "chunks", "finished", "workers", "engine", "chunk_rows")} == {
        "rows": 60, "chunks": 9, "finished": 0, "workers": 2, "engine": "local", "chunk_rows": 7,
    }  # fmt: skip
    assert "60 rows in 9 chunks" in said


class Halted(BaseException):
    pass


def test_a_dry_run_sees_what_is_finished_and_resume_keeps_the_chunks(votes_file, tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from tiebreak.judges.features import FeaturesJudge

    judged = FeaturesJudge.score
    calls = 0

    def score(self, table):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Halted
        return judged(self, table)

    monkeypatch.setattr(FeaturesJudge, "score", score)
    arguments = ["predict", votes_file, "-o", tmp_path / "p.parquet"]
    with pytest.raises(Halted):
        run(capsys, *arguments, "--chunk-rows", "7")
    code, out, _ = run(capsys, *arguments, "--resume", "--dry-run", "--json")
    assert code == 0
    assert {key: json.loads(out)[key] for key in ("chunk_rows", "finished", "finished_rows")} == {
        "chunk_rows": 7, "finished": 3, "finished_rows": 21,
    }  # fmt: skip
    code, out, _ = run(capsys, *arguments, "--resume", "--workers", "2", "--json")  # by other hands
    assert code == 0
    assert json.loads(out)["reused"] == 21


class CountingJudge(Judge):
    """Counts ten tokens a text and sees eight."""

    kind = "counting"

    def __init__(self) -> None:
        super().__init__(Manifest(kind="counting", name="counting", swap_equivariant=True))

    def score(self, table: pl.DataFrame) -> Scores:
        rows = table.height
        ledger = pl.DataFrame({name: [10 if "tokens" in name else 8] * rows for name in predictions.LEDGER})
        return Scores(np.full((rows, 3), 1 / 3), np.zeros(rows), np.ones(rows, dtype=bool), ledger)

    def weights(self) -> dict[str, bytes]:
        return {}

    @classmethod
    def from_bundle(cls, manifest: Manifest, directory: Path) -> CountingJudge:
        return cls()


def test_a_run_adds_up_the_ledger_and_tells_of_tokens(tmp_path: Path) -> None:
    heard: list[int] = []
    run = predict_file(
        iter([samples.votes()]), CountingJudge(), tmp_path / "p.parquet", form="parquet", identity="x", chunk_rows=25,
        progress=Progress(tokens=heard.append),
    )  # fmt: skip
    assert (run.rows, run.truncated, run.tokens, run.kept) == (60, 60, 1800, 1440)
    assert heard == [25 * 24, 25 * 24, 10 * 24]
    assert set(predictions.LEDGER) <= set(pl.read_parquet_schema(tmp_path / "p.parquet"))


def test_the_last_line_says_how_much_was_read(votes_file, tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(judges, "load", lambda *_: CountingJudge())
    code, out, said = run(capsys, "predict", votes_file, "-o", tmp_path / "p.csv", "--json")
    assert code == 0, said
    assert "1,800 tokens of text, 80.0 % of them read; truncated: 60 rows (100.0 %)" in said
    assert "tokens/s" in said
    assert (json.loads(out)["tokens"], json.loads(out)["kept"], json.loads(out)["truncated"]) == (1800, 1440, 60)


def test_a_log_gets_a_line_now_and_then_with_the_time_left(capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    with Meter("predict", 400) as meter:
        for step in range(4):
            clock[0] += 45
            meter.tokens(9000)
            meter.advance(50)
            assert step < 4
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "predict: 100 rows (1.11 rows/s, 200 tokens/s), 400 in all, about 4 min left",
        "predict: 200 rows (1.11 rows/s, 200 tokens/s), 400 in all, about 3 min left",
        "predict: 200 rows in 180.0 s (1.11 rows/s, 200 tokens/s)",
    ]


def test_the_help_puts_the_choices_of_networks_and_of_scale_apart() -> None:
    from tiebreak.cli.app import app

    text = CliRunner().invoke(app, ["predict", "--help"], prog_name="tiebreak").stdout
    first, tuned, scale = text.index("Options"), text.index("Fine-tuned judges"), text.index("Scale")
    assert first < text.index("--resume") < tuned < text.index("--max-length") < scale < text.index("--engine")


def test_compare_takes_the_choices_of_a_fine_tuned_judge(capsys) -> None:  # type: ignore[no-untyped-def]
    arguments = ["compare", "--prompt", "p", "--a", "x", "--b", "y"]
    assert run(capsys, *arguments)[0] == 0
    code, _, said = run(capsys, *arguments, "--swap", "none")
    assert code == 2
    assert "--swap: a features judge has no such choice" in said


def test_rows_of_an_interrupted_run_do_not_count_for_the_speed(capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    with Meter("predict", 1000) as meter:
        meter.taken(800)
        clock[0] += 100
        meter.advance(100)
    assert capsys.readouterr().err.splitlines() == [
        "predict: 100 rows (1.00 rows/s), 1,000 in all, about 2 min left",
        "predict: 100 rows and 800 taken over in 100.0 s (1.00 rows/s)",
    ]
