"""What `tiebreak predict` reads, and the form of what it writes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tiebreak.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from tiebreak import ingest
    from tiebreak.bundle import Manifest
    from tiebreak.predict.forms import Submission

_SCANS: Final = {".parquet": "scan_parquet", ".csv": "scan_csv", ".jsonl": "scan_ndjson"}


@dataclass(frozen=True)
class Source:
    """The input: opened as often as need be, unless it is a pipe.

    Attributes:
        files: Paths, or `-`.
        reading: How they are read.
        limit: Rows at most.
        rejected: File for rows that cannot be read; None writes none.
    """

    files: list[str]
    reading: ingest.Options
    limit: int | None
    rejected: Path | None

    def tables(self, report: ingest.Report | None = None) -> Iterable[pl.DataFrame]:
        """The comparisons, some at a time."""
        from tiebreak import ingest

        return ingest.stream(
            self.files, self.reading, report=report or ingest.Report(), rejected=self.rejected, limit=self.limit
        )

    def again(self) -> Source:
        """The same rows, for a second look that leaves no trace."""
        return replace(self, rejected=None)

    def identity(self, manifest: Manifest, runtime: Any, chunk_rows: int) -> str:
        """Fingerprint of a run of this judge over these rows."""
        from tiebreak import predict
        from tiebreak.predict import scale

        return predict.identity(
            [Path(file) for file in self.files if file != "-"], manifest, reading=repr(self.reading), limit=self.limit,
            chunk_rows=chunk_rows, runtime=scale.decisive(manifest, runtime),
        )  # fmt: skip

    def rows(self) -> int | None:
        """About how many rows there are, where that costs next to nothing: for the time left, no more."""
        import polars as pl

        found = 0
        for file in self.files:
            scan = _SCANS.get(Path(file).suffix.lower())
            if scan is None:
                return self.limit
            try:
                found += getattr(pl, scan)(file).select(pl.len()).collect().item()
            except (pl.exceptions.PolarsError, OSError):
                return self.limit
        return min(found, self.limit or found)


def submission_of(target: str, sample: Path | None, columns: list[str] | None) -> Submission | None:
    """The form of the submission that is to be written; None for another format.

    Raises:
        UsageError: A column is not told as NAME=CONTENT, or there is no submission.
        DataError: The sample does not say what it wants.
    """
    given = {}
    for pair in columns or []:
        name, _, content = pair.rpartition("=")
        if not (name and content):
            raise UsageError(f"--column {pair!r}", expected="NAME=CONTENT, for example --column prob_left=p_a")
        given[name] = content
    if target != "kaggle":
        if given:
            raise UsageError(f"--column goes with a Kaggle submission, not with {target}", mend="--format kaggle")
        return None
    from tiebreak.predict import forms

    if sample is not None:
        return forms.recognise(sample, given)
    return forms.spelled(given) if given else forms.LMSYS


def with_ids(mapping: dict[str, str], files: list[str], form: Submission | None) -> dict[str, str]:
    """The mapping, with the submission's column of ids for ours, where the input has it under that name and no `id`."""
    if form is None or form.id == "id" or "id" in mapping or files == ["-"]:
        return mapping
    import polars as pl

    for file in files:
        scan = _SCANS.get(Path(file).suffix.lower())
        try:
            names = [] if scan is None else getattr(pl, scan)(file).collect_schema().names()
        except (pl.exceptions.PolarsError, OSError):
            return mapping  # whoever reads it says what is wrong with it
        if form.id not in names or "id" in names:
            return mapping
    return mapping | {"id": form.id}
