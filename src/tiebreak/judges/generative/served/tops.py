"""Listed log-probabilities -> masses of verdicts, and how much may hide in what was not listed.

A server lists the likeliest tokens at a place. What it does not list is not likelier than the least that it lists, and
all of it together is no more than what the list leaves over: both are bounds, and the smaller one is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tiebreak.comparisons import LABELS
from tiebreak.judges.generative.backend import Masses
from tiebreak.judges.generative.served.faults import Fault
from tiebreak.judges.generative.verdicts import Tree, Verdicts

IMPOSSIBLE: Final = -9999.0
"""What stands for minus infinity in JSON, by custom."""

_LEAST: Final = 1e-300
_NOTHING: Final = 1e-290
_BY_ID: Final = "token_id:"
"""How vLLM names tokens when it is asked to (`return_tokens_as_token_ids`)."""


@dataclass(frozen=True)
class Listing:
    """What a server lists at one place.

    Attributes:
        by_id: Log-probabilities by token id, where it tells ids.
        by_text: By the text of a token.
        rest: Probability that the list leaves over.
        least: The least probability that is listed.
    """

    by_id: dict[int, float]
    by_text: dict[str, float]
    rest: float
    least: float

    @classmethod
    def of(cls, entries: Sequence[tuple[int | None, str, object]]) -> Listing:
        """From token id (where known), text and log-probability.

        Raises:
            Fault: A log-probability is none, or there is none at all.
        """
        if not entries:
            raise _missing()
        values = [_checked(value) for _, _, value in entries]
        known = {(i, text): value for (i, text, _), value in zip(entries, values, strict=True)}
        probabilities = [math.exp(value) for value in known.values()]
        by_text: dict[str, float] = {}
        for (_, text), value in known.items():
            by_text[text] = float(np.logaddexp(by_text.get(text, -np.inf), value))
        return cls(
            {i: value for (i, _), value in known.items() if i is not None}, by_text,
            max(0.0, 1.0 - math.fsum(probabilities)), min(probabilities),
        )  # fmt: skip

    def bound(self, count: int = 1) -> float:
        """At most this much probability lies in so many tokens that are not listed."""
        return min(count * self.least, self.rest)


def listing(choice: dict[str, Any]) -> Listing:
    """What the completions API lists for the first token, in the forms of OpenAI and vLLM, and of llama.cpp.

    Raises:
        Fault: It lists nothing.
    """
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict):
        raise _missing()
    if isinstance(logprobs.get("content"), list):
        return positions(choice)[0][1]
    tops = logprobs.get("top_logprobs")
    if not isinstance(tops, list) or not tops or not isinstance(tops[0], dict):
        raise _missing()
    return Listing.of([(_id(text), text, value) for text, value in tops[0].items()])


def positions(choice: dict[str, Any]) -> list[tuple[str, Listing]]:
    """What the chat API lists at each token of an answer: the token that was taken, and the alternatives.

    Raises:
        Fault: It lists nothing.
    """
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list) or not content:
        raise _missing()
    found = []
    for place in content:
        if not isinstance(place, dict) or not isinstance(place.get("top_logprobs"), list):
            raise _missing()
        entries = [
            (entry.get("id"), str(entry.get("token", "")), entry.get("logprob"))
            for entry in (place, *place["top_logprobs"])
            if isinstance(entry, dict)
        ]
        found.append((str(place.get("token", "")), Listing.of(entries)))
    return found


def of_tokens(listings: Sequence[Sequence[Listing]], tree: Tree, texts: dict[int, str]) -> Masses:
    """Masses after prompts of token ids.

    Args:
        listings: Of each node of the tree, of each row, what was listed.
        tree: The spellings as token ids.
        texts: The text of each token of the tree, for servers that tell no ids.
    """
    seen, most = [], []
    for children, rows in zip(tree.children, listings, strict=True):
        found = np.array([[_of(row, token, texts) for token in children] for row in rows]).reshape(-1, len(children))
        bound = np.log(np.maximum([row.bound() for row in rows], _LEAST))
        high = np.where(np.isneginf(found), bound[:, None], found)
        twins = np.array([not row.by_id for row in rows])[:, None] & _twins(children, texts)
        seen.append(np.where(twins, -np.inf, found))
        most.append(np.where(twins, -np.inf, high))
    low, high = tree.fold(seen), tree.fold(most)
    unseen = np.where(high > low, np.exp(high) - np.exp(low), 0.0)
    if tree.single:
        unseen = np.minimum(unseen, np.array([row.rest for row in listings[0]])[:, None])
    return masses(low, unseen)


def _twins(children: Sequence[int], texts: dict[int, str]) -> np.ndarray:
    """Which tokens have the text of one before them: a server that tells texts tells both in one."""
    return np.array([texts[token] in {texts[other] for other in children[:i]} for i, token in enumerate(children)])


def _of(row: Listing, token: int, texts: dict[int, str]) -> float:
    if row.by_id:
        return row.by_id.get(token, -np.inf)
    return row.by_text.get(texts[token], -np.inf)


def of_texts(answers: Sequence[Sequence[tuple[str, Listing]]], verdicts: Verdicts) -> Masses:
    """Masses of chats, whose tokens are texts: along the answer that was given, at each of its tokens.

    An alternative that spells a verdict is counted where it branches off. One that only begins like a verdict goes on
    in a way that was not shown: it adds to the bound.
    """
    followed = [_follow(places, _spellings(verdicts)) for places in answers]
    low = np.array([seen for seen, _ in followed]).reshape(-1, len(LABELS))
    unseen = np.array([hidden for _, hidden in followed]).reshape(-1, len(LABELS))
    return masses(low, unseen)


def masses(seen: np.ndarray, unseen: np.ndarray) -> Masses:
    """Masses out of what was seen and what may hide: where something may, the middle of the interval.

    Args:
        seen: float64 (n, 3): log of what was listed.
        unseen: float64 (n, 3): at most this much more.
    """
    unseen = np.minimum(unseen, np.maximum(1.0 - np.exp(seen).sum(axis=1), 0.0)[:, None])
    middle = np.logaddexp(seen, np.log(np.maximum(unseen / 2, _LEAST)))
    log_mass = np.where((unseen > 0) | np.isneginf(seen), middle, seen)
    return Masses(log_mass, unseen, np.minimum(np.exp(log_mass).sum(axis=1), 1.0))


def blank(found: Masses) -> np.ndarray:
    """Rows, as bool (n,), in which no verdict was listed at all, so that nothing is known of them."""
    return np.asarray((np.exp(found.log_mass) <= found.unseen / 2 + _NOTHING).all(axis=1))


def _spellings(verdicts: Verdicts) -> list[tuple[str, ...]]:
    """The spellings of each verdict, without those that begin with another one of the same."""
    own = [tuple(dict.fromkeys(getattr(verdicts, label))) for label in LABELS]
    return [tuple(s for s in texts if not any(s != t and s.startswith(t) for t in texts)) for texts in own]


def _follow(places: Sequence[tuple[str, Listing]], spelled: list[tuple[str, ...]]) -> tuple[list[float], list[float]]:
    """Of one answer: log of what is listed of each verdict, and how much more there may be."""
    seen, hidden = [-math.inf] * len(spelled), [0.0] * len(spelled)
    path, reached = "", 0.0
    for taken, here in places:
        for label, texts in enumerate(spelled):
            for text, value in here.by_text.items():
                if path + text in texts:
                    seen[label] = float(np.logaddexp(seen[label], reached + value))
                elif text != taken and _begins(path + text, texts):
                    hidden[label] += math.exp(reached + value)
            unlisted = {
                s[len(path) : end] for s in texts if s.startswith(path) for end in range(len(path) + 1, len(s) + 1)
            }
            hidden[label] += math.exp(reached) * here.bound(len(unlisted - here.by_text.keys()))
        reached += here.by_text[taken]
        path += taken
        if not any(_begins(path, texts) for texts in spelled):
            return seen, hidden
    for label, texts in enumerate(spelled):  # the answer ended, or was cut, before the verdict did
        hidden[label] += math.exp(reached) if _begins(path, texts) else 0.0
    return seen, hidden


def _begins(text: str, spellings: tuple[str, ...]) -> bool:
    """Whether a spelling begins with a text and goes on after it."""
    return any(spelling.startswith(text) and spelling != text for spelling in spellings)


def _checked(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value > 1e-3:
        raise Fault("a log-probability is none", "again", repr(value)[:50])
    return -math.inf if value <= IMPOSSIBLE else min(float(value), 0.0)


def _id(text: str) -> int | None:
    return int(text.removeprefix(_BY_ID)) if text.startswith(_BY_ID) and text[len(_BY_ID) :].isdigit() else None


def _missing() -> Fault:
    return Fault("no log-probabilities in the answer", "again")
