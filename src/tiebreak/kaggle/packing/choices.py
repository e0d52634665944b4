"""What a user chooses of a pack: the same names on the command line and in `pack.yaml`. Closed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tiebreak.errors import UsageError
from tiebreak.judges.runtime import Swap
from tiebreak.kaggle.metadata import licences, machines, slugs
from tiebreak.kaggle.settings import Predicting
from tiebreak.kaggle.wheels.target import KAGGLE, Target

MACHINES: Final[dict[str, str | None]] = {"cpu": None, "t4x2": machines.T4X2}
"""Short names of machines, and what Kaggle calls their shape; other GPUs go by Kaggle's own name."""

RESERVE_HOURS: Final = 0.5
"""Of the hours that Kaggle gives: what its own starting and saving may take."""

_VERSION: Final = re.compile(r"[^/\s]+/[^/\s]+/[^/\s]+/[^/\s]+/[1-9]\d*")
_OF_NETWORKS: Final = (
    "max_length",
    "max_tokens",
    "precision",
    "swap",
    "backend",
    "bases",
    "base_model",
    "base_licence",
    "torch",
)


def _slug(value: str) -> str:
    if not slugs.is_slug(value):
        raise ValueError(f"should be {slugs.IN_WORDS}")
    return value


def _user(value: str) -> str:
    if not slugs.is_user(value):
        raise ValueError("should be the name of a Kaggle account as it stands in its address, in lower case")
    return value


def _machine(value: str) -> str:
    if value in MACHINES or value in machines.GPUS:
        return value
    if value in machines.RETIRED:
        raise ValueError(f"should be a machine that is there still: {', '.join((*MACHINES, *machines.GPUS))}")
    raise ValueError(f"should be {' or '.join(MACHINES)}, or a GPU as Kaggle spells it: {', '.join(machines.GPUS)}")


def _version(value: str) -> str:
    if not _VERSION.fullmatch(value):
        raise ValueError("should be OWNER/MODEL/FRAMEWORK/VARIATION/VERSION with a whole number for the version")
    return value


def _policy(value: str) -> str:
    try:
        Swap.parse(value)
    except UsageError as error:
        raise ValueError(f"should be {error.expected}") from error
    return value


def _python(value: str) -> str:
    try:
        Target(value)
    except UsageError as error:
        raise ValueError(f"should be {error.expected}") from error
    return value


def _platform(value: str) -> str:
    try:
        Target(platform=value)
    except UsageError as error:
        raise ValueError(f"should be {error.expected}") from error
    return value


def _licence(value: str) -> str:
    found = licences.for_model(value)
    if found is None:
        near = licences.near_model(value)
        raise ValueError(f"should be a licence that Kaggle has for models{f', such as {near}' if near else ''}")
    return found


Slug = Annotated[str, AfterValidator(_slug)]


class Choices(BaseModel):
    """What is chosen of a pack.

    Attributes:
        judge: Folder of a bundle; None is the judge inside the package.
        competition: Slug of the competition.
        user: Who owns what is pushed.
        title: Of the notebook; None makes one of judge and competition.
        slug: Of the notebook: what Kaggle makes of the title; None leaves it to the title.
        sample: The sample submission, of a competition that is not known.
        columns: What columns of a submission hold, where their names do not say it.
        test: Name of the file to predict; None is that of the competition.
        map: Columns of that file that go by other names: ours -> theirs.
        machine: cpu, t4x2, or a GPU as Kaggle spells it; None suits the judge.
        needs_gpu: Whether the embedded judge is to do all rows where there is no GPU; None goes by the size.
        hours: Hours that Kaggle gives a run; half an hour is kept in reserve, or a quarter of a shorter run.
        python: Minor version of the notebook's Python; None is the running one's.
        platform: Newest manylinux tag of the wheels; None is manylinux_2_28, with vLLM the newest that Kaggle takes.
        requirements: Further requirements that are packed, or other versions of those that are.
        torch: cpu packs a build without CUDA, which Kaggle's own replaces there; cuda one with.
        bases: Where base models lie here, if not where they were at training.
        base_model: A base model that Kaggle has already: OWNER/MODEL/FRAMEWORK/VARIATION/VERSION.
        licence: Licence of the model on Kaggle.
        base_licence: Licence of a base that is packed; None is that of the model.
        notes: What is said of this version.
        public: Whether others see what is pushed.
        max_length: As of `tiebreak predict`, like all that follow.
        max_tokens: Tokens computed at a time.
        precision: Of the computation.
        swap: Orders judged.
        backend: What runs a generative judge.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    judge: Path | None = None
    competition: Slug
    user: Annotated[str, AfterValidator(_user)]
    title: str | None = None
    slug: Slug | None = None
    sample: Path | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    test: str | None = None
    map: dict[str, str] = Field(default_factory=dict)
    machine: Annotated[str, AfterValidator(_machine)] | None = None
    needs_gpu: bool | None = None
    hours: Annotated[float, Field(gt=0, le=24)] = 9.0
    python: Annotated[str, AfterValidator(_python)] | None = None
    platform: Annotated[str, AfterValidator(_platform)] | None = None
    requirements: tuple[str, ...] = ()
    torch: Literal["cpu", "cuda"] = "cpu"
    bases: tuple[str, ...] = ()
    base_model: Annotated[str, AfterValidator(_version)] | None = None
    licence: Annotated[str, AfterValidator(_licence)] = "Apache 2.0"
    base_licence: Annotated[str, AfterValidator(_licence)] | None = None
    notes: str = ""
    public: bool = False
    max_length: Annotated[int, Field(ge=16)] | None = None
    max_tokens: Annotated[int, Field(ge=64)] | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    swap: Annotated[str, AfterValidator(_policy)] | None = None
    backend: Literal["transformers", "vllm"] | None = None

    def of_networks(self) -> list[str]:
        """The choices made that a judge without a network does not have."""
        return [name for name in _OF_NETWORKS if getattr(self, name) != type(self).model_fields[name].default]

    @property
    def of_base(self) -> str:
        """Licence of a base that is packed."""
        return self.base_licence or self.licence

    @property
    def target(self) -> Target:
        """The machine that the wheels are for."""
        platform = self.platform or KAGGLE
        return Target(platform=platform) if self.python is None else Target(self.python, platform)

    @property
    def working_hours(self) -> float:
        """Hours for the notebook itself."""
        return round(self.hours - min(RESERVE_HOURS, self.hours / 4), 4)

    @property
    def predicting(self) -> Predicting:
        """The options of `tiebreak predict`."""
        return Predicting(**{name: getattr(self, name) for name in Predicting.model_fields})
