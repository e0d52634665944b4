"""The notebook of a pack, made of the modules in `kernel`: each is explained by its own docstring and is a cell."""

from __future__ import annotations

import ast
import hashlib
import json
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tiebreak import storage
from tiebreak.errors import UsageError
from tiebreak.kaggle.kernel import guard
from tiebreak.kaggle.settings import KernelSettings

OURS: Final = "tiebreak.kaggle.kernel"

EXPLAINED: Final = {
    "competition": "Slug of the competition whose data are read.",
    "test": "The file to predict, somewhere below the folder of the competition.",
    "sample": "Its sample submission.",
    "map": "Columns of the test file that go by other names: ours -> theirs.",
    "submission": "The form of the submission: what each column holds.",
    "wheelhouse": "sha256 of wheelhouse.json: these wheels and no others.",
    "judge": "sha256 of the bundle's judge.json; None: the judge inside the package.",
    "bases": "Digest of the weights of the base model that lies beside the bundle.",
    "needs_gpu": "Whether the judge is hopeless without a GPU: then, without one, the cheaper judge does all rows.",
    "otherwise": "The cheaper judge, which does the rows that there is no time for.",
    "hours": "Hours that a run may take: Kaggle's limit, less a reserve.",
    "predicting": "How the judge runs; None leaves it to the judge and the machine.",
}

STEPS: Final[tuple[tuple[tuple[str, ...], str], ...]] = (
    (("reporting",), """
import os
import tempfile
from pathlib import Path

working = Path(os.environ.get("TIEBREAK_KAGGLE_WORKING", "/kaggle/working"))
scratch = Path(tempfile.mkdtemp(prefix="tiebreak-"))
report = Report(working / "tiebreak.json", float(os.environ.get("TIEBREAK_KAGGLE_HOURS", SETTINGS["hours"])))
report.put(scored_run=bool(os.environ.get("KAGGLE_IS_COMPETITION_RERUN")))
"""),
    (("content", "finding"), """
with report.stage("find"):
    found = find_inputs(SETTINGS, input_root(), scratch)
    tell_python(found.wheels, report)
    for what, place in vars(found).items():
        report.say(f"{what}: {place or 'none'}")
"""),
    (("guard", "offline"), """
with report.stage("offline"):
    answered = network_reached()
    report.say(f"the network answers: {', '.join(answered)}" if answered else "no network, as in a scored run")
    report.put(network_reached=answered)
    environment = guarded_environment(scratch, GUARD, scratch / "packages")
"""),
    (("packages", "choosing", "installing"), """
with report.stage("install"):
    seen = install(found.wheels, scratch / "packages", environment, report)
"""),
    (("rows", "running", "asking", "judging"), """
with report.stage("judge"):
    ids = ids_of(found.test, id_columns(SETTINGS), environment)
    sample = fitting_sample(found.sample, ids, SETTINGS["submission"], scratch, report)
    report.say(f"{len(ids):,} rows to judge, {report.left() / 3600:.2f} hours left, GPUs: {seen['gpus'] or 'none'}")
    written = judge_rows(SETTINGS, found, sample, seen, environment, scratch, report)
"""),
    (("verifying",), """
with report.stage("verify"):
    rows = verify(written, sample, ids, SETTINGS["submission"])
    refused = refused_connections(environment)
    deliver(written, working / "submission.csv")
    report.put(complete=True, submission_sha256=sha256_of(written))
    report.put(network_refused=len(refused), network_tries=refused[:20])
    for line in written.read_text(encoding="utf-8").splitlines()[:4]:
        report.say(line)
    report.say(f"connections that were tried and refused: {len(refused)}")
    report.say(f"submission.csv: {rows:,} rows, {report.facts['rows_otherwise']:,} of them by the cheaper judge")
"""),
)  # fmt: skip
"""The modules that a step is made of, and the cell that takes it."""

OPENING: Final = """
## Settings

What this notebook was packed for. To change it, pack again: the wheels and the judge go with it.
"""


