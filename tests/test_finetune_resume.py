"""Stopped at any step and run again: bitwise the weights of a training that was never stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import finetune_rows
from tiebreak.errors import GateError, StoppedError
from tiebreak.stopping import Stopper
from tiebreak.train.finetune.fit import Fitted, fit
from tiebreak.train.finetune.folding import parts
from tiebreak.train.finetune.progress import Event, Said, Saved, Started, Stepped, Validated
from tiebreak.train.finetune.recipe import Recipe

IDENTITY = {"data": "d", "recipe": "r"}
VOTES = finetune_rows.votes(40)


class PulledPlugError(Exception):
    """Stands for a kill: nothing after it runs."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finetune_rows.base(tmp_path_factory.mktemp("base"), attention_dropout=0.1)


def train(recipe: Recipe, folder: Path, report: Callable[[Event], None] = lambda event: None) -> Fitted:
    part = parts(recipe, VOTES, None)[0][0]
    stopper = Stopper()
    return fit(part, recipe, folder, IDENTITY, stopper, lambda event: _with(event, stopper, report))


def _with(event: Event, stopper: Stopper, report: Any) -> None:
    if report(event) == "stop":
        stopper.asked = True


def state(fitted: Fitted) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in fitted.model.trainable_state().items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def killed_after(*steps: int, event: type = Stepped) -> Callable[[Event], None]:
    waiting = list(steps)

    def report(found: Event) -> None:
        if isinstance(found, event) and waiting and found.step == waiting[0]:
            waiting.pop(0)
            raise PulledPlugError

    return report


def interrupted(recipe: Recipe, folder: Path, report: Callable[[Event], None], kills: int) -> Fitted:
    for _ in range(kills):
        with pytest.raises(PulledPlugError):
            train(recipe, folder, report)
    return train(recipe, folder, report)


KINDS = {
    "lora": {},
    "lora_bf16": {"precision": "bf16"},
    "lora_8bit": {"optimiser__name": "adamw_8bit", "lora__r": 64, "lora__targets": "all"},
    "full": {"lora": None, "optimiser__lr": 1e-3},
    "full_kahan": {"lora": None, "optimiser__name": "kahan_adamw", "optimiser__lr": 1e-3, "precision": "bf16"},
    "full_kahan_fast": {"lora": None, "optimiser__name": "kahan_adamw", "optimiser__betas": [0.9, 0.99]},
    "two_templates": {"templates": [{"name": "plain", "max_length": 96}, {"name": "blackpearl", "max_length": 260}],
                      "batches__rows": 4, "max_steps": 7},
    "grouped_padded": {"batches__length_grouped": True, "batches__packing": "padded"},
    "qlora": {"quantize": "nf4", "precision": "bf16", "checkpointing": True},
    "siamese": {"judge": "siamese", "templates": [{"name": "single", "max_length": 64}]},
}  # fmt: skip


SLOW = ("full_kahan_fast", "grouped_padded", "qlora")


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.slow] if k in SLOW else []) for k in KINDS])
def test_killed_and_gone_on_with_gives_the_same_bits(kind: str, base: Path, tmp_path: Path) -> None:
    recipe = finetune_rows.recipe(base, evaluation__every=3, evaluation__save_every=2, **KINDS[kind])
    whole = train(recipe, tmp_path / "whole")
    # 3: between two checkpoints; 6: after the step, before its validation and checkpoint.
    broken = interrupted(recipe, tmp_path / "broken", killed_after(3, 6), kills=2)
    assert same(state(whole), state(broken))
    assert whole.figures == broken.figures
    assert whole.best_step == broken.best_step
    names = ("weights.safetensors", "optimiser.safetensors", "state.json")
    for folder in (tmp_path / "whole" / "checkpoints").iterdir():
        for name in names:
            other = tmp_path / "broken" / "checkpoints" / folder.name / name
            assert (folder / name).read_bytes() == other.read_bytes()
    stored = load_file(tmp_path / "whole" / "checkpoints" / f"step-{whole.steps:08d}" / "optimiser.safetensors")
    assert ("8bit" in recipe.optimiser.name) == any(tensor.dtype == torch.uint8 for tensor in stored.values())


@pytest.mark.parametrize("kind", ["lora", pytest.param("qlora", marks=pytest.mark.slow)])
def test_how_often_is_validated_does_not_change_the_training(kind: str, base: Path, tmp_path: Path) -> None:
    """bitsandbytes repacks 4-bit weights in evaluation mode so that no gradient passes them any more."""
    losses = []
    for every in (1, 5):
        seen: list[float] = []
        recipe = finetune_rows.recipe(base, max_steps=5, **{**KINDS[kind], "evaluation__every": every})
        train(recipe, tmp_path / str(every), lambda e, to=seen: to.append(e.loss) if isinstance(e, Stepped) else None)
        losses.append(seen)
    assert losses[0] == losses[1]


