"""Choose between the wheels and what the image has.

The wheels are locked for one Python. Where this image has another, the few wheels that are built for the other one are
left out, and the image's own packages take their place, as long as everything fits together: whatever does not fit
with a package of the image is left to the image too. torch is left to the image wherever its own is new enough, because
that one knows the GPUs.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from tiebreak.kaggle.kernel.packages import accepts, metadata_of, packages_of_image
from tiebreak.kaggle.kernel.reporting import NotebookError


class Wheelhouse:
    """The wheels, what each of them needs, and what becomes of them.

    Args:
        folder: Where they lie.
        house: What `wheelhouse.json` says.
        image: The packages of the image, by name: `version` and `requires` of each.
    """

    def __init__(self, folder: Path, house: dict[str, Any], image: Mapping[str, Any] | None = None) -> None:
        if importlib.util.find_spec("pip") is None:
            raise NotebookError("this Python has no pip", mend=f"{sys.executable} -m ensurepip")
        parts = ("requirements", "tags", "utils", "specifiers", "markers")
        self.packaging = {part: import_module(f"pip._vendor.packaging.{part}") for part in parts}
        self.tags = frozenset(self.packaging["tags"].sys_tags())
        self.house, self.image = house, packages_of_image() if image is None else image
        self.wheels = {self.canonical(wheel["name"]): wheel for wheel in house["wheels"]}
        self.metadata = {name: metadata_of(folder / wheel["file"]) for name, wheel in self.wheels.items()}
        self.left: dict[str, str] = {}
        """Why a wheel is left out, by name."""

    def choose(self) -> list[dict[str, Any]]:
        """The wheels to install; `left` then says of the others why not."""
        self.left = {name: "it is not for this Python" for name in self.wheels if not self.fits(name)}
        if self.torch_of_image_suffices():
            ours = {name for name, wheel in self.wheels.items() if wheel["image"]}
            self.left |= dict.fromkeys(ours & self.image.keys(), "torch of the image is new enough, and knows its GPUs")
        while found := self.first_misfit():
            self.left |= found
        lacking = [f"{name} ({why})" for name, why in sorted(self.left.items()) if name not in self.image]
        if self.house.get("torch") == "image only" and not self.torch_of_image_suffices():
            lacking.append(f"torch{self.least('torch')} (its own: {self.version('torch') or 'none'})")
        if lacking:
            here = f"{sys.version_info.major}.{sys.version_info.minor}"
            raise NotebookError(
                f"the wheels are for Python {self.house['python']}, this is Python {here}, and the image lacks "
                + ", ".join(lacking),
                expected=f"an image with Python {self.house['python']}, or with these packages",
                mend=f"tiebreak kaggle pack --python {here}, and push again",
            )
        return [wheel for name, wheel in sorted(self.wheels.items()) if name not in self.left]

    def fits(self, name: str) -> bool:
        """Whether a wheel can be installed into this Python."""
        _, _, _, tags = self.packaging["utils"].parse_wheel_filename(self.wheels[name]["file"])
        wanted = self.packaging["specifiers"].SpecifierSet(self.metadata[name].get("Requires-Python") or "")
        here = ".".join(map(str, sys.version_info[:3]))
        return not self.tags.isdisjoint(tags) and bool(wanted.contains(here, prereleases=True))

    def torch_of_image_suffices(self) -> bool:
        """Whether the image has a torch that will do for all wheels; False too if none needs one."""
        asking = [need for name in self.wheels for need in self.needs(name) if self.canonical(need.name) == "torch"]
        version = self.version("torch")
        return bool(version) and bool(asking) and all(accepts(need, version) for need in asking)

    def first_misfit(self) -> dict[str, str]:
        """A wheel that does not go together with a package of the image, and why; empty: all do."""
        for name in sorted(self.wheels):
            for need in self.needs(name):
                other = self.canonical(need.name)
                if other not in self.wheels or (name in self.left) == (other in self.left):
                    continue
                version = self.version(other) if other in self.left else self.wheels[other]["version"]
                if version and not accepts(need, version):
                    ours, theirs = (other, name) if name in self.left else (name, other)
                    return {ours: f"{name} needs {need}; {theirs} is the image's own, {self.version(theirs)}"}
        return {}

    def needs(self, name: str) -> list[Any]:
        """The requirements of a package, as it will be: the wheel's, or those of the image's own."""
        texts = self.metadata[name].get_all("Requires-Dist") or []
        if name in self.left:
            texts = (self.image[name].requires or []) if name in self.image else []
        found = [self.packaging["requirements"].Requirement(text) for text in texts]
        if name == "tiebreak":  # its wheel names what was tested; with what else it runs says the wheelhouse
            for need in found:
                if known := self.least(need.name):
                    need.specifier = self.packaging["specifiers"].SpecifierSet(known)
            return found
        return [need for need in found if not need.marker or need.marker.evaluate({"extra": ""})]

    def least(self, name: str) -> str:
        """The versions of a package with which its dependants run, where the wheelhouse says it."""
        name = self.canonical(name)
        oldest = self.house.get("image_at_least", {}).get(name)
        return str(self.wheels.get(name, {}).get("accepts") or (f">={oldest}" if oldest else ""))

    def version(self, name: str) -> str:
        """The version that the image has; empty: none."""
        return str(self.image[name].version) if name in self.image else ""

    def canonical(self, name: str) -> str:
        """The one spelling of a package's name."""
        return str(self.packaging["utils"].canonicalize_name(name))
