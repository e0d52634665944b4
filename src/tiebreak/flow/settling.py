"""What of a flow stands, and why the rest must be done: decided by content, before Snakemake looks at dates."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from tiebreak.errors import DataError
from tiebreak.flow import manifest
from tiebreak.flow.manifest import Manifest
from tiebreak.flow.node import Node
from tiebreak.flow.place import Place
from tiebreak.flow.stages import mark


def standing(place: Place, nodes: Sequence[Node]) -> dict[str, Manifest]:
    """The finished nodes whose command, whose inputs' content and whose outputs are those of their manifest."""
    found: dict[str, Manifest] = {}
    for node in nodes:
        if all(name in found for name in node.inputs):
            own = manifest.stands(place, node)
            if own is not None:
                found[node.name] = own
    return found


def settle(place: Place, nodes: Sequence[Node]) -> dict[str, Manifest]:
    """Make the small files in `done/` say what stands, all with one date, so that Snakemake sees no order in them."""
    found = standing(place, nodes)
    now = time.time_ns()
    for path in (place.root / "done").iterdir():
        if path.name not in found:
            path.unlink()
    for name, own in found.items():
        path = place.done(name)
        if not path.is_file() or path.read_text(encoding="utf-8").split("\n")[0] != own.key:
            mark(place, own)
        os.utime(path, ns=(now, now))
    return found


def reasons(place: Place, nodes: Sequence[Node], stands: dict[str, Manifest]) -> dict[str, str]:
    """Of each node that does not stand: why, in plain words."""
    return {node.name: _reason(place, node, stands) for node in nodes if node.name not in stands}


def _reason(place: Place, node: Node, stands: dict[str, Manifest]) -> str:
    before = manifest.of(place, node.name)
    if before is None:
        return "goes on" if node.resumable and place.aside(node.name).is_dir() else "not done yet"
    waiting = [name for name in node.inputs if name not in stands]
    if waiting:
        return f"after {waiting[0]}" + (f" and {len(waiting) - 1} more" if len(waiting) > 1 else "")
    if before.command != list(node.command):
        return "another command"
    try:
        read = manifest.reads(place, node)
    except DataError as error:
        return error.wrong
    changed = [name for name, digest in read.items() if before.read.get(name) != digest]
    return f"changed: {', '.join(changed)}" if changed else "its outputs were changed"
