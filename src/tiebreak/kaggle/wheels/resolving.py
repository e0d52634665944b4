"""From requirements to one version and one file of each package, for the target.

pip resolves; what it resolved is walked again with the markers of the target (`closure`): what lacks is asked for by
name, and what nothing on the target asks for is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import distributions
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from pydantic import BaseModel, ConfigDict

from tiebreak.errors import DataError
from tiebreak.kaggle.wheels import cache, closure, needs
from tiebreak.kaggle.wheels.asking import LOOKS_AT, PipError, pip
from tiebreak.kaggle.wheels.closure import Package, Reached
from tiebreak.kaggle.wheels.target import Target
from tiebreak.listening import SILENT, Listener

Torch = Literal["cpu", "cuda", "image only"]

TORCH: Final = "torch"
_OF_CUDA: Final = re.compile(r"(nvidia|cuda)-.*|triton")
_ROUNDS: Final = 8
_LAZILY: Final = ("--use-feature=fast-deps",)
"""Where an index does not tell what a wheel needs, pip reads the end of the wheel alone: torch has half a gigabyte."""


class Chosen(BaseModel):
    """One wheel of a resolution.

    Attributes:
        name: Canonical.
        version: With its build.
        file: Name of the file.
        sha256: Of the file, as the index says; checked when it comes.
        image: Whether nothing but torch asks for it, so that an image with torch has it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    file: str
    sha256: str
    image: bool = False


