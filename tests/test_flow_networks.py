"""Sizes of networks from their configuration, against the ones that torch finds on the meta device."""

from __future__ import annotations

import pytest

from tiebreak.budget import networks
from tiebreak.train.finetune import modelling, plan, read, shapes

RECIPES = ["minilm-l6-cpu", "smollm2-135m-lora", "deberta-v3-xsmall-512", "gemma2-9b-qlora-1x16gb", "qwen2.5-7b-qlora"]
CHANGES = {
    "minilm-l6-cpu": [[], ["head.kind=two_layer"]],
    "smollm2-135m-lora": [[], ["lora=null", "freeze=4"], ["lora.layers=[3,9]", "lora.targets=[q_proj,down_proj]"]],
    "deberta-v3-xsmall-512": [[], ["lora={r: 4}", "checkpointing=true"]],
}


@pytest.mark.parametrize("name", RECIPES)
def test_counts_and_arithmetic_are_those_of_the_network_itself(name: str) -> None:
    for changes in CHANGES.get(name, [[]]):
        recipe = read.read(name, changes)
        # Shapes as they ship: what a machine without the model plans with.
        recipe = recipe.model_copy(update={"base": recipe.base.model_copy(update={"name": "not/here"})})
        found = networks.size(shapes.settings(recipe.base) or {}, recipe)
        assert found is not None
        model = modelling.build(recipe, meta=True)
        counted = plan.count(model)
        assert (found.parameters, found.trainable) == (counted.total, counted.trainable), changes
        assert found.training == plan._flops_per_token(model, recipe), changes
