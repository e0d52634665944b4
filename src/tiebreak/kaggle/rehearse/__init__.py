"""What Kaggle would do, done here: the notebook in a clean environment, without network, under a cap on memory."""

from tiebreak.kaggle.rehearse.checking import Check, Checked, check
from tiebreak.kaggle.rehearse.outcome import Rehearsal
from tiebreak.kaggle.rehearse.rehearsal import FailedError, TooMuchError, run
from tiebreak.kaggle.rehearse.sandbox import Walls

__all__ = ["Check", "Checked", "FailedError", "Rehearsal", "TooMuchError", "Walls", "check", "run"]
