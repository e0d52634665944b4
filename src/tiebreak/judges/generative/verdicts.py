"""How a language model spells its verdicts, and what must be asked of it to sum them exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from tiebreak.comparisons import LABELS
from tiebreak.errors import UsageError


class Verdicts(BaseModel):
    """The spellings of each verdict, as a model would write them next.

    Attributes:
        a: Of "answer A is better", such as "A", " A" and "[[A]]".
        b: Of "answer B is better".
        tie: Of "equally good".
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    a: tuple[str, ...] = ("A", " A")
    b: tuple[str, ...] = ("B", " B")
    tie: tuple[str, ...] = ("C", " C")


@dataclass(frozen=True)
class Tree:
    """The spellings as token ids, in a tree: the texts that begin with one of them are disjoint events.

    Attributes:
        nodes: What was written before the next token is asked for; `nodes[0]` is nothing, parents come first.
        children: Token ids asked for at each node.
        inner: For each node, of each child: the node that it leads to, or -1 where a spelling ends.
        labels: For each node, of each child: the index in `LABELS` of the spelling that ends there, or -1.
    """

    nodes: tuple[tuple[int, ...], ...]
    children: tuple[tuple[int, ...], ...]
    inner: tuple[tuple[int, ...], ...]
    labels: tuple[tuple[int, ...], ...]

    @property
    def single(self) -> bool:
        """Whether every spelling is one token, so that one forward tells all."""
        return len(self.nodes) == 1

    @property
    def tokens(self) -> tuple[int, ...]:
        """All tokens that are asked for first."""
        return self.children[0]

    @classmethod
    def of(cls, verdicts: Verdicts, tokenizer: Any) -> Self:
        """The tree under a tokenizer; each spelling is the tokens of its text, as they come after another text.

        Raises:
            UsageError: A spelling is empty, or of one verdict and the beginning of another's.
        """
        spelled = {
            label: [
                tokens_of(tokenizer, text)
                for text in dict.fromkeys(getattr(verdicts, label))
            ]
            for label in LABELS
        }  # fmt: skip
        return cls.of_ids([spelled[label] for label in LABELS])

    @classmethod
    def of_ids(cls, spelled: Sequence[Sequence[tuple[int, ...]]]) -> Self:
        """The tree of spellings that are token ids already, those of each label in the order of `LABELS`.

        A spelling that begins with another one of the same verdict adds nothing: the shorter one counts it already.
        """
        owner: dict[tuple[int, ...], int] = {}
        for label, spellings in enumerate(spelled):
            if not spellings or () in spellings:
                raise UsageError(f"verdict {LABELS[label]}: an empty spelling", expected="at least one, each of a text")
            for spelling in spellings:
                if owner.setdefault(spelling, label) != label:
                    raise _ambiguous(spelling, owner[spelling], label)
        ends: dict[tuple[int, ...], int] = {}
        for spelling, label in sorted(owner.items(), key=lambda entry: len(entry[0])):
            before = [spelling[:length] for length in range(1, len(spelling)) if spelling[:length] in ends]
            if any(ends[start] != label for start in before):
                raise _ambiguous(before[0], ends[before[0]], label)
            if not before:
                ends[spelling] = label
        return cls._grow(ends)

    @classmethod
    def _grow(cls, ends: dict[tuple[int, ...], int]) -> Self:
        nodes = sorted({end[:length] for end in ends for length in range(len(end))}, key=lambda node: (len(node), node))
        place = {node: number for number, node in enumerate(nodes)}
        paths = sorted({end[:length] for end in ends for length in range(1, len(end) + 1)})
        below = [[path for path in paths if path[:-1] == node] for node in nodes]
        return cls(
            tuple(nodes),
            tuple(tuple(path[-1] for path in paths) for paths in below),
            tuple(tuple(place.get(path, -1) for path in paths) for paths in below),
            tuple(tuple(ends.get(path, -1) for path in paths) for paths in below),
        )

    def fold(self, log_probs: Sequence[np.ndarray]) -> np.ndarray:
        """Log of the mass of each verdict, float64 (n, 3).

        Args:
            log_probs: Of each node, float64 (n, children): log-probabilities of its children after the node's tokens.
        """
        rows = len(log_probs[0])
        reached = {0: np.zeros(rows)}
        mass = np.full((rows, len(LABELS)), -np.inf)
        for node, (inner, labels) in enumerate(zip(self.inner, self.labels, strict=True)):
            for child, (next_node, label) in enumerate(zip(inner, labels, strict=True)):
                path = reached[node] + log_probs[node][:, child]
                if label >= 0:
                    mass[:, label] = np.logaddexp(mass[:, label], path)
                else:
                    reached[next_node] = path
        return mass


def tokens_of(tokenizer: Any, text: str) -> tuple[int, ...]:
    """The tokens of a text that goes on with another one.

    Tokenizers in the manner of SentencePiece (Llama 2, Yi) put a space before whatever they are given, which would make
    another spelling of it; there the text is read after a line break, whose own tokens are taken off.
    """

    def ids(whole: str) -> tuple[int, ...]:
        return tuple(tokenizer(whole, add_special_tokens=False)["input_ids"])

    first = str(tokenizer.convert_ids_to_tokens(list(ids("A")[:1]))[0])
    if not first.startswith("\u2581"):
        return ids(text)
    before, whole = ids("\n"), ids(f"\n{text}")
    return whole[len(before) :] if whole[: len(before)] == before else ids(text)


def _ambiguous(spelling: tuple[int, ...], one: int, other: int) -> UsageError:
    return UsageError(
        f"a spelling of {LABELS[one]} (tokens {list(spelling)}) is also the beginning of one of {LABELS[other]}",
        expected="spellings that tell the verdicts apart from their first tokens on",
    )
