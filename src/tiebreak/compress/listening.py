"""Who is told how a compression goes, `tiebreak.listening`."""

from __future__ import annotations

from tiebreak.listening import SILENT, Listener, Progress

__all__ = ["SILENT", "Listener", "Progress"]
