"""Optimisers of fine-tuning: exact values, bf16 that does not stand still, states that come back bit by bit."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tiebreak.train.finetune import kahan, modelling, optimisers, read
from tiebreak.train.finetune.kahan import KahanAdamW
from tiebreak.train.finetune.recipe import Lora, Optimiser, Recipe
from tiebreak.train.finetune.schedule import share


def run(optimiser: torch.optim.Optimizer, weight: torch.nn.Parameter, gradients: list[torch.Tensor]) -> None:
    for gradient in gradients:
        weight.grad = gradient.to(weight.dtype)
        optimiser.step()


def noise(count: int, size: int, seed: int = 0) -> list[torch.Tensor]:
    """Gradients with a constant drift, rounded to bf16 so that every type sees the same."""
    generator = torch.Generator().manual_seed(seed)
    return [(0.5 + torch.randn(size, generator=generator)).bfloat16().float() for _ in range(count)]


def start(size: int, dtype: torch.dtype) -> torch.nn.Parameter:
    values = torch.linspace(0.5, 2.0, size).bfloat16()
    return torch.nn.Parameter(values.to(dtype))


@pytest.mark.parametrize("decay", [0.99, 0.999])
def test_kahan_in_bf16_follows_fp32_where_plain_bf16_stands_still(decay: float) -> None:
    gradients, settings = noise(400, 256), {"lr": 1e-5, "betas": (0.9, decay), "eps": 1e-8, "weight_decay": 0.01}
    exact, plain, summed = start(256, torch.float32), start(256, torch.bfloat16), start(256, torch.bfloat16)
    begin = exact.detach().clone()
    ours = KahanAdamW([summed], **settings)
    run(torch.optim.AdamW([exact], **settings), exact, gradients)
    run(torch.optim.AdamW([plain], **settings), plain, gradients)
    run(ours, summed, gradients)
    moved = (exact - begin).abs().mean()
    assert moved > 100 * 1e-5  # so far did fp32 go
    assert torch.equal(plain.float(), begin)  # and bf16 nowhere at all
    kept = summed.float() + ours.state[summed]["remainder"].float()
    assert (kept - exact).abs().mean() < 0.05 * moved
    assert (summed.float() - exact).abs().max() <= 2.0 / 256 + 1e-4  # a bf16 number is at most half its last bit away


def test_one_step_is_the_formula() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.bfloat16))
    ours = KahanAdamW([weight], lr=0.5, betas=(0.9, 0.99), eps=1e-3, weight_decay=0.1)
    run(ours, weight, [torch.tensor([0.5, 0.25])])
    for value, gradient, found, rest in zip(
        (1.0, -2.0), (0.5, 0.25), weight.tolist(), ours.state[weight]["remainder"].tolist(), strict=True
    ):
        # After one step both bias-corrected moments are the gradient and its square.
        wanted = value - 0.5 * gradient / (gradient + 1e-3) - 0.5 * 0.1 * value
        assert found + rest == pytest.approx(wanted, abs=1e-4)
        assert found == torch.tensor(wanted).bfloat16().item()


def test_on_fp32_it_is_adamw() -> None:
    settings = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}
    one, other = start(64, torch.float32), start(64, torch.float32)
    run(torch.optim.AdamW([one], **settings), one, noise(50, 64))
    run(KahanAdamW([other], **settings), other, noise(50, 64))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", [0.99, 0.999])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_saved_state_goes_on_bit_by_bit(decay: float, dtype: torch.dtype) -> None:
    gradients = noise(20, 33)
    whole, half = start(33, dtype), start(33, dtype)
    settings: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, decay)}
    run(KahanAdamW([whole], **settings), whole, gradients)
    before = KahanAdamW([half], **settings)
    run(before, half, gradients[:7])
    saved, weights = copy.deepcopy(before.state_dict()), half.detach().clone()
    again = torch.nn.Parameter(weights)
    after = KahanAdamW([again], **settings)
    after.load_state_dict(saved)
    types = {name: tensor.dtype for name, tensor in before.state[half].items()}
    assert types == {name: tensor.dtype for name, tensor in after.state[again].items()}
    assert types["exp_avg_sq"] == (torch.float32 if decay == 0.999 else dtype)
    run(after, again, gradients[7:])
    assert torch.equal(whole, again)


def test_the_size_of_a_chunk_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = start(1000, torch.bfloat16), start(1000, torch.bfloat16)
    run(KahanAdamW([one], lr=1e-3), one, noise(5, 1000))
    monkeypatch.setattr(kahan, "CHUNK", 7)
    run(KahanAdamW([other], lr=1e-3), other, noise(5, 1000))
    assert torch.equal(one, other)


def test_weights_that_are_not_contiguous_and_weights_without_a_gradient() -> None:
    values = torch.linspace(0, 1, 12).view(3, 4).bfloat16()
    turned, straight = torch.nn.Parameter(values.t()), torch.nn.Parameter(values.t().contiguous())
    untouched = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    for weight in (turned, straight):
        run(KahanAdamW([weight, untouched], lr=1e-2), weight, [torch.arange(12.0).view(4, 3)])
    assert torch.equal(turned, straight)
    assert untouched.tolist() == [1.0, 1.0]


def test_a_closure_is_called_with_gradients_on() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))

    def closure() -> torch.Tensor:
        weight.grad = None
        loss = (weight**2).sum()
        loss.backward()
        return loss

    assert KahanAdamW([weight], lr=0.1).step(closure) == 1.0
    assert weight.item() == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "paged_adamw_8bit", "kahan_adamw"])
def test_every_optimiser_of_a_recipe_descends(name: Any) -> None:
    target = torch.linspace(-1, 1, 4096)
    weight = torch.nn.Parameter(torch.zeros(4096, dtype=torch.bfloat16 if name == "kahan_adamw" else torch.float32))
    chosen = Optimiser(name=name, lr=1.0, betas=(0.9, 0.99))
    made = optimisers.build([{"name": "head", "params": [weight], "lr": 0.02, "weight_decay": 0.0}], chosen)
    losses = []
    for _ in range(60):
        made.zero_grad()
        loss = ((weight.float() - target) ** 2).mean()
        loss.backward()
        made.step()
        losses.append(loss.item())
    assert losses[-1] < 0.02 * losses[0]
    assert [group["lr"] for group in made.param_groups] == [0.02]
    if "8bit" in name:
        assert made.state[weight]["state1"].dtype == torch.uint8


def test_the_schedule_to_the_last_step() -> None:
    def rates(**settings: Any) -> list[float]:
        return [round(share(Optimiser(**settings), step, 9), 6) for step in range(9)]

    assert rates(schedule="linear", warmup=4, final_lr=0.2) == [0.2, 0.4, 0.6, 0.8, 1.0, 0.84, 0.68, 0.52, 0.36]
    assert rates(schedule="constant", warmup=1) == [0.5, *[1.0] * 8]
    cosine = rates(schedule="cosine", warmup=0, final_lr=0.1)
    assert cosine == [round(0.1 + 0.9 * (1 + math.cos(math.pi * step / 9)) / 2, 6) for step in range(9)]
    assert rates(schedule="constant", warmup=0.2)[:3] == [round(1 / 3, 6), round(2 / 3, 6), 1.0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("llama"), "llama")


def recipe(folder: Path, *changes: str) -> Recipe:
    return read.read("smollm2-135m-lora", [f"base.name={folder}", "base.shape=null", "precision=fp32", *changes])


def test_groups_of_adapters_and_head_have_their_own_rates(folder: Path) -> None:
    chosen = recipe(folder, "lora.r=4", "lora.alpha=16", "optimiser.lr=8e-4", "optimiser.head_lr=rule",
                    "optimiser.weight_decay=0.1")  # fmt: skip
    model = modelling.build(chosen)
    groups = {group["name"]: group for group in modelling.parameter_groups(model, chosen)}
    assert groups.keys() == {"backbone", "head"}
    assert groups["backbone"]["lr"] == 8e-4
    assert groups["head"]["lr"] == pytest.approx(2e-4)  # 8e-4 = (16 / 4) x 2e-4
    assert {group["weight_decay"] for group in groups.values()} == {0.1}
    names = {id(p): name for name, p in model.named_parameters()}
    assert all("lora_" in names[id(p)] for p in groups["backbone"]["params"])
    assert [names[id(p)].rpartition(".")[0].endswith("score.modules_to_save.default")
            for p in groups["head"]["params"]] == [True]  # fmt: skip


@pytest.mark.parametrize("family", ["llama", "bert", "deberta-v2", "modernbert"])
def test_all_that_is_trained_is_in_one_group_and_biases_and_norms_do_not_decay(tmp_path: Path, family: str) -> None:
    chosen = recipe(tiny.save(tmp_path, family), "lora=null", "optimiser.weight_decay=0.1", "freeze=1",
                    "templates.0.name=plain", "templates.0.max_length=128")  # fmt: skip
    model = modelling.build(chosen)
    groups = modelling.parameter_groups(model, chosen)
    together = [id(p) for group in groups for p in group["params"]]
    assert len(together) == len(set(together))
    trained = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    assert set(together) == trained.keys()
    for group in groups:
        for parameter in group["params"]:
            assert (group["weight_decay"] == 0.1) == (parameter.dim() > 1)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    first = [id(p) for p in modelling.blocks(model)[0].parameters()]
    assert not set(first) & trained.keys()
    assert [id(p) for p in modelling.blocks(model)[1].parameters() if id(p) in trained]
    assert any("embed" in name for name in frozen)


def test_quantised_bases_keep_their_norms_in_fp32(folder: Path) -> None:
    model = modelling.build(recipe(folder, "quantize=nf4", "precision=bf16"))
    kinds = {type(module).__name__ for module in modelling.blocks(model)[0].modules()}
    assert "Linear4bit" in kinds
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert parameter.dtype == torch.float32
            assert not parameter.requires_grad
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_all_linear_layers_of_the_blocks_are_named(family: str) -> None:
    model = tiny.model(family)
    stack = max((m for m in model.modules() if isinstance(m, torch.nn.ModuleList)), key=len)
    found = {name.rpartition(".")[2] for name, m in stack[0].named_modules() if isinstance(m, torch.nn.Linear)}
    assert set(modelling.targets_of(model.config.model_type)) == found


def test_adapters_stay_inside_the_blocks_and_the_layers(tmp_path: Path) -> None:
    chosen = recipe(tiny.save(tmp_path, "deberta-v2"), "templates.0.name=plain", "lora.layers=[1, 2]")
    names = [name for name, p in modelling.build(chosen).named_parameters() if "lora_A" in name]
    assert {name.split(".layer.")[1][0] for name in names} == {"1", "2"}
    assert len(names) == 2 * 6  # query, key, value, attention output, up, down
    whole = chosen.model_copy(update={"lora": Lora()})
    assert not [name for name, p in modelling.build(whole).named_parameters() if "lora" in name and "pooler" in name]


def test_what_is_held_in_which_type(folder: Path) -> None:
    full = recipe(folder, "lora=null", "precision=bf16")
    assert {p.dtype for p in modelling.build(full).parameters()} == {torch.float32}
    summed = recipe(folder, "lora=null", "precision=bf16", "optimiser.name=kahan_adamw")
    types = {name: p.dtype for name, p in modelling.build(summed).named_parameters()}
    assert {dtype for name, dtype in types.items() if "score" not in name} == {torch.bfloat16}
    assert types["model.score.weight"] == torch.float32
    adapted = modelling.build(recipe(folder, "precision=bf16"))
    assert {p.dtype for p in adapted.parameters() if p.requires_grad} == {torch.float32}
    assert next(iter(modelling.blocks(adapted).parameters())).dtype == torch.bfloat16


SHARDED = """
import sys, torch, torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from tiebreak.train.finetune.kahan import KahanAdamW
dist.init_process_group("gloo")
mesh = dist.init_device_mesh("cpu", (2,))
def model():
    torch.manual_seed(0)
    return torch.nn.Linear(31, 17).bfloat16()
def steps(one, optimiser):
    for step in range(5):
        torch.manual_seed(step)
        optimiser.zero_grad()
        one(torch.randn(8, 31).bfloat16()).square().mean().backward()
        optimiser.step()
plain = model(); steps(plain, KahanAdamW(plain.parameters(), lr=1e-3, betas=(0.9, 0.999)))
sharded = fully_shard(model(), mesh=mesh); optimiser = KahanAdamW(sharded.parameters(), lr=1e-3, betas=(0.9, 0.999))
steps(sharded, optimiser)
for one, other in zip(plain.parameters(), sharded.parameters()):
    torch.testing.assert_close(one, other.full_tensor(), rtol=2**-7, atol=1e-3)
    assert optimiser.state[other]["remainder"].to_local().numel() < one.numel()
    assert not torch.equal(optimiser.state[other]["remainder"].full_tensor(), torch.zeros_like(one))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_kahan_on_sharded_weights(tmp_path: Path) -> None:
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(script)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
