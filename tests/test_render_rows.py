"""Rendering whole tables: against a slow renderer that puts one row together by hand, and as properties."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from conftest import SHARED
from tiebreak import comparisons, ingest, predictions
from tiebreak.render import TEMPLATES, Rendered, Renderer, Sequences, Template, template
from tiebreak.render.truncation import POLICIES, Row

PAIRS = [name for name in TEMPLATES if name != "single"]
TOKENIZER = tiny.tokenizer()
LEAST = {name: Renderer(template(name, max_length=4096), TOKENIZER).least_length for name in TEMPLATES}

TEXT = (
    st.none()
    | st.text(max_size=12)
    | st.sampled_from(["", "yes " * 40, "no, " * 90, "<|im_end|>[SEP] {turn}", "x" * 300])
)
ROW = st.integers(1, 4).flatmap(lambda n: st.tuples(*[st.lists(TEXT, min_size=n, max_size=n)] * 3))
ROWS = st.lists(ROW, min_size=1, max_size=4)


def table(rows: list[Any]) -> pl.DataFrame:
    columns = {name: [list(row[i]) for row in rows] for i, name in enumerate(comparisons.TEXTS)}
    return comparisons.validate(
        pl.DataFrame(
            {"id": [str(i) for i in range(len(rows))], **columns},
            schema_overrides=dict.fromkeys(comparisons.TEXTS, comparisons.TURNS),
        )
    )


@cache
def renderer(name: str, policy: str, spare: int) -> Renderer:
    return Renderer(template(name, truncation=policy, max_length=LEAST[name] + spare), TOKENIZER)


def ids(text: str | None) -> list[int]:
    """Text as a user's text: the names of special tokens are spelt out."""
    found: list[int] = TOKENIZER(text or "", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return found


def own(text: str) -> list[int]:
    found: list[int] = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    return found


def by_hand(chosen: Template, row: tuple[list[str | None], ...]) -> list[int]:
    """One row, with lists and loops."""
    marks = chosen.marks
    if chosen.layout == "fields":
        row = tuple(
            [marks.joint.join(given) if (given := [text for text in turns if text is not None]) else None]
            for turns in row
        )
    if chosen.chat:
        messages = [{"role": "system", "content": chosen.instruction},
                    {"role": "user", "content": f"{marks.opening}\ue000{marks.closing}"}]  # fmt: skip
        whole = TOKENIZER.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        before, after = whole.split("\ue000")
    else:
        empty_line = "\n\n" if chosen.instruction else ""
        before, after = chosen.instruction + empty_line + marks.opening, marks.closing
        after += "\n\n" if chosen.suffix else ""
    before_ids, after_ids = own(before), own(after + chosen.suffix)
    names = (marks.prompt, marks.answer_a, marks.answer_b)
    turns = range(len(row[0]))

    def around(turn: int, kind: int) -> list[int]:
        mark = own(names[kind].replace("{turn}", str(turn + 1)))
        return mark + own(marks.missing) if row[kind][turn] is None else mark

    cost = (2, 1, 1) if chosen.layout == "conversations" else (1, 1, 1)
    texts = [[ids(row[kind][turn]) for kind in range(3)] for turn in turns]
    lengths = [[len(text) for text in texts[turn]] for turn in turns]
    paid = [sum(cost[k] * (len(around(turn, k)) + len(own(marks.end))) for k in range(3)) for turn in turns]
    second = own(marks.second) if chosen.layout == "conversations" else []
    budget = chosen.max_length - len(before_ids) - len(after_ids) - len(second)
    need = sum(paid) + sum(cost[k] * lengths[turn][k] for turn in turns for k in range(3))
    kept: Any = lengths
    if need > budget:
        kept = POLICIES[chosen.truncation](Row(lengths, paid, budget, cost, chosen.limits))

    def unit(turn: int, kind: int) -> list[int]:
        text, cap = texts[turn][kind], kept[turn][kind]
        if cap < len(text):
            text = shortened(chosen, text, cap)
        return around(turn, kind) + text + own(marks.end)

    alive = [turn for turn in turns if kept[turn] is not None]
    if chosen.layout == "conversations":
        sides = [[token for turn in alive for kind in (0, side) for token in unit(turn, kind)] for side in (1, 2)]
        return before_ids + sides[0] + second + sides[1] + after_ids
    return before_ids + [token for turn in alive for kind in range(3) for token in unit(turn, kind)] + after_ids


def shortened(chosen: Template, text: list[int], cap: int) -> list[int]:
    """The most tokens that leave room for the mark of the cut; no mark where it has no room beside a token."""
    keep, mark = cap, []
    for shown in range(cap, 0, -1):
        snip = own(chosen.marks.snip.replace("{count}", str(len(text) - shown)))
        if shown + len(snip) <= cap:
            keep, mark = shown, snip
            break
    head = {"left": 0, "middle": keep - keep // 2, "proportional": keep - keep // 2}.get(chosen.truncation, keep)
    return text[:head] + mark + text[len(text) - (keep - head) :]


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=60, deadline=None)
@given(policy=st.sampled_from(sorted(POLICIES)), rows=ROWS, spare=st.sampled_from([0, 1, 7, 60, 200, 1500]))
def test_a_table_is_rendered_as_by_hand(name: str, policy: str, rows: list[Any], spare: int) -> None:
    made = renderer(name, policy, spare)
    rendered = made.render(table(rows))
    for row, sequence in zip(rows, rendered.sequences, strict=True):
        assert sequence.tolist() == by_hand(made.template, row)


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=60, deadline=None)
@given(policy=st.sampled_from(sorted(POLICIES)), rows=ROWS, spare=st.integers(0, 400))
def test_what_holds_for_every_table(name: str, policy: str, rows: list[Any], spare: int) -> None:
    made = renderer(name, policy, spare // 20 * 20)
    votes = table(rows)
    rendered = made.render(votes)
    assert rendered.sequences.lengths.max() <= made.template.max_length
    frame = made._frame
    for sequence in rendered.sequences:
        assert sequence[: len(frame.before)].tolist() == frame.before.tolist()
        assert sequence[len(sequence) - len(frame.after) :].tolist() == frame.after.tolist()
    ledger = rendered.ledger
    assert ledger.columns == list(predictions.LEDGER)
    assert set(ledger.dtypes) == {pl.Int64}
    for place, (field, column) in enumerate(zip(("prompt", "a", "b"), comparisons.TEXTS, strict=True)):
        kept, tokens = ledger[f"kept_{field}"], ledger[f"tokens_{field}"]
        assert ((kept >= 0) & (kept <= tokens)).all()
        if made.template.layout != "fields":
            assert tokens.to_list() == [sum(len(ids(text)) for text in row[place]) for row in rows], column
    whole = pl.all_horizontal(pl.col(f"kept_{field}") == pl.col(f"tokens_{field}") for field in ("prompt", "a", "b"))
    assert rendered.truncated.tolist() == (~ledger.select(whole).to_series()).to_list()
    for i in range(len(rows)):
        alone = made.render(votes[i : i + 1])
        assert alone.sequences[0].tolist() == rendered.sequences[i].tolist()
        assert alone.ledger.row(0) == ledger.row(i)


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=40, deadline=None)
@given(policy=st.sampled_from(sorted(POLICIES)), rows=ROWS, spare=st.sampled_from([30, 200, 5000]))
def test_both_orders(name: str, policy: str, rows: list[Any], spare: int) -> None:
    """The swapped table is the table with A and B exchanged; both orders begin alike, up to the first answer."""
    made = renderer(name, policy, spare)
    votes = table(rows)
    given_, swapped = made.render_both(votes)
    same(given_, made.render(votes))
    same(swapped, made.render(table([(p, b, a) for p, a, b in rows])))
    same(swapped, made.render(comparisons.swap(votes)))
    assert given_.ledger["kept_prompt"].to_list() == swapped.ledger["kept_prompt"].to_list()
    if policy not in {"right", "left"} or name == "papb":
        assert given_.ledger["kept_a"].to_list() == swapped.ledger["kept_b"].to_list()
    for one, other, (prompt, _, _) in zip(given_.sequences, swapped.sequences, rows, strict=True):
        if spare == 5000:
            shared = len(ids(" ".join(text or "" for text in prompt if text) if name == "plain" else prompt[0]))
            least = len(made._frame.before) + (0 if name == "blackpearl" else shared)
            assert one[:least].tolist() == other[:least].tolist()


