"""Writing the bundle of a judge that is made of other judges: their bundles in its folder, their past in its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tiebreak import bundle, judges, row_hashes, storage
from tiebreak.bundle import Manifest, TrainingSource
from tiebreak.combine.asking import Opinion
from tiebreak.judges.joining import gaps
from tiebreak.judges.members import FOLDER, Member, Settings

CARD: Final = "README.md"
TABLE: Final = "table"

_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def members(
    opinions: Sequence[Opinion], costs: Mapping[str, float] | None = None, *, refer: bool = False
) -> tuple[Member, ...]:
    """The members of a judge, as its settings name them.

    Args:
        opinions: Of the judges, in order.
        costs: Of one row for each.
        refer: Name where the judges lie instead of copying them.
    """
    return tuple(
        _member(place, one, None if costs is None else costs[one.name], refer=refer)
        for place, one in enumerate(opinions)
    )


def _member(place: int, opinion: Opinion, cost: float | None, *, refer: bool) -> Member:
    if opinion.judge is None:
        return Member(
            name=opinion.name, kind=TABLE, network=False, place=None, cost=cost,
            swap_equivariant=bool((gaps(opinion.table) == 0).all()),
        )  # fmt: skip
    manifest = bundle.read(opinion.judge)
    refer = refer and opinion.judge != judges.EMBEDDED  # every installation has it in another place
    inside = f"{FOLDER}/{opinion.name if _PLAIN.fullmatch(opinion.name) else f'member-{place + 1}'}"
    return Member(
        name=opinion.name, kind=manifest.kind, network=judges.has_network(manifest), cost=cost,
        swap_equivariant=manifest.swap_equivariant, place=str(opinion.judge.resolve()) if refer else inside,
        sha256=storage.sha256(opinion.judge / bundle.MANIFEST) if refer else None,
    )  # fmt: skip


def write(
    directory: Path, kind: str, settings: Settings, opinions: Sequence[Opinion], *, name: str,
    metrics: Mapping[str, Any], card: str,
) -> None:  # fmt: skip
    """Write the bundle whole or not at all.

    It was trained on what any of its members was trained on; where one does not say, neither can it.

    Args:
        directory: Where the bundle will be.
        kind: blend or cascade.
        settings: With the members.
        opinions: Of the same judges, in the same order.
        name: Of the judge.
        metrics: What cross-validation said.
        card: Markdown about it, without a heading.
    """
    files: dict[str, bytes | Path] = {}
    for member, opinion in zip(settings.members, opinions, strict=True):
        if opinion.judge is not None and member.sha256 is None:
            names = (bundle.MANIFEST, *bundle.read(opinion.judge).files)
            files |= {f"{member.place}/{file}": opinion.judge / file for file in names}
    known = [opinion.judge for opinion in opinions if opinion.judge is not None]
    training = _each_once([source for one in known for source in bundle.read(one).training])
    if len(known) == len(opinions) and (seen := trained(known)) is not None:
        files[row_hashes.TRAINED] = row_hashes.trained_file(seen)
    files[CARD] = _card(name, kind, settings, training, card).encode()
    manifest = Manifest(
        kind=kind, name=name, swap_equivariant=all(member.swap_equivariant for member in settings.members),
        settings=settings.document(), training=training, metrics=dict(metrics),
    )  # fmt: skip
    bundle.write(directory, manifest, files)


def trained(bundles: Sequence[Path]) -> frozenset[str] | None:
    """The rows that any of some judges was trained on; None where one of them does not say."""
    found = [row_hashes.read_trained(path) for path in bundles]
    return None if any(rows is None for rows in found) else frozenset().union(*(rows for rows in found if rows))


def _each_once(items: Sequence[TrainingSource]) -> list[TrainingSource]:
    found: list[TrainingSource] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found


def _card(name: str, kind: str, settings: Settings, training: Sequence[TrainingSource], text: str) -> str:
    rows = [
        f"| {member.name} | {member.kind} | {member.place or 'a table, no judge'} |"
        + ("" if member.cost is None else f" {member.cost:.4g} |")
        for member in settings.members
    ]
    costs = any(member.cost is not None for member in settings.members)
    head = [
        "| judge | kind | bundle |" + (" cost of a row |" if costs else ""),
        "|---|---|---|" + ("---|" if costs else ""),
    ]
    data = [
        f"- {source.name}: {source.rows:,} rows, licence {source.licence or 'not stated'}" for source in training
    ] or ["- nothing is recorded"]
    return "\n".join([
        f"# {name}", "", f"A {kind} of {len(settings.members)} judges.", "", *head, *rows, "", text, "",
        "## What its judges were trained on", "", *data, "",
    ])  # fmt: skip
