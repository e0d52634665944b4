"""`tiebreak combine adapters`: the judges of several folds as one judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebreak.cli import combining, console, judged, options

if TYPE_CHECKING:
    import polars as pl

EPILOG = """
Examples:

    tiebreak combine adapters folds --validation held-out.parquet -o student

    tiebreak combine adapters folds/fold-0 folds/fold-1 folds/fold-2 --method exact --validation new.csv -o student

    tiebreak combine adapters folds/fold-* --method svd:64 --weights oof --validation held-out.parquet -o student

    tiebreak combine adapters folds/fold-* --method tensors --weights 2,1,1 --validation held-out.csv -o student --json

The validation votes must be ones that no fold was trained on; rows that one was trained on are left out and counted.
"""


def command(
    bundles: Annotated[
        list[Path],
        typer.Argument(metavar="BUNDLE...", help="Judges of one student, or a folder with fold-0, fold-1..."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory to write the bundle to.")],
    validation: Annotated[Path, typer.Option(help="Votes that no judge was trained on, in any known format.")],
    method: Annotated[
        str,
        typer.Option(
            help="tensors, exact, svd:RANK, merged, or best: the smallest that the lowest log-loss hardly beats."
        ),
    ] = "best",
    weights: Annotated[
        str, typer.Option(help="equal, oof (by what each gained on its own held-out fold), or numbers: 2,1,1.")
    ] = "equal",
    labels: Annotated[
        Path | None, typer.Option(help="Labels of the validation rows by id, where they lie in another file.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Type of merged weights: base, fp32, bf16 or fp16.")] = "base",
    name: Annotated[
        str | None, typer.Option(help="Name of the judge. [default: of the folds, without -fold-K]", show_default=False)
    ] = None,
    each: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the judge of every method here too, as DIR/METHOD.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="A .json file for the table of figures.")] = None,
    max_length: options.MaxLength = None,
    max_tokens: options.MaxTokens = None,
    precision: options.Precision = "auto",
    devices: options.Devices = "auto",
    base: options.Base = None,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    as_json: options.Json = False,
) -> None:
    """Average the judges of several folds into one, four ways, and say on held-out votes what each way costs.

    tensors averages A and B apart, exact their products, svd the products at a lower rank, merged the merged weights.
    """  # fmt: skip
    combining.still()
    from tiebreak.combine import adapters, alike, planning
    from tiebreak.judges import Runtime

    found = alike.expand(bundles)
    combining.check_output(output, found)
    plan = planning.plan(
        found, _votes(validation, labels, input_format, mapping), method=method, weights=weights, dtype=dtype,
        name=name, runtime=Runtime(max_length, max_tokens, precision, devices, base=base),
    )  # fmt: skip
    for note in plan.notes:
        console.note(f"  {note}")
    with console.progress("score", plan.total) as advance:
        done = adapters.average(plan, advance, place=output.resolve().parent)
    done.judge.save(output)
    if each is not None:
        from tiebreak import storage

        storage.make_directory(each)
        for method, judge in done.judges.items():
            judge.save(each / method)
    if report is not None:
        _write(report, done.document)
    if as_json:
        console.emit_json({"output": str(output), "averaging": done.document})
    else:
        show(done.document)
    for warning in done.warnings:
        console.say(f"warning: {warning}")
    console.note(f"wrote {output} ({done.method})")


def show(document: dict[str, Any]) -> None:
    """The table of an averaging, as its bundle holds it under `averaging`."""
    shares = {part["name"]: part["weight"] for part in document["parts"]}
    rows = [
        [_marked(name, document["method"]), f"{shares[name]:.3f}" if name in shares else "",
         combining.estimate(one["log_loss"]), combining.estimate(one["change"], signed=True),
         f"{one['verdict_changes']:,}", *_rest(one)]
        for name, one in document["figures"].items()
    ]  # fmt: skip
    console.table(
        f"{document['rows']:,} votes in {document['groups']:,} groups that no judge was trained on, 95 % intervals "
        "(* kept)",
        ("", "weight", "log-loss", "against the mean", "verdicts", "swap gap", "size", "SVD error", "interference"),
        rows,
    )
    for name, reason in document["skipped"].items():
        console.emit(f"{name}: {reason}")


def _marked(name: str, kept: str) -> str:
    return f"{name} *" if name == kept else name


def _rest(one: dict[str, Any]) -> list[str]:
    size = combining.megabytes(one["size"]) if "size" in one else ""
    return [_share(one, "swap_gap"), size, _share(one, "svd_error"), _share(one, "interference")]


def _share(one: dict[str, Any], name: str) -> str:
    return f"{one[name]:.4f}" if name in one else ""


def _votes(path: Path, labels: Path | None, input_format: str, mapping: list[str] | None) -> pl.DataFrame:
    """The validation rows, with labels of another file by id where one is named."""
    from tiebreak.combine import planning

    table = combining.comparisons(path, input_format, mapping)
    return table if labels is None else planning.relabelled(table, judged.votes(labels, "auto", None))


def _write(path: Path, document: dict[str, Any]) -> None:
    import json

    from tiebreak import storage

    storage.write_text(path, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
