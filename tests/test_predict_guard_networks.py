"""The guard with networks: as the dear judge, as the cheaper one, and under torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

pytest.importorskip("torch")

import tiny
from predict_faults import environment, processes
from tiebreak import predictions, samples
from tiebreak.judges.base import Base, Head
from tiebreak.judges.classifier import ClassifierJudge
from tiebreak.judges.model import JudgeModel
from tiebreak.render import template

pytestmark = pytest.mark.slow
CHUNK = 16
AFTER_TWO = "if not any(first_time(f'chunk{i}') for i in range(2)):\n    time.sleep(600)"


def tell(here: Path, judge: str, output: str, *more: str, faults: dict[str, str] | None = None) -> dict[str, object]:
    """What one command tells, as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "tiebreak", "predict", str(here / "votes.parquet"), "-j", str(here / judge), "-o",
         str(here / output), "--json", *more],
        env={**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", **(faults or {})},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found | {"said": done.stderr}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny networks and what each makes of the votes."""
    folder = tmp_path_factory.mktemp("networks")
    samples.votes().write_parquet(folder / "votes.parquet")
    for name, family in (("dear", "qwen2"), ("cheap", "llama")):
        base = Base(name=str(tiny.save(folder / f"{name}-base", family)))
        judge = ClassifierJudge.make(
            name=name, model=JudgeModel.build(base, Head(), "classifier").eval(), tokenizer=tiny.tokenizer(),
            template=template("plain", max_length=192), base=base, head=Head(),
        )  # fmt: skip
        judge.save(folder / name)
    tell(folder, "dear", "dear.parquet", "--chunk-rows", str(CHUNK))
    tell(folder, "cheap", "cheap.parquet")
    return folder


def faults(here: Path, folder: Path, body: str) -> dict[str, str]:
    """Faults in workers that judge with the dear judge; the cheap one's workers are left in peace."""
    given = environment(folder, f'if self.manifest.name == "dear":\n{_indented(body)}')
    site = folder / "sitecustomize.py"
    text = site.read_text().replace(
        "tiebreak.judges.features import FeaturesJudge", "tiebreak.judges.classifier import ClassifierJudge"
    )
    text = text.replace("FeaturesJudge", "ClassifierJudge").replace("def fault(table)", "def fault(table, self)")
    site.write_text(text.replace("fault(table)\n        return", "fault(table, self)\n        return"))
    return given


def _indented(body: str) -> str:
    return "\n".join(f"    {line}" for line in body.splitlines())


def check(here: Path, output: str, told: dict[str, object], other: pl.DataFrame) -> pl.DataFrame:
    """Each row is one judge's or the other's; the table."""
    table, dear = pl.read_parquet(here / output), pl.read_parquet(here / "dear.parquet")
    left = [row for start, last in told["spans_otherwise"] for row in range(start - 1, last)]  # type: ignore[attr-defined]
    kept = [row for row in range(table.height) if row not in left]
    assert told["rows_otherwise"] == len(left) == table.height - 2 * CHUNK
    names = [name for name in other.columns if name in table.columns]
    assert_frame_equal(table[left].select(names), other[left].select(names), check_exact=True)
    assert_frame_equal(table[kept], dear[kept], check_exact=True)
    return table


@pytest.mark.parametrize("engine", ["local", "torchrun"])
def test_a_network_that_hangs_leaves_rows_to_another_network(engine: str, here: Path, tmp_path: Path) -> None:
    output = f"{engine}.parquet"
    given = ("--chunk-rows", str(CHUNK), "--otherwise", str(here / "cheap"), "--engine", engine, "--workers", "1")
    told = tell(here, "dear", output, *given, "--within", "60", faults=faults(here, tmp_path, AFTER_TWO))
    check(here, output, told, pl.read_parquet(here / "cheap.parquet"))
    until = time.monotonic() + 20
    while processes(here / f"{output}.parts") and time.monotonic() < until:
        time.sleep(0.1)
    assert processes(here / f"{output}.parts") == []
    again = tell(here, "dear", output, *given, "--within", "1h", "--resume")
    assert (again["rows_otherwise"], again["reused"]) == (0, 2 * CHUNK)
    assert (here / output).read_bytes() == (here / "dear.parquet").read_bytes()


def test_rows_of_a_judge_without_tokens_have_no_counts(here: Path, tmp_path: Path) -> None:
    told = tell(here, "dear", "mixed.parquet", "--chunk-rows", str(CHUNK), "--within", "45",
                faults=faults(here, tmp_path, AFTER_TWO))  # fmt: skip
    from tiebreak import judges

    table = check(here, "mixed.parquet", told, judges.load().predict(samples.votes()))
    assert set(predictions.LEDGER) <= set(table.columns)
    assert table["kept_a"].null_count() == told["rows_otherwise"]
    assert told["tokens"] == table.select(pl.sum_horizontal(pl.col("^tokens_.*$")).sum()).item() > 0
    done = subprocess.run(
        [sys.executable, "-m", "tiebreak", "evaluate", str(here / "mixed.parquet"), "--labels",
         str(here / "votes.parquet"), "--json"], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_network_without_its_base_ends_in_the_other_ones_answers(here: Path) -> None:
    told = tell(here, "dear", "baseless.parquet", "--base", str(here / "dear-base"), "--otherwise", "embedded")
    assert told["rows_otherwise"] == samples.votes().height
    assert "this bundle holds all its weights" in str(told["reason"])
    assert "the judge was given up" in str(told["said"])
