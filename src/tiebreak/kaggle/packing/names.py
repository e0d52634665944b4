"""Titles and slugs of what a pack makes on Kaggle: a slug is what Kaggle makes of its title, and both have limits."""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Final

from tiebreak.errors import UsageError
from tiebreak.kaggle.metadata import slugs

LONGEST: Final = 50
"""Characters of a title or slug that everything on Kaggle may have."""

SHORTEST: Final = 6


def notebook(judge: str, competition: str, title: str | None = None, slug: str | None = None) -> tuple[str, str]:
    """Title and slug of the notebook.

    Args:
        judge: Name of the judge.
        competition: Slug of the competition.
        title: As chosen.
        slug: As chosen.

    Raises:
        UsageError: They are too short or too long, or the slug is not that of the title.
    """
    if title is None:
        title = slug.replace("-", " ") if slug else shortened(f"{_ours(judge)} {competition.replace('-', ' ')}")
    if not slugs.is_plain(title):
        raise UsageError(
            f"title {title!r}: what slug Kaggle makes of it is not certain", expected="plain ASCII letters and digits",
            mend=f"--title {_plain(title)!r}",
        )  # fmt: skip
    made = slugs.slugify(title)
    if slug is not None and slug != made:
        raise UsageError(
            f"slug {slug!r} is not that of the title {title!r}, and Kaggle goes by the title",
            expected=f"slug {made!r}", mend="leave one of the two out",
        )  # fmt: skip
    if len(made) < SHORTEST or max(len(made), len(title)) > LONGEST:
        raise UsageError(
            f"title {title!r} has {len(title)} characters, its slug {made!r} has {len(made)}",
            expected=f"{SHORTEST} to {LONGEST} characters in both",
            mend="--title with more words" if len(made) < SHORTEST else f"--title {shortened(title)!r}",
        )
    return title, made


def wheels(slug: str) -> str:
    """Slug of the dataset of wheels for a notebook; two notebooks have two, even where only their last words differ."""
    return _distinct(f"tiebreak-wheels-{slug.removeprefix('tiebreak-')}")


def model(judge: str) -> str:
    """Slug of the model."""
    return _distinct(slugs.slugify(_ours(judge)))


def titled(slug: str) -> str:
    """A title whose slug is this one."""
    return slug.replace("-", " ")


def shortened(text: str, longest: int = LONGEST) -> str:
    """The first words of a title or slug, as many as fit."""
    if len(text) <= longest:
        return text
    cut = text[: longest + 1]
    place = max(cut.rfind("-"), cut.rfind(" "))
    return cut[: place if place >= longest // 2 else longest].rstrip(" -")


def _distinct(slug: str) -> str:
    if len(slug) <= LONGEST:
        return slug
    return f"{shortened(slug, LONGEST - 5)}-{hashlib.sha256(slug.encode()).hexdigest()[:4]}"


def _ours(judge: str) -> str:
    plain = slugs.slugify(_plain(judge)).replace("-", " ") or "judge"
    return plain if plain.startswith("tiebreak") else f"tiebreak {plain}"


def _plain(text: str) -> str:
    """Without marks on letters, and without what ASCII has not."""
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().replace("&", " ").strip()
