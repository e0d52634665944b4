"""`tiebreak flow status|graph|ls|show|cp`: to look at flows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiebreak.cli import console, flow_run, options
from tiebreak.errors import UsageError

if TYPE_CHECKING:
    from tiebreak.flow.node import Node

STATUS_EPILOG = """
Examples:

    tiebreak flow status chain

    tiebreak flow status chain --json
"""
GRAPH_EPILOG = """
Examples:

    tiebreak flow graph blackpearl

    tiebreak flow graph chain -o chain.svg

    tiebreak flow graph mine.yaml data.folds=3 -o chain.mmd
"""
LS_EPILOG = """
Examples:

    tiebreak flow ls
"""
SHOW_EPILOG = """
Examples:

    tiebreak flow show blackpearl-tiny

    tiebreak flow show blackpearl-tiny data.folds=3 --resolved
"""
CP_EPILOG = """
Examples:

    tiebreak flow cp blackpearl-tiny mine.yaml
"""


def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a flow.")],
    as_json: options.Json = False,
) -> None:
    """Of each job: whether it is done, runs, failed or waits, for how long, and how large it is."""
    from dataclasses import asdict

    from tiebreak.flow import place
    from tiebreak.flow import status as states

    where = place.Place(folder)
    found = states.status(where, place.read(where))
    counts = {name: sum(state.state == name for state in found) for name in states.STATES}
    if as_json:
        console.emit_json({"counts": counts, "nodes": [asdict(state) for state in found]})
        return
    times = ["" if state.seconds is None else flow_run.duration(state.seconds) for state in found]
    rows = [
        [state.node, state.state, took, _size(state.size), state.said] for state, took in zip(found, times, strict=True)
    ]
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    console.table(f"{len(found)} jobs: {said}", ("job", "state", "time", "size", ""), rows)


def graph(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="A flow by file or name, or the folder of one.")],
    overrides: flow_run.Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Picture: .svg, .png, .pdf; or text: .mmd (Mermaid), .dot (Graphviz)."),
    ] = None,
) -> None:
    """The jobs of a flow and what each rests on: as text, or as a picture with the state of each."""
    from tiebreak import storage
    from tiebreak.flow import drawing, place, status

    nodes, states = _nodes(flow, overrides)
    if output is None:
        console.emit(drawing.text(nodes))
        return
    if not states and (place.Place(Path(flow))).nodes_file.is_file():
        states = {state.node: state.state for state in status.status(place.Place(Path(flow)), nodes)}
    made = drawing.draw(nodes, states, output.suffix)
    with storage.replacing(output) as aside:
        aside.write_bytes(made)
    console.note(f"wrote {output}")


def _nodes(flow: str, overrides: list[str] | None) -> tuple[list[Node], dict[str, str]]:
    from tiebreak.flow import graph, place

    where = place.Place(Path(flow))
    if where.nodes_file.is_file():
        if overrides:
            raise UsageError(
                f"changes beside the folder {flow}", expected="a flow by file or name, or the folder alone"
            )
        return place.read(where), {}
    return graph.graph(flow_run.read(flow, overrides)), {}


def ls(as_json: options.Json = False) -> None:
    """List the flows that ship."""
    from tiebreak.flow import reading

    flows = {name: reading.read(name) for name in reading.shipped()}
    if as_json:
        console.emit_json(
            {"flows": {name: {"hardware": flow.hardware, "about": flow.about} for name, flow in flows.items()}}
        )
        return
    console.table(
        "flows", ["name", "runs on", "what"], [[name, flow.hardware, flow.about] for name, flow in flows.items()]
    )


def show(
    flow: flow_run.FlowName,
    overrides: flow_run.Overrides = None,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Every key with its value, defaults written out.")
    ] = False,
) -> None:
    """Print a flow: as it was written, with its comments, or with every default written out."""
    from tiebreak.flow import reading

    if overrides and not resolved:
        raise UsageError("changes are shown in the resolved flow", expected="--resolved beside them")
    text = reading.dump(reading.read(flow, overrides or [])) if resolved else reading.source(flow)[0]
    console.emit(text.rstrip("\n"))


def cp(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="Name of a flow that ships.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Copy a flow into a file of your own, to change it."""
    from tiebreak.flow import reading

    reading.SHELF.copy(flow, file, verb="flow run", force=force)
    console.note(f"wrote {file}; look at it with: tiebreak flow graph {file}")


def _size(size: int | None) -> str:
    if size is None:
        return ""
    for unit, bound in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bound:
            return f"{size / bound:,.1f} {unit}"
    return f"{size} B"
