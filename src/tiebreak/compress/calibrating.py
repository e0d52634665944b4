"""Rows of the training data as the token ids that the judge reads: what GPTQ and AWQ see of the task."""

from __future__ import annotations

import numpy as np
import polars as pl

from tiebreak import comparisons, row_hashes
from tiebreak.judges.finetuned import FinetunedJudge
from tiebreak.judges.generative import GenerativeJudge
from tiebreak.render import Sequences


def choose(table: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    """So many rows, drawn without replacement; every second one with its answers exchanged, as judges read both."""
    rng = np.random.default_rng(seed)
    chosen = table[np.sort(rng.permutation(table.height)[:count])]
    swapped = np.arange(chosen.height) % 2 == 1
    return pl.concat([chosen.filter(~swapped), comparisons.swap(chosen).filter(swapped)])


def render(judge: FinetunedJudge, rows: pl.DataFrame) -> Sequences:
    """The token ids of each row under the judge's own template: a comparison, or its first answer."""
    if isinstance(judge, GenerativeJudge):
        return judge.asked(judge.renderer.render(rows).sequences)
    if not judge.settings.one_answer:
        return judge.renderer.render(rows).sequences
    return judge.renderer.render_answers(rows["prompt"].to_list(), rows["response_a"].to_list()).sequences


def overlap(one: pl.DataFrame, other: pl.DataFrame) -> int:
    """How many rows of `one` are also in `other`, in whichever order of the answers."""
    return int(row_hashes.unordered(one).is_in(row_hashes.unordered(other).to_list()).sum())
