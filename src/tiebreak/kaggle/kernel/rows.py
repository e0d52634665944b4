"""Know which rows are wanted.

Those of the test, in the order of the sample submission. The hidden test set has more rows than the one that everybody
sees, and its sample has them too; where only the test was exchanged, the ids of the test are taken.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiebreak.kaggle.kernel.reporting import NotebookError, Report

csv.field_size_limit(1 << 30)

IDS_OF_PARQUET = """
import json, polars, sys
table = polars.scan_parquet(sys.argv[1])
header = table.collect_schema().names()
ids = [table.select(name).collect().to_series() for name in sys.argv[2:] if name in header][:1]
print(json.dumps([header, *(found.cast(polars.String).to_list() for found in ids)]))
"""


def id_columns(settings: dict[str, Any]) -> list[str]:
    """What the column of the ids may be called in the test, as `tiebreak predict` reads it; the first that is there."""
    told = settings["map"].get("id")
    return [told] if told else ["id", settings["submission"]["id"]]


def ids_of(path: Path, columns: Sequence[str], environment: dict[str, str]) -> list[str]:
    """The ids of a CSV or Parquet file, from the first of these columns that it has."""
    if path.suffix == ".parquet":
        command = [sys.executable, "-c", IDS_OF_PARQUET, str(path), *columns]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotebookError(f"{path} cannot be read:\n{done.stderr[-1000:].strip()}")
        header, *found = json.loads(done.stdout)
    else:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header = next(reader, [])
            place = next((header.index(name) for name in columns if name in header), None)
            found = [] if place is None else [[row[place] for row in reader if row]]
    if not found:
        raise NotebookError(f"{path}: columns {', '.join(header)}", expected=f"a column {' or '.join(columns)}")
    return [str(name) for name in found[0]]


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
