"""Attacks on networks: what is put together from single orders is what the judge itself says of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import generative_made
from judges_made import classifier, siamese
from tiebreak import attack, comparisons, predictions, samples
from tiebreak.attack import Attacked, Subject, Work, reading, report
from tiebreak.calibration import Calibration
from tiebreak.judges import Judge, Runtime

VOTES = samples.votes().gather_every(12)
FAMILIES = attack.choose(["fake-verdict", "markdown", "empty"], variants=2)
HALVED = Calibration(method="temperature", weight=((0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5)), bias=(0, 0, 0))


@pytest.fixture(scope="module", params=["classifier", "generative", "siamese"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    make = {"classifier": classifier, "generative": generative_made.judge, "siamese": siamese}[request.param]
    made: Judge = make(folder / "base")
    made.manifest = made.manifest.model_copy(update={"calibration": HALVED})
    made.save(folder / "judge")
    return folder / "judge"


def attacked(bundle: Path, output: Path, runtime: Runtime) -> Attacked:
    work = Work.begin(output, "identity", resume=False, chunk_rows=16)
    return attack.attack(Subject.load(bundle, runtime), VOTES, FAMILIES, work)


def said_by_the_judge(bundle: Path, table: pl.DataFrame, found: Attacked, swap: str | None) -> np.ndarray:
    """The judge as anybody would ask it, with the answers that were written; win, lose, tie."""
    import tiebreak

    rows = found.votes.join(table.select("id", "attacker", "position", "answer"), on="id", maintain_order="right")
    rival = pl.when(pl.col("attacker") == "a").then("response_b").otherwise("response_a")
    first = pl.col("position") == "a"
    asked = comparisons.validate(
        rows.select(
            "id", "prompt", pl.when(first).then("answer").otherwise(rival).alias("response_a"),
            pl.when(first).then(rival).otherwise("answer").alias("response_b"),
        )
    )  # fmt: skip
    p = predictions.probabilities(tiebreak.load_judge(bundle, Runtime(precision="fp32", swap=swap)).predict(asked))
    mirrored = (rows["position"] == "b").to_numpy()
    return np.where(mirrored[:, None], p[:, [1, 0, 2]], p)


def test_both_orders_and_one_order_are_what_the_judge_says(bundle: Path, tmp_path: Path) -> None:
    found = attacked(bundle, tmp_path / "out", Runtime(precision="fp32"))
    table = report.table(found)
    ordered = "both" in set(table["orders"])
    for orders, swap in (("both", "both"), ("one", "none")) if ordered else (("own", None),):
        own = table.filter(orders=orders)
        assert own.height > 50
        expected = said_by_the_judge(bundle, own, found, swap)
        assert own.select(reading.FRAME).to_numpy() == pytest.approx(expected, abs=1e-5)


def test_a_swap_policy_of_the_users_own_is_measured_alone(bundle: Path, tmp_path: Path) -> None:
    if "siamese" in str(bundle):
        pytest.skip("a siamese judge has no order")
    found = attacked(bundle, tmp_path / "out", Runtime(precision="fp32", swap="both"))
    assert set(found.tries["orders"]) == {"own"}
    averaged = attacked(bundle, tmp_path / "averaged", Runtime(precision="fp32")).tries.filter(orders="both")
    alike = averaged.select(reading.FRAME).to_numpy()
    assert found.tries.select(reading.FRAME).to_numpy() == pytest.approx(alike, abs=1e-5)
