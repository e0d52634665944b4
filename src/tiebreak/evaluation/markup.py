"""HTML in which every text is escaped unless it was made here: what comes from data can never become a tag."""

from __future__ import annotations

import html
from importlib.resources import files
from typing import Final

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""A page runs nothing and loads nothing."""

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


def document(title: str, *body: Markup) -> str:
    """A page of its own, with the style of every report: no script, nothing loaded from anywhere."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"tiebreak: {title}"),
        tag("style", Markup(files("tiebreak.evaluation").joinpath("page.css").read_text(encoding="utf-8"))),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', tag('main', *body)), lang='en')}\n"


def join(*children: str, between: str = "") -> Markup:
    """Texts and elements one after the other."""
    return Markup(between.join(child if isinstance(child, Markup) else _escape(child) for child in children))


def _escape(text: str) -> str:
    # A NUL or another control character is not allowed in HTML, escaped or not.
    shown = "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return html.escape(shown)
