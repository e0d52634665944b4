"""What runs a generative judge: the contract that transformers, vLLM and a server keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from tiebreak.judges.generative.verdicts import Tree
    from tiebreak.render.sequences import Sequences


def silent(count: int) -> None:
    """No one watches the progress."""


@dataclass(frozen=True)
class Masses:
    """How likely a continuation begins with each verdict, a row a sequence, columns a, b, tie.

    Attributes:
        log_mass: float64 (n, 3): log of the summed probability of all spellings of a verdict. Of a backend that sees
            the allowed tokens alone, up to a constant of the row.
        unseen: float64 (n, 3): at most this much probability of a verdict was not shown to us (a server that lists its
            likeliest tokens only); 0 where everything was seen.
        coverage: float64 (n,): the probability that the continuation is a verdict at all; NaN where it is not known.
    """

    log_mass: np.ndarray
    unseen: np.ndarray
    coverage: np.ndarray


class Backend(Protocol):
    """Scores verdicts. The answer for a row does not depend on the others, nor on their order.

    Attributes:
        report: How the last call ran: backend, devices, precision, tokens, seconds, and what only it has to say.
    """

    report: dict[str, Any]

    def masses(
        self, sequences: Sequences, tree: Tree, *, pairs: np.ndarray | None = None,
        advance: Callable[[int], None] = silent,
    ) -> Masses:  # fmt: skip
        """Masses of the verdicts after each sequence of token ids.

        Args:
            sequences: Token ids of rendered comparisons, n of them.
            tree: The spellings of the verdicts as token ids.
            pairs: int64 (m, 2): indices of sequences that begin alike (two orders of one comparison).
            advance: Called with the number of sequences just finished.

        Raises:
            ResourceError: The backend failed for good; what it answered before is kept where it keeps anything.
        """
        ...
