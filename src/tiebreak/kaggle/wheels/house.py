"""A wheelhouse: a flat folder of wheels, a lock with their hashes, and `wheelhouse.json`, which says what it is for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from packaging.version import Version
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import tiebreak as package
from tiebreak import storage
from tiebreak.errors import DataError, UsageError
from tiebreak.kaggle.layout import LOCK, WHEELHOUSE
from tiebreak.kaggle.wheels import closure, downloading, locked, needs, own
from tiebreak.kaggle.wheels.closure import Reached
from tiebreak.kaggle.wheels.resolving import TORCH, Chosen, Torch
from tiebreak.kaggle.wheels.target import KAGGLE_PYTHON, PLATFORM, PYTHON, Target
from tiebreak.listening import SILENT, Listener

FORMAT: Final = 1
_LOCK_HEAD: Final = "# pip install --no-index --no-deps --require-hashes --find-links . --target PLACE -r {file}\n"
_WITHOUT_TORCH: Final = (
    "torch is not among the wheels, the index has only builds with CUDA for {target}: the image must bring it, and "
    "where it does not, the pack cannot run"
)


class Wheel(BaseModel):
    """One file of a wheelhouse.

    Attributes:
        file: Its name; it lies beside `wheelhouse.json`.
        name: Canonical name of the package.
        version: With its build ("2.13.0+cpu").
        sha256: Of the file.
        bytes: Of the file.
        accepts: The versions that its dependants run with (">=1.26", "==2.50.4"); empty: any. An image with another
            Python than the wheelhouse's may have its own, and that will do if it is one of them.
        image: Left out where the image has a torch that is new enough: torch, and what nothing else asks for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+!-]+\.whl$")]
    name: str
    version: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: int
    accepts: str = ""
    image: bool = False


class House(BaseModel):
    """What `wheelhouse.json` says.

    Attributes:
        format: Of this document.
        python: Minor version that the wheels are for, "3.11".
        platform: Newest manylinux tag that they may have.
        tiebreak: Version of tiebreak whose wheel is among them; None: it is not.
        torch: cpu: a build without CUDA, marked `image`. cuda: with CUDA. image only: not among them, the image must
            bring it. None: not needed.
        image_at_least: Of torch, the version from which on an image's own will do ({"torch": "2.6"}).
        requires: What was asked for by name.
        wheels: The files, by name of their packages.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = FORMAT
    python: Annotated[str, Field(pattern=f"^{PYTHON}$")]
    platform: Annotated[str, Field(pattern=f"^{PLATFORM}$")]
    tiebreak: str | None = None
    torch: Torch | None = None
    image_at_least: dict[str, str] = Field(default_factory=dict)
    requires: tuple[str, ...] = ()
    wheels: tuple[Wheel, ...]

    @property
    def target(self) -> Target:
        """The machine that it is for."""
        return Target(self.python, self.platform)

    @property
    def bytes(self) -> int:
        """Of all wheels."""
        return sum(wheel.bytes for wheel in self.wheels)

    def left_to_image(self, python: str = KAGGLE_PYTHON) -> list[str]:
        """Packages whose wheels do not fit another Python: there the image's own take their place."""
        there = Target(python, self.platform)
        return [one.name for one in self.wheels if not one.image and not there.takes(one.file)]

    def on_kaggle(self) -> str:
        """What becomes of it under Kaggle's Python; empty: it is for that one."""
        if self.python == KAGGLE_PYTHON:
            return ""
        left = self.left_to_image()
        return (
            f"wheels for Python {self.python}, and Kaggle's image has {KAGGLE_PYTHON}: "
            + (f"there {', '.join(left)} will be the image's own" if left else "they all fit that one, too")
        )  # fmt: skip

    @property
    def lock(self) -> str:
        """The text of `requirements.lock`."""
        lines = (f"{one.name}=={one.version} --hash=sha256:{one.sha256}\n" for one in self.wheels)
        return _LOCK_HEAD.format(file=LOCK) + "".join(lines)


