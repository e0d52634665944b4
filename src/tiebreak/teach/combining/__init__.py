"""Several teachers calibrated and pooled into one soft label, without a row's vote touching its own label."""

from tiebreak.teach.combining.combining import METHODS, Combination, combine
from tiebreak.teach.combining.crossing import Recipe
from tiebreak.teach.combining.opinions import Opinions, gather

__all__ = ["METHODS", "Combination", "Opinions", "Recipe", "combine", "gather"]