def same(one: Rendered, other: Rendered) -> None:
    assert one.sequences.ids.tolist() == other.sequences.ids.tolist()
    assert one.sequences.offsets.tolist() == other.sequences.offsets.tolist()
    assert one.ledger.equals(other.ledger)
    assert one.truncated.tolist() == other.truncated.tolist()


def test_answers_alone_are_rendered_like_rows() -> None:
    made = Renderer(template("single", max_length=LEAST["single"] + 60), TOKENIZER)
    prompts = [["What is it?", None], ["short"], ["long " * 100]]
    answers = [["This.", "yes " * 50], [None], ["x" * 400]]
    rendered = made.render_answers(prompts, answers)
    assert rendered.sequences.lengths.max() <= made.template.max_length
    assert rendered.truncated.tolist() == [True, False, True]
    assert rendered.ledger["tokens_answer"].to_list() == [sum(len(ids(text)) for text in turns) for turns in answers]
    for i in range(3):
        assert made.render_answers(prompts[i : i + 1], answers[i : i + 1]).sequences[0].tolist() == (
            rendered.sequences[i].tolist()
        )


def test_a_table_without_rows_has_no_sequences() -> None:
    for name in PAIRS:
        rendered = Renderer(template(name), TOKENIZER).render(table([(["a"], ["b"], ["c"])])[:0])
        assert len(rendered.sequences) == 0
        assert rendered.ledger.columns == list(predictions.LEDGER)
        assert rendered.truncated.shape == (0,)
    assert len(Renderer(template("single"), TOKENIZER).render_answers([], []).sequences) == 0


