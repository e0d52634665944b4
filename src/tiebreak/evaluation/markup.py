"""HTML in which every text is escaped unless it was made here: what comes from data can never become a tag."""

from __future__ import annotations

import html
from typing import Final

_VOID: Final = frozenset({"meta", "br", "hr"})


class Markup(str):
    """Text that is HTML already. Made by `tag` and `join`; wrap nothing else in it that holds data."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str) -> Markup:
    """An element. Children that are not `Markup` are escaped, and so is every attribute.

    Args:
        name: Name of the element.
        children: Texts and elements inside it.
        attributes: A trailing underscore is dropped and others become hyphens, as in `class_` and `aria_label`.
    """
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: str, between: str = "") -> Markup:
    """Texts and elements one after the other."""
    return Markup(between.join(child if isinstance(child, Markup) else _escape(child) for child in children))


def _escape(text: str) -> str:
    # A NUL or another control character is not allowed in HTML, escaped or not.
    shown = "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return html.escape(shown)
