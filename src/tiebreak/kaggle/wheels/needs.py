"""What prediction with one judge needs beyond the standard library.

Found by running: `tiebreak predict` in an environment that holds nothing else. Training, plots and the search for near
duplicates need more, and none of that is packed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tiebreak import bundle, judges
from tiebreak.bundle import Manifest
from tiebreak.errors import BundleError, TiebreakError, UsageError
from tiebreak.judges import base as models
from tiebreak.judges.generative.vllm.place import VERSION as TRIED

CORE: Final = ("numpy", "polars", "pydantic", "rich", "safetensors", "typer")
NETWORK: Final = ("accelerate", "jinja2", "torch", "transformers")
"""accelerate places weights on GPUs, jinja2 reads chat templates; transformers asks for neither by itself."""

LEADING: Final = "vllm"
"""It names the versions of torch, transformers and a hundred more, which are those of no environment but its own."""

_BACKENDS: Final = {"vllm": LEADING, "openai": "openai"}


def of(
    manifest: Manifest, directory: Path, *, backend: str | None = None, bases: Sequence[str | Path] = ()
) -> tuple[str, ...]:
    """The requirements of prediction with a judge, sorted by name.

    What is installed is pinned to its version: what was tested is what is shipped. What is not has the bounds of
    tiebreak's own extras. Beside vLLM, where that is not installed, nothing else is pinned: it decides.

    Args:
        manifest: What its `judge.json` says.
        directory: Its bundle.
        backend: What runs a generative judge; None: what the bundle says.
        bases: Where base models lie, if not where the bundle says.

    Raises:
        BundleError: A bundle is damaged, or of a kind that is not known.
    """
    found = names(manifest, directory, backend=backend)
    for base in bases if judges.has_network(manifest) else ():
        found |= _of_base(str(base))
    version_of = bounded if led(found) else pinned
    return tuple(pinned(name) if name == LEADING else version_of(name) for name in sorted(found))


def names(manifest: Manifest, directory: Path, *, backend: str | None = None) -> set[str]:
    """As `of`, the bare names, of bases that lie where the bundle says."""
    found = set(CORE)
    if manifest.kind not in judges.KINDS:
        raise BundleError(f"unknown kind of judge {manifest.kind!r}", expected=f"one of {', '.join(judges.KINDS)}")
    if manifest.kind in judges.COMPOSITE:
        for inner, place in _members(manifest, directory):
            found |= names(inner, place, backend=backend)
    elif judges.has_network(manifest):
        found |= set(NETWORK) | _of_network(manifest, directory, backend)
    return found


def _members(manifest: Manifest, directory: Path) -> Iterable[tuple[Manifest, Path]]:
    members = manifest.settings.get("members")
    for member in members if isinstance(members, list) else []:
        place = member.get("place") if isinstance(member, dict) else None
        if isinstance(place, str):  # a member without one is a table of predictions, which is never asked
            yield bundle.read(directory / place, files=False), directory / place


def _of_network(manifest: Manifest, directory: Path, backend: str | None) -> set[str]:
    settings = manifest.settings
    found = {"peft"} if settings.get("adapter") else set()
    if manifest.kind == "retrieval":
        found.add("faiss-cpu")
    if manifest.kind == "generative" and (named := _BACKENDS.get(str(backend or settings.get("backend")))):
        found.add(named)
    return found | _of_weights(settings, directory)


def _of_weights(settings: dict[str, Any], directory: Path) -> set[str]:
    """What reads the weights: those in the bundle, and the base."""
    compression = settings.get("compression")
    compressed = isinstance(compression, dict) and compression.get("method") == "nf4"
    found = {"bitsandbytes"} if compressed or settings.get("quantize") == "nf4" else set()
    found |= _of_folder(directory)
    base = settings.get("base") or settings.get("encoder")
    if not isinstance(base, dict):
        return found
    revision = base.get("revision")
    return found | _of_base(str(base["name"]), revision if isinstance(revision, str) else None)


def _of_base(name: str, revision: str | None = None) -> set[str]:
    """What reads a base: a GGUF file, or a checkpoint that comes in 4 bits."""
    try:
        located = models.resolve(models.Base(name=name, revision=revision))
    except TiebreakError:  # it is elsewhere; its name must do
        return {"gguf"} if name.endswith(models.GGUF) else {"bitsandbytes"} if "bnb" in name.lower() else set()
    return {"gguf"} if located.gguf is not None else _of_folder(located.folder)


def _of_folder(folder: Path) -> set[str]:
    path = folder / "config.json"
    document = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    quantised = document.get("quantization_config") or {}
    by_bitsandbytes = quantised.get("quant_method") == "bitsandbytes" or quantised.get("load_in_4bit")
    return {"bitsandbytes"} if by_bitsandbytes else set()


def pinned(name: str) -> str:
    """A requirement of the version that is installed, else one with the bounds that tiebreak itself has for it."""
    try:
        return f"{name}=={Version(version(name)).public}"
    except PackageNotFoundError:
        return f"{name}=={TRIED}" if name == LEADING else bounded(name)


def bounded(name: str) -> str:
    """A requirement of any version that tiebreak runs with."""
    return f"{name}{floors().get(canonicalize_name(name), '')}"


def led(names: Collection[str]) -> bool:
    """Whether vLLM is among these packages and not in the running environment, whose versions are then not its own."""
    if LEADING not in names:
        return False
    try:
        version(LEADING)
    except PackageNotFoundError:
        return True
    return False


def floors() -> dict[str, str]:
    """The versions that tiebreak asks for, of every package that it or one of its extras names."""
    try:
        asked = [Requirement(text) for text in requires("tiebreak") or ()]
    except PackageNotFoundError:  # run from its source
        asked = []
    return {canonicalize_name(one.name): str(one.specifier) for one in asked}


def override(requirements: Sequence[str], given: Iterable[str]) -> tuple[str, ...]:
    """Requirements with some of them replaced, and others added, sorted by name.

    Args:
        requirements: As `of` gives them.
        given: A user's: "numpy==1.26.4", "sentencepiece".

    Raises:
        UsageError: One is not a requirement, or names a place instead of a version.
    """
    found = {canonicalize_name(Requirement(text).name): text for text in requirements}
    for text in given:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise UsageError(f"{text!r} is not a requirement", expected='such as "numpy==1.26.4"') from error
        if requirement.url:
            raise UsageError(f"{text!r} names a place", expected='a name and a version, such as "numpy==1.26.4"')
        found[canonicalize_name(requirement.name)] = text
    return tuple(found[name] for name in sorted(found))


def loosened(requirement: str) -> str:
    """What the wheel of tiebreak asks for: a version that was pinned by `of` is no more than the one that was tested.

    In an image with another Python a package of the image may take its place. What a user asked for stays as it is.
    """
    name = Requirement(requirement).name
    return bounded(name) if requirement == pinned(name) else requirement


def least(name: str) -> str:
    """The version of a package from which on tiebreak runs with it; "0": any."""
    bounds = [bound.removeprefix(">=") for bound in floors().get(name, "").split(",") if bound.startswith(">=")]
    return bounds[0] if bounds else "0"
