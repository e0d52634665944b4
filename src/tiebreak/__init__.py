"""tiebreak: which of two LLM answers would a person prefer? P(A), P(B), P(tie), calibrated.

```python
import tiebreak as tb
judge = tb.load_judge()
judge.compare("What is 2 + 2?", "4", "It is 5.")
```

Names load on first use, so that `import tiebreak` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tiebreak.calibrate import fit as fit_calibration
    from tiebreak.calibration import Calibration
    from tiebreak.errors import TiebreakError
    from tiebreak.evaluation import evaluate
    from tiebreak.ingest import read
    from tiebreak.judges import Judge, Prediction
    from tiebreak.judges import load as load_judge

_HOMES = {
    "Calibration": ("tiebreak.calibration", "Calibration"),
    "Judge": ("tiebreak.judges", "Judge"),
    "Prediction": ("tiebreak.judges", "Prediction"),
    "TiebreakError": ("tiebreak.errors", "TiebreakError"),
    "evaluate": ("tiebreak.evaluation", "evaluate"),
    "fit_calibration": ("tiebreak.calibrate", "fit"),
    "load_judge": ("tiebreak.judges", "load"),
    "read": ("tiebreak.ingest", "read"),
}

__all__ = [
    "Calibration",
    "Judge",
    "Prediction",
    "TiebreakError",
    "evaluate",
    "fit_calibration",
    "load_judge",
    "read",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tiebreak' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
