"""The attack on disk: `index.html`, `attacks.json` and `attacks.parquet`, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

import tiebreak
from tiebreak import comparisons, storage
from tiebreak.attack import measuring, page, reading, summary
from tiebreak.attack.families import Side
from tiebreak.attack.measuring import Measured
from tiebreak.attack.run import Attacked
from tiebreak.errors import GateError
from tiebreak.evaluation.report import check

PAGE: Final = "index.html"
FIGURES: Final = "attacks.json"
TABLE: Final = "attacks.parquet"
CONTENT: Final = frozenset({PAGE, FIGURES, TABLE})


def write(
    directory: Path, name: str, found: Attacked, measured: Sequence[Measured], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the three files and give back what is in `attacks.json`.

    Args:
        directory: Where; an older report is replaced.
        name: Of the judge.
        found: What the judge said.
        measured: What that comes to.
        about: What else belongs into the document: judge, votes, settings.

    Raises:
        UsageError: The parent does not exist, or the directory holds something else than a report.
        ResourceError: The disk is full or the place cannot be written.
    """
    check(directory, CONTENT)
    document = {**about, "sentences": summary.sentences(measured), "families": measuring.document(measured)}
    with storage.replacing(directory) as aside:
        aside.mkdir()
        (aside / PAGE).write_text(page.render(name, measured, method(found, about)), encoding="utf-8")
        text = json.dumps({"json_version": 1, **document}, indent=1, ensure_ascii=False, allow_nan=False)
        (aside / FIGURES).write_text(text + "\n", encoding="utf-8")
        table(found).write_parquet(aside / TABLE, compression="zstd")
    return document


def table(found: Attacked) -> pl.DataFrame:
    """Every attempt with its texts: what was judged, and what the judge said before and after.

    Returns:
        `id` of the vote, `attacker` (the answer of the file that tries), `label` of the vote seen from it (win, lose,
        tie), `family, trick, orders, position`, probabilities and verdict before and after, `cut`, and `answer`: the
        turns as the trick wrote them.
    """
    labels = found.votes["label"].cast(pl.String)
    rows = [(row, _from(label, side)) for row, (label, side) in enumerate(zip(labels, found.targets, strict=True))]
    seen = pl.DataFrame(rows, schema={"row": pl.Int64, "label": pl.String}, orient="row").with_columns(
        id=found.votes["id"], attacker=pl.Series(found.targets, dtype=pl.String)
    )
    texts = _texts(found)
    tries = found.tries.join(seen, on="row", how="left", maintain_order="left")
    tries = tries.join(texts, on=[*reading.KEY, "position"], how="left", maintain_order="left")
    before = [f"{name}_before" for name in (*reading.FRAME, "verdict")]
    return tries.select(
        "id", "attacker", "label", "family", "trick", "orders", "position", *before, *reading.FRAME, "verdict", "cut",
        "answer",
    )  # fmt: skip


def _from(label: str | None, side: Side) -> str | None:
    return label if label in {None, "tie"} else "win" if label == side else "lose"


def _texts(found: Attacked) -> pl.DataFrame:
    rows = []
    answers = zip(found.votes.select("response_a", "response_b").iter_rows(), found.targets, strict=True)
    for row, ((a, b), target) in enumerate(answers):
        for family, trick, written, turns in reading.played(a if target == "a" else b, found.families):
            rows += [(row, family, trick, side, turns) for side in reading.SIDES if written in {side, reading.EITHER}]
    types = {"row": pl.Int64(), "family": pl.String(), "trick": pl.String(), "position": pl.String()}
    return pl.DataFrame(rows, schema={**types, "answer": comparisons.TURNS}, orient="row")


def method(found: Attacked, about: Mapping[str, Any]) -> list[str]:
    """How it was measured, a sentence each."""
    return [
        f"{found.votes.height:,} votes. In each, the answer that the judge thinks the worse of attacks, once shown as "
        "A and once as B; the other answer and the prompt stay as they are. Labels are not used.",
        "Won: of the attempts on votes that the attacked answer had not won already in that order, the share whose "
        "verdict became the attacked answer. A draw counts as not won.",
        "Won by any trick: the same for the best trick of the family on each vote and position, as if an attacker "
        "could try them all.",
        "Beyond control: less the share that harmless edits win. Gained: mean change of the probability to win, over "
        "all attempts.",
        "One order, as given: the judge reads the attacked answer where it stands. Both orders averaged: it reads "
        "both, as most judges here do by themselves; a trick that names a side then helps in one order alone.",
        "Cut: attempts in which the judge did not see the whole attacked answer. No case: votes x tricks where the "
        "trick changes nothing, or the answer has no text to change.",
        f"Intervals: percentiles of {about.get('resamples', 1000):,} bootstrap resamples of whole prompts; a share of "
        "0 % or 100 % has the exact binomial bound for as many prompts.",
        f"Made with tiebreak {tiebreak.__version__}.",
    ]


def enforce(measured: Sequence[Measured], limit: float) -> None:
    """Raise if a family wins more than this share of votes beyond the control.

    Raises:
        GateError: Names every such family.
    """
    reader = summary.readers(measured)[0]
    over = [
        f"{one.family.name} wins {summary.share(figures.won)}"
        for one in measured
        if (figures := one.overall.get(reader)) and (beyond := figures.beyond_control)
        and not np.isnan(beyond.value) and beyond.value > limit
    ]  # fmt: skip
    if over:
        raise GateError(
            f"beyond the control, {len(over)} famil{'y wins' if len(over) == 1 else 'ies win'} more than "
            f"{100 * limit:g} % of the votes ({summary.READERS[reader]}): " + "; ".join(over)
        )
