"""`tiebreak flow`: the group of its commands."""

from __future__ import annotations

import typer

from tiebreak.cli import flow_ladder, flow_plan, flow_run, flow_show

app = typer.Typer(help="A chain of commands as one resumable graph: run, plan, status, graph.", no_args_is_help=True)
app.command("run", epilog=flow_run.EPILOG)(flow_run.command)
app.command("plan", epilog=flow_plan.EPILOG)(flow_plan.command)
app.command("status", epilog=flow_show.STATUS_EPILOG)(flow_show.status)
app.command("graph", epilog=flow_show.GRAPH_EPILOG)(flow_show.graph)
app.command("ladder", epilog=flow_ladder.EPILOG)(flow_ladder.command)
app.command("ls", epilog=flow_show.LS_EPILOG)(flow_show.ls)
app.command("show", epilog=flow_show.SHOW_EPILOG)(flow_show.show)
app.command("cp", epilog=flow_show.CP_EPILOG)(flow_show.cp)
app.command("step", hidden=True)(flow_run.step)
