"""Where is the judge good and where not? The same figures on parts of the votes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from tiebreak.comparisons import TEXTS
from tiebreak.evaluation import languages
from tiebreak.evaluation.sample import Sample
from tiebreak.scoring import metrics
from tiebreak.scoring.bootstrap import Estimate, ratio

SMALL_ROWS: Final = 100
SMALL_GROUPS: Final = 30
MAX_NAMES: Final = 10
"""So many sources and model pairs are shown, the most frequent ones."""

CODE_EXCERPT: Final = 20_000
_CODE: Final = (
    r"```|(?m)^\s*(?:def \w+\(|class \w+[:({]|import \w+|from \w+ import |#include|public |const \w+ =|let \w+ ="
    r"|SELECT .+ FROM |<\w+[^>]*>.*</\w+>)|;\s*$"
)
_NEED_TEXT: Final = ("length of both answers", "length ratio of the answers", "turns", "language", "code", "answers")


@dataclass(frozen=True)
class Slice:
    """One part of the votes.

    Attributes:
        dimension: What the votes were divided by.
        name: Which part.
        rows: Votes in it.
        groups: Groups in it.
        log_loss: With its interval.
        accuracy: With its interval.
        calibration_gap: Mean confidence in the verdict minus accuracy; above 0 is overconfident.
        prior_log_loss: Log-loss of the part's own class shares: what a constant that knew them would get.
        difference: Log-loss minus that of the other judge, where two are compared.
    """

    dimension: str
    name: str
    rows: int
    groups: int
    log_loss: Estimate
    accuracy: Estimate
    calibration_gap: Estimate
    prior_log_loss: float
    difference: Estimate | None

    @property
    def small(self) -> bool:
        """Whether there is too little to conclude anything from it."""
        return self.rows < SMALL_ROWS or self.groups < SMALL_GROUPS


@dataclass(frozen=True)
class Dimension:
    """A division of the rows: a code into `names` for each row, -1 for a row that belongs nowhere."""

    title: str
    codes: np.ndarray
    names: list[str]


def measure(
    sample: Sample, other: np.ndarray | None = None, truncated: np.ndarray | None = None
) -> tuple[list[Slice], dict[str, str]]:
    """All slices that the votes allow.

    Args:
        sample: The votes and the judge's probabilities.
        other: Probabilities of another judge for the same votes, or None.
        truncated: Whether the judge had to cut text, a row a scored vote; None if it says nothing of it.

    Returns:
        The slices, and the dimensions left out with the reason.
    """
    divisions, left_out = dimensions(sample)
    if truncated is not None and truncated.any() and not truncated.all():
        divisions.append(Dimension("what the judge saw", truncated.astype(np.int64), ["the whole text", "cut text"]))
    return [part for division in divisions for part in _measure(sample, division, other)], left_out


def _measure(sample: Sample, division: Dimension, other: np.ndarray | None) -> list[Slice]:
    p, t, w = sample.probabilities, sample.targets, sample.weights
    loss, hits = metrics.row_log_loss(p, t), metrics.row_hits(p, t)
    against = loss if other is None else metrics.row_log_loss(other, t)
    stack = np.stack([np.ones(len(t)), loss, hits, metrics.confidence(p) - hits, loss - against], axis=1)
    sums = sample.bootstrap.sum(stack * w[:, None], by=division.codes, size=len(division.names))
    found = []
    for k, name in enumerate(division.names):
        rows = division.codes == k
        if not rows.any():
            continue
        groups = len(np.unique(sample.groups[rows]))
        # A single group gives the same mean in every resample: no interval, rather than a false one of width 0.
        used = sums[:, k] if groups > 1 else sums[:1, k]
        mean = [Estimate.of(ratio(used[:, column], used[:, 0])) for column in range(1, 5)]
        part = Slice(
            dimension=division.title,
            name=name,
            rows=int(rows.sum()),
            groups=groups,
            log_loss=mean[0],
            accuracy=mean[1],
            calibration_gap=mean[2],
            prior_log_loss=_entropy(np.average(t[rows], axis=0, weights=w[rows])),
            difference=None if other is None else mean[3],
        )
        found.append(part)
    return found


def _entropy(shares: np.ndarray) -> float:
    return abs(float((shares * np.log(np.clip(shares, metrics.FLOOR, None))).sum()))


def dimensions(sample: Sample) -> tuple[list[Dimension], dict[str, str]]:
    """Every division that the votes allow, and those left out with the reason."""
    votes, found, left_out = sample.votes, [], {}
    if sample.has_answers:
        total, ratios = sample.lengths[:, 1:].sum(axis=1), np.exp(np.abs(sample.log_ratio))
        found.append(_quartiles("length of both answers", total, "characters"))
        found.append(_quartiles("length ratio of the answers", ratios, "times as long"))
        found.append(_turns(votes))
        found += _contents(votes)
    else:
        left_out = dict.fromkeys(_NEED_TEXT, "the votes carry no answer texts")
    for title, column, name in (
        ("source", "source", pl.col("source")),
        ("pair of models", "model_a", _model_pair()),
    ):
        if votes[column].null_count() == votes.height:
            left_out[title] = f"no {column.removesuffix('_a')} is named"
        else:
            found.append(_most_frequent(title, votes.select(name.alias("name"))["name"]))
    for division in found:
        if len(np.unique(division.codes)) == 1:
            only = int(division.codes[0])
            left_out[division.title] = f"all votes are alike: {division.names[only]}" if only >= 0 else "not known"
    return [division for division in found if division.title not in left_out], left_out


def _quartiles(title: str, values: np.ndarray, unit: str) -> Dimension:
    codes = metrics.equal_mass_bins(values, 4)
    names = []
    for k in range(4):
        part = values[codes == k]
        # An empty quartile (most rows share one value) gets a name that is never shown.
        low, high = (_number(part.min()), _number(part.max())) if len(part) else ("", "")
        names.append(f"{low} {unit}" if low == high else f"{low} to {high} {unit}")
    return Dimension(title, codes, names)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2f}"


def _turns(votes: pl.DataFrame) -> Dimension:
    turns = votes["prompt"].list.len().to_numpy().astype(np.int64)
    return Dimension("turns", np.minimum(turns, 3) - 1, ["1 turn", "2 turns", "3 turns or more"])


def _contents(votes: pl.DataFrame) -> list[Dimension]:
    texts = votes.select(pl.col(name).list.join("\n", ignore_nulls=True).fill_null("") for name in TEXTS)
    # Short prompts say little about the language they are in; the answers follow the prompt.
    start = pl.concat_str(
        pl.col("prompt").str.slice(0, 700), pl.col("response_a", "response_b").str.slice(0, 400), separator="\n"
    )
    code = pl.any_horizontal(pl.col(TEXTS).str.slice(0, CODE_EXCERPT).str.contains(_CODE))
    empty = pl.any_horizontal(pl.col("response_a", "response_b").str.strip_chars() == "")
    answers = pl.when(votes["response_a"] == votes["response_b"]).then(pl.lit("identical answers"))
    looked = texts.select(
        start.alias("start"),
        pl.when(code).then(pl.lit("with code")).otherwise(pl.lit("without code")).alias("code"),
        answers.when(empty).then(pl.lit("an empty answer")).otherwise(pl.lit("two different answers")).alias("answers"),
    )
    return [
        _most_frequent("language", languages.language(looked["start"])),
        _most_frequent("code", looked["code"]),
        _most_frequent("answers", looked["answers"]),
    ]


def _model_pair() -> pl.Expr:
    """Both names in alphabetical order, so that a pair is the same whichever side each model was on."""
    both = pl.concat_list("model_a", "model_b").list.sort()
    named = pl.col("model_a").is_not_null() & pl.col("model_b").is_not_null()
    return pl.when(named).then(both.list.join(" / ")).otherwise(None)


def _most_frequent(title: str, names: pl.Series) -> Dimension:
    names = names.set(names.str.strip_chars() == "", None)
    counts = names.drop_nulls().value_counts(sort=False, name="rows").rename({names.name: "name"})
    top = counts.sort(["rows", "name"], descending=[True, False])["name"].head(MAX_NAMES).to_list()
    place = {name: k for k, name in enumerate(top)}
    codes = np.array([place.get(name, -1) for name in names], dtype=np.int64)
    return Dimension(title, codes, top)
