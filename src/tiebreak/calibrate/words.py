"""What a calibration does, said in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from tiebreak.calibrate.alarm import scales
from tiebreak.calibration import Calibration

if TYPE_CHECKING:
    from tiebreak.calibrate.nested import Result

_SMALL: Final = 0.005
_SMALL_SCALE: Final = 0.02


def in_words(result: Result) -> list[str]:
    """What the map of a method does, or its tie model; nothing for a method that has neither."""
    if result.layer is not None:
        return [*_parameters(result), *_outcomes(result)]
    return describe(result.calibration) if result.calibration else []


def _parameters(result: Result) -> list[str]:
    units = {
        "scale": "a unit of reward, in log-odds",
        "length": "a text e times as long, in log-odds",
        "tie": "the larger, the more ties",
    }
    return [f"{name} {estimate}: {units[name]}" for name, estimate in result.intervals.items()]


def _outcomes(result: Result) -> list[str]:
    assert result.layer is not None  # noqa: S101 - the caller looked
    even, better = result.layer.probabilities(np.array([0.0, 1.0]), np.zeros(2))
    return [
        f"two answers of the same reward: a tie with {even[2]:.2f}",
        f"one unit of reward more: better with {better[0]:.2f}, worse with {better[1]:.2f}, a tie with {better[2]:.2f}",
    ]


def describe(calibration: Calibration) -> list[str]:
    """One sentence for each thing the map does; "changes nothing" if it does none."""
    found = scales(calibration)
    said = []
    if calibration.method == "temperature":
        said += _temperature(found["tie"])
    else:
        said += [_scale(f"{name} log-odds", scale) for name, scale in found.items() if abs(scale - 1) > _SMALL_SCALE]
    # A bias by itself says little where scales differ too; what the map does to a judge with no opinion says it all.
    a, b, tie = np.log(calibration.apply(np.full((1, 3), 1 / 3))[0])
    shift = tie - (a + b) / 2
    if abs(shift) > _SMALL:
        said.append(f"tie bias {shift:+.2f}: where the judge is undecided, a tie gets {np.exp(shift):.2f} x an answer")
    if abs(a - b) > _SMALL:
        said.append(f"A-against-B bias {a - b:+.2f}: where the judge is undecided, A gets {np.exp(a - b):.2f} x B")
    return said or ["changes nothing"]


def _temperature(scale: float) -> list[str]:
    if scale == 0:
        return ["temperature infinite: all three become equal"]
    value = 1 / scale
    if scale < 0:
        return [f"temperature {value:.2f}: negative, every verdict is turned round"]
    if abs(value - 1) <= _SMALL:
        return [f"temperature {value:.2f}: as confident as it should be"] if value != 1 else []
    if value > 1:
        return [f"temperature {value:.2f}: over-confident, log-odds were {100 * (value - 1):.0f} % too large"]
    return [f"temperature {value:.2f}: under-confident, log-odds were {100 * (1 - value):.0f} % too small"]


def _scale(what: str, scale: float) -> str:
    if scale <= 0:
        return f"{what} x {scale:.2f}: turned round or lost"
    return f"{what} x {scale:.2f}: the judge was {'over' if scale < 1 else 'under'}-confident"
