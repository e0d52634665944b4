"""What the client's words mean. It leaves with 0 after many an error: its words are read, not its code alone."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from tiebreak.errors import DataError, ResourceError, TiebreakError, UsageError
from tiebreak.kaggle.remote.credentials import WAYS


@dataclass(frozen=True)
class Answer:
    """What one call of the client gave, with credentials struck out.

    Attributes:
        arguments: The call, without the program.
        code: Its exit code.
        out: What it printed.
        err: What it printed to stderr.
    """

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Both streams, for reading."""
        return f"{self.out}\n{self.err}"

    def json(self) -> Any:
        """The JSON document that stands in the output, after whatever warnings; None if there is none."""
        for found in re.finditer(r"^[\[{]", self.out, re.MULTILINE):
            try:
                return json.JSONDecoder().raw_decode(self.out[found.start() :])[0]
            except ValueError:
                continue
        return None


# Errors after which the client leaves with 0.
_SILENT: Final = re.compile(
    r"^(?:Dataset creation error|Dataset version creation error|Model creation error|Model update error"
    r"|Model instance creation error|Model instance version creation error|Kernel push error)\s*: ?(?P<why>.*)"
    r"|^(?P<upload>Upload unsuccessful: .*)"
    r"|^(?P<folder>Skipping folder: .*|Skipping: .*)"
    r"|^(?P<sources>The following are not valid (?:dataset|competition|kernel) sources.*)"
    r"|^(?P<competition>Could not find competition.*|Could not submit to competition.*)"
    r"|^(?P<cancelled>User cancelled operation)",
    re.MULTILINE,
)
_WARNINGS: Final = re.compile(
    r"^(?:The following are not valid tags.*|Warning: .*|Your kernel title does not resolve.*|Request failed: .*)$",
    re.MULTILINE,
)
_MISSING: Final = re.compile(
    r"\b404\b|not found|does not exist|\b403\b|forbidden|permission .{1,60} (?:was )?denied", re.IGNORECASE
)
_SIGNED_OUT: Final = re.compile(r"Authentication required|\b401\b|unauthori[sz]ed|unauthenticated", re.IGNORECASE)
_NETWORK: Final = re.compile(
    r"Max retries exceeded|Failed to establish|NameResolution|Name or service not known|Connection (?:refused|aborted)"
    r"|ConnectionError|Read timed out|ProxyError|SSLError|RemoteDisconnected",
)
_SERVER: Final = re.compile(r"\b(?:429|5\d\d) (?:Client|Server) Error|Too Many Requests|Service Unavailable")


def missing(answer: Answer) -> bool:
    """Whether Kaggle says that there is no such thing, or none that one may see: it does not tell these apart."""
    return answer.code != 0 and not _SIGNED_OUT.search(answer.said) and bool(_MISSING.search(answer.said))


def warnings(answer: Answer) -> list[str]:
    """What the client regrets without failing."""
    return [found.group(0) for found in _WARNINGS.finditer(answer.said)]


def require(answer: Answer) -> Answer:
    """The answer, if the client did what it was asked to do.

    Raises:
        UsageError: Nobody is signed in, or the client does not know the call.
        ResourceError: Kaggle cannot be reached, or is not well.
        DataError: Kaggle refuses.
    """
    error = _error(answer)
    if error is not None:
        raise error
    return answer


def _error(answer: Answer) -> TiebreakError | None:
    silent = _SILENT.search(answer.said)
    if silent is not None:
        return _silent(answer, silent)
    if answer.code == 0:
        return None
    call = f"kaggle {' '.join(answer.arguments[:3])}"
    if _SIGNED_OUT.search(answer.said):
        return UsageError(f"{call}: Kaggle does not accept the credentials", expected=WAYS, mend="kaggle auth login")
    why = reason(answer)
    if _NETWORK.search(answer.said):
        return ResourceError(f"{call}: Kaggle cannot be reached: {why}", mend="the same command once the network is up")
    if _SERVER.search(answer.said):
        return ResourceError(f"{call}: {why}", mend="the same command in some minutes; it goes on where this one ended")
    if "usage:" in answer.err and answer.code == 2:
        return UsageError(
            f"{call}: this version of the client does not know the call: {why}",
            mend='pip install --upgrade "tiebreak[kaggle]"',
        )
    return DataError(f"{call}: {why}", mend=_mend(why))


def _silent(answer: Answer, found: re.Match[str]) -> TiebreakError:
    call = f"kaggle {' '.join(answer.arguments[:3])}"
    if found["cancelled"]:
        return UsageError(f"{call}: cancelled")
    if found["upload"] or found["folder"]:
        # The client goes on and makes a version without that file.
        files = ", ".join(m.group(0) for m in re.finditer(r"^(?:Upload unsuccessful|Skipping).*", answer.out, re.M))
        return DataError(
            f"{call}: {files}",
            expected="every file uploaded: a version without one is of no use",
            mend="the same command again: what was uploaded is not uploaded twice",
        )
    if found["why"] is not None:
        return DataError(f"{call}: {found['why'] or 'refused without a reason'}", mend=_mend(found["why"]))
    why = found["sources"] or found["competition"]
    return DataError(f"{call}: {why}", mend=_mend(why))


def _mend(why: str) -> str:
    """What helps, where that is known."""
    for pattern, mend in _MENDS:
        if re.search(pattern, why, re.IGNORECASE):
            return mend
    return ""


_MENDS: Final = (
    (r"already in use", "tiebreak kaggle pack with another --title or --slug"),
    (r"competition", "join the competition and accept its rules on its page on Kaggle"),
    (r"valid (?:dataset|model) sources", "tiebreak kaggle status shows what is on Kaggle; push without --only"),
    (r"phone|verif", "verify the phone number of the account in Kaggle's settings: GPUs need it"),
    (r"quota|limit|maximum", "wait until Kaggle allows more, or push with another --accelerator"),
    (r"denied|forbidden|403", "sign in as the owner whom the pack names, or pack with --user YOU"),
)


def reason(answer: Answer) -> str:
    """The one line of an error that says why."""
    lines = [line.strip() for line in (answer.err or answer.out).splitlines() if line.strip()]
    lines = [line for line in lines if not _WARNINGS.match(line) and not line.startswith("usage:")]
    return lines[-1] if lines else f"exit code {answer.code} without a word"
