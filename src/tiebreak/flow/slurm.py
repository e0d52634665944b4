"""Jobs on a cluster: what each asks SLURM for, and how Snakemake is told, by its executor plugin for SLURM.

`resources` are Snakemake's words for what a node may use, so that they hold on one machine too. `request` is the sbatch
command that the plugin makes of them (held against the plugin by a test), to be read before anything is submitted.
"""

from __future__ import annotations

import math
import re
import shlex
import shutil
import subprocess
from typing import Final

from tiebreak.errors import ResourceError, UsageError
from tiebreak.flow.launching import Launch
from tiebreak.flow.node import Node
from tiebreak.flow.schema import Flow, Resources, Slurm

SETUP: Final = ("module", "ml", "source", "export", "conda", "mamba", "spack")
"""First words that a line of `slurm.setup` may have."""

TAKEN: Final = {
    "job-name", "J", "output", "o", "error", "e", "export", "comment", "chdir", "D", "account", "A", "partition", "p",
    "mem", "mem-per-cpu", "ntasks", "n", "cpus-per-task", "c", "cpus-per-gpu", "ntasks-per-gpu", "time", "t",
    "constraint", "C", "qos", "q", "nodes", "N", "clusters", "M", "gres", "gpus", "G", "parsable", "wrap", "array", "a",
    "signal", "requeue", "no-requeue",
}  # fmt: skip
"""Options of sbatch that follow from other keys of a flow; those of `resources.options` are not among them."""

OLDEST: Final = 120
"""Seconds for which an ended job must be known where squeue alone tells of its end: three looks of 40 seconds."""

LOGS: Final = "logs/slurm"
"""Folder of what SLURM writes of each job, in the flow's folder."""

RUN_ID: Final = "RUN_ID"
"""Stands in a planned request for the name that each run of Snakemake gives its jobs."""


def launch(flow: Flow, *, accounting: bool | None = None) -> Launch:
    """How Snakemake sends the jobs to the cluster.

    Args:
        flow: Its `slurm` counts, and the resources of its jobs.
        accounting: Whether SLURM keeps accounts; None asks it. Without them the state of jobs is asked of squeue, and
            jobs are submitted without an account.

    Raises:
        ResourceError: There is no SLURM here, or it forgets jobs too soon to be asked without accounting.
        UsageError: A job asks for something that cannot be asked for.
    """
    if accounting is None:
        accounting = has_accounting()
    check, keeps = str(flow.slurm.check), accounting
    arguments = [
        "--executor", "slurm", "--jobs", str(flow.slurm.jobs), "--latency-wait", "60",
        "--seconds-between-status-checks", check, "--slurm-init-seconds-before-status-checks", check,
        "--slurm-keep-successful-logs", "--slurm-logdir", LOGS,
        "--slurm-requeue" if flow.slurm.requeue else "--slurm-no-requeue",
        *([] if keeps else ["--slurm-status-command", "squeue", "--slurm-no-account"]),
    ]  # fmt: skip
    return Launch(
        tuple(arguments), lambda node: resources(node, flow, accounting=keeps), local=False, setup=setup(flow),
        environment=environment(),
    )  # fmt: skip


def has_accounting() -> bool:
    """Whether SLURM on this machine keeps accounts.

    Raises:
        ResourceError: There is no SLURM here, or it forgets jobs too soon to be asked without accounting.
    """
    if shutil.which("sbatch") is None:
        raise ResourceError(
            "this machine has no sbatch", expected="a login node of a cluster with SLURM", mend="--executor local"
        )
    now = ("sacct", "--noheader", "--allocations", "--starttime=now")
    if shutil.which("sacct") and _ask(*now) is not None:
        return True
    age = re.search(r"MinJobAge\s*=\s*(\d+)", _ask("scontrol", "show", "config") or "")
    if age is None:
        raise ResourceError("SLURM does not answer: scontrol show config failed", expected="a controller that runs")
    if int(age[1]) < OLDEST:
        raise ResourceError(
            f"SLURM keeps no accounts and forgets an ended job after {age[1]} s (MinJobAge)",
            expected=f"accounting, or MinJobAge of {OLDEST} and more: how a job ended is seen nowhere else",
        )
    return False


