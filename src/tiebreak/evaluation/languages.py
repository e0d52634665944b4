"""Which script a text is in, and whether Latin text is English: cheap counts, enough to slice by, not a detector."""

from __future__ import annotations

from typing import Final

import polars as pl

SCRIPTS: Final = {
    "Japanese": r"[\p{Hiragana}\p{Katakana}]",
    "Chinese": r"\p{Han}",
    "Korean": r"\p{Hangul}",
    "Cyrillic": r"\p{Cyrillic}",
    "Arabic": r"\p{Arabic}",
    "Hebrew": r"\p{Hebrew}",
    "Greek": r"\p{Greek}",
    "Indic": r"[\p{Devanagari}\p{Bengali}\p{Tamil}\p{Telugu}\p{Gujarati}\p{Kannada}\p{Malayalam}]",
    "Thai": r"\p{Thai}",
    "other Latin script": r"\p{Latin}",
}
# Frequent words of one side that the other does not have; one-letter words and shared ones ("in", "an") help nobody.
ENGLISH: Final = "the and of to is are what how that with you for it this which who was do does can write my your why"
OTHER: Final = (
    "que los las una por para con como del est les des une dans pour qui avec sur der die das und ist nicht ein eine "
    "mit von che per sono della il lo di um uma não como mais het een van niet jest nie się och att som på je na"
)
EXCERPT: Final = 1500
"""Characters of each text that are looked at."""


def language(text: pl.Expr) -> pl.Expr:
    """Name of the language or script of most letters of a text, null without any letter."""
    text = text.str.slice(0, EXCERPT)
    counts = [text.str.count_matches(pattern).cast(pl.Int64) for pattern in SCRIPTS.values()]
    most = pl.max_horizontal(counts)
    # Japanese mixes its kana with Han characters: a fifth of kana decides.
    japanese = (counts[0] > 0) & (counts[0] * 4 >= counts[1]) & (counts[0] + counts[1] >= most)
    english = _words(text, ENGLISH) >= _words(text, OTHER)
    chosen = pl.when(most == 0).then(None).when(japanese).then(pl.lit("Japanese"))
    for name, count in zip(SCRIPTS, counts, strict=True):
        if name == "other Latin script":
            chosen = chosen.when((count == most) & english).then(pl.lit("English"))
        chosen = chosen.when(count == most).then(pl.lit(name))
    return chosen.otherwise(None)


def _words(text: pl.Expr, words: str) -> pl.Expr:
    return text.str.to_lowercase().str.count_matches(rf"\b(?:{'|'.join(words.split())})\b")
