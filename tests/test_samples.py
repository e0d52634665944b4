"""The shipped sample votes: whole, varied, and what their README says of them."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from itertools import combinations

import polars as pl
import pytest

from tiebreak import samples
from tiebreak.comparisons import SCHEMA, TEXTS, validate

SCRIPTS = {
    "Arabic": r"[\u0600-\u06ff]{3}",
    "Chinese": r"的好处",
    "Cyrillic": r"[\u0400-\u04ff]{3}",
    "Devanagari": r"[\u0900-\u097f]{3}",
    "Hangul": r"[\uac00-\ud7af]{2}",
    "Kana": r"[\u3040-\u30ff]{3}",
    "French": r"\bpropriétaire\b",
    "German": r"\bübersetze ich\b",
    "Portuguese": r"\bfim de três anos\b",
    "Spanish": r"\bCómo hago\b",
    "Turkish": r"\bçeviriyi yaz\b",
}


@pytest.fixture(scope="module")
def votes() -> pl.DataFrame:
    return samples.votes()


def words(turns: list[str | None]) -> int:
    return sum(len((turn or "").split()) for turn in turns)


def characters(turns: list[str | None]) -> int:
    return sum(len(turn or "") for turn in turns)


def text_of(row: dict[str, list[str | None]], *columns: str) -> str:
    return "\n".join(turn or "" for column in columns for turn in row[column])


def test_table_is_valid_and_complete(votes: pl.DataFrame) -> None:
    assert votes.schema == pl.Schema(SCHEMA)
    assert votes.equals(validate(votes))
    assert votes.height == 60
    given = ["id", "prompt", "response_a", "response_b", "model_a", "model_b", "label", "group", "source"]
    assert votes.select(given).null_count().sum_horizontal().item() == 0
    assert votes["source"].unique().to_list() == ["tiebreak-samples"]


def test_ids_are_unique_and_in_order(votes: pl.DataFrame) -> None:
    assert votes["id"].to_list() == [f"sample-{row:03d}" for row in range(1, votes.height + 1)]


def test_lines_hold_schema_keys_and_no_others(votes: pl.DataFrame) -> None:
    lines = [json.loads(line) for line in samples.PATH.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == votes.height
    assert all(set(line) <= set(SCHEMA) for line in lines)
    for line, row in zip(lines, votes.iter_rows(named=True), strict=True):
        assert {key: row[key] for key in line} == line


def test_classes_are_balanced(votes: pl.DataFrame) -> None:
    counts = dict(votes.group_by("label").len().iter_rows())
    assert counts == {"a": 22, "b": 22, "tie": 16}


def test_longer_answer_wins_more_often_but_not_nearly_always(votes: pl.DataFrame) -> None:
    decided = votes.filter(pl.col("label") != "tie")
    longer = [
        (characters(row["response_a"]) > characters(row["response_b"])) == (row["label"] == "a")
        for row in decided.iter_rows(named=True)
    ]
    assert (sum(longer), len(longer)) == (26, 44)


@pytest.mark.parametrize("script", SCRIPTS)
def test_languages(votes: pl.DataFrame, script: str) -> None:
    assert any(re.search(SCRIPTS[script], text_of(row, "prompt")) for row in votes.iter_rows(named=True))


def test_turns_from_one_to_four(votes: pl.DataFrame) -> None:
    turns = votes["prompt"].list.len()
    assert (turns > 1).sum() >= 10
    assert set(turns.to_list()) == {1, 2, 3, 4}


def test_lengths_from_one_word_to_hundreds(votes: pl.DataFrame) -> None:
    sizes = [(words(row["response_a"]), words(row["response_b"])) for row in votes.iter_rows(named=True)]
    assert sum(max(pair) > 120 for pair in sizes) >= 12
    assert max(max(pair) for pair in sizes) >= 300
    assert any(1 in pair for pair in sizes)


@pytest.mark.parametrize(
    "pattern",
    [
        r"```python\n",
        r"```sql\n",
        r"```js\n",
        r"```bash\n",
        r"```rust\n",
        r"(?m)^\|[-|]+\|$",
        r"(?m)^1\. ",
        r"(?m)^- ",
        r"\$\$",
        r"<script>",
        r"\[\[A\]\]",
        r"(?m)^=[A-Z]+\(",
        "[\U0001f300-\U0001faff]",
        r"I can't help with",
    ],
)
def test_kinds_of_text(votes: pl.DataFrame, pattern: str) -> None:
    assert any(re.search(pattern, text_of(row, "response_a", "response_b")) for row in votes.iter_rows(named=True))


def test_a_prompt_looks_like_a_formula(votes: pl.DataFrame) -> None:
    assert any(row["prompt"][0].startswith("=") for row in votes.iter_rows(named=True))


def test_missing_answer_loses_and_same_answer_ties(votes: pl.DataFrame) -> None:
    missing = votes.filter(pl.col("response_a").list.eval(pl.element().is_null()).list.any())
    assert missing["label"].to_list() == ["b"]
    same = votes.filter(pl.col("response_a") == pl.col("response_b"))
    assert same["label"].to_list() == ["tie"]


def test_same_group_exactly_where_the_prompt_is_the_same_question(votes: pl.DataFrame) -> None:
    shared = votes.filter(pl.col("group").is_duplicated())
    assert shared["group"].to_list() == ["notebook-and-pen"] * 2
    assert votes["prompt"].list.first().str.slice(0, 60).is_duplicated().sum() == 2


def test_each_pair_of_models_meets_four_times_and_strength_is_ordered(votes: pl.DataFrame) -> None:
    points: dict[str, float] = defaultdict(float)
    meetings: dict[frozenset[str], int] = defaultdict(int)
    for row in votes.iter_rows(named=True):
        won = {"a": 1.0, "b": 0.0, "tie": 0.5}[row["label"]]
        points[row["model_a"]] += won
        points[row["model_b"]] += 1 - won
        meetings[frozenset((row["model_a"], row["model_b"]))] += 1
    ranking = sorted(points, key=points.__getitem__, reverse=True)
    assert ranking == ["quartz-large", "heron-70b", "tamarack-34b", "lark-mini", "pebble-8b", "moth-1b"]
    assert meetings == {frozenset(pair): 4 for pair in combinations(ranking, 2)}


def test_texts_are_clean(votes: pl.DataFrame) -> None:
    for row in votes.iter_rows(named=True):
        for turn in (turn for column in TEXTS for turn in row[column] if turn is not None):
            assert turn == turn.strip("\n ")
            assert turn
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\ufffd]| \n|\n{4}", turn), row["id"]
            assert turn.count("```") % 2 == 0, row["id"]
