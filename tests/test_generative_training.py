"""Training of generative judges: the loss is on the verdict tokens alone, and the bundle says what was learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

import finetune_rows
import tiny
from generative_made import SHAPE, by_hand, judge
from tiebreak import bundle, comparisons, judges, predictions, row_hashes
from tiebreak.engine import pack
from tiebreak.errors import DataError, UsageError
from tiebreak.judges import Runtime
from tiebreak.judges.base import Base, Head
from tiebreak.judges.generative import GenerativeJudge, Verdicts
from tiebreak.judges.model import JudgeModel
from tiebreak.train.finetune import modelling
from tiebreak.train.finetune.recipe import Recipe
from tiebreak.train.finetune.rules import broken
from tiebreak.train.finetune.run import Outcome, finetune

FP32 = Runtime(precision="fp32", devices="cpu")
PAB = {"name": "pab", **SHAPE}
ONE_TOKEN = Verdicts(a=("A", "a"), b=("B", "b"), tie=("C",))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_language_model(tmp_path_factory.mktemp("base") / "llama")


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_language_model(tmp_path_factory.mktemp("base") / "tied", tie_word_embeddings=True)


def recipe(base: Path, **changes: Any) -> Recipe:
    fixed = {
        "judge": "generative",
        "templates": [PAB],
        "verdicts": ONE_TOKEN.model_dump(),
        "optimiser__head_lr": None,
    }
    return finetune_rows.recipe(base, **(fixed | changes))


@pytest.fixture(scope="module")
def learned(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """One training that learns."""
    folder = tmp_path_factory.mktemp("learned")
    votes = finetune_rows.votes(100, noise=0.0)
    chosen = recipe(base, epochs=4, lora__targets="all", optimiser__lr=1e-2, batches__tokens=2000)
    return finetune(chosen, votes, None, folder / "judge"), folder


def test_it_learns_to_say_the_verdict(learned: tuple[Outcome, Path], base: Path) -> None:
    outcome, folder = learned
    found = outcome.metrics["validation"]
    assert found["log_loss"] < found["prior_log_loss"] - 0.05
    loaded = judges.load(folder / "judge", FP32)
    assert isinstance(loaded, GenerativeJudge)
    assert loaded.settings.verdicts == ONE_TOKEN
    assert loaded.settings.adapter
    assert loaded.settings.base is not None
    assert row_hashes.read_trained(folder / "judge")
    names = {path.name for path in (folder / "judge").iterdir()}
    assert "adapter_model.safetensors" in names
    assert "model.safetensors" not in names


def test_the_trained_judge_is_its_model_with_the_adapter_merged(learned: tuple[Outcome, Path], base: Path) -> None:
    from peft import PeftModel

    from tiebreak.judges.base.quiet import quiet

    _, folder = learned
    loaded = judges.load(folder / "judge", FP32)
    assert isinstance(loaded, GenerativeJudge)
    with quiet():
        plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder / "judge")
        plain = plain.merge_and_unload().eval()
    sequences = loaded.renderer.render(finetune_rows.votes(3)).sequences
    expected = by_hand(plain, sequences, ONE_TOKEN, loaded.renderer.tokenizer)
    np.testing.assert_allclose(loaded.masses(sequences).log_mass, expected, atol=1e-4)
    one, other = (loaded.predict(t) for t in (finetune_rows.votes(6), comparisons.swap(finetune_rows.votes(6))))
    assert (predictions.probabilities(one) == predictions.probabilities(other)[:, [1, 0, 2]]).all()


def test_before_its_first_step_it_is_the_zero_shot_judge(base: Path) -> None:
    chosen = recipe(base)
    torch.manual_seed(0)
    network = modelling.build(chosen).eval()
    zero_shot = judge(base, verdicts=ONE_TOKEN, shape=chosen.templates[0])
    zero_shot.run_with(FP32)
    sequences = zero_shot.renderer.render(finetune_rows.votes(5)).sequences
    with torch.no_grad():
        logits = network(pack(list(sequences))).double().numpy()
    np.testing.assert_allclose(
        predictions.softmax(logits), predictions.softmax(zero_shot.masses(sequences).log_mass), atol=1e-5
    )
    assert not [name for name, p in network.named_parameters() if p.requires_grad and "lora_" not in name]


def test_the_gradient_is_that_of_the_three_masses_of_the_plain_model(tied: Path) -> None:
    network = JudgeModel.build(Base(name=str(tied)), Head(), "generative", spellings=((7, 9), (8,), (11,)))
    plain = AutoModelForCausalLM.from_pretrained(tied, attn_implementation="eager")
    rows = [np.random.default_rng(n).integers(0, 400, n) for n in (5, 30, 17)]
    labels = torch.tensor([0, 2, 1])
    functional.cross_entropy(network(pack(rows)), labels).backward()
    logits = torch.stack([plain(input_ids=torch.from_numpy(row)[None]).logits[0, -1] for row in rows])
    masses = torch.stack([logits[:, [7, 9]].logsumexp(-1), logits[:, 8], logits[:, 11]], dim=1)
    functional.cross_entropy(masses, labels).backward()
    own = dict(network.model.named_parameters())
    for name, parameter in plain.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(own[name].grad, parameter.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_soft_labels_templates_and_four_bits(base: Path, tmp_path: Path, quantize: str | None) -> None:
    chosen = recipe(
        base, quantize=quantize, precision="bf16", checkpointing=True, max_steps=1, lora__targets="all",
        templates=[PAB, {**PAB, "name": "papb"}], evaluation__every=1, batches__rows=4,
    )  # fmt: skip
    votes = finetune_rows.votes(24)
    outcome = finetune(chosen, votes, None, tmp_path / "judge")
    assert outcome.metrics["steps"] == 1
    assert bundle.read(tmp_path / "judge").settings["quantize"] == quantize
    loaded = judges.load(tmp_path / "judge", Runtime(devices="cpu"))
    assert np.isfinite(predictions.probabilities(loaded.predict(votes.head(3)))).all()


def test_whole_weights_with_tied_embeddings_come_back(tied: Path, tmp_path: Path) -> None:
    chosen = recipe(tied, lora=None, max_steps=2, optimiser__lr=1e-3, evaluation__every=1)
    finetune(chosen, finetune_rows.votes(24), None, tmp_path / "judge")
    loaded = judges.load(tmp_path / "judge", FP32)
    assert isinstance(loaded, GenerativeJudge)
    assert loaded.settings.base is None
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "judge").eval()
    sequences = loaded.renderer.render(finetune_rows.votes(3)).sequences
    expected = by_hand(plain, sequences, ONE_TOKEN, loaded.renderer.tokenizer)
    np.testing.assert_allclose(loaded.masses(sequences).log_mass, expected, atol=1e-4)
    before = by_hand(tiny.language_model("llama", tie_word_embeddings=True), sequences, ONE_TOKEN,
                     loaded.renderer.tokenizer)  # fmt: skip
    assert np.abs(before - expected).max() > 1e-3

    again = recipe(tied, lora=None, max_steps=1, optimiser__lr=1e-9, start__bundle=str(tmp_path / "judge"))
    finetune(again, finetune_rows.votes(24), None, tmp_path / "again")
    more = judges.load(tmp_path / "again", FP32)
    assert isinstance(more, GenerativeJudge)
    np.testing.assert_allclose(more.masses(sequences).log_mass, expected, atol=1e-4)


def test_it_begins_where_another_adapter_ended(learned: tuple[Outcome, Path], base: Path, tmp_path: Path) -> None:
    _, folder = learned
    chosen = recipe(base, max_steps=1, optimiser__lr=1e-9, lora__targets="all", start__bundle=str(folder / "judge"))
    finetune(chosen, finetune_rows.votes(24), None, tmp_path / "judge")
    one, other = (
        judges.load(path, FP32).predict(finetune_rows.votes(4)) for path in (folder / "judge", tmp_path / "judge")
    )
    np.testing.assert_allclose(predictions.probabilities(one), predictions.probabilities(other), atol=1e-4)


def test_spellings_of_several_tokens_cannot_be_trained(base: Path, tmp_path: Path) -> None:
    chosen = recipe(base, verdicts={"a": ["A"], "b": ["B"], "tie": ["C", " neither of them"]})
    with pytest.raises(UsageError, match="' neither of them' are several tokens") as raised:
        finetune(chosen, finetune_rows.votes(24), None, tmp_path / "judge")
    assert "one token each" in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"head__kind": "two_layer"}, ("head",)),
        ({"optimiser__head_lr": 1e-3}, ("optimiser", "head_lr")),
        ({"lora": None, "strategy": "fsdp"}, ("strategy",)),
        ({"templates": [{"name": "single"}]}, ("templates", 0)),
        ({"judge": "classifier"}, ("verdicts",)),
    ],
)
def test_a_recipe_that_does_not_go_together(base: Path, changes: dict[str, Any], path: tuple[Any, ...]) -> None:
    found = broken(recipe(base, **changes), {})
    assert path in [one.paths[0] for one in found]
    assert not broken(recipe(base), {})


def test_the_spellings_of_a_template_are_taken_where_none_are_said(base: Path) -> None:
    chosen = recipe(base, verdicts=None)
    tokenizer = tiny.tokenizer()
    assert modelling.spellings(chosen) == tuple(
        tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in "ABC"
    )


def test_folds_predict_what_they_did_not_see(base: Path, tmp_path: Path) -> None:
    votes = finetune_rows.votes(24)
    chosen = recipe(base, folds=2, max_steps=1)
    outcome = finetune(chosen, votes, None, tmp_path / "folds")
    assert isinstance(outcome, Outcome)
    table = next(iter(sorted((tmp_path / "folds").rglob("*.parquet"))), None)
    assert table is not None
    assert set(pl.read_parquet(table)["id"].to_list()) <= set(votes["id"].to_list())


def test_a_classifier_is_no_base_of_a_generative_judge(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "classifier")
    with pytest.raises(DataError, match="not in the checkpoint"):
        modelling.build(recipe(folder))
