"""The features judge: properties of the two answers, a linear part and boosted trees, on polars and numpy alone."""

from tiebreak.judges.features.extract import extract
from tiebreak.judges.features.judge import CARD, FeaturesJudge
from tiebreak.judges.features.pairs import ALL, Features

__all__ = ["ALL", "CARD", "Features", "FeaturesJudge", "extract"]
