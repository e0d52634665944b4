"""Fine-tuned judges for tests: tiny networks whose every trained weight is far from its initial value."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

import tiny
from conftest import SHARED
from tiebreak import comparisons, ingest
from tiebreak.judges.base import Base, Head
from tiebreak.judges.classifier import ClassifierJudge
from tiebreak.judges.model import JudgeModel
from tiebreak.judges.siamese import SiameseJudge
from tiebreak.render import Template, template

TARGETS = {
    "bert": ["query", "value"], "modernbert": ["Wqkv"], "deberta-v2": ["query_proj", "value_proj"],
}  # fmt: skip


def lora(family: str, **changes: Any) -> dict[str, Any]:
    return {"r": 4, "lora_alpha": 8, "target_modules": TARGETS.get(family, ["q_proj", "v_proj"])} | changes


def shaken(model: JudgeModel, seed: int = 1, std: float = 0.15) -> JudgeModel:
    """Every trained weight drawn anew: an adapter or a head that is lost on the way shows."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for parameter in model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=std)
    return model.eval()


def network(
    folder: Path, family: str, kind: Any = "classifier", head: Head | None = None, **details: Any
) -> JudgeModel:
    """A trained network on the base in `folder`, which is made if it is not there."""
    if not folder.exists():
        tiny.save(folder, family)
    return shaken(JudgeModel.build(Base(name=str(folder)), head or Head(), kind, **details))


def classifier(
    folder: Path, family: str = "llama", *, shape: Template | None = None, **details: Any
) -> ClassifierJudge:
    """A classifier judge with an adapter."""
    model = network(folder, family, lora=lora(family))
    return ClassifierJudge.make(
        name="tiny", model=model, tokenizer=tiny.tokenizer(), base=Base(name=str(folder)), head=Head(),
        template=shape or template("plain", max_length=300, chat=False), **details,
    )  # fmt: skip


def siamese(folder: Path, family: str = "bert", *, head: Head | None = None, **details: Any) -> SiameseJudge:
    """A siamese judge with an adapter."""
    head = head or Head(kind="two_layer")
    model = network(folder, family, "siamese", head, lora=lora(family))
    return SiameseJudge.make(
        name="tiny pair", model=model, tokenizer=tiny.tokenizer(), base=Base(name=str(folder)), head=head,
        template=template("single", max_length=300, chat=False, instruction=""), **details,
    )  # fmt: skip


def real_rows(count: int) -> pl.DataFrame:
    """Real votes, shortest first, so that tiny networks are done soon; several turns and nulls among them."""
    if not SHARED.exists():
        pytest.skip("the shared data are not here")
    return _by_length().slice(50, count)


@cache
def _by_length() -> pl.DataFrame:
    table = ingest.read(SHARED / "kaggle_lmsys_1k.parquet")
    long = pl.sum_horizontal(
        pl.col(name).list.eval(pl.element().str.len_chars()).list.sum() for name in comparisons.TEXTS
    )
    return table.sort(long)


def rows(*texts: tuple[Any, Any, Any]) -> pl.DataFrame:
    """Comparisons from (prompt, a, b); each a text or a list of turns."""
    columns = zip(comparisons.TEXTS, zip(*texts, strict=True), strict=True)
    frame = {name: [[one] if isinstance(one, str) else one for one in column] for name, column in columns}
    schema = {"id": pl.String, **dict.fromkeys(comparisons.TEXTS, comparisons.TURNS)}
    return comparisons.validate(pl.DataFrame({"id": [str(i) for i in range(len(texts))], **frame}, schema=schema))
