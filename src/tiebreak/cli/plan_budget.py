"""`tiebreak plan-budget`: will it fit, and how long will it take?"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebreak.cli import console, options
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    from tiebreak.budget import Estimate, Fit, Lengths, Run
    from tiebreak.budget.trial import Trial

EPILOG = """
Examples:

    tiebreak plan-budget --rows 25000 --tokens 658 --model 34b --precision awq-4 --engine vllm --hardware 2xt4 --hours 9

    tiebreak plan-budget votes.parquet --model judge --hardware a100

    tiebreak plan-budget votes.parquet --rows 25000 --model gemma-2-9b --precision int8 --hardware 2xt4 --orders one --max-length 2048

    tiebreak plan-budget votes.parquet --model smollm2-135m --precision bf16 --hardware cpu --measure
"""  # noqa: E501 - a command is one line


def command(
    votes: Annotated[
        Path | None, typer.Argument(metavar="[VOTES]", help="Comparisons whose lengths count.", show_default=False)
    ] = None,
    model: Annotated[
        str,
        typer.Option(help="A shape that ships, a bundle, a model on this machine, or a number of weights (34b, 500m)."),
    ] = "smollm2-135m",
    rows: Annotated[
        int | None, typer.Option(min=1, show_default=False, help="Comparisons to judge. [default: those of VOTES]")
    ] = None,
    tokens: Annotated[
        float | None, typer.Option(min=1, show_default=False, help="Mean tokens of a comparison, in place of VOTES.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16, bf16, int8, awq-4 or nf4.")] = "fp16",
    hardware: Annotated[str, typer.Option(help="cpu (this machine), t4, 2xt4, l4, a100, 8xh100, ...")] = "cpu",
    engine: Annotated[
        str, typer.Option(help="ours (packed), vllm, or padded (batches of transformers, for comparison).")
    ] = "ours",
    hours: Annotated[float, typer.Option(min=0.001, help="Hours there are.")] = 9.0,
    max_length: Annotated[
        int, typer.Option(min=16, help="Tokens of a comparison at most: one more line of the table.")
    ] = 1024,
    orders: Annotated[
        str, typer.Option(help="both: each comparison in both orders of the answers; one: once.")
    ] = "both",
    answer_tokens: Annotated[
        int, typer.Option("--answer-tokens", min=0, help="Tokens written before the verdict; 0: it is read at once.")
    ] = 0,
    share: Annotated[
        float | None,
        typer.Option(min=0.001, show_default=False, help="Share of the rate that is reached, where you measured it."),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Run a small sample here beside its prediction; for cpu, reckon with what it reached."
        ),
    ] = False,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    as_json: options.Json = False,
) -> None:
    """Say what time and memory a judge takes on given hardware, and what length fits."""
    from tiebreak import budget

    if orders not in {"both", "one"}:
        raise UsageError(f"--orders {orders}", expected="both or one")
    found = budget.Model.of(model)
    lengths = _lengths(votes, rows, tokens, model, input_format, options.parse_map(mapping))
    run = budget.Run(
        found, lengths, budget.Hardware.parse(hardware), precision, engine, 1 if orders == "one" else 2, max_length,
        answer_tokens, share,
    )  # fmt: skip
    checked = _trial(run, model) if measure else None
    if checked is not None and run.hardware.processor:
        run = replace(run, hardware=checked.hardware, share=share or checked.share)
    fit, curve = budget.longest(run, hours), budget.curve(run, sorted({*budget.LENGTHS, max_length}))
    if as_json:
        console.emit_json(_document(run, fit, curve, hours, checked))
        return
    _show(run, curve, hours)
    _tell(run, fit, hours)
    if checked is not None:
        _compare(checked)


def _lengths(
    votes: Path | None, rows: int | None, tokens: float | None, model: str, form: str, mapping: dict[str, str]
) -> Lengths:
    from tiebreak import ingest
    from tiebreak.budget import Lengths

    if tokens is not None or votes is None:
        if tokens is None or rows is None:
            raise UsageError("no lengths", expected="VOTES, or --rows and --tokens", mend="--rows 25000 --tokens 658")
        return Lengths.around(tokens, rows)
    return Lengths.of(ingest.read(votes, format=form, mapping=mapping), _tokenizer(model), rows=rows)


def _tokenizer(model: str) -> Any:
    """The model's own, where it is here and can be read; else lengths are reckoned from characters."""
    from tiebreak.errors import TiebreakError
    from tiebreak.judges.base import Base
    from tiebreak.judges.base.loading import read_tokenizer, tokenizer

    try:
        if (Path(model) / "judge.json").is_file():
            return read_tokenizer(Path(model))
        return tokenizer(Base(name=model))
    except TiebreakError:
        return None


