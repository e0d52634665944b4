"""Verify the submission.

What was written is read back and held against the test and the sample submission, by nothing but Python's own csv,
and only then put where Kaggle looks for it. How many rows the cheaper judge did, and how many connections were refused
(none: that is the proof), is in `tiebreak.json` beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiebreak.kaggle.kernel.reporting import NotebookError
from tiebreak.kaggle.kernel.rows import table_of


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
    contents = form["columns"]
    winners = [place for place, name in enumerate(header) if contents.get(name, "").startswith("winner")]
    numbers = [place for place, name in enumerate(header) if contents.get(name, "").startswith("p_")]
    held = {contents[header[place]] for place in numbers}
    complete = held in ({"p_a", "p_b", "p_tie"}, {"p_a_without_tie", "p_b_without_tie"})
    words = set(form["labels"].values())
    for number, row in enumerate(rows, start=1):
        if not {row[place] for place in winners} <= words:
            return [f"row {number}: {[row[place] for place in winners]} is none of {', '.join(sorted(words))}"]
        try:
            values = [float(row[place]) for place in numbers]
        except ValueError:
            values = [math.nan]
        if not all(0 <= value <= 1 for value in values):
            return [f"row {number}: {', '.join(row[place] for place in numbers)} are not probabilities"]
        if complete and abs(sum(values) - 1) > 1e-6:
            return [f"row {number}: the probabilities add up to {sum(values)}"]
    return []
