"""A new head that begins with an even chance for each class."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

import tiny
from tiebreak.engine import pack
from tiebreak.judges.base import Base, Head
from tiebreak.judges.model import JudgeModel


@pytest.mark.parametrize("kind", ["classifier", "siamese"])
@pytest.mark.parametrize("form", ["linear", "two_layer"])
def test_a_zero_head_gives_even_chances_and_still_learns(
    tmp_path: Path, kind: Literal["classifier", "siamese"], form: Literal["linear", "two_layer"]
) -> None:
    base = tiny.model("llama").base_model
    base.save_pretrained(tmp_path)
    model = JudgeModel.build(Base(name=str(tmp_path)), Head(kind=form, zero=True), kind)
    rows: list[Any] = [np.arange(5, 20, dtype=np.int32), np.arange(30, 40, dtype=np.int32)]
    pairs = torch.tensor([[0, 1]]) if kind == "siamese" else None
    logits = model(pack(rows), pairs)
    assert torch.equal(logits, torch.zeros_like(logits))
    torch.nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long)).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.head.parameters())


def test_a_head_that_a_checkpoint_brings_is_kept(tmp_path: Path) -> None:
    tiny.save(tmp_path)
    built = JudgeModel.build(Base(name=str(tmp_path)), Head(zero=True), "classifier")
    assert torch.equal(built.head.weight, tiny.model("llama").score.weight)
