"""The lock of a run, `tiebreak.locking`."""

from __future__ import annotations

from tiebreak.locking import hold, is_held

__all__ = ["hold", "is_held"]
