"""Judges made of judges for tests: two plain ones whose arithmetic is a row's own, and cascades of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from tiebreak import predictions
from tiebreak.bundle import Manifest
from tiebreak.judges import Judge, Scores
from tiebreak.judges.blend import BlendJudge
from tiebreak.judges.blend.mixing import Mix
from tiebreak.judges.cascade import CascadeJudge
from tiebreak.judges.cascade.judge import Stage
from tiebreak.judges.cascade.routing import Route
from tiebreak.judges.members import Member


class Plain(Judge):
    """Says something that depends on the lengths of a row alone; `sharp` is how sure it is. Exactly mirrored."""

    kind = "plain"

    def __init__(self, sharp: float, gap: float = 0.0, name: str = "plain") -> None:
        super().__init__(Manifest(kind="plain", name=name, swap_equivariant=True))
        self.sharp, self.gap = sharp, gap
        self.judged: list[int] = []

    def score(self, table: pl.DataFrame) -> Scores:
        self.judged.append(table.height)
        prompt, a, b = (
            table.select(pl.col(name).list.join("", ignore_nulls=True).str.len_chars()).to_series().to_numpy()
            for name in ("prompt", "response_a", "response_b")
        )
        lead = self.sharp * (a.astype(float) - b.astype(float)) / (3.0 + a + b)
        logits = np.stack([lead, -lead, np.sin(prompt + self.sharp * (a + b))], axis=1)
        rows = table.height
        return Scores(predictions.softmax(logits), np.full(rows, self.gap), np.zeros(rows, dtype=bool))

    def weights(self) -> dict[str, bytes]:
        return {}

    @classmethod
    def from_bundle(cls, manifest: Manifest, directory: Any) -> Plain:
        raise NotImplementedError


def member(name: str, cost: float | None = None) -> Member:
    return Member(name=name, kind="plain", network=False, swap_equivariant=True, place=f"members/{name}", cost=cost)


def cascade(*judges: Judge, prices: tuple[float, ...], weights: tuple[tuple[float, ...], ...]) -> CascadeJudge:
    """A cascade by entropy: a row goes on where the entropy of its answer is above the stage's price."""
    stages = [
        Stage(weights=weights[place], route=Route(by="entropy", bias=0.0, weights=(1.0,), price=price))
        for place, price in enumerate(prices)
    ]
    made = CascadeJudge(
        Manifest(
            kind="cascade", name="made", swap_equivariant=True,
            settings={
                "members": [member(one.manifest.name, 1.0).model_dump(mode="json") for one in judges],
                "stages": [one.model_dump(mode="json") for one in (*stages, Stage(weights=weights[-1], route=None))],
                "space": "logits",
            },
        ),
        directory=None,  # type: ignore[arg-type]
    )  # fmt: skip
    made.__dict__["members"] = list(judges)
    return made


def blend(*judges: Judge, mix: Mix) -> BlendJudge:
    made = BlendJudge(
        Manifest(
            kind="blend", name="made", swap_equivariant=True,
            settings={
                "members": [member(one.manifest.name).model_dump(mode="json") for one in judges],
                "mix": mix.model_dump(mode="json"), "rule": "fitted",
            },
        ),
        directory=None,  # type: ignore[arg-type]
    )  # fmt: skip
    made.__dict__["members"] = list(judges)
    return made


def table(rows: int, seed: int = 0) -> pl.DataFrame:
    """Comparisons with texts of random lengths; some answers are alike."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 30, size=(rows, 3))
    texts = {
        name: [["x" * int(n)] for n in lengths[:, column]]
        for column, name in enumerate(("prompt", "response_a", "response_b"))
    }
    ids = [str(i) for i in range(rows)]
    return pl.DataFrame({"id": ids, **texts}, schema_overrides=dict.fromkeys(texts, pl.List(pl.String)))
