"""Packs whose notebook is what a test says, for tests of the rehearsal; a clean environment that is made at once."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tiebreak.environments import interpreter
from tiebreak.kaggle import metadata
from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.packing.record import JudgeRecord, Record, parts
from tiebreak.kaggle.rehearse import image
from tiebreak.kaggle.settings import KernelSettings, Submission

COMPETITION = "llm-classification-finetuning"
LMSYS = Submission(columns={"winner_model_a": "p_a", "winner_model_b": "p_b", "winner_tie": "p_tie"})
WSDM = Submission(columns={"winner": "winner_without_tie"})

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}

BEGIN = """
import csv, glob, json, os, socket, sys
from pathlib import Path
root, working = Path(os.environ["TIEBREAK_KAGGLE_INPUT"]), Path(os.environ["TIEBREAK_KAGGLE_WORKING"])
sample = next(root.rglob("sample_submission.csv"))
rows = list(csv.DictReader(sample.open(newline="")))
def submit(rows, name="submission.csv"):
    with (working / name).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
"""
SUBMIT = "submit([{**row, 'winner_model_a': .5, 'winner_model_b': .25, 'winner_tie': .25} for row in rows])"


def make(
    root: Path, *cells: str, form: Submission = LMSYS, test: str = "test.csv", wheels: dict[str, str] | None = None,
    models: list[str] | None = None, competition: str = COMPETITION, begin: str = BEGIN,
) -> Layout:  # fmt: skip
    """A pack: cells of its notebook, files of its wheelhouse, and `framework/variation` of its model's instances."""
    pack = Layout(root)
    pack.kernel.mkdir(parents=True)
    pack.wheels.mkdir()
    code = [
        {"id": f"c{n}", "cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source}
        for n, source in enumerate([begin, *cells])
    ]
    heading = {"id": "m", "cell_type": "markdown", "metadata": {}, "source": "Words.\n\n## Hand in\n"}
    document = {
        "cells": [*code[:-1], heading, code[-1]],
        "metadata": {"kernelspec": KERNEL},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    (pack.kernel / "the-notebook.ipynb").write_text(json.dumps(document))
    for name, content in (wheels or {"wheelhouse.json": "{}"}).items():
        (pack.wheels / name).write_text(content)
    sources = [f"someone/the-judge/{model}/3" for model in models or []]
    metadata.Kernel(
        id="someone/the-notebook", title="the notebook", code_file="the-notebook.ipynb", language="python",
        kernel_type="notebook",
        enable_internet=False, dataset_sources=["someone/the-wheels"], competition_sources=[competition],
        model_sources=sources,
    ).write(pack.kernel)  # fmt: skip
    licences = [metadata.Licence(name="apache-2.0")]
    metadata.Dataset(id="someone/the-wheels", title="the wheels", licenses=licences).write(pack.wheels)
    for folder, model in zip(("judge", "base"), models or [], strict=False):
        framework, variation = model.split("/")
        (pack.model / folder).mkdir(parents=True)
        (pack.model / folder / "weights.bin").write_text(model)
        metadata.Instance(
            owner_slug="someone", model_slug="the-judge", instance_slug=variation, framework=framework,
            license_name="Apache 2.0",
        ).write(pack.model / folder)  # fmt: skip
    settings = KernelSettings(competition=competition, test=test, submission=form, wheelhouse="0" * 64)
    Record(
        user="someone", kernel="someone/the-notebook", dataset="someone/the-wheels",
        judge=JudgeRecord(name="none", kind="features", sha256=None, parameters=0), python=image.running(),
        platform="any", requirements=(), settings=settings, parts=parts(pack),
    ).write(pack)  # fmt: skip
    return pack


def bare_image(python: image.Python, folder: Path) -> Path:
    """In place of `image.make`: without pip, which takes seconds to put there and is not needed by these notebooks."""
    subprocess.run([python.executable, "-I", "-m", "venv", "--without-pip", folder], check=True)
    return interpreter(folder)
