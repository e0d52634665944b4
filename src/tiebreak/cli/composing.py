"""What `combine blend` and `combine cascade` share: opinions from the command line, and where the result goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tiebreak.cli import combining, console, judged
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from tiebreak.combine.asking import Opinion, Source
    from tiebreak.judges import Runtime

TABLES: Final = frozenset({".parquet", ".csv", ".jsonl"})

Labels = Annotated[
    Path | None, typer.Option(help="Votes for the same ids: any votes file, or just id and label; judges need texts.")
]
InSample = Annotated[
    bool, typer.Option("--in-sample", help="Ask judges even about votes that they were trained on; else an error.")
]
Refer = Annotated[
    bool, typer.Option("--refer", help="Name where the judges lie, with their digest, instead of copying them.")
]
Name = Annotated[str | None, typer.Option(help="Name of the judge. [default: that of OUTPUT]", show_default=False)]


def is_bundle(output: Path, inputs: Sequence[Source]) -> bool:
    """Whether the output is a bundle and not a table, and that it can be written.

    Raises:
        UsageError: It is neither, or something else stands there.
    """
    from tiebreak.predict import format_of

    if output.suffix.lower() in TABLES:
        format_of(str(output))
        return False
    if output.suffix and not output.is_dir():
        raise UsageError(f"-o {output}", expected=f"{', '.join(sorted(TABLES))} for a table, or a folder for a bundle")
    combining.check_output(output, [source.judge for source in inputs if source.judge is not None])
    return True


def opinions(
    sources: Sequence[Source], votes: pl.DataFrame, runtime: Runtime, *, in_sample: bool = False
) -> list[Opinion]:
    """Read the tables and ask the judges that come without one."""
    from tiebreak.combine import asking

    for source in sources:
        if source.predictions is None:
            warning = asking.unseen(source, votes, in_sample=in_sample)
            if warning:
                console.say(f"warning: {warning}")
    found = []
    for source in sources:
        if source.predictions is not None:
            found.append(
                asking.Opinion(source.name, judged.predictions(source.predictions, source.columns), source.judge)
            )
            continue
        with console.progress(source.name, total=votes.height) as advance:
            found.append(asking.ask(source, votes, runtime, advance=advance))
    return found


def tables_alone(found: Sequence[Opinion]) -> None:
    """Say that a bundle cannot judge where a judge is not known."""
    bare = [one.name for one in found if one.judge is None]
    if bare:
        console.note(
            f"note: {', '.join(bare)} came without a judge: the bundle holds how they are combined and can be used on "
            "tables with --apply; NAME=PREDICTIONS@JUDGE puts the judge inside"
        )
