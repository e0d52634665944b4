"""Few-shot judges: which examples, where they stand, and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import finetune_rows
import tiny
from generative_made import SINGLE, by_hand, judge, short, table
from judges_made import rows
from tiebreak import comparisons, judges, predictions, row_hashes
from tiebreak.errors import BundleError, DataError, UsageError
from tiebreak.judges import Runtime
from tiebreak.judges.generative import GenerativeJudge, Verdicts, shots
from tiebreak.render import Renderer

FP32 = Runtime(precision="fp32", devices="cpu")
WIDE = short(max_length=700)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_language_model(tmp_path_factory.mktemp("base") / "llama")


@pytest.fixture(scope="module")
def votes() -> pl.DataFrame:
    return finetune_rows.votes(40)


@pytest.fixture(scope="module")
def made(base: Path, votes: pl.DataFrame) -> GenerativeJudge:
    found = judge(base, shape=WIDE, shots=shots.choose(votes, 3, seed=1), shot_length=180)
    found.run_with(FP32)
    return found


def test_examples_are_of_every_verdict_and_from_the_shorter_half(votes: pl.DataFrame) -> None:
    chosen = shots.choose(votes, 6, seed=0)
    assert sorted(shot.label for shot in chosen) == ["a", "a", "b", "b", "tie", "tie"]
    assert [shot.label for shot in chosen[:3]] == ["a", "b", "tie"]
    assert chosen == shots.choose(votes.reverse(), 6, seed=0)
    assert chosen != shots.choose(votes, 6, seed=1)
    texts = pl.sum_horizontal(pl.col(name).list.join("").str.len_bytes() for name in comparisons.TEXTS)
    lengths = votes.with_columns(n=texts)
    for shot in chosen:
        own = lengths.filter(pl.col("label") == shot.label)["n"]
        assert sum(len(text or "") for text in (*shot.prompt, *shot.response_a, *shot.response_b)) <= own.median() + 1


def test_what_cannot_give_examples(votes: pl.DataFrame) -> None:
    with pytest.raises(DataError, match="1 votes for 3 examples"):
        shots.choose(votes.head(1), 3, seed=0)
    with pytest.raises(DataError, match="votes with labels"):
        shots.choose(comparisons.validate(votes.drop("label")), 3, seed=0)
    only_a = votes.filter(pl.col("label") == "a")
    assert {shot.label for shot in shots.choose(only_a, 4, seed=0)} == {"a"}


@pytest.mark.parametrize("chat", [True, False])
def test_each_example_stands_as_it_would_be_asked_with_its_verdict(votes: pl.DataFrame, chat: bool) -> None:
    renderer = Renderer(short(chat=chat, max_length=600), tiny.tokenizer())
    chosen = shots.choose(votes, 3, seed=0)
    text = renderer.tokenizer.decode(shots.prefix(chosen, renderer, SINGLE))
    asked = renderer.text(shots.table(chosen))
    end = "<|im_end|>\n" if chat else "\n\n"
    assert text == "".join(
        f"{question}{verdict}]]{end}" for question, verdict in zip(asked, ("A", "B", "C"), strict=True)
    )


def test_only_the_first_example_begins_the_text() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "{{ bos_token }}" + tiny.CHAT_TEMPLATE
    tokenizer.bos_token = "[CLS]"  # noqa: S105
    renderer = Renderer(short(max_length=600), tokenizer)
    chosen = shots.choose(finetune_rows.votes(20), 3, seed=0)
    ids = shots.prefix(chosen, renderer, SINGLE)
    begins = tokenizer.bos_token_id
    assert ids[0] == begins
    assert (ids == begins).sum() == 1
    row = renderer.render(table()).sequences[0]
    assert row[0] == begins
    assert shots.without_beginning(row, renderer)[0] != begins


def test_the_question_is_asked_after_the_examples(made: GenerativeJudge, base: Path) -> None:
    kept = made.settings.shots
    assert kept is not None
    assert (kept.count, kept.tokens) == (3, len(made.prefix))
    rendered = made.renderer.render(table())
    assert rendered.sequences.lengths.max() <= 700 - kept.tokens
    asked = made.asked(rendered.sequences)
    for whole, row in zip(asked, rendered.sequences, strict=True):
        np.testing.assert_array_equal(whole, np.concatenate([made.prefix, row]))
        assert len(whole) <= 700
    expected = by_hand(tiny.language_model("llama", max_position_embeddings=512), asked, SINGLE, tiny.tokenizer())
    np.testing.assert_allclose(made.masses(rendered.sequences).log_mass, expected, atol=1e-4)


def test_examples_change_the_answer_and_keep_the_mirror(made: GenerativeJudge, base: Path) -> None:
    without = judge(base, shape=WIDE)
    without.run_with(FP32)
    one = predictions.probabilities(made.predict(table()))
    assert np.abs(one - predictions.probabilities(without.predict(table()))).max() > 1e-3
    other = predictions.probabilities(made.predict(comparisons.swap(table())))
    assert (one == other[:, [1, 0, 2]]).all()


def test_the_bundle_keeps_them(made: GenerativeJudge, tmp_path: Path, votes: pl.DataFrame) -> None:
    made.save(tmp_path / "judge")
    loaded = judges.load(tmp_path / "judge", FP32)
    assert loaded.predict(table()).equals(made.predict(table()))
    assert shots.read(tmp_path / "judge") == shots.choose(votes, 3, seed=1)
    # A judge has seen its examples, and says so to whoever measures it.
    seen = row_hashes.read_trained(tmp_path / "judge")
    assert seen == set(row_hashes.unordered(shots.table(shots.choose(votes, 3, seed=1))))
    shorter = judges.load(tmp_path / "judge", Runtime(precision="fp32", devices="cpu", max_length=600))
    assert isinstance(shorter, GenerativeJudge)
    asked = shorter.asked(shorter.renderer.render(rows(("q", "long " * 300, "b"))).sequences)
    assert asked.lengths.max() <= 600
    (tmp_path / "judge" / shots.FILE).write_text("[{}]")
    with pytest.raises(BundleError):
        judges.load(tmp_path / "judge")


def test_without_room_for_them_it_says_how_much_is_needed(base: Path, votes: pl.DataFrame) -> None:
    details: dict[str, Any] = {"shots": shots.choose(votes, 6, seed=0), "shot_length": 180}
    with pytest.raises(UsageError, match=r"6 examples take [\d,]+ of 220 tokens") as raised:
        judge(base, **details)
    assert "--max-length" in str(raised.value)


def test_the_first_spelling_is_the_one_that_is_shown(votes: pl.DataFrame) -> None:
    renderer = Renderer(short(chat=False, suffix="The best:", max_length=600), tiny.tokenizer())
    chosen = shots.choose(votes, 1, seed=0)
    spelled = Verdicts(a=(" first", "A"), b=(" second",), tie=(" none",))
    assert renderer.tokenizer.decode(shots.prefix(chosen, renderer, spelled)).endswith("The best: first\n\n")
