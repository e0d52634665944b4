"""Making a retrieval judge of votes, and adding votes to one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from pydantic import JsonValue

from tiebreak import comparisons, predictions, row_hashes
from tiebreak.bundle import TrainingSource
from tiebreak.errors import DataError, UsageError
from tiebreak.judges.retrieval import RetrievalJudge
from tiebreak.judges.retrieval import votes as remembered
from tiebreak.judges.retrieval.encoder import Encoder
from tiebreak.judges.retrieval.index import library
from tiebreak.judges.retrieval.memory import Memory
from tiebreak.judges.retrieval.votes import Votes
from tiebreak.judges.runtime import Runtime
from tiebreak.scoring import interval, row_log_loss
from tiebreak.train.features import scores
from tiebreak.train.retrieval import card
from tiebreak.train.retrieval.choosing import Chosen, choose
from tiebreak.train.retrieval.recipe import Recipe

LEAST_ROWS: Final = 20


def _unwatched(count: int) -> None:
    """No one watches the progress."""


@dataclass(frozen=True)
class Watch:
    """What is told of the progress.

    Attributes:
        read: Called with the number of texts just encoded; there are three a row.
        chosen: Called with the number of rows just judged; each is judged three times.
    """

    read: Callable[[int], None] = _unwatched
    chosen: Callable[[int], None] = _unwatched


@dataclass(frozen=True)
class Trained:
    """What came of training.

    Attributes:
        judge: The judge, which remembers all votes.
        out_of_fold: Predictions for the votes that were held out, each by a judge that did not know it nor any of its
            group: what a blend may be fitted on.
    """

    judge: RetrievalJudge
    out_of_fold: pl.DataFrame


@dataclass(frozen=True)
class Added:
    """What came of adding votes.

    Attributes:
        judge: The judge, which remembers them too.
        added: How many were new.
        known: Rows left out because their texts are remembered already.
        rebuilt: Whether the index was built anew.
    """

    judge: RetrievalJudge
    added: int
    known: int
    rebuilt: bool


def check_votes(table: pl.DataFrame, least: int = LEAST_ROWS) -> pl.DataFrame:
    """The labelled rows of a weight above 0, with `source`, `weight` and `group` filled in.

    Args:
        table: Comparisons; `tiebreak.prepare.groups` finds the groups.
        least: How many there must be.

    Raises:
        DataError: There are too few.
    """
    table = comparisons.validate(table)
    known = ~np.isnan(comparisons.targets(table)).any(axis=1) & (table["weight"].fill_null(1.0) > 0).to_numpy()
    if known.sum() < least:
        raise DataError(
            f"{known.sum()} of {table.height} rows have a label and a weight above 0",
            expected=f"at least {least} votes" + ("; useful neighbours need some hundreds" if least > 1 else ""),
        )
    return table.filter(pl.Series(known)).with_columns(
        pl.col("source").fill_null("votes"),
        pl.col("weight").fill_null(1.0),
        pl.coalesce("group", pl.format("row {}", pl.int_range(pl.len()))).alias("group"),
    )


def train_retrieval(
    table: pl.DataFrame, recipe: Recipe | None = None, *, runtime: Runtime | None = None, watch: Watch | None = None
) -> Trained:
    """Make a judge that remembers votes.

    Args:
        table: Comparisons with labels. Rows of one `group` are never each other's neighbours while the kernel is
            chosen and measured.
        recipe: Choices.
        runtime: How the encoder runs.
        watch: Told of the progress.

    Raises:
        DataError: There are too few votes or groups.
        UsageError: The encoder is not here or cannot be computed exactly.
        MissingExtraError: torch or faiss is not installed.
    """
    recipe, watch = recipe or Recipe(), watch or Watch()
    library()
    rows = check_votes(table)
    encoder = Encoder(recipe.base, runtime=runtime)
    votes = Votes.of(rows, remembered.read(rows, encoder, watch.read))
    targets = comparisons.targets(rows)
    group = np.unique(rows["group"].to_numpy(), return_inverse=True)[1]
    chosen = choose(votes, targets, group, recipe, watch.chosen)
    memory = Memory.build(votes, chosen.kernel, kind=None if recipe.index == "auto" else recipe.index, seed=recipe.seed)
    metrics = _metrics(chosen, targets, rows["source"].to_numpy(), group, recipe.seed)
    document = {
        "folds": recipe.folds, "seed": recipe.seed, "held_out": len(chosen.rows),
        "by_fold": [kernel.model_dump(mode="json") for kernel in chosen.by_fold],
    }  # fmt: skip
    judge = RetrievalJudge.make(
        name=recipe.name, encoder=encoder, memory=memory, trained=row_hashes.trained_rows(rows),
        training=_sources(rows, recipe), metrics=metrics, recipe=document,
    )  # fmt: skip
    judge = judge.with_card(card.write(judge.manifest, recipe.command))
    held = rows[chosen.rows]
    return Trained(judge, predictions.build(held["id"], chosen.probabilities))


def add_votes(judge: RetrievalJudge, table: pl.DataFrame, *, watch: Watch | None = None, command: str = "") -> Added:
    """A judge that remembers more votes; encoder and kernel stay as they are.

    What comes of it is what training on all votes at once with this kernel would give: to the last bit for a flat
    index, with the recall that the bundle states for the others. Rows whose texts are remembered already (whichever way
    round) are left out, so that adding a file twice adds it once.

    Args:
        judge: Of `train_retrieval`; it is used up.
        table: Comparisons with labels.
        watch: Told of the progress.
        command: The command line, for the card.

    Raises:
        DataError: No row has a label.
        UsageError: The judge is calibrated: its calibration was fitted to what it said before.
    """
    if judge.manifest.calibration is not None:
        raise UsageError(
            "the judge is calibrated, and the calibration was fitted without the new votes",
            expected="a judge without calibration", mend="add to the judge it was made of, and calibrate again",
        )  # fmt: skip
    watch = watch or Watch()
    rows = check_votes(table, 1)
    old = judge.memory
    fresh = ~np.isin(remembered.rows_of(rows), old.votes.row)
    new = rows.filter(pl.Series(fresh))
    if not new.height:
        return Added(judge, 0, rows.height, False)
    index = old.index
    memory = old.added(Votes.of(new, remembered.read(new, judge.encoder, watch.read)))
    manifest, recipe = judge.manifest, Recipe()
    seen = [f"{int(row):016x}" for row in memory.votes.row]
    made = RetrievalJudge.make(
        name=manifest.name, encoder=judge.encoder, memory=memory, trained=row_hashes.trained_file(seen),
        training=[*manifest.training, *_sources(new, recipe)], metrics=manifest.metrics, recipe=judge.settings.recipe,
    )  # fmt: skip
    made = made.with_card(card.write(made.manifest, command))
    return Added(made, new.height, rows.height - new.height, memory.index is not index)


def _metrics(chosen: Chosen, targets: np.ndarray, source: np.ndarray, group: np.ndarray, seed: int) -> dict[str, Any]:
    """The figures of each source, with what was gained over the prior that the same folds give."""
    rows = chosen.rows
    figures: dict[str, Any] = scores.by_source(
        chosen.probabilities[None], targets[rows], source[rows], group[rows], seed=seed
    )
    change = row_log_loss(chosen.probabilities, targets[rows]) - row_log_loss(chosen.prior, targets[rows])
    for name, own in figures.items():
        here = source[rows] == name
        found = interval(change[here], group[rows][here], seed=seed)
        bounds: list[JsonValue] = [
            None if np.isnan(bound) else round(bound, 4) for bound in (found.value, found.low, found.high)
        ]
        own["against_prior"] = bounds
    return figures


def _sources(rows: pl.DataFrame, recipe: Recipe) -> list[TrainingSource]:
    return [
        TrainingSource(
            name=str(name), rows=part.height, fingerprint=comparisons.fingerprint(part),
            licence=recipe.licences.get(str(name)),
        )
        for (name,), part in rows.group_by("source", maintain_order=True)
    ]  # fmt: skip
