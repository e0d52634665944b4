"""What is counted in texts, against plain Python."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiebreak import comparisons
from tiebreak.errors import BundleError
from tiebreak.judges.features.pairs import ALL, Chosen, features
from tiebreak.judges.features.reasons import unplaced
from tiebreak.judges.features.texts import Measured, measure
from tiebreak.judges.features.wording import Vocabulary
from tiebreak.judges.judge import one

WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat", ".", "!", "\n", "THE"]), max_size=30)
TEXT = WORDS.map(" ".join)


def table(*rows: tuple[list[str | None], list[str | None], list[str | None]]) -> pl.DataFrame:
    prompts, first, second = zip(*rows, strict=True)
    frame = pl.DataFrame(
        {"id": [str(n) for n in range(len(rows))], "prompt": prompts, "response_a": first, "response_b": second},
        schema_overrides=dict.fromkeys(comparisons.TEXTS, comparisons.TURNS),
    )
    return comparisons.validate(frame)


def counted(answer: str) -> dict[str, float]:
    found = measure(table((["?"], [answer], [""])))
    return {name: float(column[0]) for name, column in found.a.items()}


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("# One\n## Two\n#no", "headers", 2),
        ("**a** and **b c**, * not", "bold", 2),
        ("- a\n  * b\n• c\nd - e", "bullets", 3),
        ("1. a\n 2) b\n3.c", "numbered", 2),
        ("| a | b |\n|---|---|", "tables", 2),
        ("```py\nx\n```", "fences", 2),
        ("```py\nx\n```", "code_chars", 11),
        ("before ```never closed", "code_chars", 15),
        ("`a` and `b`", "inline_code", 2),
        ("[a](https://x.y) http://z", "urls", 2),
        ("[a](b)", "links", 1),
        ("As an AI language model, I cannot", "refusals", 3),
        ("I'm sorry. Unfortunately no", "apologies", 2),
        ("\u00dcber maybe \u00e9 perhaps", "hedges", 2),
        ("You, your, yours", "second_person", 3),
        ("mYouth", "second_person", 0),
        ("Sure! Here", "ready_opening", 1),
        ("Not sure", "ready_opening", 0),
        ("text. Let me know if more is wanted.", "offer_at_end", 1),
        ("Let me know." + " filler" * 60, "offer_at_end", 0),
        ("What else? ", "question_at_end", 1),
        ("It was cut in the mid", "finished_end", 0),
        ("It ends.\n", "finished_end", 1),
        ("a\nb\nc", "lines", 2),
        ("same line\nsame line\n\n\nsame line", "repeated_lines", 2),
        ("\U0001f600 \u2728", "emoji", 2),
        ("\u4f60\u597d", "bytes", 6),
        ("\u4f60\u597d", "chars", 2),
        (" x", "space_at_start", 1),
        (" \n\t", "empty", 1),
        ("one two one two one two", "repeated_runs", 2),
        ("one two one Two", "distinct_words", 2),
        ("\u0645\u0631\u062d\u0628\u0627 \u0628\u0643", "words", 2),
        ("\u4f60\u597d\u4f60", "distinct_words", 2),
        ("\x00 NUL \x00", "words", 1),
    ],
)
def test_what_is_counted(text: str, name: str, expected: float) -> None:
    assert counted(text)[name] == expected


def test_turns_are_summed_and_the_last_is_kept_apart() -> None:
    found = measure(table((["a", "b", "c"], ["- x\n- y", None, "- z"], ["", "", ""])))
    assert found.a["bullets"].tolist() == [3]
    assert found.a["last_bullets"].tolist() == [1]
    assert found.a["empty"].tolist() == [1]
    assert found.shared["turns"].tolist() == [3]


def proper(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+|[^\w\s]|\n+", text.lower()) if len(word) > 1]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=6))
def test_overlaps_are_those_of_python_sets(rows: list[tuple[str, str, str]]) -> None:
    found = measure(table(*(([p], [a], [b]) for p, a, b in rows))).shared
    for number, texts in enumerate(rows):
        words = [proper(text) for text in texts]
        pairs = [set(pairwise(own)) for own in words]
        asked, a, b = (set(own) for own in words)
        expected = {
            "a_b_words": a & b,
            "p_a_words": asked & a,
            "p_b_words": asked & b,
            "a_b_pairs": pairs[1] & pairs[2],
            "p_a_pairs": pairs[0] & pairs[1],
            "b_pairs": pairs[2],
        }
        assert {name: found[name][number] for name in expected} == {n: len(own) for n, own in expected.items()}
        assert found["same"][number] == (texts[1] == texts[2])


@settings(deadline=None, max_examples=60)
@given(st.lists(TEXT, min_size=1, max_size=5))
def test_terms_are_counted_as_python_counts_them(texts: list[str]) -> None:
    vocabulary = Vocabulary(("the", "cat", "the cat", "cat sat", ".", "\n", ". \x03", "\x02 the", "absent"))
    found = vocabulary.count(measure(table(*((["?"], [text], [""]) for text in texts))).tokens[0])
    for row, text in enumerate(texts):
        tokens = ["\x02", *re.findall(r"\w+|[^\w\s]|\n+", text.lower()), "\x03"]
        counts = Counter(tokens) + Counter(map(" ".join, pairwise(tokens)))
        expected = {term: counts[term] for term in vocabulary.terms if counts[term]}
        there = found.rows == row
        terms = [vocabulary.terms[term] for term in found.terms[there]]
        assert dict(zip(terms, found.values[there].tolist(), strict=True)) == expected


def test_weighed_terms_have_unit_length() -> None:
    vocabulary = Vocabulary(("the", "cat"))
    tokens = measure(table((["?"], ["the cat the the"], [""]), (["?"], ["dog"], [""]))).tokens[0]
    found = vocabulary.count(tokens).weighed(np.array([1.0, 2.0]))
    expected = np.array([1 + np.log(3), 2.0])
    assert found.rows.tolist() == [0, 0]
    assert np.allclose(found.values, expected / np.linalg.norm(expected), atol=1e-15)


def measured(rows: int) -> Measured:
    return measure(table(*(([f"why {n}?"], [f"- a {n}\n" * n], [f"b {n} `c`"]) for n in range(rows))))


def test_features_change_sides_exactly() -> None:
    found = measure(table((["why?"], ["- a\n- b"], ["I cannot. \u00e9"])))
    mirrored = measure(table((["why?"], ["I cannot. \u00e9"], ["- a\n- b"])))
    given_order, other = features(found), features(mirrored)
    assert (given_order.signed == -other.signed).all()
    assert (given_order.symmetric == other.symmetric).all()
    assert (given_order.signed != 0).any()


def test_features_are_finite_and_each_has_a_place_among_the_reasons() -> None:
    found = features(measured(5))
    assert np.isfinite(found.signed).all()
    assert np.isfinite(found.symmetric).all()
    assert unplaced(ALL) == []


def test_chosen_features_keep_their_order() -> None:
    every, some = features(measured(3)), features(measured(3), Chosen(("words", "chars"), ("turns",)))
    assert some.signed.shape == (3, 2)
    assert (some.signed[:, 0] == every.signed[:, ALL.signed.index("words")]).all()
    assert (some.symmetric[:, 0] == every.symmetric[:, ALL.symmetric.index("turns")]).all()


def test_an_unknown_feature_is_refused_by_name() -> None:
    with pytest.raises(BundleError, match="charm"):
        Chosen(("words", "charm"), ())


def test_one_text_of_a_megabyte() -> None:
    found = measure(one("?", "word " * 200_000, "```" * 300_000))
    assert found.a["words"].tolist() == [200_000]
    assert found.b["fences"].tolist() == [300_000]
