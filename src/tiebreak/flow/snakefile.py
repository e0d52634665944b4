"""The graph as a Snakefile: one rule a node, which watches small files in `done/` and calls `tiebreak flow step`.

Snakemake deletes the outputs of a job before it starts and after it failed. A small file may go; a training that is
half done may not, so the folders of the stages are no outputs here.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence

from tiebreak.flow.node import Node

Wanted = Mapping[str, int | str]
"""What a rule says under `resources`."""

HEAD = """# Written by tiebreak flow run, which starts Snakemake on it. What each job is stands in flow.json.

rule all:
    input: {targets}
    localrule: True
"""


def text(nodes: Sequence[Node], wanted: Callable[[Node], Wanted], setup: str = "") -> str:
    """The Snakefile of a graph.

    Args:
        nodes: The nodes.
        wanted: The resources of a node's rule; `localrule` among them (1) keeps it off a cluster.
        setup: Shell text before the command of each job.
    """
    names = rules(nodes)
    read = {name for node in nodes for name in node.inputs}
    ends = [_done(node.name) for node in nodes if node.name not in read]
    parts = [HEAD.format(targets=", ".join(ends))]
    for node in nodes:
        given = dict(wanted(node))
        local = given.pop("localrule", 0)
        command = shlex.join([sys.executable, "-m", "tiebreak", "flow", "step", ".", node.name])
        lines = [
            f"\n# {node.about}\nrule {names[node.name]}:",
            *([f"    input: {', '.join(_done(name) for name in node.inputs)}"] if node.inputs else []),
            f"    output: {_done(node.name)}",
            f"    threads: {node.threads}",
            *([f"    resources: {_arguments(given)}"] if given else []),
            *(["    localrule: True"] if local else []),
            # exec: no shell stands between Snakemake and the job, so that a signal reaches it.
            f"    shell: {_quoted(f'{setup}exec {command}')}",
        ]
        parts.append("\n".join(lines) + "\n")
    return "".join(parts)


def rules(nodes: Sequence[Node]) -> dict[str, str]:
    """Node -> name of its rule: an identifier, and no two the same."""
    found: dict[str, str] = {}
    for node in nodes:
        name = re.sub(r"\W", "_", node.name)
        while name in found.values():
            name += "_"
        found[node.name] = name
    return found


def _done(name: str) -> str:
    return json.dumps(f"done/{name}")


def _arguments(given: Wanted) -> str:
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in given.items())


def _quoted(command: str) -> str:
    # Braces are Snakemake's own.
    return json.dumps(command.replace("{", "{{").replace("}", "}}"))
