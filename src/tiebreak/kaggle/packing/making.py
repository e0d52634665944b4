"""A pack, written whole or not at all. The same choices, package and versions give the same bytes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tiebreak import storage
from tiebreak.errors import ResourceError, UsageError
from tiebreak.kaggle import metadata, notebook
from tiebreak.kaggle.layout import WHEELHOUSE, Layout
from tiebreak.kaggle.metadata import Dataset, Instance, Kernel, Licence, Model, licences
from tiebreak.kaggle.packing import flat, names, record, texts
from tiebreak.kaggle.packing.planning import Plan, is_gpu
from tiebreak.kaggle.packing.private import Content, size
from tiebreak.kaggle.packing.record import JudgeRecord, Record
from tiebreak.kaggle.settings import KernelSettings
from tiebreak.kaggle.wheels import house
from tiebreak.kaggle.wheels.house import House
from tiebreak.listening import SILENT, Listener

LINKED: Final = 16 << 20
"""Bytes from which a file is linked and not copied, where the disk allows it."""


@dataclass(frozen=True)
class Packed:
    """What was written.

    Attributes:
        layout: Where.
        record: What `pack.json` says.
        house: What the wheelhouse holds.
        seconds: That it took.
    """

    layout: Layout
    record: Record
    house: House
    seconds: float


def write(plan: Plan, output: Path, listener: Listener = SILENT) -> Packed:
    """Write a pack. One that is there is replaced whole; what was pushed of it is remembered.

    Args:
        plan: What it will be.
        output: The folder; its parent must be there.
        listener: Told what is done.

    Raises:
        UsageError: The folder holds something else than a pack, or the judge.
        PipError: The wheels cannot be had.
        ResourceError: The disk is full or the place cannot be written.
    """
    check_output(output, plan.choices.judge)
    began = time.perf_counter()
    with storage.replacing(output) as aside:
        aside.mkdir()
        pack = Layout(aside)
        wheels = _wheels(plan, pack, listener)
        if plan.judge is not None:
            _model(plan, pack)
        settings = _settings(plan, pack)
        _kernel(plan, settings, pack)
        written = _record(plan, settings, wheels, pack, listener)
        metadata.check(pack)
        if Layout(output).pushed.is_file():
            shutil.copyfile(Layout(output).pushed, pack.pushed)
    return Packed(Layout(output), written, wheels, time.perf_counter() - began)


def check_output(output: Path, judge: Path | None) -> None:
    """See that a folder can become a pack: it is none yet, is empty, or is a pack that is replaced.

    Raises:
        UsageError: It holds something else, or the judge lies in it.
    """
    if output.is_file():
        raise UsageError(f"{output} is a file", expected="a folder for the pack")
    if output.is_dir() and any(output.iterdir()) and not Layout(output).record.is_file():
        raise UsageError(
            f"{output} holds something else than a pack, and would be replaced", expected="a new folder, or a pack",
            mend="-o ANOTHER",
        )  # fmt: skip
    if judge is not None and judge.resolve().is_relative_to(output.resolve()):
        raise UsageError(f"the judge {judge} lies in {output}, which would be replaced", mend="-o ANOTHER")


def _wheels(plan: Plan, pack: Layout, listener: Listener) -> House:
    choices = plan.choices
    made = house.build(pack.wheels, plan.requirements, choices.target, torch=choices.torch, listener=listener)
    slug = plan.dataset.partition("/")[2]
    Dataset(
        title=names.titled(slug),
        id=plan.dataset,
        subtitle=f"Wheels for CPython {made.python} without a network, by tiebreak",
        description=texts.wheels(made.wheels, made.python, made.platform, plan.subject.manifest.name),
        licenses=[Licence(name=licences.OTHER)],
    ).write(pack.wheels)
    return made


def _model(plan: Plan, pack: Layout) -> None:
    judge, choices = plan.judge, plan.choices
    assert judge is not None  # noqa: S101 - asked by the caller
    slug = str(plan.model).partition("/")[2]
    pack.model.mkdir()
    Model(
        owner_slug=choices.user,
        title=names.titled(slug),
        slug=slug,
        subtitle="Which of two answers would a person prefer?",
        is_private=not choices.public,
        description=texts.card(plan.subject),
    ).write(pack.model)
    base = judge.base
    holds: dict[str, Mapping[str, Content]] = {"judge": judge.files}
    if "base" in plan.instances and base is not None:
        holds["base"] = base.files
    for name, files in holds.items():
        folder = pack.model / name
        place(files, folder)
        Instance(
            owner_slug=choices.user,
            model_slug=slug,
            instance_slug=name,
            framework=plan.framework(name),
            overview=texts.overview(plan.subject, name),
            usage=texts.usage(plan.subject, name, base.file if base else None),
            license_name=choices.of_base if name == "base" else choices.licence,
            training_data=texts.trained_on(plan.subject.training) if name == "judge" else [],
        ).write(folder)


def place(files: Mapping[str, Content], folder: Path) -> None:
    """Put files into a new folder, flat, with the list of where they belong if they lay in folders."""
    folder.mkdir()
    given = flat.names(files)
    for path, name in given.items():
        content = files[path]
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            _copy(content.resolve(), folder / name)
    if (listed := flat.layout(given)) is not None:
        (folder / flat.LAYOUT).write_bytes(listed)


def _copy(source: Path, target: Path) -> None:
    """A link to what is large, where one can be made; else a copy."""
    if source.stat().st_size >= LINKED:
        try:
            os.link(source, target)
        except OSError:  # another disk, or one that knows no links
            pass
        else:
            return
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise ResourceError(f"cannot copy {source}: {error.strerror or error}") from error


def _settings(plan: Plan, pack: Layout) -> KernelSettings:
    judge, competition = plan.judge, plan.competition
    return KernelSettings(
        competition=competition.slug,
        test=competition.test,
        sample=competition.sample,
        map=plan.choices.map,
        submission=competition.submission,
        wheelhouse=storage.sha256(pack.wheels / WHEELHOUSE),
        judge=None if judge is None else judge.digest,
        bases=[judge.base.digest] if judge is not None and judge.base is not None else [],
        needs_gpu=plan.needs_gpu,
        hours=plan.choices.working_hours,
        predicting=plan.choices.predicting,
    )


def _kernel(plan: Plan, settings: KernelSettings, pack: Layout) -> None:
    pack.kernel.mkdir()
    file = f"{plan.slug}.ipynb"
    notebook.write(
        pack.kernel / file, settings, title=plan.title, about=texts.about(plan.subject, plan.competition)
    )  # fmt: skip
    known = plan.choices.base_model
    Kernel(
        id=plan.kernel,
        title=plan.title,
        code_file=file,
        language="python",
        kernel_type="notebook",
        is_private=not plan.choices.public,
        enable_gpu=is_gpu(plan.shape),
        enable_internet=False,
        machine_shape=plan.shape,
        dataset_sources=[plan.dataset],
        competition_sources=[plan.competition.slug],
        model_sources=[*(f"{instance}/1" for instance in plan.instances.values()), *([known] if known else [])],
    ).write(pack.kernel)


def _record(plan: Plan, settings: KernelSettings, wheels: House, pack: Layout, listener: Listener) -> Record:
    manifest, judge = plan.subject.manifest, plan.judge
    made = Record(
        user=plan.choices.user,
        kernel=plan.kernel,
        dataset=plan.dataset,
        model=plan.model,
        instances=plan.instances,
        base_model=plan.choices.base_model,
        judge=JudgeRecord(
            name=manifest.name,
            kind=manifest.kind,
            sha256=None if judge is None else judge.digest,
            parameters=plan.subject.parameters,
            base=plan.subject.base,
        ),
        python=wheels.python,
        platform=wheels.platform,
        requirements=plan.requirements,
        settings=settings,
        notes=plan.choices.notes,
        parts=record.parts(pack, listener),
    )
    made.write(pack)
    return made


def sizes(plan: Plan) -> dict[str, int]:
    """Bytes of each part that is known before packing: the folders of the model."""
    judge = plan.judge
    if judge is None:
        return {}
    base = {"model/base": judge.base.bytes} if judge.base is not None and judge.base.files else {}
    return {"model/judge": sum(size(content) for content in judge.files.values()), **base}


__all__ = ["Packed", "check_output", "place", "sizes", "write"]
