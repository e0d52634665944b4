"""The card of a retrieval judge."""

from __future__ import annotations

from typing import Any, cast

from tiebreak.bundle import Manifest
from tiebreak.train.features import scores
from tiebreak.train.sources import sources


def write(manifest: Manifest, command: str) -> str:
    """The card as Markdown."""
    settings = cast("dict[str, Any]", manifest.settings)
    kernel, index = settings["kernel"], settings["index"]
    found = "every vote is looked at" if index["kind"] == "flat" else f"recall@16 {index['recall']:.3f} against flat"
    return "\n\n".join([
        f"# {manifest.name}",
        "A judge of tiebreak, kind `retrieval`: given a prompt and two answers it predicts P(A), P(B) and P(tie), "
        "which of the two a person would prefer, from what people said of similar prompts with similar answers. "
        "Swapping the answers swaps the probabilities exactly.",
        "## Made by\n\n```\n" + (command or "tiebreak.train.retrieval.train_retrieval") + "\n```\n\n"
        + ", ".join(f"{name} {number}" for name, number in manifest.versions.items()),
        "## How it judges\n\n"
        f"- encoder: {settings['encoder']['name']}, {settings['manner']['max_tokens']} tokens of each text; it is not "
        "in the bundle\n"
        f"- {settings['votes']:,} votes, index {index['kind']} ({found})\n"
        f"- similarity: {1 - kernel['mix']:.2f} of the prompts + {kernel['mix']:.2f} of the answers' differences; "
        f"{kernel['neighbours']} neighbours, bandwidth {kernel['bandwidth']:g}, the prior counts for "
        f"{kernel['shrinkage']:.3g} votes of similarity 1",
        "## Remembers\n\n" + sources(manifest),
        "## How good it is\n\n"
        "Held-out votes, nested cross-validation over groups: rows that share a prompt or an answer pair, or nearly "
        "so, are never each other's neighbours. Brackets: 95 % intervals by group bootstrap. \u201cAgainst the "
        "prior\u201d: log-loss less that of the shares of the other folds; below 0 the neighbours help. Votes that "
        "were added later are not in these figures.\n\n" + _figures(manifest),
        "## Limits\n\n"
        "- It knows what was voted on. Far from all of it, it says the prior.\n"
        "- The texts are not in the bundle, but their vectors are: treat them as you treat the votes.\n"
        "- Only the first tokens of a long text are read; `truncated` says where.",
    ]) + "\n"  # fmt: skip


def _figures(manifest: Manifest) -> str:
    rows = []
    for name, value in manifest.metrics.items():
        own = cast("dict[str, Any]", value)
        cells = (scores.shown(own[key]) for key in ("log_loss", "against_prior", "accuracy"))
        rows.append(f"| {name} | {own['rows']:,} | {' | '.join(cells)} |")
    head = ["| source | held-out votes | log-loss | against the prior | accuracy |", "|---|--:|--:|--:|--:|"]
    return "\n".join([*head, *rows])
