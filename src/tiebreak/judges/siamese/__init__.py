"""The siamese judge: each answer is read once by itself, and both orders are the same by construction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiebreak.judges.siamese.head import PairHead
    from tiebreak.judges.siamese.judge import Settings, SiameseJudge

__all__ = ["PairHead", "Settings", "SiameseJudge"]


def __getattr__(name: str) -> Any:
    # `JudgeModel` needs the head, and the judge needs `JudgeModel`; the head needs torch, and settings must not.
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'head' if name == 'PairHead' else 'judge'}"), name)
