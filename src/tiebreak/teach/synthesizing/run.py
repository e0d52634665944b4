"""Synthesis: writes what is not written yet, pairs it, and keeps the table with a card of where it comes from."""

from __future__ import annotations

import gc
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from tiebreak import storage
from tiebreak.errors import StoppedError, UsageError
from tiebreak.judges.generative.backend import silent
from tiebreak.judges.generative.writers import Spec
from tiebreak.judges.generative.writers import writer as _writer
from tiebreak.judges.generative.writing import Writer
from tiebreak.judges.runtime import Runtime
from tiebreak.predict import lock
from tiebreak.stopping import Stopper
from tiebreak.teach.synthesizing import pairing
from tiebreak.teach.synthesizing.pairing import Paired
from tiebreak.teach.synthesizing.planning import ANSWERS, Plan
from tiebreak.teach.synthesizing.writing import write

IDENTITY: Final = "tiebreak.synthesis"
"""Key in the metadata of the answers and the pairs under which the fingerprint of their run stands."""

Writers = Callable[[Spec, Runtime], Writer]


@dataclass(frozen=True)
class Outcome:
    """What a call did.

    Attributes:
        paired: The pairs and what was dropped.
        output: Where they are; beside them `STEM.answers.parquet`, every answer, and `STEM.json`, the card.
        written: Answers written by this call.
        reused: Answers that an earlier call had left.
        reports: Of each model, how it ran.
    """

    paired: Paired
    output: Path
    written: int
    reused: int
    reports: dict[str, dict[str, Any]]


def synthesize(
    plan: Plan,
    *,
    exclude: Mapping[str, pl.DataFrame] | None = None,
    advance: Callable[[int], None] = silent,
    reuse: Callable[[int], None] = silent,
    writers: Writers = _writer,
) -> Outcome:
    """Do what a plan says.

    Every finished chunk is kept in `OUTPUT.run`. Called again after a stop at any moment, it goes on from there and
    writes the same pairs; the folder goes when the table is whole. Called again after that, or with another pairing, it
    makes pairs of the answers that are there.

    Args:
        plan: From `planning.plan`.
        exclude: Comparisons by name that must stay unseen.
        advance: Hears of answers just written.
        reuse: Hears of answers found.
        writers: Makes what writes with a model.

    Raises:
        UsageError: Another process is at work on this output.
        StoppedError: The process was asked to stop; what is written is kept.
        ResourceError: A model failed for good, the disk is full, or the place cannot be written.
    """
    storage.make_directory(plan.work)
    held = lock.hold(plan.work / "lock")
    if held is None:
        raise UsageError(
            f"{plan.work}: another process is at work on this output",
            expected="one run at a time for one output",
            mend="wait for the other run to end, or write to another file",
        )
    with held, Stopper() as stopper:
        fresh = 0
        reports: dict[str, dict[str, Any]] = {}
        answers = _written(plan)
        if answers is None:
            answers, fresh, reports = _answers(plan, stopper, advance, reuse, writers)
        else:
            reuse(answers.height)
        paired = pairing.pair(plan.prompts.turns, plan.prompts.names, answers, plan.pairing, exclude)
        _keep(plan, answers, paired)
    shutil.rmtree(plan.work, ignore_errors=True)
    return Outcome(paired, plan.output, fresh, answers.height - fresh, reports)


def beside(output: Path, what: str) -> Path:
    """A file that belongs to an output: `STEM.what`."""
    return output.with_name(f"{output.stem}.{what}")


def _written(plan: Plan) -> pl.DataFrame | None:
    """The answers of an earlier call, if they are there and are those of this plan."""
    path = beside(plan.output, "answers.parquet")
    places = {name: place for place, name in enumerate(plan.prompts.names)}
    try:
        if pl.read_parquet_metadata(path).get(IDENTITY) != plan.identity:
            return None
        table = pl.read_parquet(path)
        return table.with_columns(pl.col("prompt").replace_strict(places, return_dtype=pl.Int64)).cast(
            pl.Schema(ANSWERS)
        )
    except (OSError, pl.exceptions.PolarsError):
        return None


