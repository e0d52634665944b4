"""The graph as people think of it: the folds of a teacher are one thing, and so are the shards of its labelling."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tiebreak.flow.node import Node


@dataclass(frozen=True)
class Family:
    """Nodes that do the same for different parts.

    Attributes:
        name: What they do.
        nodes: Their names, in the order of the chain.
        inputs: Families that they rest on, without those that another one of them rests on already.
    """

    name: str
    nodes: list[str]
    inputs: list[str]


def families(nodes: Sequence[Node]) -> list[Family]:
    """The families of a graph, each after those that it rests on."""
    home = {node.name: family(node) for node in nodes}
    members: dict[str, list[str]] = {}
    inputs: dict[str, set[str]] = {}
    for node in nodes:
        own = home[node.name]
        members.setdefault(own, []).append(node.name)
        inputs.setdefault(own, set()).update(home[name] for name in node.inputs if home[name] != own)
    order = _ordered(inputs)
    above: dict[str, set[str]] = {}
    for name in order:
        above[name] = inputs[name].union(*(above[other] for other in inputs[name]))
    return [Family(name, members[name], _nearest(inputs[name], above, order)) for name in order]


def family(node: Node) -> str:
    """The family that a node belongs to."""
    name = node.name
    if node.stage == "data":
        for kind in ("pairs", "pool"):
            if name.startswith(f"data-{kind}"):
                return kind
        return "rows to label" if name in {"data-rows", "data-blind"} else "votes"
    if node.stage == "predict":
        return "test rows judged"
    if node.stage == "average":
        return "averages"
    if node.stage == "ladder":
        return "ladder"
    plain = re.sub(r"(-fold-\d+|(?<=.)-\d+-of-\d+)$", "", name)
    return plain.replace("pretrain-teacher-", "pretrain-").replace("-", " ", 1)


def _nearest(inputs: set[str], above: dict[str, set[str]], order: list[str]) -> list[str]:
    further: set[str] = set().union(*(above[name] for name in inputs))
    return [name for name in order if name in inputs - further]


def _ordered(inputs: dict[str, set[str]]) -> list[str]:
    order: list[str] = []
    while len(order) < len(inputs):
        order += [name for name in inputs if name not in order and inputs[name] <= set(order)][:1]
    return order
