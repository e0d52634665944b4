"""Are these labels fit to be learned from? docs/soft-labels.md says what is looked for and why."""

from tiebreak.teach.auditing.auditing import audit, keep, record
from tiebreak.teach.auditing.findings import Findings
from tiebreak.teach.auditing.reading import Labels, expand, read

__all__ = ["Findings", "Labels", "audit", "expand", "keep", "read", "record"]
