"""The folder of a flow: what lies where.

```
DIR/
  flow.yaml      the flow as it is run, every default written out
  recipes/       its fine-tuning recipes as they are run
  flow.json      its nodes; what a job reads to know what it is
  Snakefile      the same for Snakemake
  stages/NODE/   finished work with its manifest.json
  unfinished/    work under way, one folder a node; a training goes on from here
  done/NODE      a small file that Snakemake watches
  logs/          what the commands said, one file a node, and snakemake.log
  events/        when each node started and how it ended, one file a node
  locks/         so that a node never runs twice at once
  judge/         the finished judge
  ladder/        the ladder: page, picture, table
  report/        the finished judge in all figures
```
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tiebreak import storage
from tiebreak.errors import DataError, UsageError
from tiebreak.flow.node import RECIPES, STAGES, Node
from tiebreak.flow.schema import Resources

MANIFEST: Final = "manifest.json"


@dataclass(frozen=True)
class Place:
    """Paths in the folder of a flow."""

    root: Path

    @property
    def nodes_file(self) -> Path:
        """The nodes."""
        return self.root / "flow.json"

    @property
    def flow_file(self) -> Path:
        """The flow with its defaults."""
        return self.root / "flow.yaml"

    @property
    def snakefile(self) -> Path:
        """What Snakemake reads."""
        return self.root / "Snakefile"

    @property
    def recipes(self) -> Path:
        """Fine-tuning recipes."""
        return self.root / RECIPES

    @property
    def lock(self) -> Path:
        """Held by the one `flow run`; its text names the run."""
        return self.root / "locks" / "run"

    def stage(self, name: str) -> Path:
        """Finished work of a node."""
        return self.root / STAGES / name

    def aside(self, name: str) -> Path:
        """Work of a node that is under way."""
        return self.root / "unfinished" / name

    def done(self, name: str) -> Path:
        """The small file that says that a node is done."""
        return self.root / "done" / name

    def log(self, name: str) -> Path:
        """What the command of a node said."""
        return self.root / "logs" / f"{name}.log"

    def events(self, name: str) -> Path:
        """When a node started and how it ended."""
        return self.root / "events" / f"{name}.jsonl"

    def node_lock(self, name: str) -> Path:
        """Held while a node runs."""
        return self.root / "locks" / f"node-{name}"

    def manifest(self, name: str) -> Path:
        """What a finished node read and wrote."""
        return self.stage(name) / MANIFEST

    def make(self) -> None:
        """Make the folders.

        Raises:
            UsageError: The parent folder is not there.
            ResourceError: The place cannot be written.
        """
        storage.make_directory(self.root)
        for name in (STAGES, RECIPES, "unfinished", "done", "logs", "events", "locks"):
            storage.make_directory(self.root / name)


def write(place: Place, nodes: list[Node]) -> None:
    """Keep the nodes for the jobs."""
    document = {"version": 1, "nodes": [_as_dict(node) for node in nodes]}
    storage.write_text(place.nodes_file, json.dumps(document, indent=1) + "\n")


def read(place: Place) -> list[Node]:
    """The nodes that were kept, without their fine-tuning recipes.

    Raises:
        UsageError: There is no flow.
        DataError: The file is damaged.
    """
    path = place.nodes_file
    if not path.is_file():
        raise UsageError(
            f"{place.root} is no folder of a flow", expected="flow.json in it", mend="tiebreak flow run FLOW -o DIR"
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["nodes"]
        return [_node(values) for values in found]
    except (ValueError, KeyError, TypeError) as error:
        mend = "the command tiebreak flow run that made it writes it anew"
        raise DataError(f"{path} is damaged: {error}", expected="nodes of a flow", mend=mend) from error


def _as_dict(node: Node) -> dict[str, Any]:
    values = {name: value for name, value in vars(node).items() if name not in {"recipe", "resources"}}
    return {**values, "resources": node.resources.model_dump(exclude_none=True)}


def _node(values: dict[str, Any]) -> Node:
    lists = {name: tuple(values[name]) for name in ("command", "inputs", "outputs", "files")}
    return Node(**{**values, **lists, "resources": Resources.model_validate(values["resources"])})