def _trial(run: Run, model: str) -> Trial:
    from tiebreak.budget import trial

    with console.progress("trial", None, "tokens") as advance:
        found = trial.trial(run, model)
        advance(found.tokens)
    return found


def _show(run: Run, curve: list[tuple[int, Estimate]], hours: float) -> None:
    orders = "both orders" if run.orders == 2 else "one order"
    console.table(
        f"{run.model.name} ({run.model.parameters / 1e9:.3g} billion weights, {run.precision}) on {run.hardware.name}, "
        f"{run.lengths.rows:,} rows, {orders}, engine {run.engine}",
        ("max length", "hours", "rows cut", "million tokens", "GiB a device", "weights", "cache", "activations", ""),
        [
            [f"{length:,}", _hours(one.hours), f"{one.cut:.1%}", f"{one.tokens / 1e6:,.3g}",
             f"{one.memory:.1f} of {one.room:.1f}", f"{one.weights:.1f}", f"{one.cache:.1f}", f"{one.activations:.1f}",
             _verdict(one, hours)]
            for length, one in curve
        ],
    )  # fmt: skip


def _verdict(found: Estimate, hours: float) -> str:
    if not found.fits:
        return "no room"
    return "" if found.hours <= hours else "too long"


def _tell(run: Run, fit: Fit, hours: float) -> None:
    console.note(f"lengths: {run.lengths.source}, {run.lengths.tokens.mean():,.0f} tokens on average before any cut")
    if fit.max_length is None:
        console.emit(f"\nnothing fits {hours:g} h: {fit.bound} forbid even the shortest input")
        return
    why = {
        "hours": "a longer one takes more hours", "memory": "a longer one has no room",
        "window": "the model reads no more", "rows": "no comparison is longer",
    }  # fmt: skip
    console.emit(
        f"\nfits {hours:g} h: max length {fit.max_length:,}, {_hours(fit.estimate.hours)} h, "
        f"{fit.estimate.cut:.1%} of the rows cut ({why[fit.bound]})"
    )


def _compare(found: Trial) -> None:
    console.emit(
        f"\ntrial here: {found.rows:,} sequences, {found.tokens:,} tokens, {found.precision}, {found.hardware.name} at "
        f"{found.hardware.teraflops * 1000:,.0f} GFLOP/s: predicted {found.predicted:.1f} s, "
        f"measured {found.measured:.1f} s, ratio {found.ratio:.2f} (share of that rate reached: {found.share:.2f})"
    )


def _hours(hours: float) -> str:
    return f"{hours:.2f}" if hours < 100 else f"{hours:,.0f}"


def _document(
    run: Run, fit: Fit, curve: list[tuple[int, Estimate]], hours: float, checked: Trial | None
) -> dict[str, Any]:
    from tiebreak.budget import estimate

    def figures(one: Estimate) -> dict[str, Any]:
        return {**asdict(one), "hours": one.hours, "memory": one.memory, "fits": one.fits}

    trial = None
    if checked is not None:
        trial = {**asdict(checked), "ratio": checked.ratio, "share": checked.share}
    return {
        "model": {"name": run.model.name, "parameters": run.model.parameters},
        "hardware": asdict(run.hardware), "precision": run.precision, "engine": run.engine, "orders": run.orders,
        "rows": run.lengths.rows, "lengths": run.lengths.source, "mean_tokens": float(run.lengths.tokens.mean()),
        "hours": hours, "max_length": run.max_length, "estimate": figures(estimate(run)),
        "longest": {"max_length": fit.max_length, "bound": fit.bound, **figures(fit.estimate)},
        "curve": [{"max_length": length, **figures(one)} for length, one in curve], "trial": trial,
    }  # fmt: skip
