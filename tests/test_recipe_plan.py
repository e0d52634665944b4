"""Dry runs: exact counts at real size, bytes against those of real small trainings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

import tiny
from tiebreak import samples
from tiebreak.engine import pack
from tiebreak.errors import UsageError
from tiebreak.judges.model import JudgeModel
from tiebreak.train.finetune import collating, memory, modelling, optimisers, plan, preview, read, sources
from tiebreak.train.finetune.recipe import Recipe

COUNTS = {
    # The second figure is what is published for the model (without the layer that gives next tokens, but where that
    # is the judge's own).
    "gemma2-9b-qlora-1x16gb": (7_891_456, 9_241_705_984),
    "gemma2-9b-lora-blackpearl": (216_082_944, 9_241_705_984),
    "llama3-8b-full-human-pref": (7_513_321_475, 8_030_261_248 - 128_256 * 4096),
    "llama3-8b-qlora-blackpearl": (167_784_448, 8_030_261_248 - 128_256 * 4096),
    "llama3-70b-qlora-blackpearl": (828_399_616, 70_553_706_496 - 128_256 * 8192),
    "qwen2-72b-qlora-blackpearl": (842_162_176, 72_706_203_648 - 152_064 * 8192),
    "qwen2.5-7b-qlora": (161_491_456, 7_615_616_512 - 152_064 * 3584),
    "deberta-v3-xsmall-512": (70_831_107, 70_682_112),
    "minilm-l6-cpu": (22_714_753 - 384 * 385, 22_713_216),
    "smollm2-135m-lora": (4_886_208, 134_515_008),
    "smollm2-135m-verdict": (4_886_208 - 3 * 576, 134_515_008),
    "yi1.5-34b-verdict-qlora": (122_880_000, 34_388_917_248),
}


def test_every_shipped_recipe_is_counted() -> None:
    assert set(read.shipped()) == COUNTS.keys()


# A quarter of a minute each.
LARGE = {"llama3-70b-qlora-blackpearl", "qwen2-72b-qlora-blackpearl", "yi1.5-34b-verdict-qlora"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LARGE)) for n in COUNTS])
def test_a_recipe_counts_what_it_must_at_its_real_size(name: str) -> None:
    recipe = read.read(name)
    model = modelling.build(recipe, meta=True)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    found = plan.count(model)
    trainable, backbone = COUNTS[name]
    assert found.trainable == trainable
    new = found.head if recipe.lora is None else found.trainable  # the head of DeBERTa has a pooler before it
    assert found.total - new == backbone
    groups = modelling.parameter_groups(model, recipe)
    assert sum(p.numel() for group in groups for p in group["params"]) == trainable


def test_s1_by_hand() -> None:
    # q: 3584 -> 16 heads x 256; k, v: 3584 -> 8 x 256; 26 layers; three outputs without a bias
    by_hand = 16 * ((3584 + 4096) + 2 * (3584 + 2048)) * 26 + 3 * 3584
    assert COUNTS["gemma2-9b-qlora-1x16gb"][0] == by_hand == 7_891_456


def test_memory_of_qlora_and_of_full_fine_tuning_by_hand() -> None:
    recipe = read.read("gemma2-9b-qlora-1x16gb")
    found = memory.estimate(modelling.build(recipe, meta=True), recipe)
    matrices = 42 * (3584 * 4096 * 2 + 3584 * 2048 * 2 + 3 * 3584 * 14336)
    norms = (42 * 4 + 1) * 3584
    by_hand = matrices * (0.5 + 1 / 64 + 4 / 16384) + 256_000 * 3584 * 2 + norms * 4 + 7_891_456 * 4
    assert found.weights == pytest.approx(by_hand, rel=1e-6)
    assert found.gradients == 4 * 7_891_456
    assert found.total < 16 * 2**30
    full = read.read("llama3-8b-full-human-pref")
    one = memory.estimate(modelling.build(full, meta=True), full, processes=1)
    eight = memory.estimate(modelling.build(full, meta=True), full, processes=8)
    head = 8_396_803
    backbone = 7_513_321_475 - head
    assert one.weights == 2 * backbone + 4 * head
    assert one.optimiser == 6 * backbone + 8 * head  # remainder and two moments in bf16; the head is float32
    assert eight.weights == pytest.approx(one.weights / 8, abs=1)
    assert eight.total < 40 * 2**30 < one.total


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        family: tiny.save(tmp_path_factory.mktemp(family), family) for family in ("llama", "gemma2", "bert", "qwen2")
    }


def recipe(folder: Path, *changes: str) -> Recipe:
    base = [f"base.name={folder}", "base.shape=null", "templates.0.name=plain", "templates.0.max_length=256"]
    return read.read("smollm2-135m-lora", [*base, "batches.tokens=2048", "precision=fp32", *changes])


@pytest.mark.parametrize("family", ["llama", "gemma2", "bert", "qwen2"])
@pytest.mark.parametrize("changes", [["lora=null"], ["lora.r=4"], ["lora=null", "checkpointing=true"]], ids=str)
def test_what_autograd_keeps_is_what_was_foretold(folders: dict[str, Path], family: str, changes: list[str]) -> None:
    chosen = recipe(folders[family], *changes)
    foretold = memory.estimate(modelling.build(chosen, meta=True), chosen)
    model = modelling.build(chosen).train()
    kept = memory.saved_bytes(model, 256, 8, "cpu")
    depth = len(modelling.blocks(model))
    if chosen.checkpointing:  # the inputs of the blocks; one block at a time is computed again
        inputs = depth * 2048 * 64 * 4
        assert inputs < kept < inputs + 4 * 2048 * 64 * 4  # and what lies outside the blocks
        assert foretold.activations > kept
    else:
        assert foretold.activations / (1 + 1 / depth) == pytest.approx(kept, rel=0.25)


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "kahan_adamw"])
@pytest.mark.parametrize("decay", [0.99, 0.999])
def test_bytes_of_weights_gradients_and_states_are_those_of_a_step(
    folders: dict[str, Path], name: str, decay: float
) -> None:
    chosen = recipe(folders["llama"], "lora=null", "precision=bf16", f"optimiser.name={name}",
                    f"optimiser.betas=[0.9, {decay}]")  # fmt: skip
    foretold = memory.estimate(modelling.build(chosen, meta=True), chosen)
    model = modelling.build(chosen)
    optimiser = optimisers.build(modelling.parameter_groups(model, chosen), chosen.optimiser)
    model(pack([np.arange(1, 9)])).sum().backward()
    optimiser.step()
    own = list(model.parameters())
    assert foretold.weights == sum(p.nbytes for p in own)
    assert foretold.gradients == sum(p.grad.nbytes for p in own if p.grad is not None)
    states = [
        t for p in own for key, t in optimiser.state[p].items() if torch.is_tensor(t) and not key.startswith("qmap")
    ]
    found = sum(t.nbytes for t in states if t.dim())
    assert foretold.optimiser == pytest.approx(found, rel=0.01)


def test_steps_and_tokens_are_those_of_the_training(folders: dict[str, Path]) -> None:
    votes = samples.votes()
    chosen = recipe(folders["llama"], "batches.rows=7", "epochs=2", "templates.1.name=blackpearl")
    found = plan.plan(chosen, votes, rate=1000.0)
    work = found.work
    assert (work.rows, work.trainings, work.measured) == (60, 1, True)
    assert work.train_rows is not None
    assert work.validation_rows is not None
    assert work.train_rows + work.validation_rows == 60
    assert work.steps == collating.count_steps(work.train_rows, chosen)
    assert work.sequences_per_step == 7 * 2 * 2
    assert found.seconds == pytest.approx(work.steps * work.tokens_per_step / 1000)
    assert work.longest <= 1024
    own = tiny.tokenizer()
    assert found.first_row == [own.decode(own(preview.untokenised(chosen.templates[0], chosen, votes.head(1))[0])
                                          ["input_ids"][:256])] or found.tokenized  # fmt: skip
    folds = plan.plan(chosen.model_copy(update={"folds": 3}), votes)
    assert folds.work.trainings == 3
    assert folds.work.steps is not None
    assert folds.work.steps > 2 * work.steps * 0.6


def test_without_votes_a_step_is_planned_and_without_the_model_its_shape(folders: dict[str, Path]) -> None:
    found = plan.plan(read.read("qwen2.5-7b-qlora"))
    assert (found.work.steps, found.petaflops, found.seconds) == (None, None, None)
    assert found.work.tokens_per_step == 16 * 2 * 2048
    assert not found.tokenized
    assert found.first_row[0].startswith("You compare two assistants")
    assert found.first_row[0].endswith("the verdict is: [[")
    assert any("not on this machine" in note for note in found.notes)


@pytest.mark.parametrize("name", ["pab", "papb", "blackpearl", "plain", "rounds"])
def test_the_text_of_a_template_is_what_its_tokens_say(folders: dict[str, Path], name: str) -> None:
    chosen = recipe(
        folders["llama"], f"templates.0.name={name}", "templates.0.max_length=4096", "templates.0.chat=false"
    )
    row = pl.concat([samples.votes().filter(pl.col("prompt").list.len() == turns).head(1) for turns in (1, 2)])
    from tiebreak.render import Renderer

    renderer = Renderer(chosen.templates[0], tiny.tokenizer())
    for position in range(row.height):
        one = row[position]
        (bare,) = preview.untokenised(chosen.templates[0], chosen, one)
        (text,) = preview.rendered(renderer, chosen, one)
        for special in tiny.SPECIAL:
            text = text.replace(special, "")
        assert "".join(text.split()) == "".join(bare.split())


def test_a_siamese_plan_shows_both_answers() -> None:
    found = plan.plan(read.read("minilm-l6-cpu"), samples.votes())
    assert len(found.first_row) == 2
    assert found.tokenized
    assert found.work.sequences_per_step == 2 * 32
    assert found.work.truncated is not None


def test_rows_and_weights_of_the_sources() -> None:
    votes = samples.votes().with_columns(
        source=pl.when(pl.int_range(pl.len()) < 20).then(pl.lit("a")).otherwise(pl.lit("b"))
    )
    chosen = read.read("smollm2-135m-lora", ["data.support_weight=0.25", "data.limit=30"])
    rows, notes = sources.weighted(votes, chosen)
    assert rows.height == 30
    assert rows["weight"].to_list() == [1.0 if source == "a" else 0.25 for source in rows["source"]]
    assert notes[0] == "rows left out by data.limit: 30"
    assert rows["id"].to_list() == [name for name in votes["id"] if name in set(rows["id"])]
    same, none = sources.weighted(votes, read.read("smollm2-135m-lora"))
    assert same.equals(votes)
    assert none == []


def test_what_does_not_fit_the_model_is_said(folders: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="the linear layers of 'gpt2' are not known"):
        modelling.targets_of("gpt2")
    with pytest.raises(UsageError, match=r"lora.layers 1 to 3; expected blocks of .*, 0 to 2"):
        recipe(folders["llama"], "lora.layers=[1, 3]")


def test_the_blocks_of_a_model_are_found(folders: dict[str, Path]) -> None:
    for family in ("llama", "bert"):
        model: JudgeModel = modelling.build(recipe(folders[family]), meta=True)
        assert len(modelling.blocks(model)) == 3
        assert all(any(isinstance(m, nn.Linear) for m in block.modules()) for block in modelling.blocks(model))
