"""The one place that picks what runs a generative judge."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from tiebreak.errors import UsageError
from tiebreak.judges.generative.backend import Backend

if TYPE_CHECKING:
    from tiebreak.judges.generative.judge import GenerativeJudge
    from tiebreak.judges.generative.settings import Settings
    from tiebreak.judges.runtime import Runtime

_CLASSES: Final = {
    "transformers": ("tiebreak.judges.generative.local", "LocalBackend"),
    "vllm": ("tiebreak.judges.generative.vllm.backend", "VllmBackend"),
    "openai": ("tiebreak.judges.generative.served.backend", "ServedBackend"),
}


class Kind(Protocol):
    """A class of backends."""

    @classmethod
    def of(cls, settings: Settings, runtime: Runtime, directory: Path, judge: GenerativeJudge) -> Backend:
        """The backend for one judge.

        Args:
            settings: Of the judge.
            runtime: Choices of this run.
            directory: The bundle: weights or adapter, tokenizer.
            judge: The judge, whose `renderer`, `tree`, `base()` and (here alone) `network` are read when needed.

        Raises:
            UsageError: A choice does not apply to this backend.
            MissingExtraError: What it runs on is not installed.
        """
        ...


def name_of(settings: Settings, runtime: Runtime) -> str:
    """Which backend runs: the one that was asked for, else the judge's own."""
    return runtime.backend or settings.backend


def of(settings: Settings, runtime: Runtime, directory: Path, judge: GenerativeJudge) -> Backend:
    """The backend that runs a judge.

    Raises:
        UsageError: The judge's model lies behind a server and another backend was asked for, or a server was named for
            a backend that has none.
    """
    check(settings, runtime, directory)
    module, found = _CLASSES[name_of(settings, runtime)]
    kind: type[Kind] = getattr(import_module(module), found)
    return kind.of(settings, runtime, directory, judge)


def check(settings: Settings, runtime: Runtime, directory: Path) -> None:
    """Whether the choices of a run suit a judge, before anything is loaded.

    Raises:
        UsageError: As of `of`.
    """
    name = name_of(settings, runtime)
    if runtime.server is not None and name != "openai":
        raise UsageError(
            f"--server {runtime.server}: the backend {name} has no server",
            expected="--server with the backend openai",
            mend="--backend openai",
        )
    if name != "openai" and not holds_weights(settings, directory):
        raise UsageError(
            f"--backend {name}: this bundle has no weights, its model lies behind a server",
            expected="--backend openai",
        )


def holds_weights(settings: Settings, directory: Path) -> bool:
    """Whether the bundle has a model, or refers to one on this machine."""
    return settings.base is not None or (directory / "config.json").is_file()
