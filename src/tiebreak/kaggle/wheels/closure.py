"""What a set of packages asks for, evaluated for the machine it is for, and the proof that a folder of wheels has it.

pip evaluates the markers of requirements for the interpreter it runs on, whatever `--python-version` and `--platform`
say. What it resolved is therefore walked again here.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from tiebreak.errors import DataError
from tiebreak.kaggle.wheels.target import Target


@dataclass(frozen=True)
class Package:
    """What a wheel says of itself.

    Attributes:
        name: Canonical.
        version: With its build ("2.13.0+cpu").
        requires: Its Requires-Dist, markers and all.
        python: Its Requires-Python; empty: any.
    """

    name: str
    version: str
    requires: tuple[str, ...] = ()
    python: str = ""


@dataclass(frozen=True)
class Lack:
    """A requirement that is not met.

    Attributes:
        by: Who asks: a package with its version, or nobody for what was asked for by name.
        requirement: What it asks for, without its marker.
        found: The version that is there instead; None: nothing is.
    """

    by: str
    requirement: str
    found: str | None

    def __str__(self) -> str:
        there = "is not there" if self.found is None else f"has version {self.found}"
        name = Requirement(self.requirement).name
        return f"{self.by} needs {self.requirement}: {name} {there}" if self.by else f"{self.requirement}: it {there}"


@dataclass
class Reached:
    """What is needed of some packages.

    Attributes:
        names: Of the packages that something asks for, canonical.
        asked: Of each of them, all that others ask of its version.
        lacking: What is asked for and not met.
    """

    names: set[str] = field(default_factory=set)
    asked: dict[str, SpecifierSet] = field(default_factory=dict)
    lacking: list[Lack] = field(default_factory=list)


def reach(
    roots: Iterable[str], packages: Mapping[str, Package], target: Target, provided: Collection[str] = ()
) -> Reached:
    """Follow requirements from what was asked for.

    Args:
        roots: Requirements.
        packages: What there is, by canonical name.
        target: The machine that markers are evaluated for.
        provided: Names that the image brings: they are met, and what they ask for is not followed.
    """
    found = Reached()
    seen: set[tuple[str, str]] = set()
    waiting = [("", Requirement(root), "") for root in roots]
    while waiting:
        by, requirement, extra = waiting.pop(0)
        name = canonicalize_name(requirement.name)
        if name in provided or not _applies(requirement, target, extra):
            continue
        package = packages.get(name)
        if package is None or not requirement.specifier.contains(package.version, prereleases=True):
            lack = Lack(by, _bare(requirement), package.version if package else None)
            found.lacking += [lack] if lack not in found.lacking else []
        if package is None:
            continue
        found.names.add(name)
        found.asked[name] = found.asked.get(name, SpecifierSet()) & requirement.specifier
        for part in ("", *sorted(requirement.extras)):
            if (name, part) not in seen:
                seen.add((name, part))
                who = f"{package.name} {package.version}"
                waiting += [(who, further, part) for further in map(Requirement, package.requires)]
    return found


def _applies(requirement: Requirement, target: Target, extra: str) -> bool:
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({**environment, "extra": extra}) for environment in target.environments)


def _bare(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{requirement.specifier}"


def read(path: Path) -> Package:
    """What a wheel says of itself.

    Raises:
        DataError: It is not a wheel, or its name and its METADATA disagree.
    """
    try:
        name, version, _, _ = parse_wheel_filename(path.name)
        with zipfile.ZipFile(path) as archive:
            inside = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1)
            said = HeaderParser().parsestr(archive.read(inside).decode("utf-8"))
        own = (canonicalize_name(said["Name"] or ""), Version(said["Version"] or ""))
        requires = tuple(said.get_all("Requires-Dist") or ())
        for requirement in requires:
            Requirement(requirement)
    except (InvalidWheelFilename, InvalidRequirement, zipfile.BadZipFile, StopIteration, ValueError, OSError) as error:
        raise DataError(f"{path} is not a wheel ({error})", expected="a .whl with METADATA in it") from error
    if own != (name, version):
        raise DataError(f"{path}: its METADATA is that of {own[0]} {own[1]}", expected=f"{name} {version}")
    return Package(name, str(version), requires, said["Requires-Python"] or "")


def prove(wheels: Sequence[Path], roots: Sequence[str], target: Target, provided: Collection[str] = ()) -> Reached:
    """Prove that these wheels, and no others, are what the target needs.

    Args:
        wheels: The files.
        roots: What was asked for.
        target: The machine.
        provided: Names that the image brings.

    Returns:
        What is asked of each.

    Raises:
        DataError: A requirement is not met, a wheel is not for this machine, or nothing asks for it; all are listed.
    """
    packages: dict[str, Package] = {}
    problems: list[str] = []
    for path in wheels:
        package = read(path)
        if package.name in packages:
            problems.append(f"{package.name} is there twice: {packages[package.name].version} and {package.version}")
        packages[package.name] = package
        problems += _misfits(path, package, target)
    reached = reach(roots, packages, target, provided)
    problems += map(str, reached.lacking)
    problems += [f"{name}: nothing asks for it" for name in sorted(packages.keys() - reached.names)]
    if problems:
        listing = "\n".join(f"  {problem}" for problem in problems)
        raise DataError(
            f"the wheels are not what {target} needs:\n{listing}\n",
            expected="each requirement met by a wheel for that machine, and nothing else",
            mend="pack again",
        )
    return reached


def _misfits(path: Path, package: Package, target: Target) -> Iterator[str]:
    if not target.takes(path.name):
        yield f"{path.name}: not for {target}"
    try:
        fits = SpecifierSet(package.python).contains(f"{target.python}.99")
    except InvalidSpecifier:
        fits = False
    if not fits:
        yield f"{path.name}: asks for Python {package.python}"
