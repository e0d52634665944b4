"""Where does a judge stand? A ladder from a uniform guess to the embedded judge, on anyone's votes."""

from tiebreak.baselines.ladder import TITLES, Ladder, Rung, in_sample, ladder

__all__ = ["TITLES", "Ladder", "Rung", "in_sample", "ladder"]
