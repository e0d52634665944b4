"""Judging the judge: tricks that win no person over are played on it, and how often it falls for them is counted."""

from __future__ import annotations

from tiebreak.attack.families import FAMILIES, Family, Trick, choose
from tiebreak.attack.measuring import Figures, Measured, measure
from tiebreak.attack.run import ORDERED, Attacked, Subject, Work, attack, identity

__all__ = [
    "FAMILIES", "ORDERED", "Attacked", "Family", "Figures", "Measured", "Subject", "Trick", "Work", "attack", "choose",
    "identity", "measure",
]  # fmt: skip
