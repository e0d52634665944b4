"""The first row as the model will read it: from its own tokenizer where that is here, else from the template alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from tiebreak.render import Renderer, Template
from tiebreak.train.finetune.recipe import Recipe


def rendered(renderer: Renderer, recipe: Recipe, row: pl.DataFrame) -> list[str]:
    """What the tokens of a row say: one text, or with a siamese judge one for each answer."""
    if recipe.judge != "siamese":
        return renderer.text(row)
    prompts = row["prompt"].to_list() * 2
    answers = row["response_a"].to_list() + row["response_b"].to_list()
    sequences = renderer.render_answers(prompts, answers).sequences
    return [str(renderer.tokenizer.decode(ids.tolist())) for ids in sequences]


def untokenised(template: Template, recipe: Recipe, row: pl.DataFrame) -> list[str]:
    """The template's words and the texts of a row, uncut and without special tokens."""
    texts = row.select("prompt", "response_a", "response_b").row(0, named=True)
    if recipe.judge != "siamese":
        return ["".join(_pieces(template, texts))]
    return ["".join(_pieces(template, {**texts, "response_a": texts[side]})) for side in ("response_a", "response_b")]


def _pieces(template: Template, texts: dict[str, Any]) -> Iterator[str]:
    marks = template.marks
    fields = {"prompt": "prompt", "response_a": "answer_a", "response_b": "answer_b"}
    if template.name == "single":
        del fields["response_b"]
    yield template.instruction + ("\n\n" if template.instruction and template.layout != "fields" else "")
    yield marks.opening
    for number, (turn, name) in enumerate(_order(template, len(texts["prompt"]), list(fields))):
        if template.layout == "conversations" and number == 2 * len(texts["prompt"]):
            yield marks.second
        text = marks.joint.join(t for t in texts[name] if t) if template.layout == "fields" else texts[name][turn]
        yield getattr(marks, fields[name]).replace("{turn}", str(turn + 1))
        yield (marks.missing if text is None else text) + marks.end
    yield marks.closing
    yield ("\n\n" if template.suffix and template.layout != "fields" else "") + template.suffix


def _order(template: Template, turns: int, names: list[str]) -> list[tuple[int, str]]:
    """Which text of which turn comes after which."""
    if template.layout == "fields":
        return [(0, name) for name in names]
    if template.layout == "interleaved":
        return [(turn, name) for turn in range(turns) for name in names]
    return [(turn, name) for answer in names[1:] for turn in range(turns) for name in ("prompt", answer)]
