"""Write what comes from the code in docs/: `cli.md`, the help of every command, and the tables of `kaggle-metadata.md`.

Run by `make docs`; tests/test_docs.py fails when a page and the code differ.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
VERBS = [
    (), ("demo",), ("compare",), ("predict",), ("evaluate",), ("calibrate",), ("baselines",),
    ("data",), ("data", "import"), ("data", "clean"), ("data", "dedupe"), ("data", "split"), ("data", "overlap"),
    ("data", "stats"), ("train",), ("train", "RECIPE"), ("train", "features"),
    ("train", "retrieval"),
    ("recipe",), ("recipe", "ls"), ("recipe", "show"), ("recipe", "cp"),
    ("wrap",), ("wrap", "CHECKPOINT"), ("wrap", "generative"), ("wrap", "served"), ("wrap", "reward"), ("ablate",),
    ("teach",), ("teach", "label"), ("teach", "audit"), ("teach", "combine"), ("teach", "mix"),
    ("teach", "synthesize"),
    ("combine",), ("combine", "adapters"), ("combine", "merge"), ("combine", "blend"),
    ("combine", "cascade"), ("compress",), ("attack",), ("plan-budget",),
    ("flow",), ("flow", "run"), ("flow", "plan"), ("flow", "status"), ("flow", "graph"), ("flow", "ladder"),
    ("flow", "ls"), ("flow", "show"), ("flow", "cp"),
    ("kaggle",), ("kaggle", "init"), ("kaggle", "pack"), ("kaggle", "check"), ("kaggle", "run"), ("kaggle", "push"),
    ("kaggle", "pull"), ("kaggle", "status"),
]  # fmt: skip


def cli_page() -> str:
    """The help of every command, as a terminal of 100 columns shows it."""
    from typer.testing import CliRunner

    from tiebreak.cli.app import app

    # Rich asks the environment how wide and how colourful the terminal is; the page must not depend on it.
    os.environ.update({"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"})
    parts = ["# What can each command do?\n\nWritten by `make docs` from `tiebreak ... --help`.\n"]
    for verb in VERBS:
        result = CliRunner().invoke(app, [*verb, "--help"], prog_name="tiebreak")
        text = "\n".join(line.rstrip() for line in result.stdout.splitlines()).strip("\n")
        parts.append(f"## {' '.join(('tiebreak', *verb))}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def main() -> None:
    """Write the pages."""
    import metadata_tables

    (HERE / "cli.md").write_text(cli_page(), encoding="utf-8")
    rules = HERE / "kaggle-metadata.md"
    rules.write_text(metadata_tables.page(rules.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write("wrote docs/cli.md and the tables of docs/kaggle-metadata.md\n")


if __name__ == "__main__":
    main()
