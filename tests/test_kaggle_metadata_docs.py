"""docs/kaggle-metadata.md says what the code says, and prints what it promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import kaggle_wrong
from tiebreak.kaggle.metadata import Dataset, Instance, Kernel, Model, pack

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "kaggle-metadata.md").read_text(encoding="utf-8")


def test_the_tables_are_up_to_date() -> None:
    code = "import metadata_tables, sys; sys.stdout.write(metadata_tables.page(sys.stdin.read()))"
    written = subprocess.run(
        [sys.executable, "-c", code], cwd=DOCS, input=PAGE, capture_output=True, text=True, check=True
    )
    assert written.stdout == PAGE, "run `make docs`"


def test_every_rule_has_a_row() -> None:
    rules = [*(rule for kind in (Kernel, Dataset, Model, Instance) for rule in kind.rules), *(r for _, r in pack.RULES)]
    for rule in rules:
        assert f"| {rule.expected} |" in PAGE


def test_the_example_prints_what_the_page_says(tmp_path: Path) -> None:
    ((code, promised),) = re.findall(r"^```python\n(.*?)^```\n+```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == promised


def test_the_numbers_of_the_page_are_those_of_the_tests() -> None:
    from test_kaggle_metadata_client import WRONG_VALUES

    words = " ".join(PAGE.split())
    assert f"{len(kaggle_wrong.ALL)} files with one rule broken each" in words
    assert f"{len(WRONG_VALUES)} wrong values under each key" in words
