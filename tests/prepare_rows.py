"""Tables written by hand or drawn at random, for the tests of prepare."""

from __future__ import annotations

import polars as pl
from hypothesis import strategies as st

from tiebreak import comparisons


def table(*rows: tuple[object, object, object], **columns: list[object]) -> pl.DataFrame:
    turns = [[[t] if not isinstance(t, list) else t for t in row] for row in rows]
    names = ("prompt", "response_a", "response_b")
    frame = pl.DataFrame(
        {"id": [str(i) for i in range(len(rows))], **{n: [r[i] for r in turns] for i, n in enumerate(names)}},
        schema={"id": pl.String, **dict.fromkeys(names, comparisons.TURNS)},
    )
    return comparisons.validate(frame.with_columns(pl.Series(name, values) for name, values in columns.items()))


words = st.sampled_from(
    ["Hi", "hi ", "HELLO", "ｈｉ", "", " ", "what is it", "What  is\nit", "no", "straße", "STRASSE"]
)
turn = st.one_of(st.none(), words)


@st.composite
def tables(draw: st.DrawFn, least: int = 1) -> pl.DataFrame:
    rows = []
    for _ in range(draw(st.integers(least, 14))):
        turns = draw(st.integers(1, 2))
        rows.append(tuple(draw(st.lists(turn, min_size=turns, max_size=turns)) for _ in range(3)))
    labels = draw(st.lists(st.sampled_from(["a", "b", "tie", None]), min_size=len(rows), max_size=len(rows)))
    return table(*rows, label=labels)
