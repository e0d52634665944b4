"""What Kaggle and its client ask of the keys of `model-metadata.json`, and of Markdown wherever it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from tiebreak.kaggle.metadata import slugs
from tiebreak.kaggle.metadata.model import Model
from tiebreak.kaggle.metadata.problem import Found, said

MARKUP: Final = re.compile(r"[<>&\x00-\x08\x0b-\x1f\x7f]")
"""What the client rewrites in Markdown: it passes all of it through an HTML sanitiser."""

PLAIN: Final = "Markdown without < > & and control characters, which the client rewrites"


def plain(markdown: str) -> str:
    """Markdown that arrives as it was written: what Kaggle's client would turn into HTML entities is put in words."""
    words = {"<=": "at most", ">=": "at least", "->": "to", "<": "below", ">": "above", "&": "and"}
    text = markdown.replace("\r\n", "\n").replace("\r", "\n")
    for sign, word in words.items():
        text = text.replace(sign, word)
    return MARKUP.sub("", text)


def rewritten(markdown: str) -> str | None:
    """What the client would rewrite first, in words; None where it would send the text as it is."""
    found = MARKUP.search(markdown)
    line = markdown[: found.start()].count("\n") + 1 if found else 0
    return f"holds {found.group()!r} in line {line}" if found else None


@Model.rule("ownerSlug", expected="the name of a user of lower case letters, digits, single - and _", client="refuses")
def _model_owner(model: Model) -> Iterator[Found]:
    if not slugs.is_user(model.owner_slug):
        yield Found(model.owner_slug, said(model.owner_slug), "write the name of the user")


@Model.rule("slug", expected=f"a slug of {slugs.IN_WORDS}", client="refuses")
def _model_slug(model: Model) -> Iterator[Found]:
    if not slugs.is_slug(model.slug):
        near = slugs.slugify(model.slug)
        yield Found(model.slug, said(model.slug), f"write {near}" if near else "")


@Model.rule("title", expected="a title of your own, not the placeholder", client="refuses")
def _model_title_placeholder(model: Model) -> Iterator[Found]:
    if model.title == "INSERT_TITLE_HERE":
        yield Found(model.title, "is the placeholder of `kaggle models init`", "write a title")


@Model.rule("title", expected="a title", client="ignores")
def _model_title(model: Model) -> Iterator[Found]:
    if not model.title.strip():
        yield Found(model.title, "is empty", "write one")


@Model.rule("description", expected="the model card", client="ignores")
def _model_card(model: Model) -> Iterator[Found]:
    if not model.description.strip():
        yield Found(model.description, "is empty", "write what the model is, and what it was trained on")


@Model.rule("description", expected=PLAIN, client="changes")
def _model_card_plain(model: Model) -> Iterator[Found]:
    if wrong := rewritten(model.description):
        yield Found(model.description, wrong, "say it in words")


@Model.rule("publishTime", expected='a date as YYYY-MM-DD, or ""', client="refuses")
def _model_date(model: Model) -> Iterator[Found]:
    if model.publish_time:
        try:
            datetime.strptime(model.publish_time, "%Y-%m-%d")
        except ValueError:
            yield Found(model.publish_time, said(model.publish_time), 'write a date, or ""')
