"""Verify the submission.

What was written is read back and held against the test and the sample submission, by nothing but Python's own csv,
and only then put where Kaggle looks for it. How many rows the cheaper judge did, and how many connections were refused
(none: that is the proof), is in `tiebreak.json` beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiebreak.kaggle.kernel.reporting import NotebookError
from tiebreak.kaggle.kernel.rows import table_of

ROUNDING = 1e-6
WHOLES = ({"p_a", "p_b", "p_tie"}, {"p_a_without_tie", "p_b_without_tie"})
"""What a row's probabilities add up to 1 of."""


def verify(submission: Path, sample: Path, ids: Sequence[str], form: dict[str, Any]) -> int:
    """Check a submission; gives the number of its rows."""
    (header, rows), (wanted, listed) = table_of(submission), table_of(sample)
    wrong = [] if header == wanted else [f"columns {', '.join(header)}, expected {', '.join(wanted)}"]
    ragged = [row for row in rows if len(row) != len(header)]
    if ragged:
        wrong.append(f"{len(ragged)} rows have not {len(header)} cells (for example {','.join(ragged[0])})")
    if not wrong:
        place = header.index(form["id"])
        wrong += wrong_ids([row[place] for row in rows], ids, [row[place] for row in listed])
        wrong += wrong_cells(header, rows, form)
    if wrong:
        raise NotebookError(f"{submission.name} is not a valid submission: " + "; ".join(wrong))
    return len(rows)


def wrong_ids(named: Sequence[str], ids: Sequence[str], listed: Sequence[str]) -> list[str]:
    """What is wrong with the ids: doubled, missing, surplus, in another order than the sample's."""
    found = []
    there, due = set(named), set(ids)
    if len(there) < len(named):
        found.append(f"{len(named) - len(there)} ids occur again")
    for what, names in (("missing", due - there), ("not in the test", there - due)):
        if names:
            found.append(f"{len(names)} ids are {what} (for example {min(names)})")
    if not found and list(named) != list(listed):
        found.append("the ids are not in the order of the sample")
    return found


def wrong_cells(header: list[str], rows: list[list[str]], form: dict[str, Any]) -> list[str]:
    """The first row whose cells are no class, no probabilities, or probabilities that do not add up to 1."""
    place = {content: header.index(name) for name, content in form["columns"].items()}
    labels = form["labels"]
    words = {"winner": [*labels.values()], "winner_without_tie": [labels["a"], labels["b"]]}
    numbers = sorted(at for content, at in place.items() if content not in words)
    for number, row in enumerate(rows, start=1):
        for content in words.keys() & place.keys():
            if row[place[content]] not in words[content]:
                return [f"row {number}: {row[place[content]]} is none of {', '.join(words[content])}"]
        if not all(is_probability(row[at]) for at in numbers):
            return [f"row {number}: {', '.join(row[at] for at in numbers)} are not probabilities"]
        for whole in WHOLES:
            total = sum(float(row[place[content]]) for content in whole & place.keys())
            if whole <= place.keys() and abs(total - 1) > ROUNDING:
                return [f"row {number}: the probabilities add up to {total:.9g}"]
    return []


def is_probability(text: str) -> bool:
    """Whether a cell is a number from 0 to 1."""
    try:
        return 0 <= float(text) <= 1 + ROUNDING
    except ValueError:
        return False
