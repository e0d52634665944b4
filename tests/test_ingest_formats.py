"""Each format, by exact values: what a record of it becomes in the table."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiebreak as tb
from tiebreak import comparisons, ingest
from tiebreak.errors import BadRowsError, DataError, UsageError

WINNERS = ("winner_model_a", "winner_model_b", "winner_tie")


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def write_csv(path: Path, records: list[dict[str, Any]], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(records[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(records)
    return path


def load(path: Path, **options: Any) -> tuple[list[dict[str, Any]], ingest.Report]:
    report = ingest.Report()
    tables = list(ingest.stream(path, ingest.Options(**options), report=report))
    return [row for table in tables for row in table.iter_rows(named=True)], report


def kaggle(identifier: Any = 7, winner: int | None = 0, **changes: Any) -> dict[str, Any]:
    record = {
        "id": identifier, "model_a": "m1", "model_b": "m2",
        "prompt": '["one", "two"]', "response_a": '["a1", null]', "response_b": '["b1", "b2"]',
    }  # fmt: skip
    if winner is not None:
        record |= {name: int(index == winner) for index, name in enumerate(WINNERS)}
    return record | changes


def messages(*texts: Any, roles: tuple[str, ...] = ("user", "assistant")) -> list[dict[str, Any]]:
    return [{"role": roles[i % len(roles)], "content": text} for i, text in enumerate(texts)]


# Kaggle LMSYS


def test_kaggle_train_rows(tmp_path: Path) -> None:
    rows, report = load(write_csv(tmp_path / "train.csv", [kaggle(winner=w) for w in (0, 1, 2)]))
    assert report.formats == ["kaggle"]
    assert [row["label"] for row in rows] == ["a", "b", "tie"]
    assert rows[0] == dict.fromkeys(comparisons.SCHEMA) | {
        "id": "7", "prompt": ["one", "two"], "response_a": ["a1", None], "response_b": ["b1", "b2"],
        "model_a": "m1", "model_b": "m2", "label": "a", "source": "train",
    }  # fmt: skip
    assert report.notes == {"null turns kept": 3}
    assert report.labels == {"a": 1, "b": 1, "tie": 1, "unlabelled": 0}


def test_kaggle_test_file_has_no_labels(tmp_path: Path) -> None:
    rows, report = load(write_csv(tmp_path / "t.csv", [kaggle(winner=None)]))
    assert report.formats == ["kaggle"]
    assert rows[0]["label"] is None
    assert report.labels["unlabelled"] == 1


@pytest.mark.parametrize("winners", [(1, 1, 0), (0, 0, 0), (0.5, 0.5, 0), (2, 0, 0), ("x", 0, 0), (1, "", 1)])
def test_kaggle_needs_exactly_one_winner(tmp_path: Path, winners: tuple[Any, ...]) -> None:
    path = write_csv(tmp_path / "t.csv", [kaggle(), kaggle() | dict(zip(WINNERS, winners, strict=True))])
    with pytest.raises(BadRowsError) as caught:
        tb.read(path)
    assert [(row, "winner" in reason) for _, row, reason in caught.value.rows] == [(2, True)]


@pytest.mark.parametrize("cell", ['["unclosed', "[1, 2]", '{"a": 1}', "plain", "[" * 100_000, ""])
def test_a_cell_that_is_no_json_list_is_a_bad_row_among_lists(tmp_path: Path, cell: str) -> None:
    path = write_csv(tmp_path / "t.csv", [kaggle(), kaggle(), kaggle(response_b=cell)])
    with pytest.raises(BadRowsError, match="row 3: response_b is not a list of texts"):
        tb.read(path)


def test_cells_of_python_are_refused_and_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    cell = f"[__import__('pathlib').Path({str(mark)!r}).touch()]"
    path = write_csv(tmp_path / "t.csv", [kaggle(), kaggle(), kaggle(prompt=cell)])
    with pytest.raises(BadRowsError):
        tb.read(path)
    assert not mark.exists()


def test_a_kaggle_file_of_plain_texts_is_one_turn_each_and_says_so(tmp_path: Path) -> None:
    texts = {"prompt": "p", "response_a": "[not json", "response_b": ""}
    rows, report = load(write_csv(tmp_path / "t.csv", [kaggle(**texts)]))
    assert (rows[0]["prompt"], rows[0]["response_a"], rows[0]["response_b"]) == (["p"], ["[not json"], [""])
    assert report.notes == {"plain text taken as one turn": 1}


def test_unequal_turns_are_padded_never_cut(tmp_path: Path) -> None:
    rows, report = load(write_csv(tmp_path / "t.csv", [kaggle(prompt='["one"]', response_a="[]")]))
    assert rows[0]["prompt"] == ["one", None]
    assert rows[0]["response_a"] == [None, None]
    assert rows[0]["response_b"] == ["b1", "b2"]
    assert report.notes["turns padded with null"] == 1


def test_lone_surrogates_become_replacement_characters_and_pairs_stay(tmp_path: Path) -> None:
    cell = r'["x\ud83dy", "\ud83d\ude00", "\udc00\ud800"]'
    rows, report = load(write_csv(tmp_path / "t.csv", [kaggle(), kaggle(prompt=cell)]))
    assert rows[1]["prompt"] == ["x\ufffdy", "\U0001f600", "\ufffd\ufffd"]
    assert report.notes["lone surrogates replaced with U+FFFD"] == 1


def test_nul_bytes_and_cells_of_megabytes_survive(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    long = "word " * 1_000_000
    path = write_csv(tmp_path / "t.csv", [kaggle(prompt=json.dumps(["a\0b", long]), model_a="m\0")])
    rows, _ = load(path)
    assert rows[0]["prompt"] == ["a\0b", long]
    assert rows[0]["model_a"] == "m\0"
    assert csv.field_size_limit() == before


def test_columns_that_are_not_carried_are_named_and_source_is_kept(tmp_path: Path) -> None:
    rows, report = load(write_csv(tmp_path / "t.csv", [kaggle(source="set one", worker=3, pair=1)]))
    assert rows[0]["source"] == "set one"
    assert report.notes["columns not carried: worker, pair"] == 1


def test_group_and_weight_may_be_mapped_beside_a_known_format(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", [kaggle(pair=12, times=2, part=3)])
    rows, report = load(path, mapping={"group": "pair", "weight": "times", "fold": "part"})
    assert report.formats == ["kaggle"]
    assert (rows[0]["group"], rows[0]["weight"], rows[0]["fold"]) == ("12", 2.0, 3)


@pytest.mark.parametrize(("ours", "value"), [("weight", -1), ("weight", "nan"), ("fold", 1.5), ("fold", "one")])
def test_carried_numbers_are_checked(tmp_path: Path, ours: str, value: Any) -> None:
    with pytest.raises(BadRowsError, match="theirs"):
        tb.read(write_csv(tmp_path / "t.csv", [kaggle(theirs=value)]), mapping={ours: "theirs"})


def test_missing_ids_are_made_from_row_numbers(tmp_path: Path) -> None:
    records = [kaggle(None), kaggle(None)]
    for record in records:
        del record["id"]
    rows, report = load(write_csv(tmp_path / "t.csv", records))
    assert [row["id"] for row in rows] == ["1", "2"]
    assert report.notes["id missing: made from the row number"] == 2


# WSDM


def test_wsdm_texts_are_taken_as_they_are(tmp_path: Path) -> None:
    record = {"id": "x", "prompt": '["looks like a list"]', "response_a": "", "response_b": "b", "language": "Polish"}
    rows, report = load(write_jsonl(tmp_path / "w.jsonl", [record | {"winner": "model_b"}]))
    assert report.formats == ["wsdm"]
    assert (rows[0]["prompt"], rows[0]["response_a"], rows[0]["label"]) == (['["looks like a list"]'], [""], "b")
    assert report.notes == {"columns not carried: language": 1}
    frame = pl.DataFrame([record | {"prompt": "plain"}])
    frame.write_parquet(tmp_path / "test.parquet")
    rows, report = load(tmp_path / "test.parquet")
    assert report.formats == ["wsdm"]
    assert rows[0]["label"] is None


# LMArena


def battle(a: Any, b: Any, winner: Any = "model_a", **more: Any) -> dict[str, Any]:
    return {"question_id": "q1", "model_a": "m1", "model_b": "m2", "winner": winner,
            "conversation_a": a, "conversation_b": b, **more}  # fmt: skip


def test_arena_battles(tmp_path: Path) -> None:
    records = [
        battle(messages("u1", "a1", "u2", "a2"), messages("u1", "b1", "u2", "b2"), winner)
        for winner in ("model_a", "model_b", "tie", "tie (bothbad)", "both_bad", None)
    ]
    path = write_jsonl(tmp_path / "b.jsonl", records)
    rows, report = load(path)
    assert report.formats == ["arena"]
    assert [row["label"] for row in rows] == ["a", "b", "tie", "tie", "tie", None]
    assert rows[0]["prompt"] == ["u1", "u2"]
    assert rows[0]["response_b"] == ["b1", "b2"]
    assert (rows[0]["id"], rows[0]["model_a"]) == ("q1", "m1")
    assert report.notes == {"both answers called bad: counted as a tie": 2}
    rows, report = load(path, both_bad="drop")
    assert [row["label"] for row in rows] == ["a", "b", "tie", None]
    assert report.notes == {"both answers called bad: left out": 2}
    assert report.rows == 4


def test_arena_in_parquet_with_parts_and_in_csv_as_json(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "see"}, {"type": "image", "text": None}, {"type": "text", "text": "this"}]
    a = [{"role": "user", "content": parts}, {"role": "assistant", "content": [{"type": "text", "text": "a1"}]}]
    pl.DataFrame([battle(a, a)]).write_parquet(tmp_path / "b.parquet")
    rows, report = load(tmp_path / "b.parquet")
    assert rows[0]["prompt"] == ["see\nthis"]
    assert report.notes == {"parts that are no text (images, files) left out": 1}
    rows, _ = load(write_csv(tmp_path / "b.csv", [battle(json.dumps(a), json.dumps(a))]))
    assert rows[0]["response_a"] == ["a1"]


def test_arena_system_messages_repeated_roles_and_early_ends(tmp_path: Path) -> None:
    a = [{"role": "system", "content": "Be brief."}, *messages("u1", "a1", "u2", "a2")]
    b = [{"role": "system", "content": "Be brief."}, *messages("u1", "b1"), {"role": "assistant", "content": "b1+"}]
    rows, report = load(write_jsonl(tmp_path / "b.jsonl", [battle(a, b)]))
    assert rows[0]["prompt"] == ["Be brief.\n\nu1", "u2"]
    assert rows[0]["response_a"] == ["a1", "a2"]
    assert rows[0]["response_b"] == ["b1\n\nb1+", None]
    assert report.notes == {
        "system message put before the first prompt": 1,
        "neighbouring messages of one role joined": 1,
        "turns padded with null": 1,
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"conversation_b": messages("u1", "b1", "other", "b2")}, "different prompts in turn 2"),
        ({"conversation_b": "[{'role': 'user', 'content': 'u1'}]"}, "not a list of messages"),
        ({"conversation_b": None}, "not a list of messages"),
        ({"conversation_b": messages("u1", "x", roles=("user", "tool"))}, "role 'tool'"),
        ({"conversation_b": messages("u1", 5)}, "content is 5"),
        ({"conversation_b": messages("u1", [5])}, "a part that is 5"),
        ({"conversation_b": []}, ""),
        ({"winner": "model_c"}, "unknown label 'model_c'; accepted are a, model_a"),
        ({"winner": 1}, "unknown label 1"),
        ({"winner": ["model_a"]}, "expected"),
    ],
)
def test_arena_rows_that_cannot_be_read(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    good = battle(messages("u1", "a1", "u2", "a2"), messages("u1", "b1", "u2", "b2"))
    path = write_jsonl(tmp_path / "b.jsonl", [good, good | changes])
    if not reason:
        assert load(path)[0][1]["response_b"] == [None, None]
        return
    with pytest.raises(BadRowsError) as caught:
        tb.read(path)
    assert caught.value.count == 1
    assert reason in caught.value.rows[0][2]


# Chosen and rejected


def sides(row: dict[str, Any]) -> tuple[list[str | None], list[str | None]]:
    """The chosen and the rejected answer of a row."""
    return (
        (row["response_a"], row["response_b"]) if row["label"] == "a" else (row["response_b"], row["response_a"])
    )  # fmt: skip


def test_hh_transcripts(tmp_path: Path) -> None:
    before = "\n\nHuman: hello\n\nAssistant: hi\n\nHuman: list two\nthings\n\nAssistant:"
    rows, report = load(write_jsonl(tmp_path / "h.jsonl", [{"chosen": f"{before} yes", "rejected": f"{before} no"}]))
    assert report.formats == ["preference"]
    assert rows[0]["prompt"] == ["hello", "list two\nthings"]
    assert sides(rows[0]) == (["hi", "yes"], ["hi", "no"])


def test_transcripts_with_odd_turns(tmp_path: Path) -> None:
    records = [
        {"chosen": "\n\nHuman: q\n\nAssistant: a\n\nAssistant: b", "rejected": "\n\nHuman: q\n\nAssistant:"},
        {"chosen": "\n\nHuman: q\n\nAssistant: a\n\nHuman: bye", "rejected": "\n\nHuman: q\n\nAssistant: x"},
        {"chosen": "Human: q\n\nAssistant: Human: a colon in the text", "rejected": "Human: q\n\nAssistant: x"},
    ]
    rows, report = load(write_jsonl(tmp_path / "h.jsonl", records))
    assert sides(rows[0]) == (["a\n\nb"], [""])
    assert rows[1]["prompt"] == ["q", "bye"]
    assert sides(rows[1]) == (["a", None], ["x", None])
    assert sides(rows[2])[0] == ["Human: a colon in the text"]
    assert report.notes["neighbouring messages of one role joined"] == 1


def test_a_transcript_as_prompt_and_an_answer_that_looks_like_one(tmp_path: Path) -> None:
    records = [
        {"prompt": "\n\nHuman: one\n\nAssistant: two\n\nHuman: three\n\nAssistant:", "chosen": " c", "rejected": " r"},
        {"prompt": "Write a dialogue", "chosen": "Assistant: hi\n\nHuman: ho", "rejected": '[{"a": 1}]'},
    ]
    rows, _ = load(write_jsonl(tmp_path / "h.jsonl", records))
    assert rows[0]["prompt"] == ["one", "three"]
    assert sides(rows[0]) == (["two", " c"], ["two", " r"])
    assert rows[1]["prompt"] == ["Write a dialogue"]
    assert sides(rows[1]) == (["Assistant: hi\n\nHuman: ho"], ['[{"a": 1}]'])


def test_a_megabyte_of_line_breaks_is_no_trouble(tmp_path: Path) -> None:
    blank = "\n" * 1_000_000
    record = {"chosen": f"\n\nHuman: q\n\nAssistant: a{blank}b", "rejected": "\n\nHuman: q\n\nAssistant: r"}
    rows, _ = load(write_jsonl(tmp_path / "h.jsonl", [record]))
    assert sides(rows[0])[0] == [f"a{blank}b"]


@pytest.mark.parametrize("names", [("score_chosen", "score_rejected"), ("chosen-rating", "rejected-rating")])
def test_ultrafeedback_ratings(tmp_path: Path, names: tuple[str, str]) -> None:
    base = {"prompt": "q", "prompt_id": "p9", "chosen": messages("q", "good"), "rejected": messages("q", "bad")}
    records = [base | dict(zip(names, ratings, strict=True)) for ratings in ((5, 3), (4.0, 4), (2, 3), (None, 1))]
    rows, report = load(write_jsonl(tmp_path / "u.jsonl", records))
    assert [row["label"] == "tie" for row in rows] == [False, True, False, False]
    assert rows[0]["prompt"] == ["q"]
    assert rows[0]["id"] == "p9"
    assert sides(rows[2]) == (["good"], ["bad"])
    assert report.notes["equal ratings: counted as a tie"] == 1
    assert report.notes["rejected answer has the higher rating: the names chosen and rejected were followed"] == 1


def test_models_go_with_their_answers(tmp_path: Path) -> None:
    records = [
        {"prompt": f"q{i}", "chosen": "good", "rejected": "bad", "chosen-model": "m+", "rejected-model": "m-"}
        for i in range(20)
    ]
    for row in load(write_jsonl(tmp_path / "u.jsonl", records))[0]:
        assert {row["model_a"]: row["response_a"], row["model_b"]: row["response_b"]} == {"m+": ["good"], "m-": ["bad"]}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"chosen": "a", "rejected": "b"}, "holds no prompt"),
        ({"prompt": "p", "chosen": None, "rejected": "b"}, "chosen is missing"),
        ({"prompt": "p", "chosen": "[{'role': 'user', 'content': 'x'}]", "rejected": "b"}, "not a list of messages"),
        ({"chosen": messages("p", "a"), "rejected": messages("other", "b")}, "different prompts in turn 1"),
    ],
)
def test_preferences_that_cannot_be_read(tmp_path: Path, record: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRowsError, match=reason):
        tb.read(write_jsonl(tmp_path / "p.jsonl", [record]))


def test_the_side_is_a_fair_coin_that_knows_neither_the_order_nor_which_was_chosen(tmp_path: Path) -> None:
    records = [{"prompt": f"q{i}", "chosen": f"x{i}", "rejected": f"y{i}"} for i in range(2000)]
    straight = {row["prompt"][0]: row for row in load(write_jsonl(tmp_path / "p.jsonl", records))[0]}
    shuffled = {row["prompt"][0]: row for row in load(write_jsonl(tmp_path / "p.jsonl", records[::-1]))[0]}
    turned = [{"prompt": r["prompt"], "chosen": r["rejected"], "rejected": r["chosen"]} for r in records]
    opposite = {row["prompt"][0]: row for row in load(write_jsonl(tmp_path / "p.jsonl", turned))[0]}
    mirror = {"a": "b", "b": "a"}
    for prompt, row in straight.items():
        assert shuffled[prompt] | {"id": row["id"]} == row
        assert opposite[prompt]["response_a"] == row["response_a"]
        assert opposite[prompt]["label"] == mirror[row["label"]]
    share = sum(row["label"] == "a" for row in straight.values()) / 2000
    assert abs(share - 0.5) < 0.05  # 4.5 standard errors
    other = load(write_jsonl(tmp_path / "p.jsonl", records), seed=1)[0]
    assert 0.4 < sum(row["label"] == straight[row["prompt"][0]]["label"] for row in other) / 2000 < 0.6


# Mapped and our own


def test_mapped_columns(tmp_path: Path) -> None:
    records = [
        {"question": "q", "left": "l", "right": "r", "verdict": verdict, "who": "w"}
        for verdict in ("LEFT", "Right", " tie ", "model_a", "B", "", "both bad")
    ]
    mapping = {"prompt": "question", "response_a": "left", "response_b": "right", "label": "verdict", "group": "who"}
    for delimiter in ",\t;|":
        rows, report = load(write_csv(tmp_path / "m.txt", records, delimiter), mapping=mapping)
        assert report.formats == ["mapped"]
        assert [row["label"] for row in rows] == ["a", "b", "tie", "a", "b", None, "tie"]
        assert (rows[0]["prompt"], rows[0]["response_b"], rows[0]["group"]) == (["q"], ["r"], "w")


def test_labels_of_ones_own_must_be_named(tmp_path: Path) -> None:
    records = [{"prompt": "p", "response_a": "a", "response_b": "b", "label": label} for label in (1, 2, 0)]
    path = write_jsonl(tmp_path / "m.jsonl", records)
    with pytest.raises(BadRowsError, match=r"unknown label 1;.*--label '1'=a") as caught:
        tb.read(path)
    assert caught.value.count == 3
    rows, _ = load(path, labels={"1": "a", "2": "b", "0": "tie"})
    assert [row["label"] for row in rows] == ["a", "b", "tie"]


def test_mapped_ratings_and_mapped_chosen_and_conversations(tmp_path: Path) -> None:
    rated = [{"p": "q", "x": "1", "y": "2", "sx": sx, "sy": 0.5} for sx in (1, 0.5, 0, None)]
    mapping = {"prompt": "p", "response_a": "x", "response_b": "y", "rating_a": "sx", "rating_b": "sy"}
    rows, _ = load(write_jsonl(tmp_path / "r.jsonl", rated), mapping=mapping)
    assert [row["label"] for row in rows] == ["a", "tie", "b", None]
    chosen = [{"instruction": "q", "win": "good", "lose": "bad"}]
    mapping = {"prompt": "instruction", "chosen": "win", "rejected": "lose"}
    rows, _ = load(write_jsonl(tmp_path / "c.jsonl", chosen), mapping=mapping)
    assert sides(rows[0]) == (["good"], ["bad"])
    talks = [{"one": messages("u", "x"), "two": messages("u", "y"), "best": "left"}]
    mapping = {"conversation_a": "one", "conversation_b": "two", "label": "best"}
    rows, _ = load(write_jsonl(tmp_path / "t.jsonl", talks), mapping=mapping)
    assert (rows[0]["response_b"], rows[0]["label"]) == (["y"], "a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mapping": {"prompt": "promt"}}, "no column 'promt'.*one of prompt, chosen, rejected.*--map prompt=prompt"),
        ({"mapping": {"prmpt": "prompt"}}, "unknown column to map 'prmpt'.*write prompt"),
        ({"mapping": {"model_a": "chosen"}}, "goes with two answers"),
        ({"mapping": {"prompt": "prompt"}, "format": "kaggle"}, "together with the format kaggle"),
        ({"format": "kagle"}, "unknown format 'kagle'.*write kaggle"),
        ({"labels": {"1": "c"}}, "unknown label 'c'"),
        ({"both_bad": "no"}, "unknown both_bad"),
        ({"on_bad": "ignore"}, "unknown on_bad"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = write_jsonl(tmp_path / "p.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b"}])
    with pytest.raises(UsageError, match=message):
        tb.read(path, **options)


def test_unknown_and_ambiguous_formats_say_what_was_found_and_tried(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        tb.read(write_csv(tmp_path / "u.csv", [{"question": "q", "left": "l"}]))
    text = str(caught.value)
    assert "its columns are question, left" in text
    for name in ("kaggle", "wsdm", "arena", "preference", "tiebreak"):
        assert f"{name}: " in text
    assert "--map prompt=YOUR_PROMPT" in text
    both = write_csv(tmp_path / "both.csv", [kaggle(label="b")])
    with pytest.raises(DataError, match=r"fits the formats kaggle and tiebreak.*--format kaggle"):
        tb.read(both)
    assert tb.read(both, format="kaggle")["label"].to_list() == ["a"]
    assert tb.read(both, format="tiebreak")["label"].to_list() == ["b"]
    with pytest.raises(DataError, match="not of the format arena: conversation_a, conversation_b missing"):
        tb.read(both, format="arena")


def test_soft_labels_are_carried_and_checked(tmp_path: Path) -> None:
    record = {"prompt": ["p"], "response_a": ["a"], "response_b": ["b"], "label": None}
    soft = {"p_a": 0.5, "p_b": 0.25, "p_tie": 0.25}
    rows, _ = load(write_jsonl(tmp_path / "s.jsonl", [record | soft]))
    assert {name: rows[0][name] for name in soft} == soft
    for wrong in ({"p_a": 0.6}, {"p_a": None}, {"p_a": -0.5, "p_b": 1.25}, {"p_a": "x"}):
        with pytest.raises(BadRowsError, match="p_a"):
            tb.read(write_jsonl(tmp_path / "s.jsonl", [record | soft | wrong]))


turn = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
comparison = st.integers(1, 3).flatmap(
    lambda n: st.fixed_dictionaries(
        {
            "id": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
            "prompt": st.lists(turn, min_size=n, max_size=n),
            "response_a": st.lists(turn, min_size=n, max_size=n),
            "response_b": st.lists(turn, min_size=n, max_size=n),
            "label": st.sampled_from(["a", "b", "tie", None]),
            "weight": st.one_of(st.none(), st.floats(0, 1e6)),
            "fold": st.one_of(st.none(), st.integers(-5, 5)),
            "source": st.just("here"),
        }
    )
)


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(comparison, min_size=1, max_size=8))
@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_our_own_files_come_back_as_they_were(
    suffix: str, rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    here = tmp_path_factory.mktemp("again")
    table = comparisons.validate(pl.DataFrame(rows, schema_overrides={
        **dict.fromkeys(comparisons.TEXTS, comparisons.TURNS), "id": pl.String, "label": pl.String,
        "weight": pl.Float64, "fold": pl.Int64,
    }))  # fmt: skip
    table.write_parquet(here / "first.parquet")
    ingest.import_file(here / "first.parquet", here / f"second.{suffix}")
    again = tb.read(here / f"second.{suffix}", format="tiebreak")
    assert again.equals(table)


def test_every_note_counts_rows(tmp_path: Path) -> None:
    cell = r'["\ud83d", "\ud83d"]'
    _, report = load(write_csv(tmp_path / "t.csv", [kaggle(prompt=cell, response_b=cell)] * 3))
    assert report.notes == Counter({"lone surrogates replaced with U+FFFD": 3, "null turns kept": 3})
