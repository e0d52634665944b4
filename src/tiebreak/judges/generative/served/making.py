"""A generative judge out of a model behind a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from tiebreak import samples
from tiebreak.bundle import Manifest
from tiebreak.errors import UsageError
from tiebreak.judges.base import Base, resolve
from tiebreak.judges.base.loading import checkpoint, read_tokenizer
from tiebreak.judges.finetuned import making
from tiebreak.judges.generative.judge import GenerativeJudge
from tiebreak.judges.generative.reading import Reading
from tiebreak.judges.generative.served import messages
from tiebreak.judges.generative.served.client import remember
from tiebreak.judges.generative.served.settings import Served
from tiebreak.judges.generative.settings import SPELLINGS, Settings
from tiebreak.judges.generative.verdicts import Tree, Verdicts
from tiebreak.render import Template

BYTES_A_TOKEN: Final = 4
"""Where a budget is counted in bytes: about as many as a token of English has."""

LETTER: Final = "Answer with one letter alone and nothing else: A, B or C."
"""The last words of a chat, in the place of a template's beginning of an answer: a chat cannot be told how to begin."""

CHAT_SPELLINGS: Final = Verdicts(
    a=("A", " A", "[[A", "**A"), b=("B", " B", "[[B", "**B"), tie=("C", " C", "[[C", "**C")
)
"""What models write when they are asked for a letter."""


def make(
    served: Served,
    *,
    template: Template,
    name: str | None = None,
    tokenizer: str | None = None,
    verdicts: Verdicts | None = None,
    reads: Literal["tokens", "text"] = "tokens",
    reading: Reading | None = None,
    swap: str = "both",
) -> GenerativeJudge:
    """Make a generative judge of a served model. Nothing is asked of the server.

    Args:
        served: The server; from here on it is one that this user has named.
        template: How a comparison is asked. Over the chat API the beginning of an answer is left out.
        name: Of the judge; None: that of the model.
        tokenizer: The model's tokenizer: a folder, hub id, GGUF file or package:NAME. The completions API needs it;
            a chat counts its budget in it, or in bytes.
        verdicts: How the model spells each verdict; None: as suits template and API.
        reads: tokens: the probabilities of verdicts. text: a verdict that is written after some reasoning.
        reading: How texts are written and read.
        swap: The orders it judges when nobody says.

    Raises:
        UsageError: The tokenizer is missing or not there, or spellings cannot be told apart.
        DataError: The tokenizer cannot be read.
    """
    if reads == "text" and served.api != "chat":
        served = served.model_copy(update={"api": "chat"})
    if served.api == "completions" and tokenizer is None:
        raise UsageError(
            "the completions API takes token ids, and no tokenizer was named",
            expected="the tokenizer of the served model, or --api chat, which takes texts",
            mend="--tokenizer FOLDER",
        )
    own = _tokenizer(tokenizer)
    if served.api == "chat":
        own, template = messages.tokenizer(own), _for_chat(template)
        verdicts = verdicts or CHAT_SPELLINGS
    verdicts = verdicts or SPELLINGS.get(template.name, Verdicts())
    Tree.of(verdicts, own)
    remember(served.url)
    title = name or Path(served.model).name
    with making.workspace() as directory:
        settings = Settings(
            base=None, adapter=False, template=Settings.fitting(template), swap=swap, verdicts=verdicts,
            fingerprint=making.write_tokenizer(own, template, directory), backend="openai", served=served, reads=reads,
            reading=(reading or Reading()) if reads == "text" else None,
        )  # fmt: skip
        (directory / making.CARD).write_text(_card(title, settings, served), encoding="utf-8")
    manifest = Manifest(
        kind="generative", name=title, swap_equivariant=settings.equivariant, settings=settings.document(),
        versions=making.versions(),
    )  # fmt: skip
    return GenerativeJudge(manifest, directory, temporary=True)


def check(judge: GenerativeJudge) -> dict[str, Any]:
    """Ask about one comparison of our own, and give the report: a judge that cannot do this can do nothing.

    Raises:
        ResourceError: The server does not answer as it should.
        DataError: It answers, but not with a verdict.
    """
    judge.score(samples.votes().head(1))
    return judge.report


def _tokenizer(name: str | None) -> Any:
    return None if name is None else read_tokenizer(checkpoint(resolve(Base(name=name))))


def _for_chat(template: Template) -> Template:
    """Every chat is one; what the template would have an answer begin with becomes a request for one letter."""
    suffix = LETTER if template.suffix.endswith("[[") else template.suffix
    return Template.model_validate(template.model_dump() | {"chat": True, "suffix": suffix})


def _card(name: str, settings: Settings, served: Served) -> str:
    reads = "the probabilities of its verdicts" if settings.reads == "tokens" else "the verdict at the end of its prose"
    return (
        f"# {name}\n\n"
        "A generative judge of tiebreak: which of two LLM answers would a person prefer?\n\n"
        f"- model: {served.model} behind {served.url} ({served.api}); this bundle has no weights\n"
        f"- read: {reads}\n"
        f"- template: {settings.template.name}, at most {settings.template.max_length:,} "
        f"{'tokens' if served.api == 'completions' else 'tokens of the tokenizer in this folder'}\n\n"
        "```\ntiebreak predict votes.parquet --judge THIS_FOLDER -o predictions.parquet\n```\n"
    )
