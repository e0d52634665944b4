"""Which tokens of each text a row over its budget keeps.

A row is a list of rounds, a round the lengths of its texts: (prompt, A, B), or (prompt, answer) for one answer. Marks
of a round are paid from the same budget, and a round that is left out takes its marks with it. Every policy keeps
within the budget; none looks at another row; what a prompt keeps never depends on which answer is called A.

- `right`: read in order, until the budget is used up; what comes later is not read. The last round that is read is cut
  at its end. In the layout `conversations` the two answers of that round share what is left alike.
- `left`: the same from the end: the last rounds are read, and cut at their beginning.
- `middle`: one length for all texts of the row: what is longer gives up its middle.
- `fair`: the prompt gives way to a share of the budget (no more than need be), then the longer answer to the length of
  the other, then both (LMSYS 1st place). Within prompt and answers the longest turn gives way first. Cut at the end.
- `rounds`: whole rounds; the last is cut, 20 % prompt, 40 % A, 40 % B, or left out where under 80 tokens remain
  (LMSYS 4th place). A text that needs less than its share leaves the rest to the others.
- `proportional`: every text keeps the same share of its length, but at least 100 tokens; both of its ends stay, the cut
  is between them (WSDM 1st and 2nd place).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tiebreak.render.templates import Limits

Lengths = Sequence[int]
Kept = list[list[int] | None]
"""For each round the tokens kept of its texts, or None where it is left out."""


@dataclass(frozen=True)
class Row:
    """What a policy decides about.

    Attributes:
        texts: Of each round, tokens of each text.
        marks: Of each round, tokens of its marks.
        budget: Tokens for texts and marks.
        cost: Of each kind of text, how often it stands in the sequence (a prompt twice in `conversations`).
        limits: The figures of the policies.
    """

    texts: Sequence[Lengths]
    marks: Sequence[int]
    budget: int
    cost: Lengths
    limits: Limits = field(default_factory=Limits)

    @property
    def rounds(self) -> range:
        """The rounds, in order."""
        return range(len(self.texts))

    def spent(self, kept: Lengths) -> int:
        """Tokens that a round's texts take."""
        return sum(tokens * cost for tokens, cost in zip(kept, self.cost, strict=True))


def right(row: Row) -> Kept:
    """Read in order until the budget is used up."""
    return _stream(row, row.rounds, _forward)


def left(row: Row) -> Kept:
    """Read from the end until the budget is used up."""
    return _stream(row, row.rounds[::-1], _backward)


