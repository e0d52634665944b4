"""The terms of a loss and their weights: presets resolved, and told in words. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tiebreak.train.finetune.recipe import Loss

CONFLICT: Final = 0.3
"""Threshold of the preset conflict: what billxbf took for a strong contradiction (WSDM Cup 2025)."""

HINTON_TEMPERATURE: Final = 2.0
"""Temperature of the preset hinton: at 1 it would be a plain weighted sum."""


@dataclass(frozen=True)
class Terms:
    """A loss with every weight and number in its place.

    Attributes:
        cross_entropy: Weight of the cross-entropy.
        kl: Weight of the KL term of each teacher.
        cosine: Weight of the cosine term of each teacher.
        temperature: T of the KL terms.
        conflict: A teacher that gives the vote less than this is not heard in the row; None: all are heard.
    """

    cross_entropy: float
    kl: float = 0.0
    cosine: float = 0.0
    temperature: float = 1.0
    conflict: float | None = None

    @property
    def taught(self) -> bool:
        """Whether a teacher has a say."""
        return self.kl > 0 or self.cosine > 0


def terms(settings: Loss, teachers: int) -> Terms:
    """The weights of a preset, with those that are given put in their place.

    Args:
        settings: The recipe's loss.
        teachers: How many there are. The preset hinton parts its share `alpha` among them; in all other presets each
            teacher has the full weights, and the divisor grows.
    """
    each: dict[str, dict[str, Any]] = {
        "cross_entropy": {"cross_entropy": 1.0},
        "blackpearl": {"cross_entropy": 1.0, "kl": 1.0, "cosine": 1.0},
        "wsdm1": {"cross_entropy": 0.5, "kl": 1.0, "cosine": 1.0},
        "hinton": {
            "cross_entropy": 1 - settings.alpha, "kl": settings.alpha / max(1, teachers),
            "temperature": HINTON_TEMPERATURE,
        },
        "conflict": {"cross_entropy": 1.0, "kl": 1.0, "cosine": 1.0, "conflict": CONFLICT},
    }  # fmt: skip
    given = {name: getattr(settings, name) for name in ("cross_entropy", "kl", "cosine", "temperature", "conflict")}
    return Terms(**each[settings.preset] | {name: value for name, value in given.items() if value is not None})


def in_words(settings: Loss, teachers: int) -> str:
    """The loss as a line of text, such as "(0.5 cross-entropy + KL + cosine) / 2.5"."""
    chosen = terms(settings, teachers)
    vote = _weighted(chosen.cross_entropy, "cross-entropy")
    own = [f"smoothing {settings.smoothing:g}"] if settings.smoothing else []
    own += [f"focal {settings.focal:g}"] if settings.focal else []
    aside = f" ({', '.join(own)})" if own else ""
    if not teachers or not chosen.taught:
        return f"cross-entropy{aside}"
    square = f"{chosen.temperature:g}² " if chosen.temperature != 1 else ""
    hears = [_weighted(chosen.kl, f"{square}KL"), _weighted(chosen.cosine, "cosine")]
    said = " + ".join(text for text in hears if text)
    many = f"sum over {teachers} teachers of ({said})" if teachers > 1 else said
    divisor = chosen.cross_entropy + teachers * (chosen.kl + chosen.cosine)
    line = f"({' + '.join(text for text in (vote, many) if text)}) / {divisor:g}{aside}"
    if chosen.temperature != 1:
        line += f", KL at temperature {chosen.temperature:g}"
    if chosen.conflict is not None:
        line += f"; a teacher that gives the vote less than {chosen.conflict:g} is not heard in that row"
    return line


def _weighted(weight: float, name: str) -> str:
    return "" if not weight else name if weight == 1 else f"{weight:g} {name}"
