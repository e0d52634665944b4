"""`tiebreak compress`: a judge with fewer bits, and what that cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebreak.cli import console, options
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    from tiebreak.compress.run import Outcome
    from tiebreak.compress.task import Task

EPILOG = """
Examples:

    tiebreak compress judge --method gptq-8 --calibration train.parquet --validation held-out.parquet -o judge-8bit

    tiebreak compress judge --method awq-4 --calibration train.parquet --validation held-out.parquet -o j4 --dry-run

    tiebreak compress judge --method nf4 --validation held-out.parquet -o judge-nf4 --json

    tiebreak predict test.csv --judge judge-8bit --format kaggle -o submission.csv
"""


def command(
    judge: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A fine-tuned judge; it stays as it is.")],
    method: Annotated[
        str,
        typer.Option(help="gptq-8, gptq-4, awq-4, nf4 or int8 (weights and inputs in 8 bits); see docs/compress.md."),
    ],
    validation: Annotated[Path, typer.Option(help="Votes held out, to measure what was lost.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the bundle; OUTPUT.run holds the work.")],
    calibration: Annotated[
        Path | None, typer.Option(help="Votes of the training data; every method but nf4 looks at some of them.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Calibration rows.")] = 128,
    seed: Annotated[int, typer.Option(help="Of the draw of calibration rows.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Write it although its log-loss grew by more than 0.005; recorded.")
    ] = False,
    python: Annotated[
        Path | None,
        typer.Option(
            metavar="ENV_PYTHON",
            show_default=False,
            help="Python of an environment with llm-compressor. [default: TIEBREAK_QUANTIZE_PYTHON, else one in the "
            "cache, made on first use: 1.5 GB, two to four minutes]",
        ),
    ] = None,
    max_length: options.MaxLength = None,
    max_tokens: options.MaxTokens = None,
    devices: options.Devices = "auto",
    base: options.Base = None,
    input_format: options.InputFormat = "auto",
    mapping: options.Map = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and stop.")] = False,
    as_json: options.Json = False,
) -> None:
    """Give a judge fewer bits, measure what that cost on votes held out, and keep it if the cost is small.

    A log-loss that grows by more than 0.005 is refused: nothing is written, exit code 6.
    """  # fmt: skip
    import logging

    from tiebreak import ingest
    from tiebreak.compress.methods import find
    from tiebreak.compress.run import compress
    from tiebreak.compress.task import Task
    from tiebreak.judges import Runtime

    # bitsandbytes regrets on a CPU that it has no kernel from the hub.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if find(method).calibrated and calibration is None:
        raise UsageError(f"--method {method} needs rows to calibrate on", mend="--calibration VOTES, of the training")
    columns = options.parse_map(mapping)
    held_out = ingest.read(validation, format=input_format, mapping=columns)
    seen = held_out.clear() if calibration is None else ingest.read(calibration, format=input_format, mapping=columns)
    task = Task(
        judge, method, seen, held_out, output, rows=rows, seed=seed, force=force, python=python,
        runtime=Runtime(max_length, max_tokens, devices=devices, base=base),
    )  # fmt: skip
    if dry_run:
        _plan(task, as_json=as_json)
        return
    outcome = compress(task, listener())
    if as_json:
        written = None if outcome.refusal else str(output)
        console.emit_json({"output": written, "compression": outcome.document})
    else:
        _show(outcome)
    _warn(outcome.document)
    if outcome.refusal is not None:
        raise outcome.refusal
    console.note(f"wrote {output}")


def listener() -> Any:
    """What the work tells, to the console."""
    from tiebreak.compress.listening import Listener

    return Listener(console.note, lambda what, total, unit: console.progress(what, total, unit))


def _plan(task: Task, *, as_json: bool) -> None:
    from tiebreak.compress.planning import plan

    found = plan(task)
    if as_json:
        console.emit_json({"plan": found})
        return
    for line in found.values():
        console.emit(str(line))


def _show(outcome: Outcome) -> None:
    from tiebreak.compress import card

    document, parity = outcome.document, outcome.parity
    sizes, speeds = document["bytes"], document["speed"]
    kept = sizes["compressed"] / max(sizes["original"], 1)
    lines = [
        ["bytes of the weights", f"{sizes['original']:,}", f"{sizes['compressed']:,}", f"{kept:.1%} of it"],
        ["tokens/s", card.speed(speeds["original"]), card.speed(speeds["compressed"]), ""],
        ["KL(original || compressed)", "", card.interval(document["kl"], sign=False), "nats"],
        ["rows with another verdict", "", f"{parity.verdict_changes:,}", f"of {parity.rows:,}"],
        ["largest change of a probability", "", f"{parity.largest_change:.4f}", ""],
    ]
    if parity.change is not None:
        change = card.interval(document["log_loss_change"])
        lines.insert(0, ["log-loss", f"{parity.log_loss:.5f}", f"{parity.compressed_log_loss:.5f}", change])
    console.table(card.words(document), ("", "original", "compressed", ""), lines)


def _warn(document: dict[str, Any]) -> None:
    if document["log_loss_change"] is None:
        console.say("warning: no votes among the validation rows: the gate had nothing to hold against its limit")
    if document["forced"]:
        console.say(f"warning: written by force although the log-loss grew by more than {document['limit']}")
    for name, what in (
        ("calibration_rows_in_validation", "were calibrated on"),
        ("validation_rows_trained_on", "the judge was trained on"),
    ):
        if document[name]:
            console.say(f"warning: {document[name]:,} of {document['rows']:,} validation rows {what}: figures flatter")
    console.note(f"  vLLM: {document['vllm']}")
