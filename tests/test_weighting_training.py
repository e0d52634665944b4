"""Learning progress in training: an independent slow copy, no say for the cut, off as before, gone on with exactly."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import finetune_rows
import tiny
from test_finetune_processes import FULL, PLAIN, distance
from test_finetune_processes import train as train_in_processes
from test_finetune_resume import PulledPlugError, interrupted, killed_after, same, state, train
from tiebreak import comparisons
from tiebreak.judges.model import JudgeModel
from tiebreak.render import Renderer, template
from tiebreak.train.finetune.checkpoints import SLOW
from tiebreak.train.finetune.collating import Steps, order, render
from tiebreak.train.finetune.progress import Stepped
from tiebreak.train.finetune.slow_copy import LearningProgress, SlowCopy

VOTES = finetune_rows.votes(24)
CPU = torch.device("cpu")
PROGRESS = {"kind": "learning_progress", "decay": 0.8, "strength": 2.0}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finetune_rows.base(tmp_path_factory.mktemp("base"))


def recipe(**changes: Any) -> Any:
    return finetune_rows.recipe(Path("nowhere"), **{"weighting": PROGRESS, **changes})


def moved(model: torch.nn.Module, seed: int) -> None:
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor += 0.05 * torch.randn(tensor.shape, generator=noise)


def walked(dropout: float = 0.0) -> tuple[JudgeModel, LearningProgress, list[dict[str, torch.Tensor]]]:
    """A model after three made-up steps, its progress, and its weights before each step and at the end."""
    model = JudgeModel(tiny.model("llama", attention_dropout=dropout), "classifier")
    progress = LearningProgress(model, recipe(), CPU)
    path = [{name: tensor.detach().clone() for name, tensor in model.named_parameters()}]
    for seed in range(3):
        moved(model, seed)
        progress.slow.follow()
        path.append({name: tensor.detach().clone() for name, tensor in model.named_parameters()})
    return model, progress, path


def step_of(tokens: int, **where: int) -> dict[str, Any]:
    chosen = recipe(batches__tokens=tokens)
    renderer = Renderer(template("plain", max_length=300), tiny.tokenizer())
    seen = render(VOTES, [renderer], "classifier", twin=True)
    return Steps(seen, order(24, 1, 8, chosen.seed), chosen.batches, **where)[0]


def mass(micro_batches: list[Any]) -> np.ndarray:
    return sum(np.bincount(part.rows[part.rows >= 0], part.weights[part.rows >= 0], 8) for part in micro_batches)


def test_the_slow_copy_is_the_moving_average_of_the_weights() -> None:
    model, progress, path = walked()
    found = progress.slow.state()
    for name in path[0]:
        expected = 0.8**3 * path[0][name] + 0.2 * (0.64 * path[1][name] + 0.8 * path[2][name] + path[3][name])
        assert torch.allclose(found[name], expected, atol=1e-6)
    with progress.slow.in_place():
        assert all(torch.equal(tensor, found[name]) for name, tensor in model.named_parameters())
    assert all(torch.equal(tensor, path[3][name]) for name, tensor in model.named_parameters())


def test_weights_come_back_when_a_pass_fails_and_bf16_loses_no_bit() -> None:
    model = JudgeModel(tiny.model("llama", dtype=torch.bfloat16), "classifier")
    slow, own = SlowCopy(model, 0.999), copy.deepcopy(model.state_dict())
    moved(model, 0)
    for _ in range(3):
        slow.follow()
    moved_to = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="out of memory"), slow.in_place():
        raise RuntimeError("out of memory")
    assert all(torch.equal(tensor, moved_to[name]) for name, tensor in model.state_dict().items())
    # A decay this near to 1 would be lost in bf16, whose last bit is 2 ** -8 of a weight.
    for name, tensor in slow.state().items():
        away = (tensor - own[name].float()).abs().max() / (moved_to[name].float() - own[name].float()).abs().max()
        assert float(away) == pytest.approx(1 - 0.999**3, rel=1e-2)


def test_factors_are_those_of_two_models_run_row_by_row() -> None:
    model, progress, _ = walked(dropout=0.3)
    step = step_of(300)
    model.train()
    found = mass(progress(step))
    slow = copy.deepcopy(model.model).eval()
    slow.load_state_dict({name.removeprefix("model."): tensor for name, tensor in progress.slow.state().items()})
    rows = order(24, 1, 8, recipe().seed)[0]
    table = VOTES[rows.tolist()]
    renderer, gains = Renderer(template("plain", max_length=300), tiny.tokenizer()), np.zeros((2, 8))
    for view, frame in enumerate((table, comparisons.swap(table))):
        ids, targets = renderer.render(frame).sequences, comparisons.targets(frame)
        for i in range(8):
            one = torch.from_numpy(np.asarray(ids[i], np.int64))[None]
            with torch.no_grad():
                log_p = [
                    torch.log_softmax(network(input_ids=one).logits[0].double(), 0).numpy()
                    for network in (model.model.eval(), slow)
                ]
            gains[view, i] = (targets[i] * (log_p[0] - log_p[1])).sum()
    weights = table["weight"].to_numpy()
    gain = gains.mean(axis=0)
    assert gain.std() > 0.01
    raw = np.clip(1 + 2 * (gain - (weights * gain).sum() / weights.sum()), 0.5, 2)
    expected = weights * raw / (weights * raw).sum()
    assert found == pytest.approx(expected, abs=1e-5)
    assert progress.spread == pytest.approx(
        np.sqrt((weights * (expected / (weights / weights.sum()) - 1) ** 2).sum() / weights.sum()), abs=1e-4
    )


def test_neither_the_cut_nor_the_twin_nor_dropout_has_a_say() -> None:
    model, progress, _ = walked(dropout=0.3)
    whole = progress(step_of(10**6))
    assert len(whole) == 1
    found = mass(whole)
    assert found.sum() == pytest.approx(1, abs=1e-6)
    assert np.abs(found - mass(step_of(10**6)["micro_batches"])).max() > 1e-3
    for tokens in (400, 1):
        model.train()
        assert mass(progress(step_of(tokens))) == pytest.approx(found, abs=1e-6)
    # Both views of a row have one factor.
    ratio = whole[0].weights / step_of(10**6)["micro_batches"][0].weights
    for row in range(8):
        assert np.ptp(ratio[whole[0].rows == row]) <= 1e-6


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_step_and_agree_on_the_factors(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, progress, _ = walked()
    expected = mass(progress(step_of(300)))
    sums: list[np.ndarray] = []
    shares = [step_of(300, rank=rank, world=world) for rank in range(world)]
    monkeypatch.setattr("tiebreak.train.finetune.processes.total", lambda part: sums.append(part) or part)
    for share in shares:
        with np.errstate(invalid="ignore"):
            progress(share)
    whole = sum(sums)
    monkeypatch.setattr("tiebreak.train.finetune.processes.total", lambda part: whole)
    assert sum(mass(progress(share)) for share in shares) == pytest.approx(expected, abs=1e-6)


def test_the_first_step_has_no_progress_and_strength_nought_changes_nothing(base: Path, tmp_path: Path) -> None:
    steps: dict[str, list[Stepped]] = {}
    for name, weighting in {"off": {}, "nought": {**PROGRESS, "strength": 0}, "on": PROGRESS}.items():
        seen = steps.setdefault(name, [])
        train(finetune_rows.recipe(base, weighting=weighting, max_steps=4), tmp_path / name,
              lambda event, to=seen: to.append(event) if isinstance(event, Stepped) else None)  # fmt: skip
    losses = {name: [event.loss for event in seen] for name, seen in steps.items()}
    assert losses["nought"] == losses["off"]
    assert losses["on"][0] == losses["off"][0]
    assert losses["on"][2:] != losses["off"][2:]
    spreads = {name: [event.factors for event in seen] for name, seen in steps.items()}
    assert spreads["off"] == [None] * 4
    assert spreads["nought"] == [0.0] * 4
    assert spreads["on"][0] == 0
    assert all(0 < spread < 1 for spread in spreads["on"][1:])
    assert not list((tmp_path / "off").rglob(SLOW))
    assert list((tmp_path / "on").rglob(SLOW))


@pytest.mark.slow
def test_killed_and_gone_on_with_gives_the_same_bits(base: Path, tmp_path: Path) -> None:
    chosen = finetune_rows.recipe(base, weighting=PROGRESS, evaluation__every=3, evaluation__save_every=2)
    whole = train(chosen, tmp_path / "whole")
    broken = interrupted(chosen, tmp_path / "broken", killed_after(3, 6), kills=2)
    assert same(state(whole), state(broken))
    last = f"checkpoints/step-{whole.steps:08d}"
    for name in ("weights.safetensors", SLOW, "manifest.json"):
        assert (tmp_path / "whole" / last / name).read_bytes() == (tmp_path / "broken" / last / name).read_bytes()


@pytest.mark.slow
def test_a_damaged_slow_copy_is_not_gone_on_from(base: Path, tmp_path: Path) -> None:
    chosen = finetune_rows.recipe(base, weighting=PROGRESS, evaluation__every=9, evaluation__save_every=2)
    broken = tmp_path / "broken"
    with pytest.raises(PulledPlugError):
        train(chosen, broken, killed_after(5))
    (broken / "checkpoints" / "step-00000004" / SLOW).unlink()
    seen: list[Any] = []
    mended = train(chosen, broken, seen.append)
    assert any("step-00000004 is not usable" in getattr(event, "text", "") for event in seen)
    assert same(state(mended), state(train(chosen, tmp_path / "whole")))


@pytest.mark.slow
def test_two_processes_train_what_one_trains(base: Path, tmp_path: Path) -> None:
    chosen = finetune_rows.recipe(base, weighting=PROGRESS, **PLAIN)
    one, two = (train_in_processes(tmp_path / str(count), chosen, count) for count in (1, 2))
    assert distance(one, two) <= 2e-6
    assert distance(one, train_in_processes(tmp_path / "off", finetune_rows.recipe(base, **PLAIN))) > 1e-4


@pytest.mark.slow
def test_sharded_weights_have_a_sharded_slow_copy(base: Path, tmp_path: Path) -> None:
    chosen = finetune_rows.recipe(base, weighting=PROGRESS, strategy="fsdp", **FULL)
    one, two = (train_in_processes(tmp_path / str(count), chosen, count) for count in (1, 2))
    off = train_in_processes(tmp_path / "off", finetune_rows.recipe(base, **FULL))
    assert distance(one, two) <= 2e-6
    assert distance(one, off) > 1e-4
