"""Where jobs run: on this machine, or as a cluster takes them. All that Snakemake is told besides the graph."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tiebreak.errors import ResourceError
from tiebreak.flow import leases
from tiebreak.flow.node import Node
from tiebreak.flow.snakefile import Wanted


@dataclass(frozen=True)
class Launch:
    """How Snakemake is started.

    Attributes:
        arguments: Of Snakemake, beside those that every run has.
        wanted: The resources of a node's rule.
        local: Whether jobs are processes of this machine, which must not outlive the run.
        setup: Shell text before the command of each job.
        environment: Variables that jobs get.
    """

    arguments: tuple[str, ...]
    wanted: Callable[[Node], Wanted]
    local: bool
    setup: str = ""
    environment: dict[str, str] = field(default_factory=dict)


def local(nodes: Sequence[Node], *, cores: int | None = None, gpus: int | None = None) -> Launch:
    """Jobs on this machine, as many at once as its cores and GPUs take.

    Args:
        nodes: The nodes.
        cores: Cores to use; None for those that this process may use.
        gpus: GPUs to use; None for those that are here.

    Raises:
        ResourceError: A node asks for more GPUs than there are.
    """
    cores = len(os.sched_getaffinity(0)) if cores is None else cores
    gpus = len(leases.devices()) if gpus is None else gpus
    for node in nodes:
        if node.gpus > gpus:
            raise ResourceError(
                f"{node.name} asks for {node.gpus} GPUs, and {gpus} are here",
                expected="resources that this machine has",
                mend=f"--executor slurm, or resources.{node.stage}.gpus={gpus}",
            )
    arguments = ("--executor", "local", "--cores", str(cores), "--resources", f"gpu={gpus}", "--latency-wait", "5")
    return Launch(arguments, lambda node: {"gpu": node.gpus} if node.gpus else {}, local=True)
