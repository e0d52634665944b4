"""The classifier judge: one sequence holds a whole comparison, and the network gives three logits."""

from tiebreak.judges.classifier.judge import ClassifierJudge, Settings

__all__ = ["ClassifierJudge", "Settings"]
