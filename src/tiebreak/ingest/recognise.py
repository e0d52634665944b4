"""Which format a file has, by its columns and the look of its first cells; never by its name."""

from __future__ import annotations

from types import ModuleType
from typing import Final

from tiebreak.errors import DataError, UsageError
from tiebreak.ingest import arena, kaggle, mapped, preference, tiebreak, wsdm
from tiebreak.ingest.options import Options
from tiebreak.ingest.rows import Plan, Sample

FORMATS: Final[dict[str, ModuleType]] = {
    module.NAME: module for module in (kaggle, wsdm, arena, preference, tiebreak)
}  # fmt: skip


def plan(sample: Sample, options: Options, where: str) -> tuple[str, Plan]:
    """The name of the format and how to read the rows of this file.

    Raises:
        DataError: The file is of no known format, of more than one, or not of the one that was named.
        UsageError: The mapping does not go with the file.
    """
    mapped.check(sample, options, where)
    if options.format == mapped.NAME or (options.format == "auto" and options.maps_content):
        return mapped.NAME, mapped.plan(sample, options, where)
    if options.maps_content:
        raise UsageError(
            f"--map of texts or labels together with the format {options.format}",
            expected="one of the two",
            mend="leave out --format, or map only id, model_a, model_b, weight, group, fold, source",
        )
    name = _recognise(sample, where) if options.format == "auto" else options.format
    lacking = FORMATS[name].missing(sample.columns)
    if lacking:
        raise DataError(
            f"{where} is not of the format {name}: {', '.join(lacking)} missing; its columns are {_names(sample)}",
            expected="the columns of that format (docs/data.md)",
            mend=_map_command(where),
        )
    result: Plan = FORMATS[name].plan(sample, options)
    return name, result


def _recognise(sample: Sample, where: str) -> str:
    misfits = {name: module.misfit(sample) for name, module in FORMATS.items()}
    fits = [name for name, misfit in misfits.items() if not misfit]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise DataError(
            f"{where} fits the formats {' and '.join(fits)}; its columns are {_names(sample)}",
            expected="one of them to be named",
            mend=f"--format {fits[0]}",
        )
    tried = "; ".join(f"{name}: {misfit}" for name, misfit in misfits.items())
    raise DataError(
        f"{where}: unknown format; its columns are {_names(sample)}; tried {tried}",
        expected="one of these formats, or a mapping of your columns",
        mend=_judged_command(where) if {"id", "label"} <= set(sample.columns) else _map_command(where),
    )


def _names(sample: Sample) -> str:
    shown = ", ".join(sample.columns[:40])
    return shown if len(sample.columns) <= 40 else f"{shown} and {len(sample.columns) - 40} more"


def _judged_command(where: str) -> str:
    """For labels and probabilities without texts: nothing to import, but something to calibrate."""
    return f"tiebreak calibrate {where} --labels {where} --columns A,B,TIE needs no texts; else " + _map_command(where)


def _map_command(where: str) -> str:
    return (
        f"tiebreak data import {where} -o votes.parquet --map prompt=YOUR_PROMPT --map response_a=YOUR_FIRST_ANSWER "
        "--map response_b=YOUR_SECOND_ANSWER --map label=YOUR_VERDICT"
    )
