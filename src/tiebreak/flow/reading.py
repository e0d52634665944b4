"""A flow from a file or by name, with overrides. Every fault in it and in its recipes is told at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError

from tiebreak.flow.schema import Flow, Teacher
from tiebreak.flow.trainings import FEATURES, FEATURES_OPTIONS, trainings
from tiebreak.train.finetune import document
from tiebreak.train.finetune.document import Document, Fault
from tiebreak.train.finetune.faults import schema_faults
from tiebreak.train.finetune.shelf import Shelf

SHELF: Final = Shelf("flow", "tiebreak.recipes.flows", "tiebreak flow ls", "docs/flow.md")


def read(flow: str, overrides: Sequence[str] = ()) -> Flow:
    """Read a flow.

    Args:
        flow: A YAML file, or the name of a flow that ships.
        overrides: `a.b=c`, applied in order; values are YAML, items of lists go by number.

    Raises:
        UsageError: There is no such flow, or something is wrong with it or with a recipe that it names: the message
            lists every fault.
    """
    found = SHELF.read(flow, overrides)
    made, faults = _check(found)
    faults = [*found.faults, *faults]
    if faults or made is None:
        raise SHELF.refusal(flow, faults)
    return made


def dump(flow: Flow) -> str:
    """The whole flow, defaults written out, as YAML that `read` reads back equal."""
    return document.dump(flow.model_dump(mode="json"))


def shipped() -> list[str]:
    """Names of the flows that ship."""
    return SHELF.names()


def source(flow: str) -> tuple[str, str]:
    """The text of a flow with its comments, and the name of its file.

    Raises:
        UsageError: There is no such file, or no flow of that name ships.
    """
    return SHELF.source(flow)


def _check(found: Document) -> tuple[Flow | None, list[Fault]]:
    values: Any = found.values
    try:
        flow = Flow.model_validate(values)
    except ValidationError as error:
        return None, [fault for _, fault in schema_faults(error, found, Flow)]
    faults = list(_rules(flow, found))
    _, wrong = trainings(flow)
    for fault in wrong:
        path = tuple(int(word) if word.isdigit() else word for word in fault.where.split("."))
        faults.append(Fault(found.place(path), fault.wrong, fault.expected, fault.mend))
    return flow, faults


def _rules(flow: Flow, found: Document) -> Iterator[Fault]:
    """What the parts ask of each other."""
    names = [teacher.name for teacher in flow.teachers]
    for number, teacher in enumerate(flow.teachers):
        place = found.place(("teachers", number))
        if names.index(teacher.name) < number:
            yield Fault(place, f"two teachers are named {teacher.name}", "names that tell them apart")
        if teacher.recipe == FEATURES:
            yield from _features(teacher, place)
    if flow.student.recipe == FEATURES:
        place = found.place(("student", "recipe"))
        yield Fault(place, "the student is features", "a recipe of tiebreak train: only those have adapters to average")
    wanting = [*(t.name for t in flow.teachers if t.pretrain), *(["the student"] if flow.student.pretrain else [])]
    if wanting and not flow.data.pairs:
        place = found.place(("data",))
        yield Fault(place, f"{', '.join(wanting)}: pretrain without pairs", "data.pairs: files of preference pairs")
    if flow.data.pool and not flow.teachers:
        yield Fault(found.place(("data", "pool")), "a pool without teachers", "a teacher to label it")
    if isinstance(flow.data.test, float) and flow.data.test + flow.data.validation >= 1:
        yield Fault(found.place(("data",)), "test and validation leave nothing to train on", "a sum of shares below 1")


def _features(teacher: Teacher, place: str) -> Iterator[Fault]:
    if teacher.pretrain is not None:
        yield Fault(place, f"pretrain of {teacher.name}", "null: features have no weights to start from")
    for key, value in teacher.changes.items():
        if key not in FEATURES_OPTIONS:
            near = get_close_matches(key, FEATURES_OPTIONS, n=1)
            expected = f"one of {', '.join(FEATURES_OPTIONS)}"
            yield Fault(
                place,
                f"changes of {teacher.name}: unknown option {key!r}",
                expected,
                f"write {near[0]}" if near else "",
            )
        elif isinstance(value, bool) or not isinstance(value, int | float):
            yield Fault(place, f"changes of {teacher.name}: {key} is {value!r}", "a number")
