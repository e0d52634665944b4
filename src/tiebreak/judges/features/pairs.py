"""From counts to features of the pair: signed ones, which change sign when A and B change places, and symmetric ones.

A signed feature is f(A) - f(B): floating point keeps its mirror exact, for x - y is -(y - x) to the bit. A symmetric
one is built from sums, absolute differences, the prompt and what both answers share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from tiebreak.errors import BundleError
from tiebreak.judges.features import properties
from tiebreak.judges.features.texts import Columns, Measured

_RATIOS: Final = {
    "distinct_share": ("distinct_words", "words"),
    "repeated_share": ("repeated_runs", "words"),
    "chars_per_word": ("chars", "words"),
    "words_per_sentence": ("words", "sentences"),
    "words_per_line": ("words", "lines"),
    "code_share": ("code_chars", "chars"),
    "capital_share": ("capitals", "chars"),
    "commas_per_word": ("commas", "words"),
    "first_person_share": ("first_person", "words"),
    "second_person_share": ("second_person", "words"),
    "bullet_share": ("bullets", "lines"),
    "foreign_share": ("foreign", "chars"),
}
_COUNTS: Final = ("chars", "words", "lines", "empty", "code_chars", "repeated_lines", *properties.ANSWER)
_LAST: Final = ("chars", "lines", "refusals", "bullets", "numbered", "fences", "finished_end", "question_at_end")
_TO_PROMPT: Final = ("language_mismatch", "prompt_covered", "from_prompt", "prompt_echoed")
_SUMS: Final = ("chars", "words", "lines", "refusals", "apologies", "bullets", "numbered", "fences", "bold", "numbers")
_ASKED: Final = (*(f"last_{name}" for name in ("chars", *properties.ASKED)), "chars", "words", *properties.ASKED)

SIGNED: Final = (*_COUNTS, *(f"last_{name}" for name in _LAST), *_RATIOS, *_TO_PROMPT)
"""Names of the signed features."""

SYMMETRIC: Final = (
    *(f"prompt_{name}" for name in (*_ASKED, "foreign_share")),
    *(f"sum_{name}" for name in _SUMS),
    *(f"gap_{name}" for name in SIGNED),
    *("turns", "same", "same_start", "words_in_common", "pairs_in_common"),
)
"""Names of the symmetric features."""


@dataclass(frozen=True)
class Chosen:
    """Which features a judge looks at, in the order of its weights."""

    signed: tuple[str, ...] = SIGNED
    symmetric: tuple[str, ...] = SYMMETRIC

    def __post_init__(self) -> None:
        unknown = sorted({*self.signed} - {*SIGNED} | {*self.symmetric} - {*SYMMETRIC})
        if unknown:
            raise BundleError(
                f"unknown features {', '.join(unknown[:5])}",
                expected="a bundle made by this version of tiebreak",
                mend="tiebreak train features --data VOTES -o BUNDLE",
            )


ALL: Final = Chosen()


@dataclass(frozen=True)
class Features:
    """The two kinds of features of a table, float64, a row a comparison."""

    signed: np.ndarray
    symmetric: np.ndarray

    def picked(self, rows: np.ndarray) -> Features:
        """Some rows, in the order asked for."""
        return Features(self.signed[rows], self.symmetric[rows])


def features(measured: Measured, chosen: Chosen = ALL) -> Features:
    """Set the two answers of every comparison against each other."""
    a = _answer(measured.a, measured.prompt, measured.shared, "a")
    b = _answer(measured.b, measured.prompt, measured.shared, "b")
    signed = {name: a[name] - b[name] for name in a}
    symmetric = {
        **{f"prompt_{name}": column for name, column in _prompt(measured.prompt).items()},
        **{f"sum_{name}": a[name] + b[name] for name in _SUMS},
        **{f"gap_{name}": np.abs(column) for name, column in signed.items()},
        **_shared(measured),
    }
    return Features(_matrix(signed, chosen.signed), _matrix(symmetric, chosen.symmetric))


def _matrix(columns: Columns, names: tuple[str, ...]) -> np.ndarray:
    return np.stack([columns[name] for name in names], axis=1)


def _answer(counts: Columns, prompt: Columns, shared: Columns, side: str) -> Columns:
    counts = counts | {"foreign": counts["bytes"] - counts["chars"]}
    result = {name: np.log1p(counts[name]) for name in _COUNTS}
    result |= {f"last_{name}": np.log1p(counts[f"last_{name}"]) for name in _LAST}
    result |= {name: counts[above] / (counts[below] + 1) for name, (above, below) in _RATIOS.items()}
    result["language_mismatch"] = np.abs(result["foreign_share"] - _foreign(prompt))
    result["prompt_covered"] = shared[f"p_{side}_words"] / (prompt["distinct_words"] + 1)
    result["from_prompt"] = shared[f"p_{side}_words"] / (counts["distinct_words"] + 1)
    result["prompt_echoed"] = shared[f"p_{side}_pairs"] / (shared[f"{side}_pairs"] + 1)
    return result


def _foreign(counts: Columns) -> np.ndarray:
    share: np.ndarray = (counts["bytes"] - counts["chars"]) / (counts["chars"] + 1)
    return share


def _prompt(counts: Columns) -> Columns:
    return {name: np.log1p(counts[name]) for name in _ASKED} | {"foreign_share": _foreign(counts)}


def _shared(measured: Measured) -> Columns:
    shared, a, b = measured.shared, measured.a, measured.b
    words, pairs = shared["a_b_words"], shared["a_b_pairs"]
    return {
        "turns": np.log(shared["turns"]),
        "same": shared["same"],
        "same_start": shared["same_start"],
        "words_in_common": words / ((a["distinct_words"] + b["distinct_words"]) - words + 1),
        "pairs_in_common": pairs / ((shared["a_pairs"] + shared["b_pairs"]) - pairs + 1),
    }
