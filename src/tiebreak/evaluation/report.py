"""The report on disk: `index.html`, `metrics.json` and `csv/*.csv`, whole or not at all."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Final

import polars as pl

from tiebreak import storage
from tiebreak.errors import UsageError
from tiebreak.evaluation import page
from tiebreak.evaluation.result import Evaluation
from tiebreak.scoring.bootstrap import Estimate

PAGE: Final = "index.html"
CONTENT: Final = frozenset({PAGE, "metrics.json", "csv"})
_FORMULA: Final = r"^[=+\-@\t\r\n\x00]"


def write(evaluation: Evaluation, directory: Path) -> Path:
    """Write the report and return the path of its page.

    Raises:
        UsageError: The parent does not exist, or the directory holds something else than a report.
        ResourceError: The disk is full or the place cannot be written.
    """
    directory = directory.resolve()
    check(directory)
    with storage.replacing(directory) as aside:
        (aside / "csv").mkdir(parents=True)
        (aside / PAGE).write_text(page.render(evaluation), encoding="utf-8")
        (aside / "metrics.json").write_text(evaluation.to_json(), encoding="utf-8")
        for name, table in sheets(evaluation).items():
            for_spreadsheets(table).write_csv(aside / "csv" / f"{name}.csv")
    return directory / PAGE


def check(directory: Path, content: Container[str] = CONTENT, *, option: str = "-o") -> None:
    """See that a report can be written there without losing anything but an older report.

    Args:
        directory: Where it is to be.
        content: The names that a report of this kind has.
        option: Of the command line, that named the directory.

    Raises:
        UsageError: The parent does not exist, or the directory holds something else.
    """
    directory = directory.resolve()
    if not directory.parent.is_dir():
        raise UsageError(f"{directory.parent} is not a directory", mend=f"mkdir -p {directory.parent}")
    strange = [directory.name] if directory.is_file() else []
    if directory.is_dir():
        strange = sorted(entry.name for entry in directory.iterdir() if entry.name not in content)
    if strange:
        raise UsageError(
            f"{directory} holds {strange[0]!r}, which is no part of a report and would be lost",
            expected="a new directory, an empty one, or an older report",
            mend=f"another directory for {option}",
        )


def sheets(evaluation: Evaluation) -> dict[str, pl.DataFrame]:
    """Every table of the report: the curves behind the pictures, and the figures."""
    figures = {"metrics": evaluation.metrics} | {
        f"audit_{name}": audit.figures for name, audit in evaluation.audits.items()
    }
    return {
        **evaluation.curves,
        **{name: pl.DataFrame([_cells(key, value) for key, value in found.items()], schema=_CELLS)
           for name, found in figures.items()},
        "baselines": _baselines(evaluation),
        "slices": _slices(evaluation),
        **_ledger(evaluation),
        "surprises": evaluation.surprises,
    }  # fmt: skip


_CELLS: Final = {"name": pl.String, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64}


def _cells(name: str, estimate: Estimate) -> dict[str, str | float]:
    return {"name": name, "value": estimate.value, "low": estimate.low, "high": estimate.high}


def _baselines(evaluation: Evaluation) -> pl.DataFrame:
    rows = []
    for name, baseline in evaluation.baselines.items():
        figures = baseline.metrics | ({"difference": baseline.difference} if baseline.difference else {})
        rows += [{"baseline": name, **_cells(key, value)} for key, value in figures.items()]
    return pl.DataFrame(rows, schema={"baseline": pl.String, **_CELLS})


def _slices(evaluation: Evaluation) -> pl.DataFrame:
    rows = []
    for part in evaluation.slices:
        row = {"dimension": part.dimension, "slice": part.name, "rows": part.rows, "groups": part.groups,
               "small": part.small, "prior_log_loss": part.prior_log_loss}  # fmt: skip
        for name in ("log_loss", "accuracy", "calibration_gap", "difference"):
            estimate = getattr(part, name)
            if estimate is not None:
                row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def _ledger(evaluation: Evaluation) -> dict[str, pl.DataFrame]:
    if evaluation.ledger is None:
        return {}
    fields = evaluation.ledger.fields
    rows = [{"field": name, "tokens": field.tokens, "kept": field.kept, "share_kept": field.share_kept}
            for name, field in fields.items()]  # fmt: skip
    return {"ledger": pl.DataFrame(rows)}


def for_spreadsheets(table: pl.DataFrame) -> pl.DataFrame:
    """Text cells that a spreadsheet would run as a formula get a leading apostrophe; numbers stay as they are."""
    text = pl.selectors.string()
    return table.with_columns(pl.when(text.str.contains(_FORMULA)).then(pl.lit("'") + text).otherwise(text).name.keep())