def write(path: Path, settings: KernelSettings, *, title: str, about: str) -> None:
    """Write the notebook of a pack. The same arguments give the same bytes.

    Args:
        path: The .ipynb to write.
        settings: What it is told.
        title: Its heading.
        about: What the reader should know of this judge, in Markdown.

    Raises:
        UsageError: The judge stands on several base models, which `tiebreak predict` cannot be told the places of.
        ResourceError: The place cannot be written.
    """
    if len(settings.bases) > 1:
        raise UsageError(
            f"a judge on {len(settings.bases)} base models cannot be packed", expected="one base model",
            mend="tiebreak compress, or tiebreak train with full weights, puts the weights into the bundles",
        )  # fmt: skip
    cells = [
        _markdown(f"# {title}\n\n{about.strip()}"),
        _markdown(OPENING),
        _code(_settings_cell(settings)),
    ]
    for number, (modules, act) in enumerate(STEPS, start=1):
        cells += _step(number, modules, act)
    document = {
        "cells": [{"id": _identity(number, cell), **cell} for number, cell in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    storage.write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _settings_cell(settings: KernelSettings) -> str:
    lines = ["SETTINGS = {"]
    for name, value in settings.model_dump(mode="json").items():
        lines.append(f"    # {EXPLAINED[name]}")
        if isinstance(value, dict) and len(value) > 1:
            inside = [f'        "{key}": {_literal(item)},' for key, item in value.items()]
            lines += [f'    "{name}": {{', *inside, "    },"]
        else:
            lines.append(f'    "{name}": {_literal(value)},')
    return "\n".join([*lines, "}"])


def _literal(value: Any) -> str:
    """A value as Python, in the quotes that the other cells have."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _step(number: int, modules: tuple[str, ...], act: str) -> list[dict[str, Any]]:
    """The cells of a step: what it is about, then what it is made of, then the step itself.

    The last of the modules names the step; those before it are what it needs.
    """
    cells = [_markdown(_explained(modules[-1], f"## {number}."))]
    for name in modules:
        cells += [_markdown(_explained(name, "###"))] if name != modules[-1] else []
        cells.append(_code(_of_module(name), hidden=True))
    return [*cells, _code(act)]


def _explained(name: str, mark: str) -> str:
    heading, _, text = (import_module(f"{OURS}.{name}").__doc__ or "").strip().partition("\n")
    return f"{mark} {heading.rstrip('.')}\n\n{text.strip()}"


def _of_module(name: str) -> str:
    """A module as a cell. The guard is not run in the notebook, but written to a file by it."""
    module = import_module(f"{OURS}.{name}")
    code = _source(module)
    return f"GUARD = r'''\n{code}'''" if module is guard else code


def _source(module: ModuleType) -> str:
    """The code of a module without its docstring, and without imports of what other cells define."""
    text = Path(str(module.__file__)).read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    for node in ast.parse(text).body[::-1]:
        docstring = isinstance(node, ast.Expr) and node.lineno == 1
        imported = isinstance(node, ast.ImportFrom) and (node.module or "").startswith((OURS, "__future__"))
        if docstring or imported:
            del lines[node.lineno - 1 : node.end_lineno]
    return "".join(lines).strip("\n") + "\n"


def _markdown(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": _lines(text)}


def _code(text: str, *, hidden: bool = False) -> dict[str, Any]:
    # Kaggle folds such a cell away: whoever reads the notebook sees the explanations and the six steps first.
    metadata = {"_kg_hide-input": True} if hidden else {}
    return {"cell_type": "code", "execution_count": None, "metadata": metadata, "outputs": [], "source": _lines(text)}


def _lines(text: str) -> list[str]:
    return text.strip("\n").splitlines(keepends=True)


def _identity(number: int, cell: dict[str, Any]) -> str:
    return f"{number:02d}-{hashlib.sha256(''.join(cell['source']).encode()).hexdigest()[:8]}"
