"""All metadata of a pack together: each file by itself, and what they say of each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tiebreak.kaggle.layout import DATASET_METADATA, INSTANCE_METADATA, KERNEL_METADATA, MODEL_METADATA, Layout
from tiebreak.kaggle.metadata import machines, slugs
from tiebreak.kaggle.metadata.dataset import Dataset
from tiebreak.kaggle.metadata.instance import Instance
from tiebreak.kaggle.metadata.kernel import Kernel
from tiebreak.kaggle.metadata.model import Model
from tiebreak.kaggle.metadata.problem import Found, MetadataError, Problem, Rule, said
from tiebreak.kaggle.metadata.reading import given, key_of
from tiebreak.kaggle.metadata.schema import Metadata

KERNEL: Final = f"kernel/{KERNEL_METADATA}"
DATASET: Final = f"wheels/{DATASET_METADATA}"
MODEL: Final = f"model/{MODEL_METADATA}"

Values = dict[str, Any]


@dataclass(frozen=True)
class Parts:
    """The values of all files of a pack, as far as they are right by themselves."""

    kernel: Values
    dataset: Values
    model: Values
    instances: dict[str, Values]

    @property
    def owner(self) -> str:
        """Whose the notebook is; "" where that is not known."""
        owner, slug = slugs.halves(self.kernel.get("id", ""))
        return owner if slug else ""


RULES: Final[list[tuple[str, Rule]]] = []
"""Rules between files, each with the file at which it is told; "" where the rule tells it."""

Finder = Callable[[Parts], Iterator[Found]]


def _rule(file: str, key: str, *, expected: str) -> Callable[[Finder], Finder]:
    """The client looks at one file at a time: it ignores all of these."""

    def register(find: Finder) -> Finder:
        RULES.append((file, Rule(find.__name__.strip("_"), (key,), expected, "ignores", find)))
        return find

    return register


@_rule(DATASET, "id", expected="the owner of the notebook")
def _pack_dataset_owner(parts: Parts) -> Iterator[Found]:
    owner, slug = slugs.halves(parts.dataset.get("id", ""))
    if owner and slug and parts.owner and owner != parts.owner:
        yield Found(
            parts.dataset["id"], f"belongs to {owner}, the notebook to {parts.owner}", f"write {parts.owner}/{slug}"
        )


@_rule(KERNEL, "dataset_sources", expected="the dataset of wheels among them")
def _pack_wheels_read(parts: Parts) -> Iterator[Found]:
    wheels, sources = parts.dataset.get("id"), parts.kernel.get("dataset_sources")
    if wheels and sources is not None and wheels not in sources:
        yield Found(sources, f"lacks {wheels}", f'write "{wheels}"')


@_rule(MODEL, "ownerSlug", expected="the owner of the notebook")
def _pack_model_owner(parts: Parts) -> Iterator[Found]:
    owner = parts.model.get("owner_slug")
    if owner and parts.owner and owner != parts.owner:
        yield Found(owner, f"{said(owner)}, the notebook belongs to {parts.owner}", f"write {parts.owner}")


@_rule("", "ownerSlug", expected="the owner of the model")
def _pack_instance_owner(parts: Parts) -> Iterator[Found]:
    yield from _as_model(parts, "owner_slug", "ownerSlug")


@_rule("", "modelSlug", expected="the slug of the model")
def _pack_instance_model(parts: Parts) -> Iterator[Found]:
    yield from _as_model(parts, "slug", "modelSlug")


@_rule("", "instanceSlug", expected="a slug of its own")
def _pack_instance_twice(parts: Parts) -> Iterator[Found]:
    seen: set[str] = set()
    for name, instance in parts.instances.items():
        if handle := _handle(parts.model, instance):
            if handle in seen:
                slug = instance["instance_slug"]
                yield Found(slug, f"{said(slug)}, as of another instance", key=f"{name}:instanceSlug")
            seen.add(handle)


@_rule(KERNEL, "model_sources", expected="every instance of the pack among them")
def _pack_instances_read(parts: Parts) -> Iterator[Found]:
    sources = parts.kernel.get("model_sources")
    read = {_plain(source) for source in sources or []}
    for handle in dict.fromkeys(_handle(parts.model, instance) for instance in parts.instances.values()):
        if handle and sources is not None and handle not in read:
            yield Found(sources, f"lacks {handle}", f'write "{handle}/1"')


@_rule(KERNEL, "model_sources", expected="of this model only instances that are in the pack")
def _pack_instances_exist(parts: Parts) -> Iterator[Found]:
    ours = f"{parts.model.get('owner_slug')}/{parts.model.get('slug')}/"
    handles = {_handle(parts.model, instance) for instance in parts.instances.values()}
    complete = all(_handle(parts.model, instance) for instance in parts.instances.values())
    for number, source in enumerate(parts.kernel.get("model_sources", [])):
        if complete and source.startswith(ours) and source.count("/") == 4 and _plain(source) not in handles:
            yield Found(source, said(source), "take it out, or pack again", key=f"model_sources[{number}]")


@_rule(MODEL, "", expected="an instance in a folder of its own")
def _pack_model_empty(parts: Parts) -> Iterator[Found]:
    if parts.model and not parts.instances:
        yield Found(None, "has no instance", "pack again")


def problems(pack: Layout) -> list[Problem]:
    """Every rule that a metadata file of a pack breaks, with its place from the root of the pack."""
    kinds: dict[str, type[Metadata]] = {"kernel": Kernel, "wheels": Dataset}
    if pack.model.is_dir():
        kinds["model"] = Model
        kinds |= {f"model/{folder.name}": Instance for folder in pack.instances()}
    found: list[Problem] = []
    values: dict[str, Values] = {}
    for folder, kind in kinds.items():
        single = kind.problems(pack.root / folder)
        found += [replace(problem, file=f"{folder}/{problem.file}") for problem in single]
        values[folder] = _sound(kind, pack.root / folder, single)
    instances = {folder: one for folder, one in values.items() if kinds[folder] is Instance}
    return found + _between(Parts(values["kernel"], values["wheels"], values.get("model", {}), instances))


def check(pack: Layout) -> None:
    """Hold a pack against every rule.

    Raises:
        MetadataError: It breaks some; all are told, one a line.
    """
    if found := problems(pack):
        raise MetadataError(found, pack.root)


def _sound(kind: type[Metadata], folder: Path, problems: list[Problem]) -> Values:
    """The values of a file without those that are wrong by themselves: one fault, one problem."""
    wrong = {problem.key for problem in problems}
    return {
        name: value for name, value in given(kind, folder / kind.file)[0].items() if key_of(kind, name) not in wrong
    }


def _between(parts: Parts) -> list[Problem]:
    found = []
    for file, rule in RULES:
        for value, wrong, mend, place in rule.find(parts):
            folder, _, key = place.rpartition(":")
            where = f"{folder}/{INSTANCE_METADATA}" if folder else file
            found.append(Problem(where, key or rule.keys[0], value, wrong, rule.expected, mend, rule.client))
    return found


def _as_model(parts: Parts, key: str, written: str) -> Iterator[Found]:
    """Instances that name another owner or model than the model does."""
    wanted = parts.model.get(key)
    for name, instance in parts.instances.items():
        named = instance.get("owner_slug" if written == "ownerSlug" else "model_slug")
        if wanted and named and named != wanted:
            wrong = f"{said(named)}, in the model's file {wanted}"
            yield Found(named, wrong, f"write {wanted}", key=f"{name}:{written}")


def _handle(model: Values, instance: Values) -> str | None:
    """`owner/model/framework/instance` of an instance of this model; None where a part is wrong."""
    framework = machines.framework(instance.get("framework", ""))
    named = [model.get("owner_slug"), model.get("slug"), framework, instance.get("instance_slug")]
    return "/".join(str(part) for part in named) if all(named) else None


def _plain(source: str) -> str:
    """A model source without its version, the framework spelt as in `machines`."""
    owner, model, framework, variation, *_ = [*source.split("/"), "", "", "", ""]
    return f"{owner}/{model}/{machines.framework(framework)}/{variation}"
