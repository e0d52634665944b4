"""A generative judge out of a language model: no weight is loaded, nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tiebreak import row_hashes
from tiebreak.bundle import Manifest
from tiebreak.errors import DataError, UsageError
from tiebreak.judges import wrapping
from tiebreak.judges.base import Base, resolve
from tiebreak.judges.base.loading import checkpoint, language_model, read_tokenizer
from tiebreak.judges.base.locate import weight_files
from tiebreak.judges.finetuned import making
from tiebreak.judges.generative import shots as examples
from tiebreak.judges.generative.judge import GenerativeJudge
from tiebreak.judges.generative.settings import SPELLINGS, BackendName, Settings, Shots
from tiebreak.judges.generative.shots import Shot
from tiebreak.judges.generative.verdicts import Tree, Verdicts
from tiebreak.render import Renderer, Template

SHOT_LENGTH = 512
"""Tokens of one example at most when nobody says."""


def make(
    base: Base,
    *,
    name: str | None = None,
    template: Template,
    verdicts: Verdicts | None = None,
    shots: Sequence[Shot] = (),
    shot_length: int = SHOT_LENGTH,
    adapter: Path | None = None,
    backend: BackendName = "transformers",
    quantize: Literal["nf4"] | None = None,
    soft_capping: bool = True,
    swap: str = "both",
    self_contained: bool = False,
) -> GenerativeJudge:
    """Make a generative judge of a language model.

    Args:
        base: The model. Where it is a folder of an adapter alone, that adapter's configuration names its base.
        name: Of the judge; None: the last part of the base's name.
        template: How a comparison is asked.
        verdicts: How the model spells each verdict; None: as suits the last words of the template.
        shots: Examples that every comparison is asked after.
        shot_length: Tokens of one example at most.
        adapter: Folder of a peft adapter of a language model.
        backend: What runs it when nobody says.
        quantize: nf4 where the base is to be held in 4 bits.
        soft_capping: Whether Gemma 2 keeps the soft caps on its attention logits.
        swap: The orders it judges when nobody says.
        self_contained: Copy the weights into the bundle instead of referring to them.

    Raises:
        UsageError: The model is not there, spellings of two verdicts cannot be told apart, or there is no room.
        DataError: It is no causal language model.
    """
    base, adapter = _adapter(base, adapter)
    _check(base)
    verdicts = verdicts or SPELLINGS.get(template.name, Verdicts())
    pinned = making.pin(base)
    title = name or Path(base.name).name
    with making.workspace() as directory:
        if adapter is not None:
            wrapping.copy_adapter(adapter, directory, pinned)
        if self_contained:
            making.copy_base(pinned, directory)
        tokenizer = read_tokenizer(_tokenizer_folder(base, adapter))
        Tree.of(verdicts, tokenizer)
        settings = Settings(
            base=None if self_contained else pinned, adapter=adapter is not None, pooling="last",
            template=Settings.fitting(template), fingerprint=making.write_tokenizer(tokenizer, template, directory),
            quantize=quantize, soft_capping=soft_capping, swap=swap, verdicts=verdicts, backend=backend,
            shots=_shots(shots, template, tokenizer, verdicts, shot_length),
        )  # fmt: skip
        (directory / making.CARD).write_text(card(title, settings), encoding="utf-8")
        if shots:
            (directory / examples.FILE).write_bytes(examples.dumps(shots))
            (directory / row_hashes.TRAINED).write_bytes(row_hashes.trained_rows(examples.table(shots)))
    manifest = Manifest(
        kind=GenerativeJudge.kind, name=title, swap_equivariant=settings.equivariant, settings=settings.document(),
        versions=making.versions(),
    )  # fmt: skip
    return GenerativeJudge(manifest, directory, temporary=True)


def card(name: str, settings: Settings) -> str:
    """The card of a judge that was not trained."""
    base = "inside this bundle" if settings.base is None else settings.base.name
    spelled = "; ".join(
        f"{verdict}: {', '.join(repr(text) for text in texts)}"
        for verdict, texts in settings.verdicts.model_dump().items()
    )
    examples = f"after {settings.shots.count} examples" if settings.shots else "without examples"
    return (
        f"# {name}\n\n"
        f"A generative judge of tiebreak: a language model is asked which of two answers a person would prefer.\n\n"
        f"- model: {base}{' with an adapter' if settings.adapter else ''}\n"
        f"- template: {settings.template.name}, at most {settings.template.max_length:,} tokens, {examples}\n"
        f"- verdicts: {spelled}\n\n"
        "```\ntiebreak predict votes.parquet --judge THIS_FOLDER -o predictions.parquet\n```\n"
    )


def _adapter(base: Base, adapter: Path | None) -> tuple[Base, Path | None]:
    """The base and the adapter, also where only the adapter was named."""
    folder = Path(base.name).expanduser()
    if adapter is None and (folder / wrapping.ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file():
        document = wrapping.document_of(folder / wrapping.ADAPTER_CONFIG)
        named = str(document.get("base_model_name_or_path") or "")
        if not named:
            raise DataError(f"{folder}: {wrapping.ADAPTER_CONFIG} names no base", mend=f"BASE --adapter {folder}")
        adapter, base = folder, Base(name=named, revision=base.revision or document.get("revision"))
    if adapter is not None:
        wrapping.adapter_file(adapter)
    return base, adapter


def _check(base: Base) -> None:
    """Refuse what is no language model, from the configuration and the headers of the files."""
    from safetensors import safe_open

    from tiebreak.judges.generative.head import asking

    model = language_model(base, meta=True)
    asking(model, ())
    if model.config.get_text_config().tie_word_embeddings:
        return
    located = resolve(base)
    names: set[str] = set()
    for path in [] if located.gguf else weight_files(located):
        with safe_open(path, framework="np") as file:
            names |= set(file.keys())
    if names and not any("lm_head" in key or "embed_out" in key for key in names):
        head = next((key for key in sorted(names) if key.startswith(("score.", "classifier."))), None)
        raise DataError(
            f"base {base.name!r}: no head over the vocabulary among its weights"
            + (f", but that of a classifier ({head})" if head else ""),
            expected="the checkpoint of a language model, with lm_head.weight",
            mend=f"tiebreak wrap {base.name} -o JUDGE" if head else "",
        )


def _tokenizer_folder(base: Base, adapter: Path | None) -> Path:
    """An adapter that was saved with its tokenizer was trained with that one."""
    if adapter is not None and (adapter / "tokenizer.json").is_file():
        return adapter
    return checkpoint(resolve(base))


def _shots(
    shots: Sequence[Shot], template: Template, tokenizer: Any, verdicts: Verdicts, longest: int
) -> Shots | None:  # fmt: skip
    if not shots:
        return None
    renderer = Renderer(template, tokenizer)
    tokens = len(examples.prefix(shots, renderer.at(longest), verdicts))
    left = template.max_length - tokens
    if left < renderer.least_length:
        raise UsageError(
            f"{len(shots)} examples take {tokens:,} of {template.max_length:,} tokens: no comparison fits behind them",
            expected="a larger --max-length, fewer examples, or shorter ones",
            mend=f"--max-length {tokens + max(512, renderer.least_length)}",
        )
    return Shots(count=len(shots), max_length=longest, tokens=tokens)
