"""Spellings of verdicts: their tree against every text enumerated, and tokens as they come after another text."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import tiny
from tiebreak.errors import UsageError
from tiebreak.judges.generative.verdicts import Tree, Verdicts, tokens_of

VOCABULARY = 4
REST = st.lists(st.integers(0, VOCABULARY - 1), max_size=2)


# The last token of the vocabulary may begin a spelling of any verdict; the first one after it tells which.
def spelling(own: int, shared: int, rest: list[int]) -> tuple[int, ...]:
    return (*[VOCABULARY - 1] * shared, own, *rest)[:3]


SPELLED = st.tuples(
    *(st.lists(st.builds(partial(spelling, own), st.integers(0, 2), REST), min_size=1, max_size=3) for own in range(3))
)


class Markov:
    """A language model over four tokens whose next token depends on the text so far, through a hash of it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.known: dict[tuple[int, ...], np.ndarray] = {}

    def next(self, text: tuple[int, ...]) -> np.ndarray:
        if text not in self.known:
            self.known[text] = np.random.default_rng([self.seed, len(text), *text]).dirichlet(np.ones(VOCABULARY))
        return self.known[text]

    def probability(self, text: tuple[int, ...]) -> float:
        return float(np.prod([self.next(text[:i])[token] for i, token in enumerate(text)]))


@given(SPELLED, st.integers(0, 50))
@settings(max_examples=50, deadline=None)
def test_the_mass_of_a_verdict_is_that_of_all_texts_that_begin_with_a_spelling_of_it(
    spelled: tuple[list[tuple[int, ...]], ...], seed: int
) -> None:
    tree = Tree.of_ids(spelled)
    model = Markov(seed)
    log_probs = [
        np.log(model.next(node))[None, list(children)] for node, children in zip(tree.nodes, tree.children, strict=True)
    ]
    by_hand = np.zeros(3)
    for text in itertools.product(range(VOCABULARY), repeat=3):
        begun = {label for label, all_of in enumerate(spelled) for one in all_of if text[: len(one)] == one}
        for label in begun:
            by_hand[label] += model.probability(text)
    np.testing.assert_allclose(np.exp(tree.fold(log_probs))[0], by_hand, atol=1e-12)
    assert by_hand.sum() <= 1 + 1e-12


@given(SPELLED)
@settings(max_examples=100, deadline=None)
def test_spellings_are_refused_exactly_where_two_verdicts_cannot_be_told_apart(
    spelled: tuple[list[tuple[int, ...]], ...],
) -> None:
    flat = [(label, one) for label, all_of in enumerate(spelled) for one in all_of]
    clash = any(
        mine != other and longer[: len(shorter)] == shorter
        for mine, shorter in flat
        for other, longer in flat
    )  # fmt: skip
    if clash:
        with pytest.raises(UsageError):
            Tree.of_ids(spelled)
    else:
        tree = Tree.of_ids(spelled)
        assert tree.single == all(
            len(one) == 1 or any(one[: len(other)] == other for _, other in flat if len(other) < len(one))
            for _, one in flat
        )


def test_a_tokenizer_of_bytes_spells_a_text_as_it_stands() -> None:
    tokenizer = tiny.tokenizer()
    tree = Tree.of(Verdicts(), tokenizer)
    assert tree.nodes[0] == ()
    spelled = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("A", "B", "C")]
    assert {ids[0] for ids in spelled} <= set(tree.tokens)


def sentencepiece() -> PreTrainedTokenizerFast:
    """In the manner of Llama 2: a space goes before every text, bytes stand for what has no piece."""
    pieces = ["<unk>", "<0x0A>", "▁", "A", "B", "▁A", "▁B", "▁tie", "tie", "t", "i", "e"]
    merges = [("▁", "A"), ("▁", "B"), ("t", "i"), ("ti", "e"), ("▁", "tie")]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, "ti"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.mark.parametrize(("text", "pieces"), [("A", ["A"]), (" A", ["▁A"]), ("tie", ["tie"]), (" tie", ["▁tie"])])
def test_a_tokenizer_that_adds_a_space_spells_what_comes_next_without_it(text: str, pieces: list[str]) -> None:
    tokenizer = sentencepiece()
    assert tokenizer.convert_ids_to_tokens(tokenizer("A")["input_ids"]) == ["▁A"]
    assert tokenizer.convert_ids_to_tokens(list(tokens_of(tokenizer, text))) == pieces


def test_an_empty_spelling_is_refused() -> None:
    with pytest.raises(UsageError, match="verdict b"):
        Tree.of(Verdicts(b=("",)), tiny.tokenizer())
