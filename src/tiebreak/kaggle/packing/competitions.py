"""Competitions whose files are known; of any other one the sample submission says what it wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from tiebreak.errors import DataError, UsageError
from tiebreak.kaggle.settings import Submission
from tiebreak.predict import forms

SAMPLE: Final = "sample_submission.csv"
TEST: Final = "test.csv"

_WSDM: Final = Submission(columns={"winner": "winner_without_tie"})


@dataclass(frozen=True)
class Competition:
    """What a competition gives and wants.

    Attributes:
        slug: The last part of its address.
        test: Name of the file with the rows to be judged.
        sample: Name of its sample submission.
        submission: The form of a submission.
    """

    slug: str
    test: str = TEST
    sample: str = SAMPLE
    submission: Submission = forms.LMSYS


KNOWN: Final = {
    found.slug: found
    for found in (
        Competition("llm-classification-finetuning"),
        Competition("lmsys-chatbot-arena"),
        Competition("wsdm-cup-multilingual-chatbot-arena", test="test.parquet", submission=_WSDM),
    )
}


def find(
    slug: str, sample: Path | None = None, columns: Mapping[str, str] | None = None, test: str | None = None
) -> Competition:
    """The competition: a known one, or what a sample submission, or a user, says of it.

    Args:
        slug: Of the competition.
        sample: Its sample submission on this machine; it has the last word on the form.
        columns: What columns of a submission hold, as of `forms.recognise`; without a sample, all of them.
        test: Name of the file with the rows to be judged; None is that of the known one, else `test.csv`.

    Raises:
        UsageError: It is not known, and nothing says what it wants.
        DataError: The sample cannot be recognised.
    """
    known = KNOWN.get(slug)
    test = test or (known.test if known else TEST)
    if sample is not None:
        if not sample.is_file():
            raise DataError(f"{sample}: there is no such file", expected="the sample submission of the competition")
        return Competition(slug, test, sample.name, forms.recognise(sample, columns))
    if columns:
        return Competition(slug, test, known.sample if known else SAMPLE, forms.spelled(columns))
    if known is None:
        raise _unknown(slug)
    return Competition(slug, test, known.sample, known.submission)


def _unknown(slug: str) -> UsageError:
    near = get_close_matches(slug, KNOWN, n=1, cutoff=0.5)
    return UsageError(
        f"competition {slug!r} is not one whose files are known",
        expected=f"one of {', '.join(KNOWN)}, or any other with its sample submission",
        mend=f"--competition {near[0]}" if near else "--sample sample_submission.csv",
    )
