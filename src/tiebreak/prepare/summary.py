"""What is in a table of votes, in figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from tiebreak import comparisons
from tiebreak.comparisons import LABELS
from tiebreak.prepare import texts

QUANTILES: Final = {"min": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "max": 1.0}

SCRIPTS: Final = {
    "Latin": r"\p{Latin}", "Cyrillic": r"\p{Cyrillic}", "Greek": r"\p{Greek}", "Arabic": r"\p{Arabic}",
    "Hebrew": r"\p{Hebrew}", "Devanagari": r"\p{Devanagari}", "Bengali": r"\p{Bengali}", "Tamil": r"\p{Tamil}",
    "Thai": r"\p{Thai}", "Korean": r"\p{Hangul}", "Japanese": r"[\p{Hiragana}\p{Katakana}]", "Chinese": r"\p{Han}",
}  # fmt: skip
"""Script by name, as a pattern for one letter. Han letters count as Japanese where there is kana as well."""

_SHOWN: Final = 20


@dataclass(frozen=True)
class Stats:
    """Figures of a table.

    Attributes:
        rows: How many comparisons.
        labels: For a, b, tie and none how many rows.
        soft: Rows with a soft label.
        prior_log_loss: Log-loss of always answering with the shares of the labels; null without labels.
        turns: For each number of turns how many rows.
        lengths: Quantiles of characters and words, for prompts, for answers, and for the difference A - B.
        scripts: For each script how many rows have most of the prompt's letters in it.
        models: For each model, most frequent first: rows it stands in, and the share it won of those with a label.
        duplicates: Rows that are there already, different prompts, different answer pairs, after normalising.
        answers: Rows with identical answers, with one empty, with both empty; rows with an empty prompt.
        longer_wins: Share of votes for the longer answer among votes for one side, and how many such votes.
        first_wins: Share of votes for A among votes for one side, and how many such votes.
        nulls: For each column that is not full how many rows are null.
        groups: Number of groups, rows in the largest, and groups that stand in more than one fold.
        folds: For each fold how many rows.
        sources: For each source how many rows.
    """

    rows: int
    labels: dict[str, int]
    soft: int
    prior_log_loss: float | None
    turns: dict[int, int]
    lengths: dict[str, dict[str, float]]
    scripts: dict[str, int]
    models: dict[str, tuple[int, float | None]]
    duplicates: dict[str, int]
    answers: dict[str, int]
    longer_wins: tuple[float | None, int]
    first_wins: tuple[float | None, int]
    nulls: dict[str, int]
    groups: dict[str, int]
    folds: dict[int, int]
    sources: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            **vars(self),
            "models": {name: {"rows": rows, "won": won} for name, (rows, won) in self.models.items()},
            "longer_wins": dict(zip(("share", "votes"), self.longer_wins, strict=True)),
            "first_wins": dict(zip(("share", "votes"), self.first_wins, strict=True)),
        }


def stats(frame: pl.DataFrame) -> Stats:
    """The figures of a table of comparisons."""
    table = comparisons.validate(frame)
    wording = texts.normalised(table)
    keys = texts.keys(wording)
    counts = {name: int((table["label"] == name).sum()) for name in LABELS}
    size = {side: table[f"response_{side}"].list.join("", ignore_nulls=True).str.len_chars() for side in "ab"}
    votes = table["label"]
    longer = pl.select(
        pl.when(size["a"] > size["b"]).then(pl.lit("a")).when(size["a"] < size["b"]).then(pl.lit("b"))
    ).to_series()
    return Stats(
        rows=table.height,
        labels={**counts, "none": votes.null_count()},
        soft=table.height - table["p_a"].null_count(),
        prior_log_loss=_entropy(list(counts.values())),
        turns=_frequency(table["prompt"].list.len(), by_value=True),
        lengths=_lengths(table),
        scripts=_scripts(wording["prompt"]),
        models=_models(table),
        duplicates={
            "rows": table.height - keys["row"].n_unique(),
            "prompts": keys["prompt"].drop_nulls().n_unique(),
            "pairs": keys["pair"].drop_nulls().n_unique(),
        },
        answers=_answers(wording),
        longer_wins=_share(votes, longer),
        first_wins=_share(votes, pl.repeat("a", table.height, eager=True)),
        nulls={name: table[name].null_count() for name in table.columns if table[name].null_count()},
        groups=_groups(table),
        folds=_frequency(table["fold"], by_value=True),
        sources=dict(list(_frequency(table["source"]).items())[:_SHOWN]),
    )


def _entropy(counts: list[int]) -> float | None:
    shares = np.array([count for count in counts if count]) / max(sum(counts), 1)
    return float(-(shares * np.log(shares)).sum()) if len(shares) else None


def _frequency(values: pl.Series, *, by_value: bool = False) -> dict[Any, int]:
    """How often each value occurs, the most frequent first or in the order of the values; nulls are left out."""
    counted = values.drop_nulls().alias("value").value_counts()
    order = ["value"] if by_value else ["count", "value"]
    return dict(counted.sort(order, descending=[name == "count" for name in order]).iter_rows())


def _lengths(table: pl.DataFrame) -> dict[str, dict[str, float]]:
    joined = {name: table[name].list.join("\n", ignore_nulls=True) for name in comparisons.TEXTS}
    measured = {
        "characters": {name: text.str.len_chars().cast(pl.Int64) for name, text in joined.items()},
        "words": {name: text.str.count_matches(r"\S+").cast(pl.Int64) for name, text in joined.items()},
    }
    lengths = {}
    for unit, size in measured.items():
        a, b = size["response_a"], size["response_b"]
        kinds = {"prompt": size["prompt"], "answer": pl.concat([a, b]), "A - B": a - b}
        for name, values in kinds.items():
            lengths[f"{name}, {unit}"] = _quantiles(values.to_numpy())
    return lengths


def _quantiles(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    quantiles = np.quantile(values, list(QUANTILES.values()), method="nearest")
    return {**dict(zip(QUANTILES, quantiles.tolist(), strict=True)), "mean": float(values.mean())}


def _scripts(prompts: pl.Series) -> dict[str, int]:
    letters = pl.DataFrame({name: prompts.str.count_matches(pattern) for name, pattern in SCRIPTS.items()})
    # A Japanese text has Han letters too, a Chinese one has no kana.
    japanese = pl.when(pl.col("Japanese") > 0).then(pl.col("Japanese") + pl.col("Chinese")).otherwise(0)
    counts = letters.with_columns(japanese.alias("Japanese")).to_numpy()
    names = np.array([*SCRIPTS, "no letters"])
    most = np.where(counts.sum(axis=1) == 0, len(SCRIPTS), counts.argmax(axis=1)) if len(counts) else np.empty(0, int)
    return _frequency(pl.Series(names[most], dtype=pl.String))


def _models(table: pl.DataFrame) -> dict[str, tuple[int, float | None]]:
    sides = [
        table.select(
            pl.col(f"model_{side}").alias("model"), (pl.col("label") == side).alias("won")
        )
        for side in "ab"
    ]  # fmt: skip
    counted = (
        pl.concat(sides).drop_nulls("model").group_by("model").agg(pl.len().alias("rows"), pl.col("won").mean())
        .sort(["rows", "model"], descending=[True, False]).head(_SHOWN)
    )  # fmt: skip
    return {model: (rows, won) for model, rows, won in counted.iter_rows()}


def _answers(wording: pl.DataFrame) -> dict[str, int]:
    a, b = wording["a"], wording["b"]
    return {
        "identical": int(((a == b) & (a != "")).sum()),
        "one empty": int(((a == "") ^ (b == "")).sum()),
        "both empty": int(((a == "") & (b == "")).sum()),
        "no prompt": int((wording["prompt"] == "").sum()),
    }


def _share(votes: pl.Series, side: pl.Series) -> tuple[float | None, int]:
    told = (votes.is_in(["a", "b"]) & side.is_not_null()).fill_null(value=False)
    agreed = (votes.filter(told).cast(pl.String) == side.filter(told)).to_numpy()
    return (float(agreed.mean()) if len(agreed) else None, len(agreed))


def _groups(table: pl.DataFrame) -> dict[str, int]:
    filled = table.drop_nulls("group").group_by("group").agg(pl.len(), pl.col("fold").drop_nulls().n_unique())
    return {
        "groups": filled.height,
        "largest": max(filled["len"], default=0),
        "in several folds": int((filled["fold"] > 1).sum()),
    }
