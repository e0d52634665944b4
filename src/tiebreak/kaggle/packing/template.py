"""The commented `pack.yaml` that `tiebreak kaggle init` writes: every choice there is, at its default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from tiebreak.errors import UsageError
from tiebreak.kaggle.packing import competitions
from tiebreak.kaggle.packing.choices import MACHINES
from tiebreak.kaggle.packing.reading import FILE
from tiebreak.storage import write_text

NOBODY: Final = "NAME"
"""Stands for an account that is yet to be filled in; no account is called so."""

_TEXT: Final = """\
# tiebreak kaggle pack --config {file} -o out
#
# What is packed for Kaggle. null leaves a choice to the judge; an option of the command line goes before what is
# written here. Paths count from where this file lies. docs/kaggle-pack.md says more.

# The judge: folder of a bundle; null is the judge that ships with tiebreak.
judge: {judge}

# The last part of the competition's address. Known: {known}.
competition: {competition}

# Your account, as in its address. No key or password: those never come near a pack.
user: {user}

# Of any other competition: its sample submission says which columns it wants, and where their names do not say what
# they hold, columns do: {{left_wins: p_a, right_wins: p_b, draw: p_tie}}. test: the name of the file with the rows,
# and map: the columns of it that go by other names: {{prompt: question, response_a: left, response_b: right}}.
sample: null
columns: {{}}
test: null
map: {{}}

# Title of the notebook, from which Kaggle makes the slug; null: of judge and competition.
title: null
slug: null

# {machines}, or a GPU as Kaggle spells it; null: cpu, or t4x2 for a judge with a network.
machine: null

# Whether a run without a GPU is left to the embedded judge altogether; null: if there are over 10^9 parameters.
needs_gpu: null

# Hours that a run may take on Kaggle; half an hour of them is kept in reserve.
hours: 9

# Wheels: Python of Kaggle's image (null: the one that packs), the newest manylinux tag (null: manylinux_2_28_x86_64;
# with vLLM manylinux_2_35_x86_64, as new as the image takes), further requirements or other versions
# (["numpy==2.2.6"]), and the build of torch: the cpu one gives way to the image's own.
python: null
platform: null
requirements: []
torch: cpu

# The base model under an adapter: where it lies here, if not where it was at training; or its five parts on Kaggle
# (OWNER/MODEL/FRAMEWORK/VARIATION/VERSION), and it is not packed.
bases: []
base_model: null

# What is pushed: licence of the model and of a base that is packed (null: the same), what is said of this version, and
# whether others see it.
licence: Apache 2.0
base_licence: null
notes: ""
public: false

# How the judge runs, as of tiebreak predict.
max_length: null
max_tokens: null
precision: auto
swap: null
backend: null
"""


def text(competition: str | None = None, user: str | None = None, judge: str | None = None) -> str:
    """The file, with what is known of it filled in."""
    return _TEXT.format(
        file=FILE, known=", ".join(competitions.KNOWN), machines=", ".join(MACHINES),
        competition=competition or next(iter(competitions.KNOWN)), user=user or NOBODY,
        judge="null" if judge is None else json.dumps(judge, ensure_ascii=False),
    )  # fmt: skip


def write(folder: Path, *, force: bool = False, **known: str | None) -> Path:
    """Write the file into a folder, which is made if it is not there.

    Args:
        folder: Where.
        force: Whether a file that is there is replaced.
        known: As of `text`.

    Returns:
        Its path.

    Raises:
        UsageError: A file is there already, or the folder's parent is not.
    """
    path = folder / FILE
    if path.exists() and not force:
        raise UsageError(f"{path} is there already", mend="--force writes over it")
    if not folder.is_dir():
        if not folder.parent.is_dir():
            raise UsageError(f"{folder.parent} is not a directory", mend=f"mkdir -p {folder.parent}")
        folder.mkdir()
    write_text(path, text(**known))
    return path
