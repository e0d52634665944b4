"""What the judges with a network have in common: settings, loading on first use, bundles."""

from tiebreak.judges.finetuned.judge import FinetunedJudge
from tiebreak.judges.finetuned.settings import Compression, Settings

__all__ = ["Compression", "FinetunedJudge", "Settings"]