def build(
    directory: Path,
    requirements: Sequence[str],
    target: Target,
    *,
    tiebreak: bool = True,
    torch: Literal["cpu", "cuda"] = "cpu",
    listener: Listener = SILENT,
) -> House:
    """Make a wheelhouse, whole or not at all. The same package, requirements and versions give the same bytes.

    Args:
        directory: Where it will be; what is there is replaced.
        requirements: As `needs.of` gives them.
        target: The machine that it is for.
        tiebreak: Whether to put a wheel of tiebreak in it, which asks for the same packages.
        torch: Of `resolving.resolve`.
        listener: Told what is done, and of what could not be had as asked.

    Raises:
        PipError: No set of wheels meets the requirements, or no index can be reached and the cache has them not.
        DataError: What was found is not what the target needs.
        UsageError: The parent directory does not exist, or tiebreak does not run on that Python.
        ResourceError: The disk is full.
    """
    if tiebreak and Version(target.python) < Version(own.PYTHON):
        raise UsageError(f"Python {target.python}: tiebreak does not run on it", expected=f"{own.PYTHON} or later")
    with storage.replacing(directory) as aside:
        aside.mkdir()
        found = locked.resolution(requirements, target, torch=torch, listener=listener)
        if found.torch == "image only":
            listener.say(_WITHOUT_TORCH.format(target=target))
        paths = downloading.fetch(found.wheels, target, aside, listener)
        wheels = [_wheel(path, one) for path, one in zip(paths, found.wheels, strict=True)]
        roots = list(requirements)
        if tiebreak:
            wheels.append(_own(own.build(aside, [needs.loosened(text) for text in requirements])))
            roots = [_root(package.__version__)]
        reached = closure.prove([aside / wheel.file for wheel in wheels], roots, target, found.provided)
        house = House(
            python=target.python,
            platform=target.platform,
            tiebreak=package.__version__ if tiebreak else None,
            torch=found.torch,
            image_at_least={TORCH: needs.least(TORCH)} if found.torch else {},
            requires=tuple(requirements),
            wheels=tuple(sorted((_accepting(wheel, reached) for wheel in wheels), key=lambda wheel: wheel.name)),
        )
        document = json.dumps(house.model_dump(mode="json"), indent=1) + "\n"
        (aside / WHEELHOUSE).write_text(document, encoding="utf-8")
        (aside / LOCK).write_text(house.lock, encoding="utf-8")
    return house


def read(directory: Path) -> House:
    """What the `wheelhouse.json` of a folder says.

    Raises:
        DataError: There is none, or it is not one of tiebreak.
    """
    path = directory / WHEELHOUSE
    try:
        return House.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}", expected="a wheelhouse", mend="tiebreak kaggle pack"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path}: {place}: {first['msg']}", expected="a wheelhouse.json written by tiebreak") from error


def verify(directory: Path) -> House:
    """Hold a wheelhouse against what it says: every sha256, the lock, and that it is closed for its target.

    Raises:
        DataError: A file is missing, altered or surplus, or a requirement is not met; all are listed.
    """
    house = read(directory)
    problems = [problem for wheel in house.wheels if (problem := _altered(directory / wheel.file, wheel))]
    listed = {wheel.file for wheel in house.wheels}
    problems += [
        f"{path.name}: not in {WHEELHOUSE}" for path in sorted(directory.glob("*.whl")) if path.name not in listed
    ]
    lock = directory / LOCK
    if not lock.is_file() or lock.read_text(encoding="utf-8") != house.lock:
        problems.append(f"{LOCK}: not the lock of these wheels")
    if problems:
        listing = "\n".join(f"  {problem}" for problem in problems)
        raise DataError(
            f"{directory} is not the wheelhouse that was packed:\n{listing}\n",
            expected=f"the files that {WHEELHOUSE} lists", mend="tiebreak kaggle pack",
        )  # fmt: skip
    roots = [*house.requires, *([_root(house.tiebreak)] if house.tiebreak else [])]
    provided = {TORCH} if house.torch == "image only" else ()
    closure.prove([directory / wheel.file for wheel in house.wheels], roots, house.target, provided)
    return house


def _root(version: str) -> str:
    return f"tiebreak=={version}"


def _accepting(wheel: Wheel, reached: Reached) -> Wheel:
    return wheel.model_copy(update={"accepts": ",".join(sorted(map(str, reached.asked[wheel.name])))})


def _altered(path: Path, wheel: Wheel) -> str | None:
    if not path.is_file():
        return f"{wheel.file}: missing"
    if path.stat().st_size != wheel.bytes or storage.sha256(path) != wheel.sha256:
        return f"{wheel.file}: altered, its sha256 is not the one in {WHEELHOUSE}"
    return None


def _wheel(path: Path, one: Chosen) -> Wheel:
    return Wheel(
        file=one.file, name=one.name, version=one.version, sha256=one.sha256, bytes=path.stat().st_size, image=one.image
    )


def _own(path: Path) -> Wheel:
    return Wheel(
        file=path.name, name="tiebreak", version=package.__version__, sha256=storage.sha256(path),
        bytes=path.stat().st_size,
    )  # fmt: skip
