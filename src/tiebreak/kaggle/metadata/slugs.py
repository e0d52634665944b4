"""Names in Kaggle's addresses: users, slugs, and what a title becomes."""

from __future__ import annotations

import re
from typing import Final

USER: Final = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*")
SLUG: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
FOREIGN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Slugs that others own are older than the rules: some have capitals, underscores or dots."""

IN_WORDS: Final = "lower case letters, digits and single hyphens between them"

_ENTITY = re.compile(r"&#?\w+;")


def is_user(text: str) -> bool:
    """Whether Kaggle gives such names to users and organisations."""
    return USER.fullmatch(text) is not None


def is_slug(text: str) -> bool:
    """Whether a new slug may be this."""
    return SLUG.fullmatch(text) is not None


def is_plain(title: str) -> bool:
    """Whether it is certain what slug a title becomes: ASCII without control characters or HTML entities."""
    return title.isascii() and title.isprintable() and not _ENTITY.search(title)


def slugify(title: str) -> str:
    """The slug of a plain title, as Kaggle's client makes it (it asks python-slugify)."""
    lower = re.sub(r"(?<=\d),(?=\d)", "", title.replace("'", "-").lower())
    return re.sub(r"[^a-z0-9]+", "-", lower).strip("-")


def halves(reference: str) -> tuple[str, str]:
    """Owner and slug of `owner/slug`; one that is not there is empty."""
    owner, _, slug = reference.partition("/")
    return owner, slug
