"""The blend: every member judges every comparison, and their answers are pooled."""

from tiebreak.judges.blend.judge import BlendJudge, Settings

__all__ = ["BlendJudge", "Settings"]
