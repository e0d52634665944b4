"""The official client of OpenAI, one attempt at a time: retries are ours, since they are to be counted and kept."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from tiebreak.errors import MissingExtraError, UsageError
from tiebreak.judges.generative.served import faults
from tiebreak.judges.generative.served.faults import Fault
from tiebreak.judges.generative.served.requests import Request
from tiebreak.judges.generative.served.settings import Served
from tiebreak.storage import cache_folder

if TYPE_CHECKING:
    import openai

KEYS: Final = ("TIEBREAK_API_KEY", "OPENAI_API_KEY")
"""Environment variables that a key is taken from, the first that is set. It is never stored, printed or logged."""

_NO_KEY: Final = "none"
"""The official client wants a key; a server of one's own does not."""


class Client:
    """Sends requests to one server.

    Args:
        served: The server.
        named: Whether the user named the address in this very run.

    Raises:
        MissingExtraError: openai is not installed.
        UsageError: The address is none, or was chosen by a bundle and never by this user.
    """

    def __init__(self, served: Served, *, named: bool = False) -> None:
        if importlib.util.find_spec("openai") is None:
            raise MissingExtraError("openai", "openai", "a judge behind a server")
        check(served, named=named)
        self.served = served
        self._client = self._connect()

    def send(self, request: Request) -> dict[str, Any]:
        """One attempt.

        Raises:
            Fault: There was no usable answer.
        """
        import openai

        try:
            answer: object = self._client.post(request.path, cast_to=object, body=request.body)
        except openai.APITimeoutError as error:
            raise Fault("no answer in time", "again", f"{self.served.timeout:g} s") from error
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise Fault("the connection broke", "again", f"{type(cause).__name__}: {cause}"[:200]) from error
        except openai.APIStatusError as error:
            raise faults.of_status(error) from error
        except (ValueError, openai.OpenAIError) as error:
            raise Fault("the answer is not JSON", "again", str(error)[:200]) from error
        if not isinstance(answer, dict):
            raise Fault("the answer is not JSON", "again", f"a {type(answer).__name__}")
        self._check(answer)
        return answer

    def _check(self, answer: dict[str, Any]) -> None:
        if isinstance(answer.get("error"), dict):  # some gateways say so under a status of success
            raise Fault("an error instead of an answer", "again", str(answer["error"].get("message", ""))[:200])
        model, wanted = answer.get("model"), self.served.answers_as or self.served.model
        if model is not None and model != wanted:
            raise Fault(
                "another model answered", "stop", f"{model!r} instead of {wanted!r}; --answers-as {model} if that is it"
            )

    def models(self) -> list[str]:
        """The names of the models that the server offers.

        Raises:
            Fault: It does not say.
        """
        import openai

        try:
            return sorted(model.id for model in self._client.models.list())
        except openai.APIStatusError as error:
            raise faults.of_status(error) from error
        except (openai.OpenAIError, ValueError, AttributeError, TypeError) as error:
            raise Fault("the server does not say what models it has", "again", str(error)[:200]) from error

    def abandon(self) -> None:
        """Break off what is under way and be ready for more."""
        self.close()
        self._client = self._connect()

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _connect(self) -> openai.OpenAI:
        import openai

        key = next((os.environ[name] for name in KEYS if os.environ.get(name)), _NO_KEY)
        made = openai.OpenAI(
            base_url=self.served.url, api_key=key, max_retries=0, timeout=self.served.timeout,
            http_client=openai.DefaultHttpxClient(trust_env=not on_this_machine(self.served.url)),
        )  # fmt: skip
        weakref.finalize(self, made.close)
        return made


def on_this_machine(url: str) -> bool:
    """Whether an address is of this very machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check(served: Served, *, named: bool) -> None:
    """Refuse to send anything to an address that no user of this machine has ever named.

    Texts and the key would go wherever the author of a bundle wants. The addresses of this machine are free; others
    become known when they are given to `tiebreak wrap served` or with `--server`.

    Raises:
        UsageError: The address is not one, or is unknown.
    """
    parts = urlsplit(served.url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"server {served.url!r}", expected="a URL such as http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query:
        raise UsageError(
            f"server {parts.hostname}: the URL holds more than an address",
            expected=f"a key in the environment ({' or '.join(KEYS)}), not in the URL, which is written down",
        )
    if named:
        remember(served.url)
    elif not on_this_machine(served.url) and served.url not in known():
        raise UsageError(
            f"this judge would send your texts to {served.url}, which nobody here has named yet",
            expected="an address that you trust with them",
            mend=f"--server {served.url}",
        )


def known() -> set[str]:
    """Addresses that the user has named."""
    try:
        return set(_known().read_text(encoding="utf-8").split())
    except OSError:
        return set()


def remember(url: str) -> None:
    """Keep an address that the user named; where nothing can be kept it will have to be named again."""
    if on_this_machine(url) or url in known():
        return
    try:
        _known().parent.mkdir(parents=True, exist_ok=True)
        with _known().open("a", encoding="utf-8") as stream:
            stream.write(f"{url}\n")
    except OSError:
        return


def _known() -> Path:
    return cache_folder() / "served" / "addresses"
