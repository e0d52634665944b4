"""What the verbs of `combine` share: where judges are written, how they run, how figures are shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tiebreak.errors import UsageError

if TYPE_CHECKING:
    import polars as pl


def check_output(output: Path, inputs: Sequence[Path]) -> None:
    """See before any work that a bundle can be written there.

    Raises:
        UsageError: Something that is no judge stands there, it is one of the inputs, or there is no such place.
    """
    from tiebreak.bundle import MANIFEST

    if any(output.resolve() == path.resolve() for path in inputs):
        raise UsageError(f"-o {output} is one of the judges that are combined", expected="another place")
    if not output.resolve().parent.is_dir():
        raise UsageError(f"{output.parent} is not a directory", mend=f"mkdir -p {output.parent}")
    foreign = output.is_file() or (output.is_dir() and any(output.iterdir()) and not (output / MANIFEST).is_file())
    if foreign:
        raise UsageError(f"{output} exists and is no judge bundle", expected="a new place, or an empty folder")


def comparisons(path: Path, input_format: str, mapping: list[str] | None) -> pl.DataFrame:
    """Comparisons with their texts, from any known file."""
    from tiebreak import ingest
    from tiebreak.cli import options

    return ingest.read(path, format=input_format, mapping=options.parse_map(mapping))


def still() -> None:
    """Keep the log quiet of bitsandbytes, which regrets on a CPU that it has no kernel from the hub."""
    import logging

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def estimate(values: Sequence[float | None], *, signed: bool = False) -> str:
    """[value, low, high] for people."""
    form = "+.4f" if signed else ".4f"
    value, low, high = ("-" if one is None else format(one, form) for one in values)
    return value if low == "-" else f"{value} [{low}, {high}]"


def megabytes(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e6:,.1f} MB"
