"""Each way of averaging as a judge in a temporary folder, ready to be measured and to be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tiebreak.combine import adapter as adapters
from tiebreak.combine import alike, averaging, making, merging, whole
from tiebreak.combine.adapter import Adapter
from tiebreak.combine.alike import Member
from tiebreak.combine.averaging import Relative
from tiebreak.errors import DataError
from tiebreak.judges.finetuned import FinetunedJudge, Settings
from tiebreak.judges.finetuned.making import workspace
from tiebreak.judges.model import ADAPTER
from tiebreak.judges.runtime import Runtime


@dataclass(frozen=True)
class Choices:
    """How judges are averaged.

    Attributes:
        methods: The ways that are compared.
        asked: The way that is kept, or best.
        rank: Of svd; None: that of the adapters.
        dtype: Of merged weights.
        name: Of the new judge.
        runtime: How judges run.
    """

    methods: tuple[str, ...]
    asked: str
    rank: int | None
    dtype: str
    name: str
    runtime: Runtime


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way.

    Attributes:
        method: tensors, exact, svd or merged.
        label: The same, with the rank of svd.
        judge: None where the way is not possible.
        reason: Why it is not.
        size: Bytes of the weights that its bundle holds.
        svd_error: What svd cut off, relative to the exact mean.
        interference: Cross terms of tensors, relative to the exact mean.
    """

    method: str
    label: str
    judge: FinetunedJudge | None
    reason: str | None = None
    size: int = 0
    svd_error: Relative | None = None
    interference: Relative | None = None

    def figures(self) -> dict[str, Any]:
        """What is known without scoring a row."""
        errors = {"svd_error": self.svd_error, "interference": self.interference}
        return {"size": self.size} | {name: None if one is None else one.overall for name, one in errors.items()}

    def modules(self) -> dict[str, float]:
        """The relative error of each module."""
        found = self.svd_error or self.interference
        return {} if found is None else found.modules


def candidates(
    members: Sequence[Member], weights: np.ndarray, choices: Choices, place: Path | None = None
) -> list[Candidate]:
    """Every way of averaging some judges.

    Args:
        members: Judges that belong together.
        weights: One a judge, sum 1.
        choices: How.
        place: Folder for temporary files.

    Raises:
        DataError: An adapter is no plain LoRA adapter, or two change different modules.
    """
    if not members[0].settings.adapter:
        return [_whole(members, weights, choices, place)]
    shares = weights.tolist()
    found = [adapters.read(one.path) for one in members]
    _check_modules(members, found)
    mean = averaging.exact(found, shares)
    rank = choices.rank or max(one.rank for one in found)
    cut, error = averaging.svd(mean, rank)
    by_svd = replace(_adapter("svd", members, cut, choices, place), label=f"svd:{rank}", svd_error=error)
    exact, whole_mean = _adapter("exact", members, mean, choices, place), _merged(members, mean, choices, place)
    return [_tensors(members, found, shares, choices, place), exact, by_svd, whole_mean]


def _tensors(
    members: Sequence[Member], found: Sequence[Adapter], shares: Sequence[float], choices: Choices, place: Path | None
) -> Candidate:
    if reason := averaging.no_tensors(found):
        return Candidate("tensors", "tensors", None, reason=reason)
    made = _adapter("tensors", members, averaging.tensors(found, shares), choices, place)
    return replace(made, interference=averaging.interference(found, shares))


def _check_modules(members: Sequence[Member], found: Sequence[Adapter]) -> None:
    for one, adapter in zip(members, found, strict=True):
        for what, ours, theirs in (
            ("modules with an adapter", found[0].factors.keys(), adapter.factors.keys()),
            ("layers that were trained in full", found[0].kept.keys(), adapter.kept.keys()),
        ):
            if wrong := ours ^ theirs:
                raise DataError(
                    f"{members[0].path} and {one.path} differ in their {what}: {min(wrong)} is in one of them"
                    + (f" ({len(wrong)} such)" if len(wrong) > 1 else ""),
                    expected="adapters of the same modules",
                )
        other = [name for name, tensor in adapter.kept.items() if tensor.shape != found[0].kept[name].shape]
        if other:
            raise DataError(f"{one.path}: {other[0]} has another shape than in {members[0].path}")


def _adapter(
    method: str, members: Sequence[Member], adapter: Adapter, choices: Choices, place: Path | None
) -> Candidate:
    with workspace(place) as folder:
        making.copy_rest(members[0], folder, whole=members[0].settings.base is None)
        adapters.write(adapter, folder)
        judge = making.judge(members, folder, _settings(members), name=choices.name, metrics={})
        size = (folder / ADAPTER).stat().st_size
    return Candidate(method, method, judge, size=size)


def _merged(members: Sequence[Member], mean: Adapter, choices: Choices, place: Path | None) -> Candidate:
    """The mean of merged weights is the base with the mean of the changes, so one model in memory is enough."""
    with workspace(place) as folder:
        judge = merged(members, mean, choices.runtime, choices.dtype, choices.name, folder)
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return Candidate("merged", "merged", judge, size=size)


def merged(
    members: Sequence[Member], adapter: Adapter, runtime: Runtime, dtype: str, name: str, folder: Path, **details: Any
) -> FinetunedJudge:
    """A judge with the whole weights that an adapter gives on the base of the members.

    Args:
        members: The judges it is made of; they share their base.
        adapter: What is merged.
        runtime: Says where the base lies.
        dtype: base, fp32, bf16 or fp16.
        name: Of the new judge.
        folder: An empty temporary folder, which goes with the judge.
        details: Calibration, metrics and card, as of `making.judge`.
    """
    first = members[0]
    below = alike.base(first, runtime)
    settings = first.settings
    network = merging.merged(settings, first.judge.kind, below, adapter, merging.dtype_of(dtype, below))
    making.copy_rest(first, folder, whole=False)
    network.files(folder)
    del network
    own = {"base": None, "adapter": False, "quantize": None}
    return making.judge(
        members, folder, _settings(members).model_copy(update=own), name=name, **{"metrics": {}, **details}
    )


def _whole(members: Sequence[Member], weights: np.ndarray, choices: Choices, place: Path | None) -> Candidate:
    with workspace(place) as folder:
        making.copy_rest(members[0], folder, whole=True)
        whole.write_mean([one.path for one in members], weights.tolist(), folder)
        judge = making.judge(members, folder, _settings(members), name=choices.name, metrics={})
        size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return Candidate("merged", "merged", judge, size=size)


def _settings(members: Sequence[Member]) -> Settings:
    """Those of the first; the recipe only where it was everybody's."""
    first = members[0].settings
    same = all(one.settings.recipe == first.recipe for one in members)
    return first if same else first.model_copy(update={"recipe": None})
