"""The siamese judge: each answer read once, exact mirrors in one pass, scores that rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional
from transformers import AutoModel

import tiny
from judges_made import real_rows, rows, siamese
from tiebreak import comparisons, judges, predictions
from tiebreak.errors import UsageError
from tiebreak.judges import Runtime
from tiebreak.judges.base import Head
from tiebreak.judges.siamese import SiameseJudge
from tiebreak.render import Renderer

FP32 = Runtime(precision="fp32", devices="cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SiameseJudge:
    judge = siamese(tmp_path_factory.mktemp("siamese") / "base")
    judge.run_with(FP32)
    return judge


def mirrored(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    p, q = predictions.probabilities(one), predictions.probabilities(other)
    return bool((p == q[:, [1, 0, 2]]).all())


@pytest.mark.parametrize(
    ("family", "precision"),
    [("llama", "bf16"), ("gemma2", "fp32"), ("deberta-v2", "bf16"), ("bert", "fp32"), ("modernbert", "bf16")],
)
def test_real_rows_and_their_twins_mirror_bit_by_bit(tmp_path: Path, family: str, precision: str) -> None:
    table = real_rows(12)
    judge = siamese(tmp_path / "base", family)
    judge.run_with(Runtime(precision=precision, devices="cpu"))
    given = judge.predict(table)
    assert mirrored(given, judge.predict(comparisons.swap(table)))
    assert (given["swap_gap"] == 0).all()
    assert judge.manifest.swap_equivariant
    assert given["p_a"].n_unique() > 6, "a judge that says the same of all is mirrored too"


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_saved_and_loaded_it_says_the_same(tmp_path: Path, family: str) -> None:
    table = rows(("q", "one", "two"), (["q", "r"], ["x", None], ["", "y"]))
    judge = siamese(tmp_path / "base", family)
    judge.save(tmp_path / "judge")
    judge.run_with(FP32)
    assert judges.load(tmp_path / "judge", FP32).predict(table).equals(judge.predict(table))


def test_an_independent_computation_says_the_same(made: SiameseJudge, tmp_path: Path) -> None:
    """The merged backbone in transformers' own padded forward, mean over the tokens, and the head in plain algebra."""
    table = rows(("q", "one", "two"), ("why?", "because of this", ""), ("long", "words " * 300, "no"))
    made.network.base_model.bert.save_pretrained(tmp_path)
    encoder = AutoModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    renderer = Renderer(made.settings.template, tiny.tokenizer())
    weights = {name: tensor.float() for name, tensor in made.network.pair_head.state_dict().items()}

    def projected(answers: pl.Series) -> torch.Tensor:
        states = []
        for ids in renderer.render_answers(table["prompt"].to_list(), answers.to_list()).sequences:
            with torch.inference_mode():
                hidden = encoder(torch.from_numpy(ids.astype(np.int64))[None]).last_hidden_state[0]
            states.append(hidden.mean(0))
        return functional.gelu(torch.stack(states) @ weights["project.1.weight"].T + weights["project.1.bias"])

    a, b = projected(table["response_a"]), projected(table["response_b"])
    half = ((a - b) @ weights["worth.weight"][0]) / 2
    tie = torch.cat([a * b, (a - b).abs(), a + b], 1) @ weights["tie.weight"][0] + weights["tie.bias"][0]
    expected = torch.stack([half, -half, tie], 1).softmax(1)
    np.testing.assert_allclose(made.score(table).probabilities, expected, atol=1e-5)


def test_each_answer_is_read_once(made: SiameseJudge) -> None:
    """Every pair among five answers to one prompt, both ways round, is twenty rows and five readings."""
    answers = [f"answer {i} {'x' * i}" for i in range(5)]
    table = rows(*[("q", a, b) for a in answers for b in answers if a != b])
    given = made.predict(table)
    assert made.report["rows"] == 20
    assert made.report["sequences"] == 5
    alone = pl.concat([made.predict(table.slice(i, 1)) for i in range(20)])
    np.testing.assert_allclose(predictions.probabilities(given), predictions.probabilities(alone), atol=1e-5)
    other_prompt = rows(("q", "same", "x"), ("r", "same", "x"))
    made.predict(other_prompt)
    assert made.report["sequences"] == 4, "an answer to another prompt is another answer"


def test_a_null_and_an_empty_answer_are_two_answers(made: SiameseJudge) -> None:
    made.predict(rows(([None], [None], [""]), ([""], [None], [""])))
    assert made.report["sequences"] == 4


def test_scores_rank_as_the_comparisons_do(made: SiameseJudge) -> None:
    answers = ["first", "second answer", "a third one", ""]
    scores = made.score_answers(["q"] * 4, answers)
    for i, one in enumerate(answers):
        for j, other in enumerate(answers):
            p = made.score(rows(("q", one, other))).probabilities[0]
            np.testing.assert_allclose(np.log(p[0] / p[1]), scores[i] - scores[j], atol=1e-4)
    turns: Any = [["one", "two"]]
    assert made.score_answers(turns, [["a", None]]).shape == (1,)
    assert made.embed(turns, [["a", None]]).shape == (1, 64)
    assert made.score_answers([], []).shape == (0,)
    with pytest.raises(UsageError, match="differ in number or in turns"):
        made.score_answers(["q"], [["a", "b"]])


def test_the_ledger_is_that_of_both_readings(made: SiameseJudge) -> None:
    table = rows(("q " * 30, "short", "long " * 300), ("q", "a", "b"))
    given = made.predict(table)
    rendered = made.renderer.render_answers([["q " * 30]] * 2, [["short"], ["long " * 300]])
    row = given.row(0, named=True)
    assert row["kept_prompt"] == rendered.ledger["kept_prompt"].min()
    assert (row["kept_a"], row["kept_b"]) == tuple(rendered.ledger["kept_answer"])
    assert (row["tokens_a"], row["tokens_b"]) == tuple(rendered.ledger["tokens_answer"])
    assert given["truncated"].to_list() == [True, False]


def test_two_equal_answers_are_a_draw(made: SiameseJudge) -> None:
    row = made.compare("Which?", "the same", "the same")
    assert row.p_a == row.p_b


def test_no_rows(made: SiameseJudge) -> None:
    assert made.predict(rows(("q", "a", "b")).head(0)).height == 0


def test_there_is_no_order_to_choose(made: SiameseJudge) -> None:
    with pytest.raises(UsageError, match="has no order"):
        made.run_with(Runtime(swap="none"))


def test_a_template_of_pairs_is_not_for_a_siamese_judge(tmp_path: Path) -> None:
    from judges_made import network
    from tiebreak.judges.base import Base
    from tiebreak.render import template

    model = network(tmp_path / "base", "bert", "siamese")
    with pytest.raises(UsageError, match="reads one answer"):
        SiameseJudge.make(
            name="x", model=model, tokenizer=tiny.tokenizer(), base=Base(name=str(tmp_path / "base")), head=Head(),
            template=template("plain", max_length=300, chat=False),
        )  # fmt: skip
