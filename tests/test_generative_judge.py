"""Generative judges: exact against plain transformers, indifferent to batches and order, mirrored bit by bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

import tiny
from generative_made import HOSTILE, SEVERAL, SINGLE, by_hand, judge, short, table
from judges_made import rows
from tiebreak import bundle, comparisons, judges, predictions
from tiebreak.engine import Options
from tiebreak.errors import BundleError, DataError, UsageError
from tiebreak.judges import Runtime
from tiebreak.judges.base import Base
from tiebreak.judges.base.quiet import quiet
from tiebreak.judges.generative import GenerativeJudge, Verdicts, making
from tiebreak.judges.generative.head import TokenHead, VerdictHead, asking, deciding
from tiebreak.judges.generative.local import LocalBackend
from tiebreak.judges.generative.verdicts import Tree
from tiebreak.render import template

FP32 = Runtime(precision="fp32", devices="cpu")
OTHERS = {"cohere": {"logit_scale": 0.3, "num_key_value_heads": 2}, "granite": {"logits_scaling": 4.0}}
"""Families that no list names: they prove themselves; the logits of both have a factor."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_language_model(tmp_path_factory.mktemp("base") / "llama")


@pytest.fixture(scope="module")
def made(base: Path) -> GenerativeJudge:
    found = judge(base)
    found.run_with(FP32)
    return found


@pytest.mark.parametrize("family", [*tiny.DECODERS, *OTHERS])
def test_masses_are_those_of_plain_transformers(family: str, tmp_path: Path) -> None:
    plain = tiny.language_model(family, **OTHERS.get(family, {}))
    folder = tmp_path / "base"
    plain.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    found = judge(folder)
    found.run_with(FP32)
    sequences, tokenizer = found.renderer.render(table()[[0, 3, 5]]).sequences, found.renderer.tokenizer
    for verdicts in (SINGLE, SEVERAL)[: 2 if family in {"llama", "gemma2"} else 1]:
        tree = Tree.of(verdicts, tokenizer)
        assert tree.single == (verdicts is SINGLE)
        masses = found.backend.masses(sequences, tree)
        expected = by_hand(plain, sequences, verdicts, tokenizer)
        np.testing.assert_allclose(np.exp(masses.log_mass), np.exp(expected), atol=1e-5)
        np.testing.assert_allclose(masses.log_mass, expected, atol=1e-4)
        np.testing.assert_allclose(masses.coverage, np.exp(expected).sum(axis=1), atol=1e-5)
        assert not masses.unseen.any()


