"""What people read on Kaggle: the card of the model, what its variations are, what the wheels are, the notebook's head.

Everything comes from `judge.json`; nothing is claimed that it does not say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import tiebreak
from tiebreak.bundle import Manifest, TrainingSource
from tiebreak.kaggle.packing.competitions import Competition

_FIGURES: Final = ("log_loss", "prior_log_loss", "accuracy", "macro_f1", "brier", "ece", "swap_gap")


@dataclass(frozen=True)
class Subject:
    """The judge that is written of.

    Attributes:
        manifest: What its `judge.json` says.
        embedded: Whether it is the one inside the package.
        parameters: Of its networks; None where its base is not known here.
        base: Name of the base beside it.
        training: What it and its members were trained on.
    """

    manifest: Manifest
    embedded: bool
    parameters: int | None
    base: str | None
    training: tuple[TrainingSource, ...]

    @property
    def size(self) -> str:
        """In words."""
        if self.parameters is None:
            return "a network whose base was not measured"
        return count(self.parameters) + " parameters" if self.parameters else "no network"


def count(number: int) -> str:
    """A number of parameters as people say it."""
    for unit, name in ((10**9, "billion"), (10**6, "million")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:,}"


def about(subject: Subject, competition: Competition) -> str:
    """The head of the notebook, in Markdown."""
    judge = f"the judge **{subject.manifest.name}** ({subject.manifest.kind}, {subject.size})"
    base = f" on **{subject.base}**" if subject.base else ""
    notes = "".join(f"\n\nNote: {note}." for note in competition.submission.notes())
    return (
        f"Predictions for *{competition.slug}* by {judge}{base}: which of two answers would a person prefer? "
        f"Packed by tiebreak {tiebreak.__version__}. The network is off: everything comes from the attached "
        f"{'dataset' if subject.embedded else 'dataset and model'}.{notes}"
    )


def card(subject: Subject) -> str:
    """The model card, in Markdown."""
    manifest = subject.manifest
    return "\n".join([
        "# Model Summary", "",
        f"`{manifest.name}` is a {manifest.kind} judge of tiebreak: it predicts which of two answers of language "
        "models a person would prefer, as probabilities of A, B and a tie.", "",
        "# Model Characteristics", "", *_characteristics(subject), "",
        "# Data Overview", "", *_data(subject.training), "",
        "# Evaluation Results", "", *_figures(manifest.metrics), "",
        *(f"- {finding}" for finding in findings(manifest)),
    ])  # fmt: skip


def findings(manifest: Manifest) -> list[str]:
    """What the training itself found wrong with the judge, in words."""
    said = manifest.metrics.get("findings")
    return [str(one) for one in said] if isinstance(said, list) else []


def overview(subject: Subject, instance: str) -> str:
    """One line on a variation."""
    if instance == "base":
        return f"{subject.base}, the base model under the judge {subject.manifest.name}."
    return f"The bundle of the judge {subject.manifest.name}: judge.json and all that it lists."


def usage(subject: Subject, instance: str, file: str | None = None) -> str:
    """How a variation is used; Kaggle fills in what is written as ${...}. `file` is that of a base in one file."""
    if instance == "base":
        place = f"${{PATH}}/{file}" if file else "${PATH}"
        return (
            "# Model Format\n\nSafetensors or GGUF with configuration and tokenizer, flat.\n\n"
            f"# Model Usage\n\nBeside the variation `judge`: `tiebreak predict test.csv --judge JUDGE --base {place} "
            "--format kaggle -o submission.csv`\n\n# Changelog\n\nVersion ${VERSION_NUMBER}: see its notes.\n"
        )
    base = " --base BASE" if subject.base else ""
    return (
        "# Model Format\n\nA judge bundle of tiebreak, `${VARIATION_SLUG}`: `judge.json`, weights as safetensors or "
        "text, never pickle, never code. Where `layout.json` is there, it says which folder each file belongs to.\n\n"
        "# Model Inputs\n\nA prompt and two answers, one item a turn.\n\n"
        "# Model Outputs\n\nThe probabilities of A, B and a tie; they sum to 1.\n\n"
        f"# Model Usage\n\n`pip install tiebreak=={tiebreak.__version__}`, then `tiebreak predict test.csv "
        f"--judge ${{PATH}}{base} --format kaggle -o submission.csv`\n\n"
        "# Changelog\n\nVersion ${VERSION_NUMBER}: see its notes.\n"
    )


def wheels(wheels: Sequence[Any], python: str, platform: str, judge: str) -> str:
    """The description of the dataset, in Markdown; `wheels` have `name`, `version` and `bytes`."""
    lines = [f"| {one.name} | {one.version} | {one.bytes / 1e6:.1f} |" for one in wheels]
    return "\n".join([
        f"What the judge `{judge}` of tiebreak {tiebreak.__version__} needs to run without a network, for CPython "
        f"{python} on {platform}: `requirements.lock` has every version with its hash, `wheelhouse.json` the sha256 "
        "of every file. Each wheel keeps the licence of its project, which is inside it.", "",
        "| package | version | MB |", "| --- | --- | --- |", *lines, "",
    ])  # fmt: skip


def trained_on(sources: Sequence[TrainingSource]) -> list[str]:
    """The data sets by name, each with its licence."""
    return [f"{one.name} ({one.rows:,} votes, {one.licence or 'no licence stated'})" for one in sources]


def _characteristics(subject: Subject) -> list[str]:
    manifest = subject.manifest
    mirrored = "exactly" if manifest.swap_equivariant else "not exactly"
    lines = [
        f"- kind: {manifest.kind}", f"- size: {subject.size}",
        f"- base: {subject.base or 'none beside it: all weights are in the variation'}",
        *_members(manifest.settings.get("members")),
        f"- exchanging the answers exchanges the probabilities: {mirrored}",
        f"- calibrated: {'yes' if manifest.calibration is not None else 'no calibration of its own'}",
    ]  # fmt: skip
    versions = ", ".join(f"{name} {version}" for name, version in sorted(manifest.versions.items()))
    return [*lines, f"- made with: {versions}"]


def _members(listed: object) -> list[str]:
    """The judges that one is made of."""
    if not isinstance(listed, list) or not listed:
        return []
    return ["- made of: " + ", ".join(f"{one['name']} ({one['kind']})" for one in listed)]


def _data(training: Sequence[TrainingSource]) -> list[str]:
    if not training:
        return ["What it was trained on is not recorded in the bundle."]
    return [
        "| data set | votes | licence |", "| --- | --- | --- |",
        *(f"| {one.name} | {one.rows:,} | {one.licence or 'none stated'} |" for one in training),
    ]  # fmt: skip


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    found = [(name, value) for name, value in _flat(metrics) if name.rpartition(".")[2] in _FIGURES][:12]
    if not found:
        return ["No figures are recorded in the bundle."]
    return ["| figure | value |", "| --- | --- |", *(f"| {name} | {value:.4f} |" for name, value in found)]


def _flat(metrics: Mapping[str, Any], place: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{place}{name}.")
        elif (number := _number(value)) is not None:
            found.append((f"{place}{name}", number))
    return found


def _number(value: Any) -> float | None:
    """A figure, also where it stands before the ends of its interval."""
    if isinstance(value, list) and len(value) == 3:
        value = value[0]
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
