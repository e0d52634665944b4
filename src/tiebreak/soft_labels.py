"""The table between teachers and students: what one teacher says of some comparisons, and where that came from.

One row is one label of one comparison by one teacher. A row meets its comparison by `id` and by `content`, the hash of
the texts that were judged; it never meets it by its position. `in_sample` says whether the teacher was trained on that
very row: a label of that kind tells what the teacher remembers, not what it thinks.

Beside a table of labels lies its audit, `LABELS.audit.json`. A student asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from tiebreak import row_hashes, storage
from tiebreak.comparisons import SOFT
from tiebreak.errors import DataError

SCHEMA: Final[dict[str, pl.DataType]] = {
    "id": pl.String(),
    "content": pl.String(),
    "p_a": pl.Float64(),
    "p_b": pl.Float64(),
    "p_tie": pl.Float64(),
    "swap_gap": pl.Float64(),
    "truncated": pl.Boolean(),
    "teacher": pl.String(),
    "revision": pl.String(),
    "rendering": pl.String(),
    "fold": pl.Int64(),
    "in_sample": pl.Boolean(),
}
"""Column names, types and order.

- `content`: `row_hashes.content` of the row that was judged.
- `swap_gap`, `truncated`: as in predictions.
- `teacher`: name of the judge, without its fold.
- `revision`: first 16 digits of the sha256 of its `judge.json`, which holds the sha256 of its weights; several are
  joined by "+" where a label is the mean of several fold teachers.
- `rendering`: fingerprint of the token ids that its template and tokenizer give; null for a judge that reads no tokens.
- `fold`: of the fold teacher that gave the label; null for a teacher without folds and for a mean of several.
- `in_sample`: whether the row was in the teacher's training data; null where the bundle does not say.
"""

PSEUDO: Final = "pseudo:"
"""`source` of a comparison without a vote, whose p_a, p_b, p_tie are a teacher's: this and the teacher's name."""


class Audit(BaseModel):
    """What `tiebreak teach audit` found, beside the labels that it is about.

    Attributes:
        labels_sha256: Of the file of labels.
        teacher: Its name.
        rows: Labels.
        passed: Whether nothing was found against the teacher.
        faults: What was found against it, in plain words.
        forced: Whether it is used although something was.
        figures: Everything measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels_sha256: str
    teacher: str
    rows: int
    passed: bool
    faults: list[str] = Field(default_factory=list)
    forced: bool = False
    figures: dict[str, JsonValue] = Field(default_factory=dict)


def validate(frame: pl.DataFrame, *, where: str = "soft labels") -> pl.DataFrame:
    """Check a table of labels and bring it to `SCHEMA`.

    Raises:
        DataError: A column is missing, an id occurs twice, or a row does not hold three probabilities with sum 1.
    """
    needed = ("id", "content", *SOFT, "teacher")
    if missing := [name for name in needed if name not in frame.columns]:
        raise DataError(
            f"{where}: column{'s' if len(missing) > 1 else ''} {', '.join(missing)} missing",
            expected="a table of tiebreak teach label",
            mend="tiebreak teach label VOTES --judge TEACHER -o labels.parquet",
        )
    table = frame.select(
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in SCHEMA.items()
    )
    twice = table.filter(table["id"].is_duplicated())
    if twice.height:
        raise DataError(f"{where}: id {twice['id'][0]!r} occurs more than once", expected="one label an id")
    p = table.select(SOFT).to_numpy()
    bad = ~(np.isfinite(p).all(axis=1) & (p >= 0).all(axis=1) & (np.abs(p.sum(axis=1) - 1) < 1e-6))
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"{where}, row {row + 1} (id {table['id'][row]!r}): p_a, p_b, p_tie = {p[row].tolist()}"
            + (f" ({int(bad.sum())} such rows)" if bad.sum() > 1 else ""),
            expected="three finite probabilities with sum 1",
        )
    return table


def read(paths: Sequence[Path]) -> pl.DataFrame:
    """One table out of one file, or out of the files of its shards.

    Raises:
        DataError: A file is no table of labels, or two files label the same id.
    """
    where = ", ".join(str(path) for path in paths)
    return validate(pl.concat([pl.read_parquet(path) for path in paths], how="diagonal_relaxed"), where=where)


def files(named: str | Path) -> list[Path]:
    """The files of one teacher's labels: the one that is named, or its shards by a pattern such as `labels.shard-*`.

    Raises:
        DataError: There is none.
    """
    path = Path(named)
    if path.is_file():
        return [path]
    found = sorted(Path(match) for match in glob(str(named)) if Path(match).is_file())
    if not found:
        raise DataError(
            f"no soft labels at {named}",
            expected="a file of tiebreak teach label, or a quoted pattern for its shards",
            mend="tiebreak teach label VOTES --judge TEACHER -o labels.parquet",
        )
    return found


def align(labels: pl.DataFrame, table: pl.DataFrame, *, where: str = "soft labels") -> pl.DataFrame:
    """The labels of some comparisons, row by row. Labels of other comparisons are left out.

    Args:
        labels: A validated table of labels.
        table: Comparisons with distinct ids.
        where: Name of the labels, for messages.

    Raises:
        DataError: A comparison has no label, or its texts are not those that were judged.
    """
    rows = table.select("id").with_columns(row_hashes.content(table).alias("judged"))
    found = rows.join(labels, on="id", how="left", maintain_order="left")
    lost = found.filter(pl.col("p_a").is_null())
    if lost.height:
        raise DataError(
            f"{where}: {lost.height:,} of {table.height:,} comparisons have no label "
            f"(for example id {lost['id'][0]!r})",
            expected="a label for each, by id",
            mend="tiebreak teach label on the very votes that are trained on; labels are never matched by position",
        )
    other = found.filter(pl.col("content") != pl.col("judged"))
    if other.height:
        raise DataError(
            f"{where}: the texts of {other.height:,} comparisons are not those that were judged (for example id "
            f"{other['id'][0]!r})",
            expected="labels of these very texts: the ids agree, the content does not",
            mend="tiebreak teach label on the very votes that are trained on",
        )
    return found.select(SCHEMA.keys())


def audit_path(labels: Path) -> Path:
    """Where the audit of a file of labels lies."""
    return labels.with_name(f"{labels.name}.audit.json")


def write_audit(labels: Path, audit: Audit) -> None:
    """Put an audit beside its labels."""
    storage.write_text(audit_path(labels), audit.model_dump_json(indent=1) + "\n")


def read_audit(labels: Path) -> Audit:
    """The audit of a file of labels.

    Raises:
        DataError: There is none, it is of another file, or it refused the labels.
    """
    path = audit_path(labels)
    mend = f"tiebreak teach audit {labels} --votes VOTES"
    if not path.is_file():
        raise DataError(f"{labels} was not audited", expected=f"{path.name} beside it", mend=mend)
    try:
        audit = Audit.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as error:
        raise DataError(f"{path} is not an audit", expected="what tiebreak teach audit wrote", mend=mend) from error
    if audit.labels_sha256 != storage.sha256(labels):
        raise DataError(f"{labels} is not the file that was audited", expected="the same bytes", mend=mend)
    if not audit.passed and not audit.forced:
        raise DataError(
            f"{labels}: the audit refused teacher {audit.teacher}: {'; '.join(audit.faults)}",
            expected="a teacher that is better than the class shares, with a label of its own for every row",
            mend=f"{mend} --force overrules it, which the student's bundle will say",
        )
    return audit