def test_gemma_2_caps_its_logits() -> None:
    capped = tiny.language_model("gemma2", final_logit_softcapping=1.0)
    free = tiny.language_model("gemma2", final_logit_softcapping=None)
    states = torch.randn(3, 64, generator=torch.Generator().manual_seed(0)) * 5
    one, other = (asking(model, (7, 8)).head(states) for model in (capped, free))
    assert (one - other).abs().max() > 0.1
    logits = torch.tanh(states @ free.lm_head.weight.T)
    torch.testing.assert_close(one, logits.log_softmax(-1)[:, [7, 8]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_softmax_goes_over_the_vocabulary_in_blocks(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = torch.nn.Linear(16, 70).to(dtype)
    states = torch.randn(5, 16, dtype=dtype)
    found = []
    from tiebreak.judges.generative import head

    for block in (1000, 7):
        monkeypatch.setattr(head, "BLOCK", block)
        found.append(TokenHead(layer, head.Shape(2.0, 3.0), (3, 69, 3))(states))
    exact = 3 * torch.tanh((states.double() @ layer.weight.double().T + layer.bias.double()) * 2 / 3)
    for one in found:
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), exact.log_softmax(-1)[:, [3, 69, 3]], atol=2e-6, rtol=1e-6)


def test_a_head_that_is_no_plain_matrix_is_called() -> None:
    class Doubled(torch.nn.Linear):
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(states)

    layer, states = Doubled(8, 20), torch.randn(4, 8)
    from tiebreak.judges.generative.head import Shape

    torch.testing.assert_close(
        TokenHead(layer, Shape(), (1, 2))(states), layer(states).log_softmax(-1)[:, [1, 2]], atol=1e-6, rtol=1e-6
    )
    three = VerdictHead(layer, Shape(), ((1, 2), (3,), (4,)))(states)
    torch.testing.assert_close(three[:, 0], layer(states)[:, [1, 2]].logsumexp(-1))


def test_mixed_precision_does_not_reach_the_logits() -> None:
    layer, states = torch.nn.Linear(64, 90), 20 * torch.randn(4, 64)
    from tiebreak.judges.generative.head import Shape

    for head in (TokenHead(layer, Shape(), (1, 2)), VerdictHead(layer, Shape(), ((1, 2), (3,), (4,)))):
        expected = head(states)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(head(states), expected)


def test_what_is_trained_is_what_is_asked_up_to_a_constant_of_the_row(base: Path, made: GenerativeJudge) -> None:
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    spellings = [[made.renderer.tokenizer(t, add_special_tokens=False)["input_ids"][0] for t in own]
                 for own in (SINGLE.a, SINGLE.b, SINGLE.tie)]  # fmt: skip
    sequences = made.renderer.render(table()).sequences
    from tiebreak.engine import pack

    with torch.no_grad():
        logits = deciding(model, spellings)(pack(list(sequences))).double().numpy()
    np.testing.assert_allclose(
        predictions.softmax(logits), predictions.softmax(made.masses(sequences).log_mass), atol=1e-5
    )


@pytest.mark.parametrize("verdicts", [SINGLE, SEVERAL])
def test_neither_batches_nor_order_nor_neighbours_matter(base: Path, verdicts: Verdicts) -> None:
    many = pl.concat([table()] * 2).with_columns(id=pl.Series([str(i) for i in range(12)]))
    given = judge(base, verdicts=verdicts)
    given.run_with(FP32)
    whole = predictions.probabilities(given.predict(many))
    shuffled = np.random.default_rng(0).permutation(12)
    for tokens, order in ((200, np.arange(12)), (5000, shuffled)):
        given.run_with(Runtime(precision="fp32", devices="cpu", max_tokens=tokens))
        np.testing.assert_allclose(predictions.probabilities(given.predict(many[order])), whole[order], atol=1e-6)
    alone = np.concatenate([predictions.probabilities(given.predict(many[[i]])) for i in (0, 3, 4)])
    np.testing.assert_allclose(alone, whole[[0, 3, 4]], atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("verdicts", [SINGLE, SEVERAL])
def test_exchanged_answers_exchange_the_probabilities_bit_by_bit(
    base: Path, precision: str, verdicts: Verdicts
) -> None:
    given = judge(base, verdicts=verdicts)
    given.run_with(Runtime(precision=precision, devices="cpu"))
    one, other = given.predict(table()), given.predict(comparisons.swap(table()))
    p, q = predictions.probabilities(one), predictions.probabilities(other)
    assert (p == q[:, [1, 0, 2]]).all()
    assert (p[:, 0] != p[:, 1]).any()
    equal = predictions.probabilities(one)[1]
    assert equal[0] == equal[1]


def test_both_orders_are_averaged(base: Path) -> None:
    both, once = judge(base), judge(base, swap="none")
    for one in (both, once):
        one.run_with(FP32)
    given = predictions.probabilities(once.predict(table()))
    back = predictions.probabilities(once.predict(comparisons.swap(table())))[:, [1, 0, 2]]
    np.testing.assert_allclose(predictions.probabilities(both.predict(table())), (given + back) / 2, atol=1e-6)
    assert not once.manifest.swap_equivariant
    sides = (one.sequences for one in both.renderer.render_both(table()))
    alike = sum(np.array_equal(one, other) for one, other in zip(*sides, strict=True))
    assert alike  # two equal answers are asked about once
    assert both.report["sequences"] == 2 * table().height - alike


def test_it_says_how_much_of_the_model_its_verdicts_are(base: Path, made: GenerativeJudge) -> None:
    made.predict(table())
    sequences = made.renderer.render(table()).sequences
    assert 0 < made.report["coverage"]["least"] <= made.report["coverage"]["mean"] < 1
    # Every token of the vocabulary as a spelling: nothing is left over.
    engine_tokens = [(token,) for token in range(400)]
    whole = made.backend.masses(sequences, Tree.of_ids([engine_tokens[:1], engine_tokens[1:2], engine_tokens[2:]]))
    np.testing.assert_allclose(whole.coverage, 1, atol=1e-5)
    counts = by_hand(tiny.language_model("llama"), sequences, SINGLE, made.renderer.tokenizer)
    np.testing.assert_allclose(made.masses(sequences).coverage, np.exp(counts).sum(axis=1), atol=1e-5)


def test_verdicts_that_the_model_will_not_say_are_a_warning(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiebreak.judges.generative import judge as module

    given = judge(base)
    given.run_with(FP32)
    given.predict(table())
    mean = given.report["coverage"]["mean"]
    for least, warned in ((mean * 0.99, False), (mean * 1.01, True)):
        monkeypatch.setattr(module, "LEAST_COVERAGE", least)
        given.predict(table())
        assert ("warnings" in given.report) == warned
    assert "write something else" in given.report["warnings"][0]
    assert f"{100 * mean:.2g} %" in given.report["warnings"][0]


def test_a_bundle_comes_back_as_it_was(made: GenerativeJudge, tmp_path: Path) -> None:
    made.save(tmp_path / "judge")
    loaded = judges.load(tmp_path / "judge", FP32)
    assert isinstance(loaded, GenerativeJudge)
    assert loaded.settings == made.settings
    assert loaded.predict(table()).equals(made.predict(table()))
    document = json.loads((tmp_path / "judge" / bundle.MANIFEST).read_text())
    assert document["kind"] == "generative"
    assert document["settings"]["verdicts"] == {"a": ["A", "x"], "b": ["B", "y"], "tie": ["C"]}
    made.save(tmp_path / "again")
    loaded.save(tmp_path / "third")
    assert (tmp_path / "again" / bundle.MANIFEST).read_bytes() == (tmp_path / "third" / bundle.MANIFEST).read_bytes()


def test_a_copy_needs_nothing_else(tmp_path: Path) -> None:
    folder = tiny.save_language_model(tmp_path / "base")
    referred, copied = judge(folder), judge(folder, self_contained=True)
    referred.run_with(FP32)
    expected = referred.predict(table())
    copied.save(tmp_path / "judge")
    shutil.rmtree(folder)
    assert judges.load(tmp_path / "judge", FP32).predict(table()).equals(expected)


@pytest.mark.parametrize("named", ["beside", "alone"])
def test_an_adapter_of_a_language_model(base: Path, tmp_path: Path, named: str) -> None:
    with quiet():
        adapted: Any = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
        )
        torch.manual_seed(5)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.3)
        adapted.save_pretrained(tmp_path / "adapter")
        plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter")
        plain = plain.merge_and_unload().eval()
    if named == "beside":
        given = judge(base, adapter=tmp_path / "adapter")
    else:
        given = making.make(Base(name=str(tmp_path / "adapter")), template=short(), verdicts=SINGLE)
    assert given.settings.adapter
    given.save(tmp_path / "judge")
    loaded = judges.load(tmp_path / "judge", FP32)
    assert isinstance(loaded, GenerativeJudge)
    sequences = loaded.renderer.render(table()).sequences
    expected = by_hand(plain, sequences, SINGLE, loaded.renderer.tokenizer)
    np.testing.assert_allclose(loaded.masses(sequences).log_mass, expected, atol=1e-4)
    without = by_hand(tiny.language_model("llama"), sequences, SINGLE, loaded.renderer.tokenizer)
    assert np.abs(expected - without).max() > 0.05


def test_layers_over_two_devices_with_tied_embeddings(tmp_path: Path) -> None:
    tied = tiny.save_language_model(tmp_path / "tied", tie_word_embeddings=True)
    given = judge(tied)
    given.run_with(FP32)
    expected = given.predict(table())
    given.run_with(Runtime(precision="fp32", devices="cpu,cpu"))
    np.testing.assert_allclose(
        predictions.probabilities(given.predict(table())), predictions.probabilities(expected), atol=1e-6
    )
    assert given.report["stages"] is not None


def test_texts_cannot_speak_for_the_template(made: GenerativeJudge) -> None:
    table_of = rows(("q", "a", "b"), ("q", HOSTILE, "b"))
    specials = set(made.renderer.tokenizer.all_special_ids)
    one, other = ([t for t in ids if t in specials] for ids in made.renderer.render(table_of).sequences)
    assert one == other


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"verdicts": Verdicts(a=("A",), b=("A",), tie=("C",))}, UsageError, "spelling of a"),
        ({"shape": template("single")}, UsageError, "template single"),
        ({"swap": "sometimes"}, UsageError, "swap policy"),
        ({"adapter": Path("nowhere")}, UsageError, "nowhere"),
    ],
)
def test_what_cannot_be_a_judge_is_refused(base: Path, change: dict[str, Any], error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        judge(base, **change)


def test_other_models_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="but that of a classifier") as raised:
        judge(tiny.save(tmp_path / "classifier"))
    assert "tiebreak wrap" in str(raised.value)
    with pytest.raises(UsageError, match=r"both directions|cannot be packed"):
        judge(tiny.save(tmp_path / "encoder", "bert"))
    with pytest.raises((UsageError, DataError), match="nowhere"):
        making.make(Base(name="package:nowhere"), template=short())


