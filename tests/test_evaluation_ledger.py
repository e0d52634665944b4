"""The truncation ledger: what a judge saw, from prediction files to the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from evaluation_rows import judged, votes
from tiebreak import evaluate, predictions
from tiebreak.errors import GateError
from tiebreak.evaluation import gates
from tiebreak.ingest import judged as judged_files
from tiebreak.predict import write


def with_ledger(table: pl.DataFrame, *, seed: int = 0) -> pl.DataFrame:
    """Predictions of a judge that read at most 100 tokens of each text."""
    rng = np.random.default_rng(seed)
    plain = judged(table)
    tokens = rng.integers(0, 180, (table.height, 3))
    kept = np.minimum(tokens, 100)
    columns = dict(zip(predictions.LEDGER, np.stack([tokens, kept], axis=2).reshape(-1, 6).T, strict=True))
    return predictions.build(
        plain["id"],
        predictions.probabilities(plain),
        truncated=(kept < tokens).any(axis=1),
        ledger=pl.DataFrame(columns),
    )


def test_sums_shares_and_the_gap_are_those_of_the_definition() -> None:
    table = votes(400)
    frame = with_ledger(table)
    found = evaluate(frame, table, resamples=200).ledger
    assert found is not None
    for name, field in found.fields.items():
        assert (field.tokens, field.kept) == (frame[f"tokens_{name}"].sum(), frame[f"kept_{name}"].sum())
        assert field.share_kept == field.kept / field.tokens
    cut = frame["truncated"].to_numpy()
    assert found.truncated == cut.sum()
    assert found.truncated_share.value == pytest.approx(cut.mean())
    everything = sum(field.kept for field in found.fields.values()) / sum(f.tokens for f in found.fields.values())
    assert found.kept_share.value == pytest.approx(everything)
    p = predictions.probabilities(frame)[np.arange(400), table["label"].to_physical().to_numpy()]
    assert found.log_loss_gap.value == pytest.approx(-np.log(p[cut]).mean() + np.log(p[~cut]).mean())
    assert found.truncated_share.low < found.truncated_share.value < found.truncated_share.high
    assert found.log_loss_gap.low < found.log_loss_gap.value < found.log_loss_gap.high


def test_votes_with_cut_text_are_a_slice_of_their_own() -> None:
    table = votes(400)
    frame = with_ledger(table)
    parts = {part.name: part for part in evaluate(frame, table, resamples=100).slices
             if part.dimension == "what the judge saw"}  # fmt: skip
    cut = int(frame["truncated"].sum())
    assert {name: part.rows for name, part in parts.items()} == {"the whole text": 400 - cut, "cut text": cut}
    gap = parts["cut text"].log_loss.value - parts["the whole text"].log_loss.value
    found = evaluate(frame, table, resamples=100).ledger
    assert found is not None
    assert found.log_loss_gap.value == pytest.approx(gap)


def test_only_scored_votes_count() -> None:
    table = votes(60).with_columns(label=pl.when(pl.int_range(60) < 20).then(None).otherwise(pl.col("label")))
    frame = with_ledger(table)
    found = evaluate(frame, table, resamples=50).ledger
    assert found is not None
    assert found.fields["a"].tokens == frame["tokens_a"][20:].sum()


def test_a_judge_that_counts_no_tokens_has_no_ledger() -> None:
    table = votes(60)
    measured = evaluate(judged(table), table, resamples=50)
    assert measured.ledger is None
    assert measured.to_dict()["ledger"] is None
    assert "truncated_share" not in measured.figures()
    assert not any(part.dimension == "what the judge saw" for part in measured.slices)


def test_no_cut_and_no_text_are_no_division_by_zero() -> None:
    table = votes(60)
    nothing = pl.DataFrame(dict.fromkeys(predictions.LEDGER, [0] * 60))
    plain = judged(table)
    frame = predictions.build(plain["id"], predictions.probabilities(plain), ledger=nothing)
    measured = evaluate(frame, table, resamples=50)
    assert measured.ledger is not None
    assert measured.ledger.fields["prompt"].share_kept == 1
    assert np.isnan(measured.ledger.log_loss_gap.value)
    assert measured.to_dict()["ledger"]["log_loss_gap"]["value"] is None


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_every_form_of_predictions_keeps_the_ledger_and_kaggles_does_not(suffix: str, tmp_path: Path) -> None:
    frame = with_ledger(votes(30))
    write.write(frame, tmp_path / f"p.{suffix}", suffix)
    read, _ = judged_files.prediction_table(judged_files.read_file(tmp_path / f"p.{suffix}"), where="p")
    assert read.select(predictions.LEDGER).equals(frame.select(predictions.LEDGER))
    write.write(frame, tmp_path / "s.csv", "kaggle")
    assert pl.read_csv(tmp_path / "s.csv").columns == ["id", "winner_model_a", "winner_model_b", "winner_tie"]


def test_report_page_and_json_say_what_was_read(tmp_path: Path) -> None:
    table = votes(200)
    measured = evaluate(with_ledger(table), table, resamples=100)
    measured.write(tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "What the judge saw" in page
    assert measured.ledger is not None
    assert f"{measured.ledger.fields['prompt'].tokens:,}" in page
    assert "had to cut text in" in page
    written = json.loads((tmp_path / "report" / "metrics.json").read_text())["ledger"]
    assert written["fields"]["a"]["kept"] == measured.ledger.fields["a"].kept
    sheet = pl.read_csv(tmp_path / "report" / "csv" / "ledger.csv")
    assert sheet["field"].to_list() == ["prompt", "a", "b"]
    assert sheet["kept"].sum() == sum(field.kept for field in measured.ledger.fields.values())


def test_a_gate_can_hold_the_share_of_cut_votes() -> None:
    table = votes(200)
    measured = evaluate(with_ledger(table), table, resamples=50)
    gates.enforce(measured, [gates.parse("truncated_share>0.99")])
    with pytest.raises(GateError, match="truncated_share"):
        gates.enforce(measured, [gates.parse("truncated_share>0.1")])
