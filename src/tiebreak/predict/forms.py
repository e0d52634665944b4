"""The forms of submissions: which columns a competition wants, and what each of them holds."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Content = Literal["p_a", "p_b", "p_tie", "p_a_without_tie", "p_b_without_tie", "winner", "winner_without_tie"]
"""What a column of a submission may hold. Without tie: its mass is shared out to both sides in equal halves."""


class Submission(BaseModel):
    """The form of a submission.

    Attributes:
        id: The column of the ids.
        columns: The other columns, in order, and what each holds.
        labels: What the classes are called in a `winner` column.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = "id"
    columns: dict[str, Content]
    labels: dict[str, str] = Field(default_factory=lambda: {"a": "model_a", "b": "model_b", "tie": "tie"})
