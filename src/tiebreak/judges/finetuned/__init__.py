"""What the judges with a network have in common: settings, loading on first use, bundles."""

from tiebreak.judges.finetuned.judge import FinetunedJudge
from tiebreak.judges.finetuned.settings import Settings

__all__ = ["FinetunedJudge", "Settings"]
