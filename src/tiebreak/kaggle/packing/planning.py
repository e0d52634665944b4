"""What a pack will be, before anything is written: judge, base, competition, names, machine, requirements."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from tiebreak import bundle, judges
from tiebreak.errors import MissingExtraError, UsageError
from tiebreak.judges import Runtime
from tiebreak.kaggle.metadata import machines
from tiebreak.kaggle.packing import competitions, names, parameters, portable, texts
from tiebreak.kaggle.packing.choices import MACHINES, Choices
from tiebreak.kaggle.packing.competitions import Competition
from tiebreak.kaggle.packing.portable import Portable
from tiebreak.kaggle.packing.texts import Subject
from tiebreak.kaggle.settings import Predicting
from tiebreak.kaggle.wheels import needs
from tiebreak.kaggle.wheels.target import NEWEST


@dataclass(frozen=True)
class Plan:
    """A pack to be.

    Attributes:
        choices: What was chosen.
        competition: What it is for.
        subject: The judge, for those who read of it.
        judge: Its files; None is the judge inside the package.
        title: Of the notebook.
        slug: Of the notebook.
        shape: What Kaggle calls the machine; None has no accelerator.
        needs_gpu: Whether the embedded judge does all rows where there is no GPU.
        requirements: What is packed as wheels, before it is resolved.
        notes: What a user should know.
    """

    choices: Choices
    competition: Competition
    subject: Subject
    judge: Portable | None
    title: str
    slug: str
    shape: str | None
    needs_gpu: bool
    requirements: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def kernel(self) -> str:
        """`owner/slug` of the notebook."""
        return f"{self.choices.user}/{self.slug}"

    @property
    def dataset(self) -> str:
        """`owner/slug` of the wheels."""
        return f"{self.choices.user}/{names.wheels(self.slug)}"

    @property
    def model(self) -> str | None:
        """`owner/slug` of the model; None: there is none."""
        return None if self.judge is None else f"{self.choices.user}/{names.model(self.subject.manifest.name)}"

    def framework(self, instance: str) -> str:
        """What Kaggle calls what the files of an instance are for."""
        if instance == "base" and self.judge is not None and self.judge.base is not None and self.judge.base.file:
            return "gguf"
        return "transformers" if judges.has_network(self.subject.manifest) else "other"

    @property
    def instances(self) -> dict[str, str]:
        """`owner/model/framework/variation` of each folder of the model."""
        if self.judge is None:
            return {}
        folders = ["judge", *(["base"] if self.judge.base is not None and self.judge.base.files else [])]
        return {name: f"{self.model}/{self.framework(name)}/{name}" for name in folders}


def plan(choices: Choices) -> Plan:
    """See that everything is there and fits together. Nothing is written.

    Raises:
        UsageError: Choices do not suit each other or the judge, or a base is not here.
        DataError: The bundle, its base or the sample submission is damaged.
    """
    competition = competitions.find(choices.competition, choices.sample, choices.columns, choices.test)
    directory = choices.judge or judges.EMBEDDED
    judge = None
    if choices.judge is not None:
        judge = portable.make(directory, given=choices.bases, on_kaggle=choices.base_model is not None)
    original = bundle.read(directory, files=False)
    _check(choices, original, directory)
    subject = _subject(bundle.read(directory, files=False) if judge is None else judge.manifest, judge)
    title, slug = names.notebook(subject.manifest.name, choices.competition, choices.title, choices.slug)
    network = judges.has_network(original)
    machine = choices.machine or ("t4x2" if network else "cpu")
    needs_gpu, why = _needs_gpu(choices, subject)
    found = needs.of(original, directory, backend=choices.backend, bases=choices.bases)
    wanted = needs.override(found, choices.requirements)
    if choices.platform is None and any(Requirement(text).name == needs.LEADING for text in wanted):
        choices = choices.model_copy(update={"platform": NEWEST})
    notes = [*competition.submission.notes(), *(judge.notes if judge else ()), *why, *_licences(choices, subject)]
    notes += [*_base_licence(choices, judge), *(f"said at training: {one}" for one in texts.findings(original))]
    if needs_gpu and machine == "cpu":
        notes.append("a judge that needs a GPU on a machine without one: the embedded judge will do all rows")
    return Plan(
        choices, competition, subject, judge, title, slug, MACHINES.get(machine, machine), needs_gpu, wanted,
        tuple(notes),
    )  # fmt: skip


def _check(choices: Choices, manifest: bundle.Manifest, directory: Path) -> None:
    """Refuse here what the judge would refuse there, hours later; where torch is absent, only what needs none."""
    if not judges.has_network(manifest):
        if named := choices.of_networks():
            raise UsageError(
                f"{', '.join(named)}: a {manifest.kind} judge has no such choice", expected="a judge with a network"
            )
        return
    chosen = choices.predicting
    if chosen == Predicting():
        return
    with suppress(MissingExtraError):
        judge = judges.load(directory, Runtime(**chosen.model_dump()))
        for one in getattr(judge, "members", [judge]):
            if chosen.max_length is not None and hasattr(type(one), "renderer"):
                _ = one.renderer


def _subject(manifest: bundle.Manifest, judge: Portable | None) -> Subject:
    if judge is None:
        return Subject(manifest, embedded=True, parameters=0, base=None, training=tuple(manifest.training))
    base = judge.base
    contents = [*judge.files.values(), *(base.files.values() if base else ())]
    known = base is None or bool(base.files)
    found = parameters.count(content for content in contents if isinstance(content, Path)) if known else None
    return Subject(
        manifest, embedded=False, parameters=found, base=None if base is None else base.name, training=judge.training
    )


def _needs_gpu(choices: Choices, subject: Subject) -> tuple[bool, list[str]]:
    if choices.needs_gpu is not None:
        return choices.needs_gpu, []
    if subject.parameters is None:
        return True, ["how large the base is, is not known here: without a GPU the embedded judge does all rows "
                      "(--no-needs-gpu: the judge itself does, on the CPU)"]  # fmt: skip
    return subject.parameters > parameters.LARGE, []


def _licences(choices: Choices, subject: Subject) -> list[str]:
    """Whoever uploads a model gives it a licence: what is known of its data should not be passed over."""
    if subject.embedded:
        return []
    silent = [source.name for source in subject.training if not source.licence]
    told = f"the model will be {'public' if choices.public else 'private'}, licence {choices.licence} (--licence)"
    if silent:
        told += f"; no licence is stated for {', '.join(silent)}, which it was trained on"
    return [told]


def _base_licence(choices: Choices, judge: Portable | None) -> list[str]:
    """A base is somebody else's: nobody publishes it under a licence that was not named for it."""
    if judge is None or judge.base is None or not judge.base.files:
        return []
    if choices.public and choices.base_licence is None:
        raise UsageError(
            f"the base {judge.base.name} would be public, and its licence is not given",
            expected="the licence that its authors gave it",
            mend="--base-licence LICENCE, --private, or --base-model where Kaggle has it already",
        )
    return [f"its base {judge.base.name} goes along, licence {choices.of_base} (--base-licence)"]


def is_gpu(shape: str | None) -> bool:
    """Whether a machine has GPUs."""
    return shape in machines.GPUS
