"""What a pack is made from, and what the notebook in it is told. Both are closed: a misspelt key is an error."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from tiebreak.predict.forms import Content, Submission

EMBEDDED: Final = "embedded"


class Predicting(BaseModel):
    """Options of `tiebreak predict` that the notebook passes on; None leaves each to the judge and the machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_length: int | None = None
    max_tokens: int | None = None
    precision: str = "auto"
    swap: str | None = None
    backend: str | None = None


class KernelSettings(BaseModel):
    """What the notebook is told: a cell of it holds exactly these values.

    Attributes:
        competition: Slug of the competition whose data are read.
        test: Name of the file to predict, somewhere under the folder of the competition.
        sample: Name of its sample submission.
        map: Columns of the test file that go by other names, as of `tiebreak predict --map`: ours -> theirs.
        submission: The form of the submission.
        wheelhouse: sha256 of `wheelhouse.json`: the notebook takes the wheels that it was packed with and no others.
        judge: sha256 of the bundle's `judge.json`; None is the judge inside the package.
        bases: Base models that lie beside the bundle: the digest by which the bundle knows each.
        needs_gpu: Whether the judge is hopeless without a GPU; then, without one, `otherwise` does all rows.
        otherwise: The cheaper judge that finishes the rows for which there is no time: "embedded".
        hours: Hours that Kaggle gives a run, less what the notebook keeps in reserve.
        predicting: Options of the run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    competition: str
    test: str = "test.csv"
    sample: str = "sample_submission.csv"
    map: dict[str, str] = Field(default_factory=dict)
    submission: Submission
    wheelhouse: str
    judge: str | None = None
    bases: list[str] = Field(default_factory=list)
    needs_gpu: bool = False
    otherwise: str = EMBEDDED
    hours: float = Field(default=8.5, gt=0)
    predicting: Predicting = Predicting()


__all__ = ["EMBEDDED", "Content", "KernelSettings", "Predicting", "Submission"]
