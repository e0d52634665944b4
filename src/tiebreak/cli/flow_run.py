"""`tiebreak flow run`: the whole chain; stopped or killed, the same command goes on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebreak.cli import console, options
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    from tiebreak.flow.events import Event
    from tiebreak.flow.launching import Launch
    from tiebreak.flow.node import Node
    from tiebreak.flow.place import Place
    from tiebreak.flow.running import Outcome
    from tiebreak.flow.schema import Flow

EPILOG = """
Examples:

    tiebreak flow run blackpearl-tiny --data train.csv --dry-run

    tiebreak flow run blackpearl-tiny --data train.csv -o chain

    tiebreak flow run mine.yaml student.changes.max_steps=200 seed=1 -o chain --cores 8

    tiebreak flow run blackpearl --data train.csv -o chain --executor slurm
"""

FlowName = Annotated[
    str, typer.Argument(metavar="FLOW", help="A YAML file, or the name of a flow that ships (tiebreak flow ls).")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Changes to the flow: student.changes.max_steps=200 data.folds=3."),
]
Data = Annotated[
    list[Path] | None, typer.Option("--data", "-d", help="Votes, repeatable. [default: data.votes]", show_default=False)
]
Pairs = Annotated[
    list[Path] | None,
    typer.Option(help="Preference pairs of another source, repeatable. [default: data.pairs]", show_default=False),
]
Folder = Annotated[
    Path | None, typer.Option("--output", "-o", help="The flow's folder. [default: its name]", show_default=False)
]


def command(
    flow: FlowName,
    overrides: Overrides = None,
    data: Data = None,
    pairs: Pairs = None,
    output: Folder = None,
    executor: Annotated[str, typer.Option(help="local, or slurm: each job is submitted to the cluster.")] = "local",
    cores: Annotated[
        int | None, typer.Option(min=1, help="Cores to use on this machine. [default: all]", show_default=False)
    ] = None,
    until: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STAGE", help="Stop when this node or kind of stage (student, audit) is done; repeatable."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be done, and why; then stop.")] = False,
    as_json: options.Json = False,
) -> None:
    """Run a chain: teachers, audited labels, student, average, merge, compression, ladder.

    Jobs that do not wait for each other run side by side. What is done is not done again, unless something that it
    rests on has changed; a training that was stopped goes on where it was.
    """
    from tiebreak.flow import graph, running
    from tiebreak.flow.place import Place

    found = read(flow, overrides, data, pairs)
    root = output or folder(flow)
    nodes = graph.graph(found)
    running.check_files(nodes)
    if dry_run:
        _dry_run(Place(root), nodes, as_json)
        return
    launch = _launch(executor, found, nodes, cores)
    console.note(f"{len(nodes)} jobs; the flow's folder is {root}")
    outcome = running.run(root, found, launch, until=until or [], report=_Display(len(nodes)))
    _report(outcome, root, as_json)


def step(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="The flow's folder.")],
    node: Annotated[str, typer.Argument(metavar="NODE", help="The node.")],
) -> None:
    """Do one node's work: what the jobs of a flow call."""
    from tiebreak.flow import stages

    ended = stages.step(root, node)
    console.note(f"{node}: {ended.kind}")
    if ended.code:
        raise SystemExit(ended.code)


def read(
    flow: str, overrides: list[str] | None, data: list[Path] | None = None, pairs: list[Path] | None = None
) -> Flow:
    """The flow with the files of the command line."""
    import json

    from tiebreak.flow import reading

    given = {"votes": data, "pairs": pairs}
    files = [f"data.{name}={json.dumps([str(file) for file in found])}" for name, found in given.items() if found]
    return reading.read(flow, [*(overrides or []), *files])


def folder(flow: str) -> Path:
    """Where a flow works if nothing else is said: a folder here with its name."""
    return Path(Path(flow).name.removesuffix(".yaml").removesuffix(".yml"))


def _launch(executor: str, flow: Flow, nodes: list[Node], cores: int | None) -> Launch:
    from tiebreak.flow import launching, slurm

    if executor == "local":
        return launching.local(nodes, cores=cores)
    if executor == "slurm":
        return slurm.launch(flow)
    raise UsageError(f"--executor {executor}", expected="local or slurm")


def _dry_run(where: Place, nodes: list[Node], as_json: bool) -> None:
    from tiebreak.flow import settling

    stands = settling.standing(where, nodes)
    reasons = settling.reasons(where, nodes, stands)
    if as_json:
        jobs = [
            {"node": node.name, "stage": node.stage, "why": reasons[node.name], "command": ["tiebreak", *node.command]}
            for node in nodes
            if node.name in reasons
        ]
        console.emit_json({"jobs": jobs, "done": list(stands)})
        return
    rows = [[node.name, reasons[node.name], node.about] for node in nodes if node.name in reasons]
    if rows:
        console.table(f"{len(rows)} jobs to do, {len(stands)} done", ("job", "why", "what"), rows)
    else:
        console.note(f"all {len(stands)} jobs are done")


class _Display:
    """One line for each job that starts and ends."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.ended: set[str] = set()
        self.started = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        clock = time.strftime("%H:%M:%S", time.localtime(event.time))
        if event.kind in {"done", "unchanged"}:
            self.ended.add(event.node)
            took = "" if event.kind == "unchanged" else f" in {duration(event.seconds)}"
            console.note(f"{clock}  {event.kind:<9} {event.node}{took}")
        elif event.kind in {"failed", "stopped"}:
            console.say(
                f"{clock}  {event.kind:<9} {event.node} after {duration(event.seconds)}, exit code {event.code}"
            )
        else:
            console.note(f"{clock}  {event.kind:<9} {event.node}")


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 12 s`, `5 h 20 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60)} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _report(outcome: Outcome, root: Path, as_json: bool) -> None:
    import json

    document = None
    if outcome.ladder is not None:
        document = json.loads((outcome.ladder / "ladder.json").read_text(encoding="utf-8"))
    if as_json:
        console.emit_json({
            "folder": str(root), "judge": None if outcome.judge is None else str(outcome.judge),
            "done": outcome.done, "worked": outcome.worked, "ladder": document,
        })  # fmt: skip
        return
    if document is None or outcome.ladder is None or outcome.report is None:
        console.note(f"{len(outcome.done)} jobs are done; the same command without --until goes on")
        return
    _table(document)
    console.note(f"wrote {outcome.judge}, {outcome.ladder / 'index.html'} and {outcome.report / 'index.html'}")


def _table(ladder: dict[str, object]) -> None:
    rows = []
    rungs = ladder["rungs"]
    for rung in rungs if isinstance(rungs, list) else []:
        rows.append([rung["name"], _shown(rung["log_loss"]), _shown(rung["change"], "+"), _shown(rung["accuracy"])])
    header = ("", "log-loss", "to the rung before", "accuracy")
    console.table(f"{ladder['votes']:,} test votes, 95 % intervals", header, rows)


def _shown(found: dict[str, float] | None, sign: str = "") -> str:
    if found is None:
        return ""
    value, low, high = (
        f"{found[name]:{sign}.4f}" if found[name] is not None else "-" for name in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"
