"""A judge with a network, from its bundle: tokenizer, template and weights are read when the first vote arrives."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

from tiebreak import bundle
from tiebreak.bundle import Manifest, TrainingSource
from tiebreak.calibration import Calibration
from tiebreak.errors import BundleError, UsageError
from tiebreak.judges.base import Base, Head, resolve
from tiebreak.judges.base.loading import config, read_tokenizer, require
from tiebreak.judges.base.locate import verify
from tiebreak.judges.finetuned.settings import Settings
from tiebreak.judges.judge import Judge
from tiebreak.judges.runtime import AUTO, Runtime
from tiebreak.render import Template

if TYPE_CHECKING:
    from tiebreak.engine import Engine
    from tiebreak.judges.model import JudgeModel
    from tiebreak.render import Renderer


_SPLITTERS: Final = ("transformers", "tokenizers")
_TABLE_OF_POSITIONS: Final = frozenset({"bert"})
"""Families that look positions up in a table, which ends."""


class FinetunedJudge(Judge):
    """What classifier and siamese judges share.

    Args:
        manifest: What `judge.json` says.
        directory: The folder with the files of the bundle; they are read when they are needed.
        temporary: Whether the folder is to go when the judge does.

    Attributes:
        report: What the last scoring took: device, precision, tokens, seconds, and what was saved.
    """

    kind: ClassVar[str]
    settings_kind: ClassVar[type[Settings]]

    def __init__(self, manifest: Manifest, directory: Path, *, temporary: bool = False) -> None:
        super().__init__(manifest)
        require(f"a {self.kind} judge")
        self.settings = self.settings_kind.of(manifest)
        self.runtime = Runtime()
        self.report: dict[str, Any] = {}
        self._directory = directory
        if temporary:
            weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)

    @classmethod
    def from_bundle(cls, manifest: Manifest, directory: Path) -> Self:
        """Make the judge from a bundle whose manifest and files were checked already. No weight is read yet."""
        return cls(manifest, directory)

    def weights(self) -> Mapping[str, bytes | Path]:
        """The files of the bundle beside `judge.json`, by name."""
        return {
            path.name: path
            for path in sorted(self._directory.iterdir())
            if path.is_file() and path.name != bundle.MANIFEST
        }

    def run_with(self, runtime: Runtime) -> None:
        """Say how to run. What was loaded already is dropped.

        Raises:
            UsageError: A choice does not apply to this kind of judge or to this bundle.
        """
        if runtime.base is not None and self.settings.base is None:
            raise UsageError(
                f"--base {runtime.base}: this bundle holds all its weights", expected="no --base with this judge"
            )
        if runtime.precision == "int8" and self.settings.four_bits:
            raise UsageError(
                f"--precision int8: the weights of this judge are in 4 bits ({self.settings.four_bits}) already",
                expected="the precision its layers compute in: auto, fp32, bf16 or fp16",
            )
        self._check_backend(runtime)
        self.runtime = runtime
        for name in ("renderer", "network", "engine"):
            self.__dict__.pop(name, None)

    def _check_backend(self, runtime: Runtime) -> None:
        """Only a generative judge has a choice of what runs it."""
        if runtime.backend is not None or runtime.server is not None:
            asked = f"--backend {runtime.backend}" if runtime.backend is not None else f"--server {runtime.server}"
            raise UsageError(f"{asked}: a {self.kind} judge runs on torch alone", expected="a generative judge")

    def ready(self) -> Self:
        """Load tokenizer and weights now and not at the first vote: what a service does before it says it is up.

        Raises:
            BundleError: The tokenizer no longer renders as it did at training.
            DataError: The base is another one than the judge was made on.
            UsageError: The base is not on this machine.
        """
        _ = self.renderer, self.engine
        return self

    @cached_property
    def renderer(self) -> Renderer:
        """Comparisons -> token ids, checked against the fingerprint that was recorded at training.

        Raises:
            BundleError: Template and tokenizer of the bundle give other tokens than they did.
            UsageError: `max_length` has no room for the template's own words, or is beyond what the model can take.
        """
        renderer = self._renderer(read_tokenizer(self._directory))
        found = renderer.fingerprint()
        if found != self.settings.fingerprint:
            then = [f"{name}=={self.manifest.versions[name]}" for name in _SPLITTERS if name in self.manifest.versions]
            raise BundleError(
                f"{self._directory}: template and tokenizer no longer give the tokens that the judge was trained on "
                f"(fingerprint {found[:16]}...)",
                expected=f"fingerprint {self.settings.fingerprint[:16]}...; a file was altered, or a library splits "
                "texts in another way than it did",
                mend=f"pip install {' '.join(then)}" if then else "",
            )
        return renderer if self.runtime.max_length is None else renderer.at(self.runtime.max_length)

    def _renderer(self, tokenizer: Any) -> Renderer:
        """How this kind of judge renders, before any other length is asked for."""
        from tiebreak.render import Renderer

        return Renderer(self.settings.template, tokenizer)

    @cached_property
    def network(self) -> JudgeModel:
        """The weights, read from the bundle and its base.

        Raises:
            DataError: The base is another one than the judge was made on.
            UsageError: The base is not on this machine.
        """
        from tiebreak.judges.finetuned import loading

        return loading.restore(self.settings, self.base(), self._directory, self.kind, self.runtime)

    @cached_property
    def engine(self) -> Engine:
        """The network as it runs on this machine."""
        from tiebreak.engine import Engine, Options
        from tiebreak.judges.finetuned import loading

        run, precision = self.runtime, self.runtime.precision
        if precision == AUTO and self.settings.compression is not None:
            precision = loading.own_precision(self.settings.compression, self.network, run.devices)
        return Engine(self.network.pooled, Options(max_tokens=run.max_tokens, precision=precision, devices=run.devices))

    def base(self) -> Base:
        """Where the weights below the adapter are; their digest and their longest input were checked.

        Raises:
            DataError: The base is another one than the judge was made on.
            UsageError: The base is not on this machine, or has fewer positions than the template asks for.
        """
        recorded = self.settings.base
        if recorded is None:
            base = Base(name=str(self._directory.resolve()))
        elif self.runtime.base is None:
            base = recorded
        else:
            base = Base(name=self.runtime.base, sha256=recorded.sha256)
        if base.sha256 is not None:
            verify(resolve(base))
        self._check_length(base)
        return base

    def _check_length(self, base: Base) -> None:
        settings = config(base)
        longest = settings.max_position_embeddings if settings.model_type in _TABLE_OF_POSITIONS else None
        asked = self.renderer.template.max_length
        if longest is not None and asked > longest:
            raise UsageError(
                f"max_length {asked}: {base.name} has only {longest} positions",
                expected=f"at most {longest} tokens",
                mend=f"--max-length {longest}",
            )

    @classmethod
    def make(
        cls,
        *,
        name: str,
        model: JudgeModel,
        tokenizer: Any,
        template: Template,
        base: Base,
        head: Head,
        quantize: Literal["nf4"] | None = None,
        soft_capping: bool = True,
        recipe: dict[str, Any] | None = None,
        training: Sequence[TrainingSource] = (),
        metrics: dict[str, Any] | None = None,
        calibration: Calibration | None = None,
        card: str = "",
        self_contained: bool = False,
        folder: Path | None = None,
        files: Mapping[str, bytes] | None = None,
        **own: Any,
    ) -> Self:
        """Make a judge of a trained network. Its weights are written at once, and it scores with what was written.

        Args:
            name: Of the judge.
            model: The trained network.
            tokenizer: The tokenizer it was trained with.
            template: The template it was trained with (of several, the one for prediction).
            base: What it was trained from; a bundle of an adapter refers to it, pinned by revision and digest.
            head: The layer on top.
            quantize: nf4 where the base was in 4 bits.
            soft_capping: Whether Gemma 2 kept the soft caps on its attention logits.
            recipe: The resolved recipe.
            training: The data it was trained on.
            metrics: Figures on votes held out.
            calibration: Fitted on out-of-fold rows.
            card: The card; empty writes a short one.
            self_contained: Copy the weights of the base beside an adapter, so that the bundle needs nothing else.
            folder: Where the temporary folder with the weights is made; None is the system's place.
            files: Further files of the bundle, by name.
            own: Settings that this kind of judge alone has.

        Raises:
            DataError: The tokenizer does not survive being saved.
            UsageError: The base is not on this machine, or the template is not one of this kind of judge.
        """
        from tiebreak.judges.finetuned import making

        with making.workspace(folder) as directory:
            adapter = hasattr(model.model, "peft_config")
            pinned = making.pin(base) if adapter else None
            model.files(directory, pinned)
            if adapter and self_contained:
                making.copy_base(base, directory)
                pinned = None
            settings = cls.settings_kind(
                base=pinned, adapter=adapter, head=head, template=cls.settings_kind.fitting(template),
                fingerprint=making.write_tokenizer(tokenizer, template, directory), pooling=model.pooled.pooling,
                quantize=quantize, soft_capping=soft_capping, recipe=recipe, **own,
            )  # fmt: skip
            text = card or making.card(cls.kind, name, settings, training)
            (directory / making.CARD).write_text(text, encoding="utf-8")
            for file, content in (files or {}).items():
                (directory / file).write_bytes(content)
        manifest = Manifest(
            kind=cls.kind, name=name, swap_equivariant=settings.equivariant, settings=settings.document(),
            calibration=calibration, training=list(training), metrics=metrics or {}, versions=making.versions(),
        )  # fmt: skip
        return cls(manifest, directory, temporary=True)
