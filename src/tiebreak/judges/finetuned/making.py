"""The files of a bundle: weights, tokenizer, card."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import tiebreak
from tiebreak.bundle import TrainingSource
from tiebreak.errors import DataError
from tiebreak.judges.base import Base, resolve
from tiebreak.judges.base.loading import checkpoint, read_tokenizer
from tiebreak.judges.base.locate import verify, weight_files
from tiebreak.judges.base.names import Located
from tiebreak.judges.base.quiet import quiet
from tiebreak.judges.finetuned.settings import Settings
from tiebreak.render import Renderer, Template

VERSIONS: Final = ("torch", "transformers", "tokenizers", "peft")
CARD: Final = "README.md"


@contextmanager
def workspace(place: Path | None = None) -> Iterator[Path]:
    """A temporary folder for the files of a judge; it stays when the block ends well, and its judge removes it."""
    directory = Path(mkdtemp(prefix="tiebreak-", dir=place))
    try:
        yield directory
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def write_tokenizer(tokenizer: Any, template: Template, directory: Path) -> str:
    """Write the tokenizer, read it back, and give the fingerprint of its rendering.

    Raises:
        DataError: What was read back renders otherwise than what was written: transformers cannot keep this tokenizer.
    """
    with quiet():
        tokenizer.save_pretrained(directory)
    fingerprint = Renderer(template, read_tokenizer(directory)).fingerprint()
    if fingerprint != Renderer(template, tokenizer).fingerprint():
        raise DataError(
            f"{type(tokenizer).__name__}: saved and read again it gives other tokens",
            expected="a tokenizer that is the same after save_pretrained",
            mend="take the tokenizer.json of the base as it is: PreTrainedTokenizerFast(tokenizer_file=...)",
        )
    return fingerprint


def pin(base: Base) -> Base:
    """The base with its revision and the digest of its weights, and without what only dry runs need."""
    located = resolve(base)
    return located.base.model_copy(update={"sha256": verify(located), "shape": None})


def copy_base(base: Base, directory: Path) -> None:
    """Copy configuration and weights of a base into a bundle."""
    folder = checkpoint(resolve(base))
    index = folder / "model.safetensors.index.json"
    files = [folder / "config.json", *weight_files(Located(base, folder)), *([index] if index.is_file() else [])]
    for path in files:
        shutil.copyfile(path, directory / path.name)


def versions() -> dict[str, str]:
    """The versions that decide what a bundle gives."""
    return {"tiebreak": tiebreak.__version__} | {name: version(name) for name in VERSIONS}


def card(kind: str, name: str, settings: Settings, training: Sequence[TrainingSource]) -> str:
    """A short card for a judge that has no other."""
    base = "inside this bundle" if settings.base is None else settings.base.name
    trained = ", ".join(f"{source.name} ({source.rows:,} votes)" for source in training) or "not recorded"
    return (
        f"# {name}\n\n"
        f"A {kind} judge of tiebreak: which of two LLM answers would a person prefer?\n\n"
        f"- base: {base}\n"
        f"- weights: {'adapter and head' if settings.adapter else 'head inside the base'}\n"
        f"- template: {settings.template.name}, at most {settings.template.max_length:,} tokens\n"
        f"- trained on: {trained}\n\n"
        "```\ntiebreak predict votes.parquet --judge THIS_FOLDER -o predictions.parquet\n```\n"
    )
