"""Which credentials of Kaggle are here: their places are told, their values are known only to be struck out.

The client reads them by itself. tiebreak looks for two reasons: to say in time that there are none, and so that none
ever comes through in what the client prints.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tiebreak.errors import UsageError

HIDDEN: Final = "[hidden]"
WAYS: Final = (
    "one of three: the variable KAGGLE_API_TOKEN, or the file ~/.kaggle/access_token, with a token from "
    "kaggle.com/settings/api; the older kaggle.json in ~/.kaggle, or KAGGLE_USERNAME with KAGGLE_KEY; a login by "
    "browser, `kaggle auth login`"
)
_SHAPES: Final = (
    re.compile(r"(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9+/=._~-]{8,}"),
    re.compile(r"()\bKGAT_\w+"),
    re.compile(r"(?i)([\"']?\b(?:key|token|access_token|refresh_token)[\"']?\s*[:=]\s*[\"'])[^\"'\s]{8,}"),
    re.compile(r"(?i)([?&](?:x-goog-[a-z-]+|signature|upload_id|token|googleaccessid)=)[^&\s\"']+"),
    re.compile(r"(//)[^/\s:@]+:[^/\s@]+(?=@)"),
)
_SHORTEST: Final = 6


@dataclass(frozen=True)
class Credentials:
    """What there is.

    Attributes:
        places: Where credentials were found, in the client's order; never what they are.
        secrets: Their values. Not part of `repr`.
    """

    places: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def scrub(self, text: str) -> str:
        """The text with every credential, and all that looks like one, struck out."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            if len(secret) >= _SHORTEST:
                text = text.replace(secret, HIDDEN)
        for shape in _SHAPES:
            text = shape.sub(rf"\1{HIDDEN}", text)
        return text

    def require(self) -> None:
        """Say how to sign in, unless one is signed in.

        Raises:
            UsageError: There are no credentials.
        """
        if not self.places:
            raise UsageError("no credentials of Kaggle here", expected=WAYS, mend="kaggle auth login")


def find(environment: Mapping[str, str] = os.environ) -> Credentials:
    """Look where the client looks: variables and files, nothing else."""
    found = list(_everything(environment))
    return Credentials(tuple(dict.fromkeys(place for place, _ in found)), tuple({value for _, value in found}))


def _everything(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    folder = Path(environment.get("HOME") or Path.home()) / ".kaggle"
    if token := environment.get("KAGGLE_API_TOKEN", "").strip():
        # The client takes the name of a file here too.
        named = _read(Path(token))
        yield "KAGGLE_API_TOKEN", named or token
    for name in ("access_token", "access_token.txt"):
        if token := _read(folder / name):
            yield f"~/.kaggle/{name}", token
    yield from _older(environment, folder)
    login = _json(folder / "credentials.json")
    if login.get("refresh_token"):
        for key in ("refresh_token", "access_token"):
            if login.get(key):
                yield "kaggle auth login", str(login[key])


def _older(environment: Mapping[str, str], folder: Path) -> Iterator[tuple[str, str]]:
    """A user and a key; the client puts them together from a file and from variables."""
    named = environment.get("KAGGLE_CONFIG_DIR")
    config = Path(environment.get("XDG_CONFIG_HOME") or folder.parent / ".config") / "kaggle"
    for place in [Path(named)] if named else [folder, config]:
        held = _json(place / "kaggle.json")
        user = environment.get("KAGGLE_USERNAME") or held.get("username")
        key = environment.get("KAGGLE_KEY") or held.get("key")
        if user and key:
            yield "KAGGLE_KEY" if environment.get("KAGGLE_KEY") else "kaggle.json", str(key)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _json(path: Path) -> dict[str, object]:
    try:
        held = json.loads(_read(path) or "{}")
    except ValueError:
        return {}
    return held if isinstance(held, dict) else {}