def _ask(*command: str) -> str | None:
    """What a command of SLURM says; None where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def environment() -> dict[str, str]:
    """Variables that jobs inherit: nodes of a cluster have no network, and models are looked for on disk alone."""
    return {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


def setup(flow: Flow) -> str:
    """Shell text that stands before the command of each job: the lines of `slurm.setup`, every word quoted.

    Raises:
        UsageError: A line begins with a word that is not in `SETUP`.
    """
    for line in flow.slurm.setup:
        if line[0] not in SETUP:
            raise UsageError(f"slurm.setup: {shlex.join(line)}", expected=f"a line that begins with {', '.join(SETUP)}")
    return "".join(f"{shlex.join(line)} && " for line in flow.slurm.setup)


def resources(node: Node, flow: Flow, *, accounting: bool = True) -> dict[str, int | str]:
    """What a job may use, in the words of Snakemake and of its plugin for SLURM.

    Args:
        node: The job.
        flow: Whose job it is.
        accounting: Whether SLURM keeps accounts; without, no account is named: the plugin would look it up and fail.

    Raises:
        UsageError: An option of sbatch is asked for twice, or cannot be passed on.
    """
    asked = node.resources
    if node.stage in flow.slurm.local:
        return {"localrule": 1}
    wanted: dict[str, int | str | None] = {
        "mem_mb": None if asked.memory is None else math.ceil(asked.memory * 1024),
        "runtime": None if asked.hours is None else math.ceil(asked.hours * 60),
        "slurm_partition": asked.partition,
        "slurm_account": asked.account if accounting else None,
        "qos": asked.qos,
        "constraint": asked.constraint,
        "slurm_extra": _extra(node, asked, flow.slurm) or None,
        # One node: a training's processes talk by its links, and torchrun is told of no other.
        **({"gpu": asked.gpus, "nodes": 1, "gpu_model": _kind(asked.gpu)} if asked.gpus else {}),
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _kind(gpu: str | None) -> str | None:
    if gpu is not None and not re.fullmatch(r"[A-Za-z0-9_.]+", gpu):
        raise UsageError(
            f"resources: gpu {gpu!r}", expected="letters, digits, _ and . (Snakemake's plugin passes on no others)",
            mend="leave gpu out and ask by constraint",
        )  # fmt: skip
    return gpu


def _extra(node: Node, asked: Resources, slurm: Slurm) -> str:
    """Options of sbatch that Snakemake has no word for, each word quoted."""
    words = shlex.split(asked.options or "")
    for word in words:
        name = re.match(r"--?([A-Za-z-]+)", word)
        if name is None:
            raise UsageError(f"resources of {node.stage}: options {asked.options!r}", expected="--name=value, in words")
        short = not word.startswith("--")
        if (name[1][0] if short else name[1]) in TAKEN:
            raise UsageError(
                f"resources of {node.stage}: the option {word} of sbatch",
                expected="a key of its own (hours, memory, gpus, partition, account, qos, constraint, slurm.requeue)",
            )
    if node.resumable and asked.hours is not None:
        # To the steps of the job and so to the training itself, which saves and ends; not to the batch shell ("B:").
        words.insert(0, f"--signal=TERM@{slurm.grace}")
    return shlex.join(words)


def request(node: Node, flow: Flow, rule: str, *, folder: str = ".", accounting: bool = True) -> str:
    """The sbatch command of a job, less the wrapped call of Snakemake itself; empty for one that is not submitted.

    Where a flow names no partition, the plugin adds the cluster's own; where it names no account, that of the last job.

    Args:
        node: The job.
        flow: Whose job it is.
        rule: The name of its rule (`snakefile.rules`).
        folder: Of the flow, as a whole path.
        accounting: Whether SLURM keeps accounts; without, no account is named.
    """
    found = resources(node, flow, accounting=accounting)
    if "localrule" in found:
        return ""
    gpus = found.get("gpu")
    words: list[str | None] = [
        "sbatch --parsable", f"--job-name {RUN_ID}", _word("--output", f"{folder}/{LOGS}/rule_{rule}/%j.log"),
        "--export=ALL", f"--comment rule_{rule}",
        _word("-A", found.get("slurm_account")), _word("-p", found.get("slurm_partition")),
        _word("-t", found.get("runtime")), _word("-C", found.get("constraint")), _word("--qos", found.get("qos"), "="),
        _word("--mem", found.get("mem_mb")), _word("--nodes", found.get("nodes"), "="),
        "--requeue" if flow.slurm.requeue else "--no-requeue", None if gpus else "--ntasks=1",
        f"--cpus-per-task={node.threads}", str(found["slurm_extra"]) if "slurm_extra" in found else None,
        _word("-D", folder), None if not gpus else f"--gpus={_model(found)}{gpus}",
    ]  # fmt: skip
    return " ".join(word for word in words if word)


def _word(option: str, value: int | str | None, between: str = " ") -> str | None:
    return None if value is None else f"{option}{between}{shlex.quote(str(value))}"


def _model(found: dict[str, int | str]) -> str:
    return f"{found['gpu_model']}:" if "gpu_model" in found else ""
