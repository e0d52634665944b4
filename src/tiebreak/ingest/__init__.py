"""Files as users have them into the table of comparisons: one module a format, in bounded memory.

```python
table = tb.read("votes.csv")
```

docs/data.md says which files are read, and by which rules.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from tiebreak import comparisons
from tiebreak.ingest.importing import import_file
from tiebreak.ingest.options import FORMATS, BothBad, OnBad, Options, Report
from tiebreak.ingest.streaming import stream


def read(
    *paths: str | Path,
    format: str = "auto",
    mapping: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    both_bad: BothBad = "tie",
    on_bad: OnBad = "stop",
    seed: int = 0,
) -> pl.DataFrame:
    """Read files of votes into one validated table.

    Args:
        *paths: Files, in order; `-` is standard input.
        format: Name of a format; recognised where it is `auto`.
        mapping: Our column -> their column.
        labels: Their label -> a, b or tie.
        both_bad: A verdict "both are bad" is a `tie`, or the row is dropped (`drop`).
        on_bad: A row that cannot be read stops the work (`stop`), or is left out with a warning (`skip`).
        seed: Decides on which side a chosen answer goes.

    Raises:
        DataError: A file cannot be read; `BadRowsError` names the first 20 bad rows and how many there are.
        UsageError: An argument is wrong.
    """
    options = Options(format, mapping or {}, labels or {}, both_bad, on_bad, seed)
    report = Report()
    tables = list(stream(paths, options, report=report))
    if report.rejected:
        warnings.warn(f"{report.rejected} bad rows left out", stacklevel=2)
    return pl.concat(tables) if tables else pl.DataFrame(schema=comparisons.SCHEMA)


__all__ = ["FORMATS", "Options", "Report", "import_file", "read", "stream"]
