"""Contributions in plain words: two hundred features summed into some twenty reasons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from tiebreak.judges.features import properties
from tiebreak.judges.features.model import Contributions
from tiebreak.judges.features.pairs import Chosen
from tiebreak.judges.features.texts import Measured
from tiebreak.judges.features.wording import Terms, Vocabulary
from tiebreak.judges.judge import Reason

Counts = dict[str, float]


@dataclass(frozen=True)
class _Row:
    prompt: Counts
    a: Counts
    b: Counts
    shared: Counts


def _length(row: _Row) -> str:
    a, b = row.a["chars"], row.b["chars"]
    if not (a and b):
        return f"only {'A' if a else 'B'} says anything" if a or b else "neither answer says anything"
    if max(a, b) / min(a, b) < 1.05:
        return "both answers are about equally long"
    return f"{'A' if a > b else 'B'} is {max(a, b) / min(a, b):.1f} times as long"


def _counted(one: str, many: str, properties: tuple[str, ...], row: _Row) -> str:
    """For example "A has 3 code blocks, B none"."""
    a, b = (int(sum(side[name] for name in properties)) for side in (row.a, row.b))
    if a == b:
        return f"neither has {many}" if a == 0 else f"each has {a} {one if a == 1 else many}"
    first, second = ("A", "B") if a > b else ("B", "A")
    high, low = max(a, b), min(a, b)
    return f"{first} has {high} {one if high == 1 else many}, {second} {low or 'none'}"


def _whether(singular: str, plural: str, properties: tuple[str, ...], row: _Row) -> str:
    """For example "only A apologises"."""
    a, b = (any(side[name] for name in properties) for side in (row.a, row.b))
    if a == b:
        return f"both answers {plural}" if a else f"neither answer {singular}"
    return f"only {'A' if a else 'B'} {singular}"


def _share(most: str, even: str, above: str, below: str, row: _Row) -> str:
    """Which answer has the larger share of something, for example "A varies its words more"."""
    a, b = (side[above] / (side[below] + 1) for side in (row.a, row.b))
    if abs(a - b) < 0.02 * max(a, b, 1e-9):
        return even
    return f"{'A' if a > b else 'B'} {most}"


def _letters(row: _Row) -> str:
    a, b = ((side["bytes"] - side["chars"]) / (side["chars"] + 1) for side in (row.a, row.b))
    if abs(a - b) < 0.02:
        return "both use the same kind of letters"
    return f"{'A' if a > b else 'B'} has more letters and signs beyond ASCII"


def _prompt_words(row: _Row) -> str:
    a, b = row.shared["p_a_words"], row.shared["p_b_words"]
    if a == b:
        return "both answers take up as many words of the question"
    return f"{'A' if a > b else 'B'} takes up more words of the question ({int(max(a, b))} against {int(min(a, b))})"


def _likeness(row: _Row) -> str:
    if row.shared["same"]:
        return "the answers are the same text"
    words = row.shared["a_b_words"]
    share = words / max(row.a["distinct_words"] + row.b["distinct_words"] - words, 1)
    if share > 0.8:
        return "both answers are nearly the same text"
    return f"the answers share {share:.0%} of their words"


def _typing(row: _Row) -> str:
    return "habits of typing: blanks at edges, dashes, curly quotes"


def _question(row: _Row) -> str:
    turns, words = int(row.shared["turns"]), int(row.prompt["words"])
    return f"what was asked ({turns} turn{'s' if turns > 1 else ''}, {words} word{'s' if words != 1 else ''})"


@dataclass(frozen=True)
class _Group:
    """Features that are told as one reason, and how to say it."""

    features: str
    say: Callable[[_Row], str]


def _count(one: str, many: str, *properties: str) -> Callable[[_Row], str]:
    return partial(_counted, one, many, properties)


def _which(singular: str, plural: str, *properties: str) -> Callable[[_Row], str]:
    return partial(_whether, singular, plural, properties)


_GROUPS: Final = (
    _Group("chars words last_chars words_per_line lines last_lines", _length),
    _Group("sentences words_per_sentence paragraphs", _count("sentence", "sentences", "sentences")),
    _Group("headers bold tables", _count("heading or bold part", "headings or bold parts", "headers", "bold")),
    _Group(
        "bullets numbered bullet_share last_bullets last_numbered stars dots bold_items",
        _count("list item", "list items", "bullets", "numbered"),
    ),
    _Group(
        "fences last_fences code_share code_chars inline_code",
        _count("sign of code", "signs of code", "fences", "inline_code"),
    ),
    _Group("latex", _count("formula sign", "formula signs", "latex")),
    _Group(
        "links urls quotes citations", _count("link or quotation", "links or quotations", "links", "urls", "quotes")
    ),
    _Group("refusals last_refusals", _which("refuses or speaks as an AI", "refuse or speak as an AI", "refusals")),
    _Group(
        "apologies ignorance",
        _which(
            "apologises or says what it does not know",
            "apologise or say what they do not know",
            "apologies",
            "ignorance",
        ),
    ),
    _Group(
        "hedges contrasts cautions",
        _count("hedging word or caution", "hedging words or cautions", "hedges", "contrasts", "cautions"),
    ),
    _Group(
        "examples steps conclusions",
        _count("sign of reasoning", "signs of reasoning", "examples", "steps", "conclusions"),
    ),
    _Group(
        "ready_opening offer_at_end",
        _which(
            "begins readily or ends with an offer",
            "begin readily or end with an offer",
            "ready_opening",
            "offer_at_end",
        ),
    ),
    _Group("questions question_at_end last_question_at_end", _count("question", "questions", "questions")),
    _Group(
        "finished_end last_finished_end lower_start empty leaked_roles",
        _which("ends like a finished text", "end like finished texts", "last_finished_end"),
    ),
    _Group(
        "first_person second_person first_person_share second_person_share",
        _count("\u201cI\u201d or \u201cyou\u201d", "\u201cI\u201d or \u201cyou\u201d", "first_person", "second_person"),
    ),
    _Group(
        "numbers emoji exclamations",
        _count("number or exclamation mark", "numbers or exclamation marks", "numbers", "exclamations"),
    ),
    _Group(
        "capitals capital_share commas commas_per_word colons parentheses quotations chars_per_word",
        partial(_share, "uses longer words", "both use words of about the same length", "chars", "words"),
    ),
    _Group(
        "distinct_share repeated_share repeated_lines",
        partial(_share, "repeats itself less", "both repeat themselves as much", "distinct_words", "words"),
    ),
    _Group(
        "foreign_share language_mismatch",
        _letters,
    ),
    _Group("space_at_start space_at_end space_at_line_end indented curly_quotes dashes", _typing),
    _Group("prompt_covered from_prompt prompt_echoed", _prompt_words),
    _Group("same same_start words_in_common pairs_in_common", _likeness),
)
_OTHER: Final = _Group("", _question)
_SIGNS: Final = {properties.BEGIN: "[start]", properties.END: "[end]", "\n": "\u21b5"}
_SHOWN: Final = 3
"""Terms of the wording that are named."""

_HOME: Final = {name: position for position, group in enumerate(_GROUPS) for name in group.features.split()}


def _home(feature: str) -> int:
    """The group a feature is told in; what concerns the question alone goes to the last."""
    return _HOME.get(feature.removeprefix("sum_").removeprefix("gap_"), len(_GROUPS))


def unplaced(chosen: Chosen) -> list[str]:
    """Features of the answers that no reason tells of. There should be none."""
    names = (*chosen.signed, *chosen.symmetric)
    return [name for name in names if _home(name) == len(_GROUPS) and not name.startswith(("prompt_", "turns"))]


def reasons(measured: Measured, parts: Contributions, chosen: Chosen, vocabulary: Vocabulary) -> list[list[Reason]]:
    """The reasons of each comparison, largest first, those that add nothing left out."""
    symmetric = [_home(name) for name in chosen.symmetric]
    versus = _sums(parts.versus, [_home(name) for name in chosen.signed] + symmetric)
    tie = _sums(parts.tie, symmetric)
    found = []
    for row in range(len(parts.tie)):
        told = _tell(_row(measured, row), versus[:, row], tie[:, row])
        told += [_wording(parts.wording, row, vocabulary), Reason("base rate", 0.0, parts.base)]
        kept = [reason for reason in told if reason.toward_a or reason.toward_tie]
        found.append(sorted(kept, key=lambda reason: -max(abs(reason.toward_a), abs(reason.toward_tie))))
    return found


def _tell(row: _Row, versus: np.ndarray, tie: np.ndarray) -> list[Reason]:
    return [
        Reason(group.say(row), float(toward_a), float(toward_tie))
        for group, toward_a, toward_tie in zip((*_GROUPS, _OTHER), versus, tie, strict=True)
    ]


def _wording(sides: tuple[Terms, Terms], row: int, vocabulary: Vocabulary) -> Reason:
    """The wording, with the terms that tell most."""
    adds = [dict(zip(*_entries(side, row), strict=True)) for side in sides]
    tells = {term: adds[0].get(term, 0.0) - adds[1].get(term, 0.0) for term in {**adds[0], **adds[1]}}
    strongest = sorted(tells, key=lambda term: (-abs(tells[term]), term))[:_SHOWN]
    shown = ", ".join(f"{_quoted(vocabulary.terms[term])} in {_sides(term, adds)}" for term in strongest)
    total = [float(np.bincount(side.rows, weights=side.values, minlength=side.height)[row]) for side in sides]
    return Reason(f"the wording, most of all {shown}" if shown else "the wording", total[0] - total[1], 0.0)


def _entries(side: Terms, row: int) -> tuple[list[int], list[float]]:
    first, last = np.searchsorted(side.rows, [row, row + 1])
    return side.terms[first:last].tolist(), side.values[first:last].tolist()


def _sides(term: int, adds: list[dict[int, float]]) -> str:
    return " and ".join(side for side, added in zip("AB", adds, strict=True) if term in added)


def _quoted(term: str) -> str:
    for sign, name in _SIGNS.items():
        term = term.replace(sign, name)
    return f"\u201c{term}\u201d"


def _sums(contributions: np.ndarray, homes: list[int]) -> np.ndarray:
    result = np.zeros((len(_GROUPS) + 1, len(contributions)))
    for column, home in zip(contributions.T, homes, strict=True):
        result[home] += column
    return result


def _row(measured: Measured, row: int) -> _Row:
    sides = (measured.prompt, measured.a, measured.b, measured.shared)
    return _Row(*({name: float(column[row]) for name, column in side.items()} for side in sides))