def test_the_history_of_an_interrupted_training_has_every_step_once(base: Path, tmp_path: Path) -> None:
    recipe = finetune_rows.recipe(base)
    interrupted(recipe, tmp_path, killed_after(3, 5, 7), kills=3)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["event"] == "stepped"] == list(range(1, 10))
    assert list((tmp_path / "tensorboard").iterdir())


def test_asked_to_stop_saves_the_step_and_goes_on(base: Path, tmp_path: Path) -> None:
    recipe = finetune_rows.recipe(base)
    with pytest.raises(StoppedError, match="step 2 of 9 is saved") as stopped:
        train(recipe, tmp_path / "stopped", lambda event: "stop" if getattr(event, "step", 0) == 2 else None)
    assert stopped.value.exit_code == 75
    started: list[int] = []
    gone_on = train(
        recipe, tmp_path / "stopped",
        lambda event: started.append(event.resumed_at) if isinstance(event, Started) else None,
    )  # fmt: skip
    assert started == [2]
    assert same(state(gone_on), state(train(recipe, tmp_path / "whole")))


def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(base: Path, tmp_path: Path) -> None:
    recipe = finetune_rows.recipe(base, evaluation__every=9, evaluation__save_every=2)
    with pytest.raises(PulledPlugError):
        train(recipe, tmp_path / "damaged", killed_after(7))
    newest = tmp_path / "damaged" / "checkpoints" / "step-00000006" / "optimiser.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(bytes(content))
    seen: list[Event] = []
    mended = train(recipe, tmp_path / "damaged", seen.append)
    assert next(event for event in seen if isinstance(event, Started)).resumed_at == 4
    assert any("step-00000006 is not usable (optimiser.safetensors was altered)" in event.text
               for event in seen if isinstance(event, Said))  # fmt: skip
    assert same(state(mended), state(train(recipe, tmp_path / "whole")))


def test_a_part_written_when_killed_is_no_checkpoint(base: Path, tmp_path: Path, monkeypatch: Any) -> None:
    import safetensors.torch

    recipe = finetune_rows.recipe(base, evaluation__every=9, evaluation__save_every=2)
    real, calls = safetensors.torch.save_file, []

    def half(tensors: Any, path: Path) -> None:
        calls.append(path)
        if len(calls) == 4:  # the optimiser of step 4
            path.write_bytes(b"half")
            raise PulledPlugError
        real(tensors, path)

    monkeypatch.setattr(safetensors.torch, "save_file", half)
    broken = interrupted(recipe, tmp_path / "broken", lambda event: None, kills=1)
    assert same(state(broken), state(train(recipe, tmp_path / "whole")))
    assert not list((tmp_path / "broken" / "checkpoints").glob(".*"))


def test_keeps_the_newest_and_the_best(base: Path, tmp_path: Path) -> None:
    recipe = finetune_rows.recipe(base, evaluation__every=1, evaluation__keep=2)
    found: list[Validated] = []
    train(recipe, tmp_path, lambda event: found.append(event) if isinstance(event, Validated) else None)
    kept = sorted(int(path.name[5:]) for path in (tmp_path / "checkpoints").iterdir())
    best = [min(found[:step], key=lambda event: event.figures.log_loss).step for step in (8, 9)]
    assert kept == sorted({8, 9, *best})


def test_checkpoints_hold_only_safetensors_and_json(base: Path, tmp_path: Path) -> None:
    train(finetune_rows.recipe(base), tmp_path)
    suffixes = {path.suffix for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()}
    assert suffixes == {".safetensors", ".json"}


def test_a_loss_that_is_no_number_stops_the_run(base: Path, tmp_path: Path) -> None:
    with pytest.raises(GateError, match="training loss is nan at step"):
        train(finetune_rows.recipe(base, optimiser__head_lr=1e38), tmp_path)


def test_checkpoint_events_name_their_folder(base: Path, tmp_path: Path) -> None:
    seen: list[Saved] = []
    train(finetune_rows.recipe(base), tmp_path, lambda e: seen.append(e) if isinstance(e, Saved) else None)
    assert [Path(event.path).name for event in seen] == ["step-00000004", "step-00000008", "step-00000009"]
