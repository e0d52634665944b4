"""`tiebreak combine merge`: an adapter merged into its base."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebreak.cli import combining, console, options

if TYPE_CHECKING:
    import polars as pl

    from tiebreak.combine.merge import Merged

EPILOG = """
Examples:

    tiebreak combine merge student -o merged --validation held-out.parquet

    tiebreak combine merge student -o merged --dtype fp32 --json

    tiebreak combine merge student -o merged --precision auto --validation held-out.parquet
"""


def command(
    judge: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A judge with an adapter.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write the bundle to.")],
    validation: Annotated[
        Path | None, typer.Option(help="Comparisons for the parity figure. [default: the built-in samples]")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Type of the merged weights: base, fp32, bf16 or fp16; the head stays in fp32.")
    ] = "base",
    name: Annotated[
        str | None, typer.Option(help="Name of the judge. [default: as it was]", show_default=False)
    ] = None,
    limit: Annotated[
        float, typer.Option("--max-change", min=0.0, max=1.0, help="Largest change of a probability that is accepted.")
    ] = 0.02,
    force: Annotated[bool, typer.Option("--force", help="Write it although it moved further; recorded.")] = False,
    max_length: options.MaxLength = None,
    max_tokens: options.MaxTokens = None,
    precision: options.Precision = "fp32",
    devices: options.Devices = "auto",
    base: options.Base = None,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    as_json: options.Json = False,
) -> None:
    """Merge an adapter into its base, in fp32, and say how far the predictions moved (exit code 6: too far).

    Both are scored in fp32, so that what is measured is the weights; --precision auto measures them as predict does.
    """  # fmt: skip
    combining.still()
    combining.check_output(output, [judge])
    from tiebreak.combine import merge as merging
    from tiebreak.judges import Runtime

    table = _rows(validation, input_format, mapping)
    with console.progress("score", None) as advance:
        done = merging.merge(
            judge, table, dtype=dtype, name=name, force=force, limit=limit, advance=advance,
            runtime=Runtime(max_length, max_tokens, precision, devices, base=base), place=output.resolve().parent,
        )  # fmt: skip
    done.judge.save(output)
    if as_json:
        parity = {name: asdict(found) for name, found in done.parity.items()}
        console.emit_json({"output": str(output), "parity": parity, "notes": done.notes})
    else:
        _show(done)
    for note in done.notes:
        console.note(f"  {note}")
    console.note(f"wrote {output}")


def _rows(validation: Path | None, input_format: str, mapping: list[str] | None) -> pl.DataFrame:
    from tiebreak import samples

    return samples.votes() if validation is None else combining.comparisons(validation, input_format, mapping)


def _show(done: Merged) -> None:
    kept = next(iter(done.parity))
    rows = [
        [f"{name} *" if name == kept else name, combining.megabytes(one.size), f"{one.largest:.1e}", f"{one.mean:.1e}",
         f"{one.verdict_changes:,}"]
        for name, one in done.parity.items()
    ]  # fmt: skip
    rows_of = done.parity[kept].rows
    console.table(
        f"merged weights against base and adapter, {rows_of:,} comparisons (* written)",
        ("type", "size", "largest change", "mean change", "verdicts changed"),
        rows,
    )
