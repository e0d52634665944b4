"""From a judge to a pack: notebook, wheels and model as Kaggle wants them, and a record of what they are."""

from tiebreak.kaggle.packing.choices import Choices
from tiebreak.kaggle.packing.making import Packed, write
from tiebreak.kaggle.packing.planning import Plan, plan
from tiebreak.kaggle.packing.record import Record, check, read

__all__ = ["Choices", "Packed", "Plan", "Record", "check", "plan", "read", "write"]
