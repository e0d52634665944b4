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
LATIN: Final = "other Latin script"
EXCERPT: Final = 1500
"""Characters of each text that are looked at."""


def language(texts: pl.Series) -> pl.Series:
    """Name of the language or script that most letters of each text belong to; null without any letter."""
    text = pl.col("text")
    looked = pl.DataFrame({"text": texts.str.slice(0, EXCERPT)})
    # Text in ASCII, the most frequent by far, needs no count of each script.
    plain = looked["text"].str.contains(r"^[\x00-\x7f]*$")
    counted = looked.select(
        text,
        pl.when(plain).then(text.str.contains("[A-Za-z]").cast(pl.Int64)).otherwise(0).alias("ascii"),
        *(
            pl.when(plain).then(None).otherwise(text).str.count_matches(pattern).fill_null(0).cast(pl.Int64).alias(name)
            for name, pattern in SCRIPTS.items()
        ),
        english=_words(text, ENGLISH) >= _words(text, OTHER),
    ).with_columns((pl.col(LATIN) + pl.col("ascii")).alias(LATIN))
    return counted.with_columns(most=pl.max_horizontal(*SCRIPTS)).select(_choice())["language"]


def _choice() -> pl.Expr:
    most, kana, han = pl.col("most"), pl.col("Japanese"), pl.col("Chinese")
    # Japanese mixes its kana with Han characters: a fifth of kana decides.
    japanese = (kana > 0) & (kana * 4 >= han) & (kana + han >= most)
    chosen = pl.when(most == 0).then(None).when(japanese).then(pl.lit("Japanese"))
    chosen = chosen.when((pl.col(LATIN) == most) & pl.col("english")).then(pl.lit("English"))
    for name in SCRIPTS:
        chosen = chosen.when(pl.col(name) == most).then(pl.lit(name))
    return chosen.otherwise(None).alias("language")


def _words(text: pl.Expr, words: str) -> pl.Expr:
    return text.str.to_lowercase().str.count_matches(rf"\b(?:{'|'.join(words.split())})\b")
