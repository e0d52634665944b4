"""Every error that tiebreak raises on purpose.

```
TiebreakError          1   unexpected
├── UsageError         2   the command line or a recipe is wrong
├── DataError          3   a file or a table is wrong
│   ├── BadRowsError   3   rows that could not be read (carries them)
│   └── BundleError    3   a judge bundle is damaged, foreign or too new
├── MissingExtraError  4   an optional dependency is not installed
├── ResourceError      5   memory, disk or a device is not enough
├── GateError          6   a quality gate failed
│   └── CollapseError  6   a calibrator or teacher is no better than a constant
└── StoppedError      75   asked to stop; the state is saved, the same command goes on
```

The number is the exit code of the command line. Each message has three parts: what was wrong and where, what was
expected, and the command that mends it.
"""

from __future__ import annotations


class TiebreakError(Exception):
    """Root of the tree. `str()` gives one line with all three parts.

    Args:
        wrong: What was wrong and where (file, row, value).
        expected: What would have been right.
        mend: A command or an action that mends it.
    """

    exit_code = 1

    def __init__(self, wrong: str, *, expected: str = "", mend: str = "") -> None:
        self.wrong = wrong
        self.expected = expected
        self.mend = mend
        parts = [wrong]
        if expected:
            parts.append(f"expected {expected}")
        if mend:
            parts.append(f"to mend: {mend}")
        super().__init__("; ".join(parts))


class UsageError(TiebreakError):
    """The command line, an argument or a recipe is wrong."""

    exit_code = 2


class DataError(TiebreakError):
    """A file or a table does not hold what it should."""

    exit_code = 3


class BadRowsError(DataError):
    """Some rows of a file could not be read.

    Attributes:
        rows: The first bad rows as `(file, row number from 1, reason)`.
        count: How many rows are bad in all.
    """

    def __init__(self, rows: list[tuple[str, int, str]], count: int, *, mend: str) -> None:
        self.rows = rows
        self.count = count
        listing = "\n".join(f"  {file}, row {row}: {reason}" for file, row, reason in rows)
        more = f"\n  ... and {count - len(rows)} more" if count > len(rows) else ""
        super().__init__(
            f"{count} row{'s' if count != 1 else ''} cannot be read:\n{listing}{more}\n(a row counts from 1)", mend=mend
        )


class BundleError(DataError):
    """A judge bundle is damaged, foreign, or written by a newer version."""


class MissingExtraError(TiebreakError):
    """An optional dependency is not installed.

    Args:
        module: The import that failed.
        extra: The extra of tiebreak that brings it.
        purpose: What needs it.
    """

    exit_code = 4

    def __init__(self, module: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{module}', which is not installed",
            mend=f'pip install "tiebreak[{extra}]"',
        )


class ResourceError(TiebreakError):
    """Memory, disk or a device is not enough."""

    exit_code = 5


class GateError(TiebreakError):
    """A quality gate failed: the work is done and written, the figure is not good enough."""

    exit_code = 6


class CollapseError(GateError):
    """A calibrator or a teacher turned out to be no better than a constant."""


class StoppedError(TiebreakError):
    """Long work was asked to stop and has saved where it is: the same command goes on from there.

    75 is EX_TEMPFAIL of sysexits.h; batch systems can be told to queue a job again on it.
    """

    exit_code = 75
