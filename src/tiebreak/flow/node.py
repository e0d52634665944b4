"""One job of a flow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tiebreak.flow.schema import Resources, Stage

if TYPE_CHECKING:
    from tiebreak.train.finetune.recipe import Recipe

STAGES: Final = "stages"
"""Folder of finished work, in the flow's folder."""

RECIPES: Final = "recipes"
"""Folder of the fine-tuning recipes as they are run."""


@dataclass(frozen=True)
class Node:
    """One of our own commands, with what it reads and writes.

    Attributes:
        name: Of the node and of its folder.
        stage: Its kind.
        command: Arguments after `tiebreak`; paths are relative to the flow's folder.
        inputs: Nodes that must be done before.
        outputs: What it is run for, inside its folder; the first is the main one. What else is there (reports, the
            history of a training) comes along and decides nothing.
        files: Files beside those of the nodes that it reads: votes, recipes.
        takes: Files of other nodes that are linked into its folder before it starts: name here -> path.
        resources: What it asks for, with the defaults of the flow filled in.
        recipe: Of a fine-tuning.
        resumable: Whether the command goes on with what it left when it was stopped.
        about: In plain words.
    """

    name: str
    stage: Stage
    command: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    files: tuple[str, ...] = ()
    takes: dict[str, str] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    recipe: Recipe | None = None
    resumable: bool = False
    about: str = ""

    @property
    def output(self) -> str:
        """Path of the main output in the flow's folder."""
        return self.path(self.outputs[0])

    @property
    def threads(self) -> int:
        """Cores that it is given."""
        return self.resources.cpus or 1

    @property
    def gpus(self) -> int:
        """GPUs that it is given."""
        return self.resources.gpus or 0

    def path(self, name: str) -> str:
        """Path of something in its folder."""
        return f"{STAGES}/{self.name}/{name}"