class Resolution(BaseModel):
    """What the requirements come to.

    Attributes:
        wheels: By name.
        torch: Which torch is among them; None: nothing asks for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    wheels: tuple[Chosen, ...]
    torch: Torch | None = None

    @property
    def provided(self) -> frozenset[str]:
        """What is left to the image."""
        return frozenset({TORCH} if self.torch == "image only" else ())


def resolve(
    requirements: Sequence[str], target: Target, *, torch: Literal["cpu", "cuda"] = "cpu", listener: Listener = SILENT
) -> Resolution:
    """Resolve requirements for a target.

    Packages that requirements bring along take the versions of the running environment, where wheels of those fit.

    Args:
        requirements: What is asked for by name.
        target: The machine.
        torch: cpu: a build without CUDA, or, where the index has none, none at all (the image must bring it).
            cuda: whatever the index has, some gigabytes.
        listener: Told what could not be had as it was asked for.

    Raises:
        PipError: There is no set of wheels that meets them, or no index can be reached.
        DataError: What pip resolved does not meet them on the target.
    """
    with listener.progress("resolve", None, "packages") as advance:
        return _first(requirements, target, torch, listener.say, lambda line: advance(line.startswith(LOOKS_AT)))


def _first(
    requirements: Sequence[str], target: Target, torch: str, say: Callable[[str], None], heard: Callable[[str], None]
) -> Resolution:
    """What comes of the first attempt that pip does not refuse."""
    refusal: PipError | None = None
    for wanted, pins in _attempts(requirements, torch):
        try:
            found = _settle(wanted, pins, target, torch, heard)
        except PipError as error:
            if error.unreachable:
                raise
            refusal = error
            continue
        if not pins and refusal is not None:
            say("packages that others bring along differ from the ones installed here: no wheels of those fit")
        return found
    assert refusal is not None  # noqa: S101 - there is always an attempt
    raise refusal


def _attempts(requirements: Sequence[str], torch: str) -> Iterator[tuple[list[str], dict[str, str]]]:
    """What to ask pip for, best first: requirements, and versions of what they bring along."""
    plain = list(requirements)
    without_cuda = [f"{text}+cpu" if torch == "cpu" and _exact_torch(text) else text for text in plain]
    here = installed(plain)
    for wanted in (without_cuda, plain) if without_cuda != plain else (plain,):
        yield from ((wanted, pins) for pins in ((here, {}) if here else ({},)))


def _exact_torch(text: str) -> bool:
    requirement = Requirement(text)
    return (
        canonicalize_name(requirement.name) == TORCH
        and re.fullmatch(r"==[\d.]+", str(requirement.specifier)) is not None
    )


def installed(requirements: Sequence[str]) -> dict[str, str]:
    """The versions of this environment, of every package but those that are asked for by name, and torch.

    None, where vLLM is asked for and not installed: what it brings along is not what is here.
    """
    asked = {canonicalize_name(Requirement(text).name) for text in requirements} | {TORCH, "tiebreak"}
    if needs.led(asked):
        return {}
    found = {canonicalize_name(one.name): Version(one.version).public for one in distributions() if one.name}
    return {name: version for name, version in sorted(found.items()) if name not in asked}


def _settle(
    requirements: Sequence[str], pins: Mapping[str, str], target: Target, torch: str, heard: Callable[[str], None]
) -> Resolution:
    """Ask pip until what it resolves is closed under the markers of the target."""
    asked, provided = list(requirements), frozenset[str]()
    for _ in range(_ROUNDS):
        files, packages = _report(asked, pins, target, heard)
        reached = closure.reach(requirements, packages, target, provided)
        if torch == "cpu" and not provided and any(_OF_CUDA.fullmatch(name) for name in reached.names):
            _other_torch_will_do(packages, reached, target)
            provided = frozenset({TORCH})
            reached = closure.reach(requirements, packages, target, provided)
        further = [lack.requirement for lack in reached.lacking if lack.requirement not in asked]
        if not further:
            break
        asked += further
    if reached.lacking:
        raise _unmet(reached, target)
    return _resolution(requirements, files, packages, reached, target, _which(packages, reached, provided))


def _other_torch_will_do(packages: Mapping[str, Package], reached: Reached, target: Target) -> None:
    """Refuse packages that run with one torch and no other, where that one is not packed."""
    for name in sorted(reached.names - {TORCH}):
        asked = closure.reach([name], {name: packages[name]}, target).lacking
        bound = next((lack for lack in asked if _exact_torch(lack.requirement)), None)
        if bound is not None:
            raise DataError(
                f"{bound.by} needs {bound.requirement}, which the index has only with CUDA, and no other",
                expected="a package that runs with the torch of the image", mend="--torch cuda",
            )  # fmt: skip


def _which(packages: Mapping[str, Package], reached: Reached, provided: frozenset[str]) -> Torch | None:
    if provided:
        return "image only"
    if TORCH not in reached.names:
        return None
    return "cuda" if any(_OF_CUDA.fullmatch(name) for name in reached.names) else "cpu"


def _resolution(
    requirements: Sequence[str], files: Mapping[str, tuple[str, str]], packages: Mapping[str, Package],
    reached: Reached, target: Target, torch: Torch | None,
) -> Resolution:  # fmt: skip
    besides = closure.reach(requirements, packages, target, {TORCH}).names
    return Resolution(
        wheels=tuple(
            Chosen(
                name=name, version=packages[name].version, file=files[name][0], sha256=files[name][1],
                image=name not in besides,
            )
            for name in sorted(reached.names)
        ),
        torch=torch,
    )  # fmt: skip


def _unmet(reached: Reached, target: Target) -> DataError:
    listing = "\n".join(f"  {lack}" for lack in reached.lacking)
    return DataError(
        f"what pip resolved lacks, for {target}:\n{listing}\n",
        expected="versions that meet every requirement there",
        mend=f"--with NAME==VERSION for one of them, or pack with Python {target.python} itself",
    )


def _report(
    requirements: Sequence[str], pins: Mapping[str, str], target: Target, heard: Callable[[str], None]
) -> tuple[dict[str, tuple[str, str]], dict[str, Package]]:
    """What pip would install: by canonical name the file with its sha256, and what the package says of itself."""
    with cache.room() as folder:
        report, bounds = folder / "report.json", folder / "constraints.txt"
        bounds.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()), encoding="utf-8")
        asked = ["--target", str(folder / "nothing"), *target.options, "--constraint", str(bounds), *requirements]
        what = f"the wheels for {target} cannot be resolved"
        command = ["install", "--dry-run", "--report", str(report)]
        try:
            pip([*command, *_LAZILY, *asked], what, folder, target=target, heard=heard)
        except PipError as error:
            if not error.denied:
                raise
            pip([*command, *asked], what, folder, target=target, heard=heard)
        document = json.loads(report.read_text(encoding="utf-8"))
    files: dict[str, tuple[str, str]] = {}
    packages: dict[str, Package] = {}
    for entry in document["install"]:
        said = entry["metadata"]
        name = canonicalize_name(said["name"])
        files[name] = _file(entry["download_info"])
        packages[name] = Package(
            name, said["version"], tuple(said.get("requires_dist") or ()), said.get("requires_python") or ""
        )
    return files, packages


def _file(download: Mapping[str, Any]) -> tuple[str, str]:
    name = unquote(urlsplit(download["url"]).path).rpartition("/")[2]
    digest = download.get("archive_info", {}).get("hashes", {}).get("sha256")
    if not isinstance(digest, str):
        raise DataError(f"{name}: the index does not tell its sha256", expected="an index with digests of its files")
    return name, digest
