"""A recipe from a file or by name, with overrides. Every fault is found and told at once, with its place and a mend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError

from tiebreak.errors import UsageError
from tiebreak.train.finetune import document, rules, shapes
from tiebreak.train.finetune.document import Document, Fault, Path
from tiebreak.train.finetune.faults import real, schema_faults
from tiebreak.train.finetune.recipe import Recipe
from tiebreak.train.finetune.shelf import Shelf

SHELF: Final = Shelf("recipe", "tiebreak.recipes", "tiebreak recipe ls", "docs/recipes.md")


def read(recipe: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        recipe: A YAML file, or the name of a shipped recipe.
        overrides: `a.b=c`, applied in order; values are YAML, items of lists go by number.

    Raises:
        UsageError: There is no such recipe, or something is wrong with it: the message lists every fault.
    """
    found = SHELF.read(recipe, overrides)
    made, faults = _check(found)
    faults = [*found.faults, *faults]
    if faults or made is None:
        raise SHELF.refusal(recipe, faults)
    return made


def checked(recipe: Recipe) -> Recipe:
    """The recipe itself, if it keeps the rules that its parts have for each other.

    Raises:
        UsageError: It breaks some.
    """
    broken = rules.broken(recipe, shapes.settings(recipe.base))
    if broken:
        listing = "; ".join(str(Fault(recipe.name, rule.wrong, rule.expected, rule.mend)) for rule in broken)
        raise UsageError(f"recipe {listing}")
    return recipe


def dump(recipe: Recipe) -> str:
    """The whole recipe, defaults written out, as YAML that `read` reads back equal."""
    return document.dump(recipe.model_dump(mode="json"))


def shipped() -> list[str]:
    """Names of the recipes that ship."""
    return SHELF.names()


def source(recipe: str) -> tuple[str, str]:
    """The text of a recipe with its comments, and the name of its file.

    Raises:
        UsageError: There is no such file, or no recipe of that name ships.
    """
    return SHELF.source(recipe)


def _check(found: Document) -> tuple[Recipe | None, list[Fault]]:
    faults, faulty = [], []
    values: Any = found.values
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        for path, fault in schema_faults(error, found, Recipe):
            faulty.append(path)
            faults.append(fault)
        rest = _rest(values, faulty)
        if rest is None:
            return None, faults
        recipe = rest
    try:
        model = shapes.settings(recipe.base)
    except UsageError as error:
        place = found.place(("base", "shape"))
        near = get_close_matches(recipe.base.shape or "", shapes.names(), n=1)
        mend = f"base.shape={near[0]}" if near else ""
        return None, [*faults, Fault(place, error.wrong, error.expected, mend)]
    for rule in rules.broken(recipe, model):
        if not any(_related(path, other) for path in rule.paths for other in faulty):
            where = next((path for path in rule.paths if path in found.places), rule.paths[0])
            faults.append(Fault(found.place(where), rule.wrong, rule.expected, rule.mend))
    return recipe, faults


def _rest(values: Any, faulty: list[Path]) -> Recipe | None:
    """What is left without the faulty values, which then have their defaults: the other rules are held against it."""
    dropped = set(faulty)
    for _ in range(document.DEEPEST):
        left = _without(values, dropped)
        try:
            return Recipe.model_validate(left)
        except ValidationError as error:
            # A list without its faulty item may be too short, a template without its name is none.
            dropped |= {real(item, left)[:-1] for item in error.errors()} - {()}
    return None


def _without(values: Any, dropped: set[Path]) -> dict[str, Any]:
    copy = _copied(values, dropped, ())
    copy.setdefault("base", {})
    if isinstance(copy["base"], dict):
        copy["base"].setdefault("name", "unknown")
    copy["templates"] = copy.get("templates") or [{"name": "single" if copy.get("judge") == "siamese" else "plain"}]
    return dict(copy)


def _copied(value: Any, faulty: set[Path], path: Path) -> Any:
    if isinstance(value, Mapping):
        kept = {key: item for key, item in value.items() if (*path, key) not in faulty}
        return {key: _copied(item, faulty, (*path, key)) for key, item in kept.items()}
    if isinstance(value, list):
        kept_items = [(number, item) for number, item in enumerate(value) if (*path, number) not in faulty]
        return [_copied(item, faulty, (*path, number)) for number, item in kept_items]
    return value


def _related(one: Path, other: Path) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
