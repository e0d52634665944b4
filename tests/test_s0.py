"""S0's job: a Llama classifier with a two-layer head, layers split over two devices, both orders, a Kaggle submission.

The expected probabilities are computed here in the plain way, with transformers alone: padded batches, an attention
mask, the state of the last token that is not padding, two linear layers by hand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file
from torch.nn.functional import gelu
from transformers import LlamaModel

import tiny
from tiebreak import comparisons, ingest, judges
from tiebreak.comparisons import TEXTS
from tiebreak.judges.base import Base, Head
from tiebreak.judges.classifier import ClassifierJudge
from tiebreak.judges.model import JudgeModel
from tiebreak.judges.runtime import Runtime
from tiebreak.render import template

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared vote sets are not beside this checkout")
S0 = ("--max-length", "4096", "--max-tokens", "8192", "--format", "kaggle", "--devices", "cpu,cpu")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge as full fine-tuning leaves one: Llama, four layers, the head of human_pref."""
    here = tmp_path_factory.mktemp("s0")
    base = tiny.save(here / "base", "llama", num_hidden_layers=4, max_position_embeddings=8192)
    torch.manual_seed(7)
    head = Head(kind="two_layer", dropout=0.1)
    model = JudgeModel.build(Base(name=str(base)), head, "classifier").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "score" in name and parameter.dim() > 1:
                parameter.normal_(std=0.15)
    judge = ClassifierJudge.make(
        name="s0", model=model, tokenizer=tiny.tokenizer(), template=template("pab", max_length=2048),
        base=Base(name=str(base)), head=head,
    )  # fmt: skip
    judge.save(here / "judge")
    return here / "judge"


def plainly(bundle: Path, table: pl.DataFrame, max_length: int) -> np.ndarray:
    """Mean over both orders of the softmax of a padded transformers computation; (rows, 3) in the order a, b, tie."""
    judge = judges.load(bundle, Runtime(max_length=max_length))
    assert isinstance(judge, ClassifierJudge)
    weights = load_file(bundle / "model.safetensors")
    backbone = LlamaModel.from_pretrained(bundle, dtype=torch.float32, attn_implementation="sdpa").eval()
    orders = []
    for rows in (table, comparisons.swap(table)):
        sequences = judge.renderer.render(rows).sequences
        found = []
        for start in range(0, len(sequences), 2):
            batch = [torch.tensor(np.asarray(sequences[i])) for i in range(start, min(start + 2, len(sequences)))]
            ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True).long()
            mask = torch.arange(ids.shape[1]) < torch.tensor([[len(row)] for row in batch])
            with torch.no_grad():
                states = backbone(ids, attention_mask=mask.long(), use_cache=False).last_hidden_state
                last = states[torch.arange(len(batch)), mask.sum(1) - 1]
                inner = gelu(last @ weights["score.1.weight"].T + weights["score.1.bias"])
                found.append((inner @ weights["score.4.weight"].T + weights["score.4.bias"]).softmax(-1))
        orders.append(torch.cat(found).double().numpy())
    given, swapped = orders
    mean: np.ndarray = (given + swapped[:, [1, 0, 2]]) / 2
    return mean


def submitted(cli, bundle: Path, source: Path, output: Path, *more: str) -> np.ndarray:  # type: ignore[no-untyped-def]
    done = cli("predict", source, "--judge", bundle, *S0, "--precision", "fp32", "-o", output, *more)
    assert done.returncode == 0, done.stderr
    table = pl.read_csv(output)
    assert table.columns == ["id", "winner_model_a", "winner_model_b", "winner_tie"]
    return table.select(pl.exclude("id")).to_numpy()


@needs_data
def test_the_test_file_of_the_competition_becomes_a_valid_submission(cli, bundle, tmp_path) -> None:  # type: ignore[no-untyped-def]
    source = SHARED / "raw" / "kaggle_test.csv"
    sample = tmp_path / "sample_submission.csv"
    ids = pl.read_csv(source)["id"].to_list()
    rows = "".join(f"{id_},0.333333,0.333333,0.333333\n" for id_ in ids)
    sample.write_text("id,winner_model_a,winner_model_b,winner_tie\n" + rows)
    found = submitted(cli, bundle, source, tmp_path / "submission.csv", "--sample", str(sample))
    np.testing.assert_allclose(found, plainly(bundle, ingest.read(source), 4096), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-9)
    assert pl.read_csv(tmp_path / "submission.csv")["id"].to_list() == ids


@needs_data
@pytest.mark.slow
def test_real_rows_come_out_as_the_plain_padded_computation(cli, bundle, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """200 rows: the first as they come, some beyond 4,096 tokens, then shorter ones, for attention costs the square."""
    table = ingest.read(SHARED / "kaggle_lmsys_1k.parquet")
    characters = pl.sum_horizontal(pl.col(name).list.join("", ignore_nulls=True).str.len_chars() for name in TEXTS)
    table = pl.concat([table.head(10), table.slice(10).filter(characters < 2000).head(190)])
    assert table.height == 200
    table.write_parquet(tmp_path / "votes.parquet")
    found = submitted(cli, bundle, tmp_path / "votes.parquet", tmp_path / "submission.csv")
    expected = plainly(bundle, table, 4096)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.std(axis=0).min() > 0.01  # a constant would agree with anything