def _answers(
    plan: Plan, stopper: Stopper, advance: Callable[[int], None], reuse: Callable[[int], None], writers: Writers
) -> tuple[pl.DataFrame, int, dict[str, dict[str, Any]]]:
    tables: list[pl.DataFrame] = []
    reports: dict[str, dict[str, Any]] = {}
    fresh = 0
    for model in plan.models:
        writer: Writer | None = None
        for chunk in (one for one in plan.chunks if one.author.model == model):
            table = chunk.finished()
            if table is not None:
                reuse(table.height)
            else:
                if stopper.asked:
                    raise StoppedError("stopped; what is written is kept", mend="the same command goes on from there")
                writer = writer or writers(model.spec, plan.runtime)
                started = time.perf_counter()
                table = write(
                    chunk, plan.prompts.turns, writer, plan.sampling, system=plan.system, advance=advance
                )  # fmt: skip
                chunk.store(table)
                fresh += table.height
                _add(reports.setdefault(model.name, {}), writer.report, table, time.perf_counter() - started)
            tables.append(table)
        if writer is not None:
            if (close := getattr(writer, "close", None)) is not None:
                close()  # a process of its own
            del writer
            _let_go()
    return pl.concat(tables) if tables else pl.DataFrame(schema=ANSWERS), fresh, reports


def _add(total: dict[str, Any], report: dict[str, Any], table: pl.DataFrame, seconds: float) -> None:
    """Answers, tokens and seconds add up; what else a writer says of itself is that of its last call."""
    total |= {name: value for name, value in report.items() if name not in {"tokens", "seconds"}}
    total["answers"] = total.get("answers", 0) + table.height
    total["tokens"] = total.get("tokens", 0) + int(table["tokens"].sum())
    total["seconds"] = round(total.get("seconds", 0.0) + seconds, 3)


def _let_go() -> None:
    """Give the memory of one model back before the next is loaded."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _keep(plan: Plan, answers: pl.DataFrame, paired: Paired) -> None:
    """The table last: where it is, the rest is."""
    names = pl.Series("prompt", plan.prompts.names, dtype=pl.String)
    told = answers.with_columns(names.gather(answers["prompt"]).alias("prompt"))
    with storage.replacing(beside(plan.output, "answers.parquet")) as aside:
        told.write_parquet(aside, metadata={IDENTITY: plan.identity})
    card = json.dumps(document(plan, paired), indent=1, ensure_ascii=False)
    storage.write_text(beside(plan.output, "json"), card + "\n")
    with storage.replacing(plan.output) as aside:
        paired.table.write_parquet(aside, metadata={IDENTITY: plan.identity})


def document(plan: Plan, paired: Paired) -> dict[str, Any]:
    """The card: where the pairs come from and what was dropped on the way."""
    how = plan.sampling
    return {
        "identity": plan.identity,
        "models": {one.name: {"place": one.spec.place, "identity": one.spec.identity()} for one in plan.models},
        "authors": list(dict.fromkeys(chunk.author.name for chunk in plan.chunks)),
        "sampling": {"max_tokens": how.max_tokens, "top_p": how.top_p, "seed": how.seed, "stop": list(how.stop)},
        "system": plan.system,
        "runtime": {"backend": plan.runtime.backend, "precision": plan.runtime.precision},
        "prompts": {"found": plan.prompts.found, "used": len(plan.prompts.turns), "dropped": plan.prompts.dropped},
        "answers": {"written": paired.answers, "dropped": paired.dropped_answers},
        "pairs": {"formed": paired.pairs, "kept": paired.table.height, "dropped": paired.dropped_pairs},
        "prompts_with_a_pair": paired.prompts,
    }
