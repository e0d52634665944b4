"""A SLURM of one node on this machine, from Debian's slurm-wlm and munge, for as long as a test needs it.

Everything it writes is in one temporary folder; ports are free ones; when it ends every process it began has ended and
the folder is gone. It needs root (slurmd drops privileges for nobody here) and touches no SLURM that is already there.
As a program it runs a command inside such a cluster: `python tests/slurm_cluster.py sinfo`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tiebreak.flow import guard

PROGRAMS: Final = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo", "scancel", "scontrol")
START: Final = 60.0
"""Seconds after which a cluster that is not idle has failed to start."""

SEARCH: Final = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


class NoClusterError(RuntimeError):
    """SLURM cannot be started here; the text says why."""


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        folder: Its configuration, its logs and its state.
        environment: What its commands need in theirs.
        cpus: Of the node.
        memory: MiB of the node.
    """

    folder: Path
    environment: Mapping[str, str]
    cpus: int
    memory: int

    def run(self, *command: str, check: bool = True) -> str:
        """The output of one of SLURM's commands."""
        done = subprocess.run(
            command, env=dict(self.environment), capture_output=True, text=True, timeout=60, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Jobs known to the controller, ended ones too: id, state, comment (rule and wildcards), name."""
        names = ("id", "state", "comment", "name")
        lines = self.run("squeue", "--states=all", "--noheader", "--format=%i|%T|%k|%j").splitlines()
        return [dict(zip(names, line.split("|"), strict=True)) for line in lines]


def missing() -> str:
    """Why no cluster can be started on this machine; empty where one can."""
    if sys.platform != "linux":
        return "SLURM runs on Linux"
    if os.geteuid() != 0:
        return "slurmd wants root"
    absent = [name for name in PROGRAMS if shutil.which(name, path=SEARCH) is None]
    return f"not installed: {', '.join(absent)} (apt-get install slurm-wlm munge)" if absent else ""


@contextmanager
def cluster(*, cpus: int | None = None, memory: int | None = None, kill_wait: int = 30) -> Iterator[Cluster]:
    """Start a cluster and end it.

    Args:
        cpus: Of its node; None: those of this machine. SLURM counts them, nothing enforces them.
        memory: MiB of its node; None: three quarters of this machine's.
        kill_wait: Seconds between SIGTERM and SIGKILL of a job that is cancelled.

    Raises:
        NoClusterError: It cannot be started.
    """
    if why := missing():
        raise NoClusterError(why)
    # A socket's path has to be short, so not below the folder of a test.
    folder = Path(tempfile.mkdtemp(prefix="tiebreak-slurm-", dir="/tmp"))
    begun: list[subprocess.Popen[bytes]] = []
    try:
        node = Cluster(folder, _environment(folder), cpus or os.cpu_count() or 1, memory or _memory() * 3 // 4)
        _configure(node, kill_wait)
        _start(node, begun)
        yield node
    finally:
        _stop(folder, begun)
        shutil.rmtree(folder, ignore_errors=True)


def _environment(folder: Path) -> dict[str, str]:
    """The jobs' own srun loses SLURM_CONF (the executor plugin drops all of SLURM_*): a program before it says it."""
    programs = folder / "bin"
    programs.mkdir()
    configuration = folder / "slurm.conf"
    srun = programs / "srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={configuration} exec {shutil.which("srun", path=SEARCH)} "$@"\n')
    srun.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_", "SRUN_"))}
    return {**kept, "SLURM_CONF": str(configuration), "PATH": os.pathsep.join([str(programs), SEARCH])}


def _configure(node: Cluster, kill_wait: int) -> None:
    folder, host = node.folder, socket.gethostname().split(".")[0]
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    controller, daemon = _free_ports(2)
    lines = {
        "ClusterName": "tiebreak",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": controller,
        "SlurmdPort": daemon,
        "SlurmUser": "root",
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={folder / 'munge.socket'},cred_expire=5",  # a requeued job waits so long
        "CredType": "cred/munge",
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "slurmd.pid",
        "SlurmctldLogFile": folder / "slurmctld.log",
        "SlurmdLogFile": folder / "slurmd.log",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "MpiDefault": "none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU_Memory",
        "AccountingStorageType": "accounting_storage/none",
        "JobAcctGatherType": "jobacct_gather/none",
        # Without accounting an ended job is known for as long as this, and squeue has to see it end.
        "MinJobAge": 3600,
        "KillWait": kill_wait,
        "ReturnToService": 2,
        "SchedulerParameters": "sched_interval=1,batch_sched_delay=0",
    }  # fmt: skip
    text = "".join(f"{name}={value}\n" for name, value in lines.items())
    text += f"NodeName={host} NodeAddr=127.0.0.1 CPUs={node.cpus} RealMemory={node.memory} State=UNKNOWN\n"
    text += f"PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP\n"
    (folder / "slurm.conf").write_text(text)


def _start(node: Cluster, begun: list[subprocess.Popen[bytes]]) -> None:
    folder, environment = node.folder, dict(node.environment)

    def start(name: str, *arguments: str) -> None:
        program = shutil.which(name, path=SEARCH) or name
        with (folder / f"{name}.out").open("wb") as log:
            line = [program, *arguments]
            begun.append(
                subprocess.Popen(
                    line, env=environment, stdout=log, stderr=log, cwd=folder,
                    preexec_fn=guard.dying_with_parent(signal.SIGTERM),
                )
            )  # fmt: skip

    munge = [f"--{name}={folder / file}" for name, file in _MUNGE.items()]
    start("munged", "--foreground", "--num-threads=2", *munge)
    _wait(node, begun, "munged", lambda: (folder / "munge.socket").exists())
    start("slurmctld", "-D", "-i")
    start("slurmd", "-D")
    _wait(node, begun, "the node", lambda: node.run("sinfo", "-h", "-o", "%T", check=False).strip() == "idle")


_MUNGE: Final = {
    "socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid", "log-file": "munge.log",
    "seed-file": "munge.seed",
}  # fmt: skip


def _wait(node: Cluster, begun: list[subprocess.Popen[bytes]], what: str, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START
    while not ready():
        ended = any(process.poll() is not None for process in begun)
        if ended or time.monotonic() > deadline:
            logs = "\n".join(_tail(file) for file in sorted(node.folder.glob("*.[lo][ou][gt]")))
            raise NoClusterError(f"{what} did not start:\n{logs}")
        time.sleep(0.1)


def _tail(file: Path) -> str:
    return "\n".join([f"--- {file.name}", *file.read_text(errors="replace").splitlines()[-10:]])


def _stop(folder: Path, begun: list[subprocess.Popen[bytes]]) -> None:
    """End the daemons, the last first, and whatever a job has left: its steps know their spool folder."""
    for process in reversed(begun):
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        if process.poll() is None:
            process.kill()
            process.wait()
    for number in _of_jobs(folder):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def _of_jobs(folder: Path) -> list[int]:
    """Processes that run in this cluster: their environment names its configuration."""
    mark = f"SLURM_CONF={folder / 'slurm.conf'}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                fields = (entry / "environ").read_bytes().split(b"\0")
                if mark in fields and b"SLURM_JOB_ID" in b"".join(fields):
                    found.append(int(entry.name))
    return found


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports: list[int] = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def _memory() -> int:
    """MiB of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def main() -> int:
    """Run the arguments as a command inside a cluster."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with cluster() as node:
        return subprocess.run(sys.argv[1:], env=dict(node.environment), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
