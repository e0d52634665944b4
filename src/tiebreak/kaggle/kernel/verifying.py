"""Verify the submission.

The hidden test set has more rows than the one that everybody sees, and its sample submission has them too. What was
written is read back and held against both, by nothing but Python's own csv.
"""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiebreak.kaggle.kernel.reporting import NotebookError, Report

csv.field_size_limit(1 << 30)

IDS_OF_PARQUET = """
import json, polars, sys
ids = polars.read_parquet(sys.argv[1], columns=[sys.argv[2]]).to_series()
print(json.dumps(ids.cast(polars.String).to_list()))
"""


def ids_of(path: Path, column: str, environment: dict[str, str]) -> list[str]:
    """The ids of a CSV or Parquet file."""
    if path.suffix == ".parquet":
        command = [sys.executable, "-c", IDS_OF_PARQUET, str(path), column]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotebookError(f"{path} cannot be read:\n{done.stderr[-1000:].strip()}", expected=f"a column {column}")
        return [str(item) for item in json.loads(done.stdout)]
    header, rows = table_of(path)
    if column not in header:
        raise NotebookError(f"{path}: columns {', '.join(header)}", expected=f"a column {column}")
    return [row[header.index(column)] for row in rows]


def table_of(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = [row for row in csv.reader(stream) if row]
    return (rows[0], rows[1:]) if rows else ([], [])


def fitting_sample(
    sample: Path | None, ids: Sequence[str], form: dict[str, Any], scratch: Path, report: Report
) -> Path:
    """The sample submission; or one with the ids of the test, where there is none or it is that of another test."""
    header = [form["id"], *form["columns"]]
    if sample is None:
        report.warn("there is no sample submission: the ids of the test are taken")
    else:
        given, rows = table_of(sample)
        if sorted(given) != sorted(header):
            raise NotebookError(
                f"{sample}: columns {', '.join(given)}", expected=", ".join(header),
                mend="tiebreak kaggle pack --sample, with the sample submission of this competition",
            )  # fmt: skip
        place = given.index(form["id"])
        if sorted(row[place] for row in rows) == sorted(ids):
            return sample
        report.warn(f"{sample.name} ({len(rows):,} rows) has other ids than the test ({len(ids):,}): these are taken")
        header = given
    made = scratch / "sample_submission.csv"
    with made.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([name if column == form["id"] else "0" for column in header] for name in ids)
    return made


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
