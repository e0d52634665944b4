"""An adapter merged into its base for good, and how far that moved the predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak import comparisons, predictions
from tiebreak.combine import adapter as adapters
from tiebreak.combine import alike, candidates, making, measuring, merging
from tiebreak.combine.alike import Member
from tiebreak.combine.measuring import Advance
from tiebreak.errors import GateError, UsageError
from tiebreak.judges.finetuned import FinetunedJudge
from tiebreak.judges.finetuned.making import workspace
from tiebreak.judges.runtime import Runtime

LIMIT: Final = 0.02
"""Largest change of a probability that a merge may make (docs/combine.md says what is usual)."""


@dataclass(frozen=True)
class Parity:
    """How far predictions moved.

    Attributes:
        rows: Comparisons.
        largest: Largest change of a probability.
        at: Id of the row with it.
        mean: Mean over the rows of the largest change in a row.
        verdict_changes: Rows with another verdict.
        size: Bytes of the merged weights.
    """

    rows: int
    largest: float
    at: str
    mean: float
    verdict_changes: int
    size: int

    @classmethod
    def of(cls, before: np.ndarray, after: np.ndarray, ids: pl.Series, size: int) -> Parity:
        """From probabilities of shape (rows, 3)."""
        moved = np.abs(after - before).max(axis=1)
        verdicts = predictions.verdicts(before) != predictions.verdicts(after)
        return cls(
            len(moved),
            float(moved.max()),
            str(ids[int(moved.argmax())]),
            float(moved.mean()),
            int(verdicts.sum()),
            size,
        )


@dataclass(frozen=True)
class Merged:
    """The outcome.

    Attributes:
        judge: With whole weights, not yet saved.
        parity: By type of the weights; the first is what the judge holds.
        notes: What the user should know.
    """

    judge: FinetunedJudge
    parity: dict[str, Parity]
    notes: list[str]


def merge(
    bundle: Path,
    table: pl.DataFrame,
    *,
    dtype: str = merging.AS_BASE,
    name: str | None = None,
    force: bool = False,
    limit: float = LIMIT,
    runtime: Runtime | None = None,
    advance: Advance = lambda _: None,
    place: Path | None = None,
) -> Merged:
    """Merge the adapter of a judge into its base, in fp32, and hold the result against the judge itself.

    Both are scored in fp32 unless the runtime says otherwise, so that what is measured is the weights. Under fp32 a
    merge into narrower weights is measured beside one into fp32 weights.

    Args:
        bundle: A judge with an adapter.
        table: Comparisons that both score.
        dtype: Of the merged weights: base, fp32, bf16 or fp16; the head stays in fp32.
        name: Of the new judge; None keeps the name.
        force: Accept any change; recorded in the bundle.
        limit: Largest change of a probability that is accepted.
        runtime: Devices, precision, lengths.
        advance: Told how many rows were scored.
        place: Folder for temporary files; None is the system's.

    Raises:
        UsageError: The judge has no adapter.
        DataError: The adapter is no plain LoRA adapter, or does not fit its base.
        GateError: A probability moved by more than the limit.
    """
    one, table = _adapted(bundle), comparisons.validate(table, where="validation rows")
    runtime = runtime or Runtime(precision="fp32")
    adapter = adapters.read(one.path)
    own = replace(runtime, base=None)
    before = measuring.score(one.judge, table, runtime, advance, calibrated=True).probabilities
    made, parity = {}, {}
    for target in dtypes(one, dtype, runtime):
        with workspace(place) as folder:
            judge = candidates.merged(
                [one], adapter, runtime, target, name or one.judge.manifest.name, folder,
                calibration=one.judge.manifest.calibration, metrics=one.judge.manifest.metrics,
            )  # fmt: skip
            size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        after = measuring.score(judge, table, own, advance, calibrated=True).probabilities
        made[target], parity[target] = judge, Parity.of(before, after, table["id"], size)
    chosen = next(iter(made))
    notes = _notes(one, parity)
    too_far = parity[chosen].largest > limit
    if too_far and not force:
        raise _refusal(one, chosen, parity, limit)
    document: dict[str, Any] = {
        "of": making.revision(one), "dtype": chosen, "dequantised": one.settings.quantize, "limit": limit,
        "forced": too_far, "precision": runtime.precision,
        "parity": {target: asdict(found) for target, found in parity.items()},
    }  # fmt: skip
    return Merged(making.with_figures(made[chosen], {"merge": document}, _card(document)), parity, notes)


def dtypes(one: Member, dtype: str, runtime: Runtime) -> Sequence[str]:
    """The types that are measured, the one that is kept first."""
    wanted = merging.dtype_of(dtype, alike.base(one, runtime))
    name = next(known for known, found in merging.DTYPES.items() if found == wanted)
    return [name] if name == "fp32" or runtime.precision != "fp32" else [name, "fp32"]


def _adapted(bundle: Path) -> Member:
    one = alike.member(bundle)
    if not one.settings.adapter:
        raise UsageError(f"{bundle} has no adapter: its weights are whole already", expected="a judge with an adapter")
    return one


def _notes(one: Member, parity: dict[str, Parity]) -> list[str]:
    notes = []
    if one.settings.quantize:
        notes.append(
            f"the base was in 4 bits ({one.settings.quantize}) and was dequantised: the merged weights are those "
            "that the adapter was trained on, at their full size"
        )
    (chosen, kept), *others = parity.items()
    notes += [
        f"{name} weights would move a probability by {found.largest:.1g} at most, at {found.size / kept.size:.2g} x "
        f"the size of {chosen}"
        for name, found in others
    ]
    return notes


def _refusal(one: Member, chosen: str, parity: dict[str, Parity], limit: float) -> GateError:
    found = parity[chosen]
    whole = parity.get("fp32")
    better = chosen != "fp32" and whole is not None and whole.largest <= limit
    return GateError(
        f"{one.path}: merged into {chosen} weights, a probability moves by {found.largest:.4f} (id {found.at!r}) and "
        f"{found.verdict_changes:,} of {found.rows:,} verdicts change",
        expected=f"at most {limit:g}",
        mend="--dtype fp32" if better else "--force writes it all the same, which the bundle will say",
    )


def _card(document: dict[str, Any]) -> str:
    found = document["parity"][document["dtype"]]
    return (
        f"## Merged\n\nThe adapter was merged in fp32 and the weights written in {document['dtype']}. On "
        f"{found['rows']:,} comparisons the largest change of a probability was {found['largest']:.2g}, and "
        f"{found['verdict_changes']:,} verdicts changed.\n"
    )
