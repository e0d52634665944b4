"""`tiebreak kaggle pull`: what a notebook's run wrote on Kaggle, here."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiebreak.cli import console, kaggle_client, options
from tiebreak.errors import DataError, UsageError

if TYPE_CHECKING:
    from tiebreak.kaggle.layout import Layout
    from tiebreak.kaggle.remote import Client, Pulled
    from tiebreak.kaggle.remote.targets import Target

EPILOG = """
Examples:

    tiebreak kaggle pull out -o outputs

    tiebreak kaggle pull out -o outputs --sample sample_submission.csv

    tiebreak kaggle pull someone/some-notebook -o outputs --json

    tiebreak kaggle pull out -o outputs --wheels --model
"""


def command(
    what: Annotated[str, typer.Argument(metavar="PACK|OWNER/KERNEL", help="A pack, or a notebook on Kaggle.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder; files of the same names in it are replaced.")],
    sample: Annotated[
        Path | None,
        typer.Option(show_default=False, help="sample_submission.csv: columns and ids are held against it."),
    ] = None,
    wheels: Annotated[bool, typer.Option("--wheels", help="The wheels too, to OUTPUT/wheels.")] = False,
    model: Annotated[bool, typer.Option("--model", help="The model too, to OUTPUT/model.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the calls as lines for a shell; ask nothing.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Fetch the outputs and the log of a notebook's last run; check its submission."""
    from tiebreak.kaggle import remote
    from tiebreak.kaggle.layout import Layout
    from tiebreak.kaggle.remote import calls, targets

    pack = Layout(Path(what)) if Path(what).is_dir() else None
    if pack is None and not re.fullmatch(r"[\w-]+/[\w-]+", what):
        raise UsageError(f"{what!r} is no pack and no notebook", expected="a folder, or OWNER/KERNEL")
    if pack is None and (wheels or model):
        raise UsageError("--wheels and --model are of a pack", expected="a pack in place of OWNER/KERNEL")
    kernel = what if pack is None else targets.kernel_id(pack)
    archives = [] if pack is None else _archives(pack, wheels=wheels, model=model)
    if dry_run:
        asked = [calls.kernel_status(kernel), calls.output(kernel, output)]
        asked += [calls.download(target.kind, target.id, version, output) for target, version in archives]
        kaggle_client.print_calls(asked, as_json=as_json)
        return
    client = kaggle_client.client()
    form = None if pack is None else remote.form_of(pack)
    pulled = remote.outputs(client, kernel, output, form=form, sample=sample)
    _tell(pulled)
    fetched = [_fetch(client, target, version, output) for target, version in archives]
    if as_json:
        console.emit_json(_document(pulled, fetched))


def _archives(pack: Layout, *, wheels: bool, model: bool) -> list[tuple[Target, int]]:
    from tiebreak.kaggle.remote import state, targets

    kinds = {kind for kind, wanted in (("wheels", wheels), ("instance", model)) if wanted}
    wanted = [target for target in targets.read(pack) if target.kind in kinds]
    pushed = state.read(pack)
    found = []
    for target in wanted:
        part = pushed.part(target.name, target.id)
        if part is None:
            raise DataError(f"{target.id} was not pushed from {pack.root}", mend=f"tiebreak kaggle push {pack.root}")
        found.append((target, part.version))
    return found


def _fetch(client: Client, target: Target, version: int, output: Path) -> dict[str, Any]:
    from tiebreak.kaggle import remote

    place = output / "wheels" if target.kind == "wheels" else output / "model" / target.name
    place.parent.mkdir(parents=True, exist_ok=True)
    files, same = remote.archive(client, target, version, place)
    size = sum(path.stat().st_size for path in files)
    words = "as in the pack" if same else "NOT what the pack holds"
    console.say(f"{target.id}, version {version}: {len(files)} files, {size / 1e6:,.1f} MB in {place}: {words}")
    return {"id": target.id, "version": version, "folder": str(place), "bytes": size, "as_packed": same}


def _tell(pulled: Pulled) -> None:
    console.note(f"{pulled.kernel}: the last run is {pulled.state}; {len(pulled.files)} files:")
    for path in pulled.files:
        console.note(f"  {path}")
    if pulled.state != "complete":
        console.say(f"warning: the last run is {pulled.state}: what came is of the run before, or not whole")
    if pulled.submission is None:
        console.say("warning: the run wrote no submission.csv")
    elif pulled.checked:
        console.note(f"submission: {pulled.rows:,} rows, held against {pulled.checked}")
    else:
        console.say(f"warning: submission: {pulled.rows:,} rows, not checked; --sample says what it should be")
    otherwise = pulled.report.get("rows_otherwise")
    if isinstance(otherwise, int) and otherwise:
        console.say(f"warning: {otherwise:,} rows were judged by the cheaper judge; the log says why")


def _document(pulled: Pulled, fetched: list[dict[str, Any]]) -> dict[str, Any]:
    document = asdict(pulled)
    document["files"] = [str(path) for path in pulled.files]
    for key in ("log", "submission"):
        document[key] = None if document[key] is None else str(document[key])
    return {**document, "fetched": fetched}
