"""Judges of several folds for tests: tiny networks on one base, whose adapters and heads are all different."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import finetune_rows
import tiny
from judges_made import lora, shaken
from tiebreak import row_hashes
from tiebreak.bundle import TrainingSource
from tiebreak.judges.base import Base, Head
from tiebreak.judges.classifier import ClassifierJudge
from tiebreak.judges.finetuned import FinetunedJudge
from tiebreak.judges.model import JudgeModel
from tiebreak.judges.siamese import SiameseJudge
from tiebreak.render import template

VOTES = finetune_rows.votes(40)
"""The first ten rows were trained on by fold 0, the next ten by fold 1, and so on."""


def fold(
    folder: Path,
    base: Path,
    number: int,
    *,
    kind: Any = "classifier",
    family: str = "llama",
    head: Head | None = None,
    adapted: bool = True,
    max_length: int = 200,
    quantize: str | None = None,
    figures: tuple[float, float] | None = None,
    seen: bool = True,
    changes: dict[str, Any] | None = None,
    **details: Any,
) -> Path:
    """A bundle `fold-K` whose trained weights depend on its number alone."""
    head = head or Head()
    model = JudgeModel.build(
        Base(name=str(base)), head, kind, quantize=quantize,
        lora=lora(family, **(changes or {})) if adapted else None,
    )  # fmt: skip
    shaken(model, seed=number + 1, std=0.08)
    name, extra = ("single", {"instruction": ""}) if kind == "siamese" else ("plain", {})
    makers: dict[str, type[FinetunedJudge]] = {"classifier": ClassifierJudge, "siamese": SiameseJudge}
    trained = VOTES.slice(10 * number, 10)
    judge = makers[kind].make(
        name=f"tiny-fold-{number}", model=model, tokenizer=tiny.tokenizer(), base=Base(name=str(base)), head=head,
        template=template(name, max_length=max_length, chat=False, **extra), quantize=quantize,
        training=[TrainingSource(name="made", rows=10, fingerprint=f"print {number}"),
                  TrainingSource(name="common", rows=5, fingerprint="the same")],
        metrics={"fold": number, "teachers": [{"name": "ten", "fold": number}, {"name": "all"}],
                 **({"validation": {"log_loss": figures[0], "prior_log_loss": figures[1]}} if figures else {})},
        files={row_hashes.TRAINED: row_hashes.trained_rows(trained)} if seen else {}, **details,
    )  # fmt: skip
    target = folder / f"fold-{number}"
    judge.save(target)
    return target


def by_peft(base: Path, adapter: Path, kind: Any = "classifier", head: Head | None = None) -> dict[str, torch.Tensor]:
    """The whole weights that peft makes of a base and an adapter, in fp32, by the names of transformers."""
    model = JudgeModel.restore(Base(name=str(base)), head or Head(), kind, adapter=adapter, dtype=torch.float32)
    return {name: tensor.detach().double() for name, tensor in model.model.state_dict().items()}


def mean(states: list[dict[str, torch.Tensor]], weights: list[float]) -> dict[str, torch.Tensor]:
    """The weighted mean of whole weights."""
    return {name: sum(w * one[name] for one, w in zip(states, weights, strict=True)) for name in states[0]}  # type: ignore[misc]


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of the one weights file of a bundle."""
    (path,) = folder.glob("*.safetensors")
    return dict(load_file(path))


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], within: float) -> None:
    """The same names, and every number within some distance."""
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(
            one[name].double(), other[name].double(), atol=within, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )
