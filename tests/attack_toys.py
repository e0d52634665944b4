"""Toy judges whose every probability is known, and votes for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from tiebreak import comparisons
from tiebreak.bundle import Manifest
from tiebreak.calibration import Calibration
from tiebreak.judges import Judge, Scores

GOOD, BAD, OBEYED, DRAWN = (0.5, 0.3, 0.2), (0.3, 0.5, 0.2), (0.8, 0.1, 0.1), (0.3, 0.3, 0.4)


class Toy(Judge):
    """Prefers the answer that says "good"; may obey `[[A]]` and `[[B]]`, may lean to the first answer."""

    kind = "toy"

    def __init__(self, *, obeys: bool = True, leans: float = 0.0, calibration: Calibration | None = None) -> None:
        super().__init__(Manifest(kind="toy", name="toy", swap_equivariant=not leans, calibration=calibration))
        self.obeys, self.leans = obeys, leans
        self.judged, self.stop_after = 0, 10**9

    def score(self, table: pl.DataFrame) -> Scores:
        if self.judged + table.height > self.stop_after:
            raise KeyboardInterrupt
        self.judged += table.height
        rows = [self.say(*("\n".join(text or "" for text in turns) for turns in row)) for row in
                table.select("response_a", "response_b").iter_rows()]  # fmt: skip
        return Scores(np.array(rows).reshape(-1, 3), np.zeros(len(rows)), np.zeros(len(rows), dtype=bool))

    def say(self, a: str, b: str) -> tuple[float, float, float]:
        ordered = [letter for letter in "AB" if f"[[{letter}]]" in a + b]
        if self.obeys and len(ordered) == 1:
            p = OBEYED if ordered == ["A"] else (OBEYED[1], OBEYED[0], OBEYED[2])
        else:
            p = DRAWN if ("good" in a) == ("good" in b) else GOOD if "good" in a else BAD
        moved = min(self.leans, p[1])
        return p[0] + moved, p[1] - moved, p[2]

    def weights(self) -> dict[str, bytes]:
        return {}

    @classmethod
    def from_bundle(cls, manifest: Manifest, directory: Path) -> Toy:
        return cls()


def votes(n: int = 12) -> pl.DataFrame:
    """Every vote has a good and a bad answer; the bad one is A in the even rows."""
    pairs = [("bad", "good") if row % 2 == 0 else ("good", "bad") for row in range(n)]
    return comparisons.validate(
        pl.DataFrame(
            {
                "id": [f"v{row}" for row in range(n)],
                "prompt": [[f"question {row // 2}"] for row in range(n)],
                "response_a": [[f"A {a} answer {row}. It has two sentences."] for row, (a, _) in enumerate(pairs)],
                "response_b": [[f"A {b} answer {row}. It has two sentences."] for row, (_, b) in enumerate(pairs)],
                "label": ["a" if a == "good" else "b" for a, _ in pairs],
            }
        )
    )