def test_chunks_and_batches_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [([f"q{i}"], ["yes " * i], [None if i % 3 else "no"]) for i in range(25)]
    made = Renderer(template("plain", max_length=120), TOKENIZER)
    whole = made.render(table(rows))
    monkeypatch.setattr("tiebreak.render.renderer.CHUNK", 4)
    monkeypatch.setattr("tiebreak.render.texts.BATCH_CHARS", 7)
    same(made.render(table(rows)), whole)


def test_more_turns_than_fit_are_left_out_with_their_marks() -> None:
    rows = [(["?"] * 500, ["a"] * 500, [None] * 500)]
    for name in PAIRS:
        for policy in POLICIES:
            rendered = renderer(name, policy, 200).render(table(rows))
            assert rendered.sequences.lengths[0] <= LEAST[name] + 200
            assert rendered.truncated[0]


def test_a_snip_says_how_many_tokens_are_not_shown() -> None:
    made = Renderer(template("plain", truncation="middle", max_length=120), TOKENIZER)
    rendered = made.render(table([(["q"], ["word " * 100], ["b"])]))
    row = rendered.ledger.row(0, named=True)
    assert f" (snip {row['tokens_a'] - row['kept_a']}) " in made.tokenizer.decode(rendered.sequences[0].tolist())
    assert rendered.sequences.lengths[0] in {119, 120}


def test_sequences_are_ragged_arrays() -> None:
    parts = [np.array([1, 2, 3]), np.array([], dtype=np.int64), np.array([4])]
    made = Sequences.of(parts)
    assert (made.ids.dtype, made.offsets.dtype) == (np.int32, np.int64)
    assert made.lengths.tolist() == [3, 0, 1]
    assert [one.tolist() for one in made] == [[1, 2, 3], [], [4]]
    assert made[-1].tolist() == [4]
    assert np.shares_memory(made[0], made.ids)
    assert [one.tolist() for one in made.pick(np.array([2, 0, 2, 1]))] == [[4], [1, 2, 3], [4], []]
    assert len(made.pick(np.array([], dtype=np.int64))) == 0
    assert [one.tolist() for one in Sequences.concat([made, made.pick(np.array([0]))])] == [
        [1, 2, 3],
        [],
        [4],
        [1, 2, 3],
    ]
    assert len(Sequences.of([])) == len(Sequences.concat([])) == 0
    with pytest.raises(IndexError):
        made[3]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared vote sets are not on this machine")
def test_real_votes_keep_the_budget_and_the_ledger() -> None:
    votes = ingest.read(SHARED / "kaggle_lmsys_1k.parquet")
    nulls = votes.filter(
        pl.any_horizontal(pl.col(name).list.eval(pl.element().is_null()).list.any() for name in comparisons.TEXTS)
    )
    assert nulls.height >= 4
    chosen = [template(name) for name in PAIRS] + [template("pab", truncation=policy) for policy in POLICIES]
    votes = pl.concat([votes.head(30), nulls])
    for one in chosen:
        made = Renderer(one, TOKENIZER)
        rendered = made.render(votes)
        assert rendered.sequences.lengths.max() <= 1024
        full = ~rendered.truncated
        kept = rendered.ledger.select(pl.sum_horizontal("kept_prompt", "kept_a", "kept_b")).to_series().to_numpy()
        own_ = rendered.ledger.select(pl.sum_horizontal("tokens_prompt", "tokens_a", "tokens_b")).to_series().to_numpy()
        assert (kept[full] == own_[full]).all()
        assert (kept[~full] < own_[~full]).all()
