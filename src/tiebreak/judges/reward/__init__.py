"""The reward judge: a scalar reward model scores each answer, and a tie model makes probabilities of two scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiebreak.judges.reward.layer import DEFAULTS, FAMILIES, Family, Layer, lengths

if TYPE_CHECKING:
    from tiebreak.judges.reward.judge import RewardJudge, Settings
    from tiebreak.judges.reward.wrapping import wrap

__all__ = ["DEFAULTS", "FAMILIES", "Family", "Layer", "RewardJudge", "Settings", "lengths", "wrap"]

_HOME = {"RewardJudge": "judge", "Settings": "judge", "wrap": "wrapping"}


def __getattr__(name: str) -> Any:
    # The layer is arithmetic that calibration needs too; the judge needs the extra with the networks.
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
