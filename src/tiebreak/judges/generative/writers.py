"""The one place that picks what writes texts: a model on this machine, vLLM, or a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Self

from tiebreak.errors import UsageError
from tiebreak.judges.runtime import Runtime

if TYPE_CHECKING:
    from tiebreak.judges.generative.writing import Writer

SERVED: Final = "served:"
"""Prefix of a model behind a server: `served:URL#MODEL`."""

_CLASSES: Final = {
    "transformers": ("tiebreak.judges.generative.local_writing", "LocalWriter"),
    "vllm": ("tiebreak.judges.generative.vllm.writer", "VllmWriter"),
    "openai": ("tiebreak.judges.generative.served.writer", "ServedWriter"),
}
"""Each has a class method `load(model, runtime)`; the model is a `Base`, for openai a `Served`."""


@dataclass(frozen=True)
class Spec:
    """A model that writes.

    Attributes:
        place: A folder, GGUF file, package:NAME or hub id as in `Base.name`; or the URL of a server.
        model: The name that the server knows it by; None for a model on this machine.
        settings: More fields of `served.settings.Served`, such as prices; only of a model behind a server.
    """

    place: str
    model: str | None = None
    settings: dict[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `PLACE` or `served:URL#MODEL`.

        Raises:
            UsageError: It is neither.
        """
        if not text.startswith(SERVED):
            if not text:
                raise UsageError(
                    "a model without a place", expected="a folder, package:NAME, hub id or served:URL#MODEL"
                )
            return cls(text)
        url, _, model = text.removeprefix(SERVED).partition("#")
        if not (url.startswith(("http://", "https://")) and model):
            raise UsageError(
                f"model {text!r}", expected="served:URL#MODEL, for example served:http://127.0.0.1:8000/v1#qwen"
            )
        return cls(url, model)

    def identity(self) -> str:
        """What tells this model from any other: the digest of its weights, or server and name.

        Raises:
            UsageError: The model is not there.
        """
        if self.model is not None:
            return f"{self.place}#{self.model}"
        from tiebreak.judges.base.identity import digest
        from tiebreak.judges.base.locate import resolve, weight_files
        from tiebreak.judges.base.names import Base

        return digest(weight_files(resolve(Base(name=self.place))))


def writer(spec: Spec | str, runtime: Runtime | None = None) -> Writer:
    """What writes with a model.

    Args:
        spec: The model, or its text for `Spec.parse`.
        runtime: `backend` vllm runs a model of this machine by vLLM; devices, precision and the longest conversation
            (`max_length`) as for judges.

    Raises:
        UsageError: The model is not there, or a choice does not apply to it.
        MissingExtraError: What runs it is not installed.
    """
    spec, runtime = Spec.parse(spec) if isinstance(spec, str) else spec, runtime or Runtime()
    if spec.model is not None:
        from tiebreak.judges.generative.served.settings import Served

        served = Served.model_validate({"url": spec.place, "model": spec.model, "api": "chat", **spec.settings})
        return _made("openai", served, runtime)
    if runtime.backend == "openai":
        raise UsageError(f"model {spec.place!r} and the backend openai", expected="served:URL#MODEL for a server")
    from tiebreak.judges.base.names import Base

    return _made(runtime.backend or "transformers", Base(name=spec.place), runtime)


def _made(backend: str, model: object, runtime: Runtime) -> Writer:
    if backend == "transformers":
        from tiebreak.judges.base.loading import require

        require("writing")
    module, name = _CLASSES[backend]
    made: Writer = getattr(import_module(module), name).load(model, runtime)
    return made
