"""What may be chosen when reading files, and what was met while reading them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Final, Literal

from tiebreak.comparisons import LABELS
from tiebreak.errors import UsageError

FORMATS: Final = ("auto", "kaggle", "wsdm", "arena", "preference", "mapped", "tiebreak")
CARRIED: Final = ("id", "model_a", "model_b", "weight", "group", "fold", "source")
"""Columns that may be mapped beside any format: they say nothing about what the texts and the label are."""

CONTENT: Final = (
    "prompt", "response_a", "response_b", "label", "p_a", "p_b", "p_tie", "rating_a", "rating_b",
    "chosen", "rejected", "rating_chosen", "rating_rejected", "model_chosen", "model_rejected",
    "conversation_a", "conversation_b",
)  # fmt: skip
"""Columns that, once mapped, make the format `mapped`."""

BothBad = Literal["tie", "drop"]
OnBad = Literal["stop", "skip"]


@dataclass(frozen=True)
class Options:
    """The policies of reading. Closed: a value outside of these is refused.

    Attributes:
        format: Name of a format, or `auto` to recognise it by columns and cells.
        mapping: Our column -> their column, for `mapped`; `CARRIED` columns may be mapped beside any format.
        labels: Their label -> a, b or tie, for label columns with words (or numbers) of their own.
        both_bad: What a verdict "both are bad" becomes: a tie, or no row at all.
        on_bad: What a row that cannot be read does: stop the whole work, or go aside.
        seed: Decides, with the texts of a row, on which side its chosen answer goes; row order plays no part.
    """

    format: str = "auto"
    mapping: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    both_bad: BothBad = "tie"
    on_bad: OnBad = "stop"
    seed: int = 0

    def __post_init__(self) -> None:
        _one_of("format", self.format, FORMATS)
        _one_of("both_bad", self.both_bad, ("tie", "drop"))
        _one_of("on_bad", self.on_bad, ("stop", "skip"))
        for ours in self.mapping:
            _one_of("column to map", ours, CARRIED + CONTENT)
        for label in self.labels.values():
            _one_of("label", label, LABELS)

    @property
    def maps_content(self) -> bool:
        """Whether the mapping says where the texts or the label are, so that no format need be recognised."""
        return any(ours in CONTENT for ours in self.mapping)


@dataclass
class Report:
    """What was read, and everything that was changed, left out or refused on the way.

    Attributes:
        rows: Rows in the table.
        labels: How many of them have each label; `unlabelled` for none.
        rejected: Rows that could not be read.
        notes: What was done to rows, and to how many of them.
        files: The files, in the order read.
        formats: The format of each file.
    """

    rows: int = 0
    labels: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*LABELS, "unlabelled"), 0))
    rejected: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    files: list[str] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return values | {"notes": dict(self.notes)}


def _one_of(what: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        near = get_close_matches(value, accepted, n=1)
        raise UsageError(
            f"unknown {what} {value!r}",
            expected=f"one of {', '.join(accepted)}",
            mend=f"write {near[0]}" if near else "",
        )