def test_choices_that_do_not_go_together(base: Path) -> None:
    given = judge(base)
    with pytest.raises(UsageError, match="has no server"):
        given.run_with(Runtime(server="http://127.0.0.1:1/v1"))
    settings = given.settings.model_copy(update={"base": None})
    served = GenerativeJudge(given.manifest.model_copy(update={"settings": settings.document()}), Path("/nowhere"))
    with pytest.raises(UsageError, match="has no weights"):
        served.run_with(Runtime(backend="transformers"))
    with pytest.raises(UsageError, match="backend 'vlm'"):
        Runtime(backend="vlm")


def test_a_bundle_with_unknown_spellings_is_refused(made: GenerativeJudge, tmp_path: Path) -> None:
    made.save(tmp_path / "judge")
    path = tmp_path / "judge" / bundle.MANIFEST
    document = json.loads(path.read_text())
    document["settings"]["verdicts"] = {"a": ["A"], "b": ["B"], "draw": ["C"]}
    path.write_text(json.dumps(document))
    with pytest.raises(BundleError, match=r"settings\.verdicts"):
        judges.load(tmp_path / "judge")


def test_the_backend_takes_a_model_of_ones_own(base: Path, made: GenerativeJudge) -> None:
    backend = LocalBackend(AutoModelForCausalLM.from_pretrained(base), Options(precision="fp32", devices="cpu"))
    sequences = made.renderer.render(table().head(2)).sequences
    for verdicts in (SINGLE, SEVERAL, SINGLE):  # the tokens asked for may change from call to call
        tree = Tree.of(verdicts, made.renderer.tokenizer)
        expected = by_hand(tiny.language_model("llama"), sequences, verdicts, made.renderer.tokenizer)
        np.testing.assert_allclose(backend.masses(sequences, tree).log_mass, expected, atol=1e-4)
    assert backend.report["precision"] == "fp32"


def test_the_two_orders_share_their_prompt(base: Path) -> None:
    given = judge(base, shape=short(max_length=400))
    given.run_with(FP32)
    given.predict(rows(("a long question, " * 10, "yes", "no")))
    assert given.report["tokens_shared"] > 50


def test_a_base_in_four_bits_stays_near(base: Path) -> None:
    whole, small = judge(base), judge(base, quantize="nf4")
    whole.run_with(FP32)
    small.run_with(FP32)
    one, other = (predictions.probabilities(each.predict(table())) for each in (whole, small))
    assert 0 < np.abs(one - other).max() < 0.3
    assert small.report["precision"] == "as loaded"
