"""The retrieval judge: what people said of similar prompts with similar answers."""

from tiebreak.judges.retrieval.judge import CARD, RetrievalJudge

__all__ = ["CARD", "RetrievalJudge"]
