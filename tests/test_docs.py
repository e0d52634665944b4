"""Every command and every Python block of README.md and docs/ is executed, in a directory with a user's files."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tiebreak import predictions, samples
from tiebreak.comparisons import LABELS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Pages run with their slow blocks: they fetch wheels and rehearse notebooks.
WHOLE = {"kaggle", "kaggle-pack", "rehearse"}
# Pages run by `make test-llm`: their commands train or load networks, fetch wheels, or take their time.
SLOW = WHOLE | {
    "blend",
    "cascade",
    "deadline",
    "distil",
    "engine",
    "finetune",
    "finetuned-judges",
    "flow",
    "generative",
    "kaggle-push",
    "plan-budget",
    "recipes",
    "retrieval",
    "reward",
    "served",
    "soft-labels",
    "synthesize",
    "teach",
    "weighting",
}
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SLOW_TOO = re.compile(r"^```(console|python)(?: slow)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
SET_UP = re.compile(r"^\$ (make|git|pip|cd) ")


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages speak of, made from the samples in the forms that users have."""
    here = tmp_path_factory.mktemp("files")
    votes = samples.votes()
    votes.write_parquet(here / "votes.parquet")
    votes.head(20).write_parquet(here / "more.parquet")
    shutil.copy(samples.PATH, here / "votes.jsonl")
    cells = pl.col("prompt", "response_a", "response_b").map_elements(
        lambda turns: json.dumps(turns.to_list()), return_dtype=pl.String
    )
    kaggle = votes.select("id", "model_a", "model_b", cells)
    winners = votes.select(
        (pl.col("label") == label).cast(pl.Int64).alias(f"winner_{name}")
        for label, name in (("a", "model_a"), ("b", "model_b"), ("tie", "tie"))
    )
    pl.concat([kaggle, winners], how="horizontal").write_csv(here / "train.csv")
    kaggle.drop("model_a", "model_b").write_csv(here / "test.csv")
    pl.concat([kaggle.select("id"), winners], how="horizontal").write_csv(here / "sample_submission.csv")
    names = {"a": "model_a", "b": "model_b", "tie": "tie (bothbad)"}
    with (here / "battles.jsonl").open("w") as battles, (here / "preferences.jsonl").open("w") as preferences:
        for row in votes.iter_rows(named=True):
            conversations = {
                f"conversation_{side}": [
                    message
                    for question, answer in zip(row["prompt"], row[f"response_{side}"], strict=True)
                    for message in (
                        {"role": "user", "content": question},
                        {"role": "assistant", "content": answer or ""},
                    )
                ]
                for side in "ab"
            }
            models = {"model_a": row["model_a"], "model_b": row["model_b"]}
            battles.write(
                json.dumps({"question_id": row["id"], **models, "winner": names[row["label"]], **conversations}) + "\n"
            )
            if len(row["prompt"]) == 1 and row["label"] != "tie":
                sides = (row["response_a"][0] or "", row["response_b"][0] or "")
                chosen, rejected = sides if row["label"] == "a" else sides[::-1]
                preferences.write(
                    json.dumps({"prompt": row["prompt"][0], "chosen": chosen, "rejected": rejected}) + "\n"
                )
    single = votes.filter(pl.col("prompt").list.len() == 1)
    single.select(
        pl.col("prompt").list.first().alias("question"),
        pl.col("response_a").list.first().alias("left"),
        pl.col("response_b").list.first().alias("right"),
        pl.col("label").cast(pl.String).alias("choice"),
    ).write_csv(here / "mine.csv")
    _llm(here / "llm.csv")
    return here


def _llm(path: Path) -> None:
    """Two thousand votes without texts, and the probabilities of a judge that is too sure of itself."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2000, 3))
    votes = (predictions.softmax(logits).cumsum(axis=1) > rng.random((2000, 1))).argmax(axis=1)
    said = predictions.softmax(1.5 * logits)
    pl.DataFrame(
        {
            "id": np.arange(2000),
            "label": np.array(LABELS)[votes],
            "m1_a": said[:, 0],
            "m1_b": said[:, 1],
            "m1_tie": said[:, 2],
        }
    ).write_csv(path)


def commands(block: str) -> list[tuple[str, int]]:
    """The commands of a console block with the exit code that each promises."""
    found = []
    for line in block.replace("\\\n", " ").splitlines():
        if line.startswith("$ ") and not SET_UP.match(line):
            code = re.search(r"  # exit (\d+)$", line)
            found.append((re.sub(r"  # exit \d+$", "", line[2:]), int(code[1]) if code else 0))
    return found


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] * (page.stem in SLOW), id=page.name) for page in PAGES],
)
def test_every_block_of_the_page_runs(page: Path, files: Path, tmp_path: Path) -> None:
    run(page, SLOW_TOO if page.stem in WHOLE else BLOCK, files, tmp_path)


@pytest.mark.slow
def test_every_block_of_the_readme_runs_the_slow_ones_too(files: Path, tmp_path: Path) -> None:
    run(ROOT / "README.md", SLOW_TOO, files, tmp_path)


def run(page: Path, blocks: re.Pattern[str], files: Path, tmp_path: Path) -> None:
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "COLUMNS": "100"}
    for kind, block in blocks.findall(page.read_text(encoding="utf-8")):
        todo = commands(block) if kind == "console" else [(block, 0)]
        for command, code in todo:
            program = ["bash", "-c", command] if kind == "console" else [sys.executable, "-c", command]
            result = subprocess.run(
                program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
            )
            assert result.returncode == code, f"{page.name}: {command}\n{result.stderr}"


def test_the_readme_example_prints_what_the_readme_says(files: Path, tmp_path: Path) -> None:
    """A python block that is followed by a text block promises its output."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pairs = re.findall(r"^```python\n(.*?)^```\n+```text\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert pairs
    for code, promised in pairs:
        result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert result.stdout == promised


def test_set_up_commands_are_run_by_ci() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for page in PAGES:
        for kind, block in BLOCK.findall(page.read_text(encoding="utf-8")):
            for line in block.splitlines():
                if kind == "console" and line.startswith("$ make "):
                    assert line[2:].split("  #")[0].strip() in ci, line


def test_generated_pages_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    page = subprocess.run(
        [sys.executable, "-c", "import generate, sys; sys.stdout.write(generate.cli_page())"],
        cwd=ROOT / "docs", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == page.stdout, "run `make docs`"


def test_every_command_is_documented() -> None:
    from tiebreak.cli.app import app, data, train

    pages = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for prefix, group in (("", app), ("data ", data), ("train ", train)):
        for command in group.registered_commands:
            assert f"\n## tiebreak {prefix}{command.name}\n" in pages


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
