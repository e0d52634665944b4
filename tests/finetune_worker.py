"""A training in a process of its own, for tests that kill it or start several: FOLDER RECIPE, output FOLDER/judge."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import finetune_rows
from tiebreak.errors import TiebreakError
from tiebreak.train.finetune.recipe import Recipe
from tiebreak.train.finetune.run import finetune


def main(folder: Path, recipe: Path) -> int:
    torch.set_num_threads(1)
    try:
        finetune(
            Recipe.model_validate_json(recipe.read_text(encoding="utf-8")), finetune_rows.votes(40), None,
            folder / "judge", report=lambda event: print(event, flush=True),  # noqa: T201
        )  # fmt: skip
    except TiebreakError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
