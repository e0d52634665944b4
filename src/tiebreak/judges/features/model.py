"""The arithmetic of the judge: two scores a comparison, each a sum of simple parts.

`versus` is the log-odds of A against B. Its linear part is odd in the signed features; its trees are evaluated both
ways round and subtracted; the wording of each answer has a strength of its own. `tie` is the log-odds of a tie against
the mean of A and B, made of symmetric features alone. So swapping A and B negates the first and leaves the second, to
the last bit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from tiebreak.errors import BundleError
from tiebreak.judges.features.forest import Forest
from tiebreak.judges.features.linear import Linear
from tiebreak.judges.features.pairs import Chosen, Features
from tiebreak.judges.features.wording import Terms, Vocabulary, Wording
from tiebreak.judges.features.words import Words

TENSORS: Final = "linear.safetensors"
TREES: Final = {"versus": "versus.txt", "tie": "tie.txt"}
TERMS: Final = "terms.json"

Answers = tuple[Words, Words]
"""The tokens of answer A and of answer B."""


@dataclass(frozen=True)
class Part:
    """A linear part and trees, which are multiplied with `share` and added."""

    linear: Linear
    forest: Forest
    share: float


@dataclass(frozen=True)
class Contributions:
    """What each feature adds to the two scores, each of shape (rows, features).

    Attributes:
        versus: Signed features first, then symmetric ones.
        tie: Symmetric features.
        base: The part of the tie score that no feature brings.
        wording: What each term adds to the strength of answer A, and of answer B.
    """

    versus: np.ndarray
    tie: np.ndarray
    base: float
    wording: tuple[Terms, Terms]


@dataclass(frozen=True)
class PairModel:
    """Everything that was learned.

    Attributes:
        versus: Linear on the signed features, trees on signed and symmetric ones.
        tie: Both on the symmetric features.
        wording: The strength of an answer's wording, for versus.
    """

    versus: Part
    tie: Part
    wording: Wording

    def logits(self, features: Features, answers: Answers) -> np.ndarray:
        """Logits of a, b and tie, shape (rows, 3)."""
        given, mirrored = _both_ways(features)
        trees = self.versus.forest.predict(given) - self.versus.forest.predict(mirrored)
        wording = self.wording.strengths(answers[0]) - self.wording.strengths(answers[1])
        half = ((self.versus.linear.predict(features.signed) + self.versus.share * trees) + wording) / 2
        tie = self.tie.linear.predict(features.symmetric) + self.tie.share * self.tie.forest.predict(features.symmetric)
        return np.stack([half, -half, tie], axis=1)

    def contributions(self, features: Features, answers: Answers) -> Contributions:
        """The same scores, feature by feature and term by term."""
        given, mirrored = _both_ways(features)
        forest = self.versus.forest
        versus = self.versus.share * (forest.contributions(given) - forest.contributions(mirrored))
        versus[:, : features.signed.shape[1]] += self.versus.linear.contributions(features.signed)
        tie = self.tie.linear.contributions(features.symmetric)
        tie += self.tie.share * self.tie.forest.contributions(features.symmetric)
        base = self.tie.linear.intercept + self.tie.share * self.tie.forest.base
        first, second = (self.wording.contributions(tokens) for tokens in answers)
        return Contributions(versus, tie, base, (first, second))


def _both_ways(features: Features) -> tuple[np.ndarray, np.ndarray]:
    signed, symmetric = features.signed, features.symmetric
    return np.concatenate([signed, symmetric], axis=1), np.concatenate([-signed, symmetric], axis=1)


def dump(
    linear: dict[str, Linear], trees: dict[str, str], shares: dict[str, float], wording: Wording
) -> dict[str, bytes]:
    """The files of a bundle from what was learned for `versus` and for `tie`."""
    tensors = {name: tensor for part in TREES for name, tensor in linear[part].tensors(part).items()}
    tensors |= {f"{part}.share": np.array([shares[part]]) for part in TREES}
    tensors |= {"wording.rarity": wording.rarity, "wording.weight": wording.weight}
    return {
        TENSORS: save_tensors(tensors),
        TERMS: json.dumps(wording.vocabulary.terms, ensure_ascii=False, indent=0).encode(),
        **{file: trees[part].encode() for part, file in TREES.items()},
    }


def load(files: dict[str, bytes], chosen: Chosen) -> PairModel:
    """The model from the files of a bundle.

    Args:
        files: As `dump` gives them.
        chosen: The features that the weights are for.

    Raises:
        BundleError: A file is missing or damaged, or does not fit these features.
    """
    columns = {"versus": len(chosen.signed), "tie": len(chosen.symmetric)}
    try:
        tensors = load_tensors(files[TENSORS])
        texts = {part: files[name].decode() for part, name in TREES.items()}
        linear = {part: Linear.from_tensors(tensors, part, columns[part]) for part in TREES}
        shares = {part: float(tensors[f"{part}.share"][0]) for part in TREES}
        wording = _wording(files[TERMS], tensors)
    except (KeyError, ValueError, IndexError, SafetensorError) as error:
        raise BundleError(f"the bundle's weights are damaged: {error}", expected="the files of a judge") from error
    columns["versus"] += columns["tie"]
    forests = {part: Forest.parse(texts[part], columns=columns[part], where=TREES[part]) for part in TREES}
    parts = {part: Part(linear[part], forests[part], shares[part]) for part in TREES}
    return PairModel(parts["versus"], parts["tie"], wording)


def _wording(terms: bytes, tensors: dict[str, np.ndarray]) -> Wording:
    known = tuple(json.loads(terms))
    rarity, weight = (tensors[f"wording.{name}"].astype(np.float64) for name in ("rarity", "weight"))
    shaped = rarity.shape == weight.shape == (len(known),) and all(isinstance(term, str) for term in known)
    if not (shaped and np.isfinite(weight).all() and (rarity > 0).all() and len(set(known)) == len(known)):
        raise ValueError("terms, rarities and weights do not fit each other")
    return Wording(Vocabulary(known), rarity, weight)
