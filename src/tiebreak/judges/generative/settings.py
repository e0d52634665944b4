"""What `judge.json` says of a generative judge."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from tiebreak.judges import classifier
from tiebreak.judges.generative.reading import Reading
from tiebreak.judges.generative.served.settings import Served
from tiebreak.judges.generative.verdicts import Verdicts

BackendName = Literal["transformers", "vllm", "openai"]

LEAST_COVERAGE: Final = 0.01
"""Where the verdicts hold less of the model's probability than this, it was not going to answer with one of them."""

SPELLINGS: Final[dict[str, Verdicts]] = {
    "pab": Verdicts(a=("A",), b=("B",), tie=("C",)),
    "papb": Verdicts(a=("A",), b=("B",), tie=("C",)),
    "blackpearl": Verdicts(a=(" A", "A"), b=(" B", "B"), tie=(" tie", "tie")),
    "rounds": Verdicts(a=(" A", "A"), b=(" B", "B"), tie=(" tie", "tie")),
    "plain": Verdicts(),
}
"""How a verdict is spelled after the last words of each template that ships: those of pab end in "[["."""


class Shots(BaseModel):
    """Few-shot examples: votes that every question is asked after, in the file `shots.json` of the bundle.

    Attributes:
        count: How many.
        max_length: Tokens of one example at most.
        tokens: Of all of them, as they stand before each comparison.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int
    max_length: int
    tokens: int


class Settings(classifier.Settings):
    """Settings of a generative judge: those of a classifier, and how it is asked.

    Attributes:
        verdicts: How the model spells each verdict.
        backend: What runs the model when nobody says.
        served: The server, for a judge whose model lies behind one.
        reads: tokens: the probabilities of the verdicts. text: a verdict that the model writes at the end of its prose.
        reading: How texts are written and read where `reads` is text; None is the default.
        shots: The examples, if there are any.
    """

    verdicts: Verdicts = Verdicts()
    backend: BackendName = "transformers"
    served: Served | None = None
    reads: Literal["tokens", "text"] = "tokens"
    reading: Reading | None = None
    shots: Shots | None = None
