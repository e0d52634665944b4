"""The fine-tuning recipes of a flow: each as written, with the flow's changes, made to fit its place in the chain."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tiebreak.errors import UsageError
from tiebreak.flow.schema import Flow, Pretrain, Student, Teacher
from tiebreak.train.finetune import read
from tiebreak.train.finetune.document import Fault, scalar
from tiebreak.train.finetune.recipe import Recipe

FEATURES: Final = "features"
"""A teacher's `recipe` that stands for `tiebreak train features`."""

FEATURES_OPTIONS: Final = ("folds", "repeats", "support", "seed")
"""What its `changes` may hold."""


def trainings(flow: Flow) -> tuple[dict[str, Recipe], list[Fault]]:
    """The recipe of each kind of training, and what is wrong with any of them.

    The keys are `teacher-NAME`, `student`, `control`, and each with `pretrain-` before it.
    """
    made: dict[str, Recipe] = {}
    faults: list[Fault] = []
    for name, place, recipe, changes in _wanted(flow):
        try:
            made[name] = _here(read.read(recipe, [*_overrides(changes), *_fitting(flow, name)]))
        except UsageError as error:
            faults.append(Fault(place, error.wrong, error.expected, error.mend))
    return made, faults


def _wanted(flow: Flow) -> Iterator[tuple[str, str, str, list[Mapping[str, Any]]]]:
    sides: list[tuple[str, str, Teacher | Student]] = [
        (f"teacher-{teacher.name}", f"teachers.{number}", teacher) for number, teacher in enumerate(flow.teachers)
    ]
    sides.append(("student", "student", flow.student))
    for name, place, side in sides:
        if side.recipe == FEATURES:
            continue
        yield name, place, side.recipe, [side.changes]
        if isinstance(side.pretrain, Pretrain):
            yield f"pretrain-{name}", f"{place}.pretrain", side.recipe, [side.changes, side.pretrain.changes]
    if flow.student.control and flow.student.recipe != FEATURES:
        yield "control", "student", flow.student.recipe, [flow.student.changes]


def _overrides(changes: list[Mapping[str, Any]]) -> list[str]:
    """`{max_steps: 10, lora: {r: 8}}` as `max_steps=10`, `lora.r=8`. A list replaces the whole list."""
    return [f"{'.'.join(path)}={_written(value)}" for part in changes for path, value in _leaves(part, ())]


def _leaves(values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key)), value


def _written(value: Any) -> str:
    """A value as YAML on one line. JSON is YAML, but `2e-4` must stay the number that YAML 1.2 reads."""
    if isinstance(value, str) and scalar(value) == value and value.isidentifier():
        return value
    return json.dumps(value)


def _fitting(flow: Flow, name: str) -> list[str]:
    """What the place in the chain decides, whatever the recipe says."""
    if name.startswith("pretrain-"):
        return ["folds=0", "self_distil=false", "data.teachers=[]"]
    fixed = [f"folds={flow.data.folds}", "self_distil=false", "data.teachers=[]", "data.validation=null"]
    if name == "control" or (name == "student" and not flow.teachers):
        fixed.append("loss.preset=cross_entropy")
    elif name == "student" and flow.student.loss is not None:
        fixed.append(f"loss.preset={flow.student.loss}")
    said = {"student": flow.name, "control": f"{flow.name}-control"}.get(name, name.removeprefix("teacher-"))
    return [*fixed, f"name={json.dumps(said)}"]


def _here(recipe: Recipe) -> Recipe:
    """Jobs run in the flow's own folder: a base or a judge that lies on this disk is named by its whole path."""
    start = recipe.start.model_copy(update={"bundle": _placed(recipe.start.bundle)})
    base = recipe.base.model_copy(update={"name": _placed(recipe.base.name)})
    return recipe.model_copy(update={"base": base, "start": start})


def _placed(name: str | None) -> str | None:
    """A name as it is, unless it is that of something on this disk."""
    return name if name is None or not Path(name).expanduser().exists() else whole(name)


def whole(path: str) -> str:
    """A path from the root."""
    return os.path.abspath(os.path.expanduser(path))  # not Path.absolute(): it would keep `..`