def middle(row: Row) -> Kept:
    """One length for all texts; rounds are dropped from the middle where marks alone would fill half the budget."""
    last = len(row.texts) - 1
    outside_in = [i // 2 if i % 2 == 0 else last - i // 2 for i in row.rounds]
    kept, budget = _affordable(row, outside_in)
    texts = [row.texts[i][k] for i in kept for k in range(len(row.cost))]
    return _spread(row, kept, level(texts, budget, list(row.cost) * len(kept)))


def proportional(row: Row) -> Kept:
    """The same share of every text, but at least `limits.least_text` tokens of it."""
    kept, budget = _affordable(row, row.rounds)
    texts = [row.texts[i][k] for i in kept for k in range(len(row.cost))]
    cost = list(row.cost) * len(kept)
    least = [min(tokens, row.limits.least_text) for tokens in texts]
    if _total(least, cost) >= budget:
        return _spread(row, kept, level(least, budget, cost))
    held: set[int] = set()
    while True:
        free = [i for i in range(len(texts)) if i not in held]
        room = budget - sum(least[i] * cost[i] for i in held)
        whole = sum(texts[i] * cost[i] for i in free)
        below = {i for i in free if texts[i] * room < least[i] * whole}
        if not below:
            shares = {i: min(texts[i], texts[i] * room // max(whole, 1)) for i in free}
            return _spread(row, kept, [shares.get(i, least[i]) for i in range(len(texts))])
        held |= below


def fair(row: Row) -> Kept:
    """The prompt to its share, then the longer answer, then both."""
    kept, budget = _affordable(row, row.rounds)
    kinds = range(len(row.cost))
    columns = [[row.texts[i][k] for i in kept] for k in kinds]
    totals = [sum(column) for column in columns]
    answers = sum(totals[1:])
    room = max(budget - answers, int(budget * row.limits.prompt_share))
    prompt = min(totals[0], room // row.cost[0])
    caps = [prompt, *level(totals[1:], budget - prompt * row.cost[0], row.cost[1:])]
    cut = [level(columns[k], caps[k], [1] * len(kept)) for k in kinds]
    return _spread(row, kept, [cut[k][place] for place in range(len(kept)) for k in kinds])


def rounds(row: Row) -> Kept:
    """Whole rounds; the last one cut by shares, or left out where little remains."""
    kept: Kept = [None] * len(row.texts)
    budget = row.budget
    shares = row.limits.round_shares[: len(row.cost)]
    for i in row.rounds:
        budget -= row.marks[i]
        need = row.spent(row.texts[i])
        if need <= budget:
            kept[i] = list(row.texts[i])
            budget -= need
            continue
        if i == 0 or budget >= row.limits.least_round:
            kept[i] = level(row.texts[i], budget, row.cost, shares)
        break
    return kept


POLICIES: Final[dict[str, Callable[[Row], Kept]]] = {
    "right": right, "left": left, "middle": middle, "fair": fair, "rounds": rounds, "proportional": proportional,
}  # fmt: skip

KEEPS: Final = {
    "right": "head",
    "left": "tail",
    "middle": "ends",
    "fair": "head",
    "rounds": "head",
    "proportional": "ends",
}
"""Which part of a cut text is kept, by policy."""


def level(wanted: Lengths, budget: int, cost: Lengths, shares: Lengths | None = None) -> list[int]:
    """Divide a budget: everyone gets what is wanted or, past a common level, the same (times its share).

    Returns:
        For each i the smaller of `wanted[i]` and `floor(level * shares[i])`, with the highest level for which
        the sum of `cost[i]` times that is within the budget. Equal claims get equal parts: nothing depends on order.
    """
    parts = shares or [1] * len(wanted)
    given = [0] * len(wanted)
    weight = sum(c * s for c, s in zip(cost, parts, strict=True))
    for i in sorted(range(len(wanted)), key=lambda i: wanted[i] / parts[i]):
        if wanted[i] * weight > budget * parts[i]:
            break
        given[i] = wanted[i]
        budget -= cost[i] * wanted[i]
        weight -= cost[i] * parts[i]
    else:
        return given
    return [
        given[i] or min(wanted[i], max(budget, 0) * parts[i] // weight) if wanted[i] else 0 for i in range(len(wanted))
    ]


def _total(tokens: Lengths, cost: Lengths) -> int:
    return sum(n * c for n, c in zip(tokens, cost, strict=True))


def _affordable(row: Row, order: Sequence[int]) -> tuple[list[int], int]:
    """The rounds to keep, the first of `order` and as many more as cost half the budget in marks; what is left."""
    kept = [order[0]]
    marks = row.marks[order[0]]
    for i in order[1:]:
        if marks + row.marks[i] > row.budget // 2:
            break
        kept.append(i)
        marks += row.marks[i]
    return sorted(kept), row.budget - marks


def _spread(row: Row, kept: list[int], tokens: Lengths) -> Kept:
    result: Kept = [None] * len(row.texts)
    kinds = len(row.cost)
    for place, i in enumerate(kept):
        result[i] = list(tokens[place * kinds : (place + 1) * kinds])
    return result


Fill = Callable[[Row, Lengths, int], list[int]]


def _stream(row: Row, order: Sequence[int], fill: Fill) -> Kept:
    """Whole rounds in this order, the last one cut by `fill`. The first round stays in any case."""
    kept: Kept = [None] * len(row.texts)
    budget = row.budget
    if row.marks[order[0]] > budget:
        order = [0]
    for place, i in enumerate(order):
        budget -= row.marks[i]
        if place and budget < min(1, sum(row.texts[i])):
            break
        kept[i] = fill(row, row.texts[i], budget)
        if kept[i] != list(row.texts[i]):
            break
        budget -= row.spent(row.texts[i])
    return kept


def _forward(row: Row, texts: Lengths, budget: int) -> list[int]:
    prompt = min(texts[0], budget // row.cost[0])
    budget -= prompt * row.cost[0]
    return [prompt, *_answers(row, texts[1:], budget)]


def _backward(row: Row, texts: Lengths, budget: int) -> list[int]:
    answers = _answers(row, texts[:0:-1], budget)[::-1]
    return [min(texts[0], (budget - sum(answers)) // row.cost[0]), *answers]


def _answers(row: Row, texts: Lengths, budget: int) -> list[int]:
    """One after the other, or alike where each stands in a conversation of its own."""
    if row.cost[0] > 1:
        return level(texts, budget, [1] * len(texts))
    kept = []
    for tokens in texts:
        kept.append(min(tokens, budget))
        budget -= kept[-1]
    return kept
