"""A flow as a graph: every node is one of our own commands, with what it reads, what it writes and what it asks for.

Commands run in the flow's folder, so paths in them are relative to it. What a node writes lies in `stages/NAME`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tiebreak.flow import chain
from tiebreak.flow.node import Node
from tiebreak.flow.schema import Flow


def graph(flow: Flow) -> list[Node]:
    """The nodes of a flow, each after those that it rests on. The last one is the page with the ladder.

    Raises:
        UsageError: A recipe that the flow names is wrong.
    """
    return chain.nodes(flow)


def finished(flow: Flow) -> str:
    """Path of the judge that the chain ends in, in the flow's folder."""
    return chain.finished(flow)


def ancestors(nodes: Sequence[Node], name: str) -> set[str]:
    """All nodes that a node rests on."""
    inputs = {node.name: node.inputs for node in nodes}
    found: set[str] = set()
    todo = list(inputs[name])
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += inputs[one]
    return found


def dependants(nodes: Sequence[Node], name: str) -> list[str]:
    """All nodes that rest on a node."""
    return [node.name for node in nodes if name in ancestors(nodes, node.name)]
