"""Any file whose columns the user names: `--map prompt=question --map response_a=left ...`."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final

from tiebreak.comparisons import TEXTS
from tiebreak.errors import UsageError
from tiebreak.ingest import arena, preference, tiebreak
from tiebreak.ingest.options import Options
from tiebreak.ingest.rows import Plan, Sample

NAME: Final = "mapped"


def check(sample: Sample, options: Options, where: str) -> None:
    """Refuse a mapping to columns that the file does not have.

    Raises:
        UsageError: With the columns that are there, and the nearest name.
    """
    for ours, theirs in options.mapping.items():
        if theirs not in sample.columns:
            near = get_close_matches(theirs, sample.columns, n=1)
            raise UsageError(
                f"{where}: no column {theirs!r} to map {ours} to",
                expected=f"one of {', '.join(sample.columns)}",
                mend=f"--map {ours}={near[0]}" if near else "",
            )


def plan(sample: Sample, options: Options, where: str) -> Plan:
    """How to read the rows of this file: as two answers, as chosen and rejected, or as two conversations.

    Raises:
        UsageError: The mapping leaves out a column that is needed.
    """
    names = {*options.mapping, *sample.columns}
    if names >= {"chosen", "rejected"}:
        return preference.plan(sample, options)
    if names >= {"conversation_a", "conversation_b"}:
        return arena.plan(sample, options)
    lacking = [name for name in TEXTS if name not in names]
    if lacking:
        raise UsageError(
            f"{where}: nothing is mapped to {', '.join(lacking)}",
            expected="prompt, response_a and response_b, or chosen and rejected, or conversation_a and conversation_b",
            mend=" ".join(f"--map {name}=YOUR_COLUMN" for name in lacking),
        )
    return tiebreak.plan(sample, options)
