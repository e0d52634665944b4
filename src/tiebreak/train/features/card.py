"""The card of a trained judge: what it is, what it was made of, how good it is, and what it is not for."""

from __future__ import annotations

from typing import Any, cast

from tiebreak.bundle import Manifest
from tiebreak.train.features import scores
from tiebreak.train.features.recipe import Recipe
from tiebreak.train.sources import sources


def write(manifest: Manifest, recipe: Recipe) -> str:
    """The card as Markdown."""
    return "\n\n".join([
        f"# {manifest.name}",
        "A judge of tiebreak, kind `features`: given a prompt and two answers it predicts P(A), P(B) and P(tie), which "
        "of the two a person would prefer. It counts properties of the texts (length, structure, refusals, overlap, "
        "repetition and the like), weighs them with a linear model and small boosted trees, and adds what the wording "
        "of each answer says. Swapping the answers swaps the probabilities exactly.",
        "## Made by\n\n```\n" + (recipe.command or "tiebreak.train.train_features") + "\n```\n\n"
        + ", ".join(f"{name} {number}" for name, number in manifest.versions.items()),
        "## Trained on\n\n" + sources(manifest) + "\n\n" + _roles(manifest),
        "## How good it is\n\n"
        f"Held-out votes, grouped {recipe.folds}-fold cross-validation x {recipe.repeats}: rows that share a prompt or "
        "an answer pair with a test row, or nearly so, are left out of training in every source. Brackets: 95 % "
        "intervals by group bootstrap. \u201cPrior\u201d always predicts the class shares of the source.\n\n"
        + _figures(manifest),
        "## Meant for\n\nA first estimate without a GPU, a baseline for larger judges, and a check of votes for "
        "length and style effects.",
        "## Limits\n\n"
        "- It checks no fact, runs no code and does no sum: style decides, not truth.\n"
        "- The votes are English for the most part; in other languages it knows little beyond length and structure.\n"
        "- It can be gamed: longer and more structured answers score higher. Do not train a model against it.\n"
        "- People agree with each other only in part; no judge reaches certainty on such votes.\n"
        "- It knows the crowd it was trained on. Other crowds prefer other things: compare the sources above.\n"
        "- The defaults of the training were chosen by cross-validation on votes of the LMSYS arena, kaggle_lmsys_1k; "
        "the figure of that source is optimistic by a few thousandths.",
    ]) + "\n"  # fmt: skip


def _roles(manifest: Manifest) -> str:
    return (
        f"The judge is for votes like those of {manifest.settings['target']}, whose rows weigh 1; rows of other "
        f"sources weigh {manifest.settings['support']}. Where the votes name the models, a rating of each model is "
        "found from these same votes and teaches what the wording says; names play no part in a prediction."
    )


def _figures(manifest: Manifest) -> str:
    rows = []
    for name, value in manifest.metrics.items():
        figures = cast("dict[str, Any]", value)
        loss, accuracy = (scores.shown(figures[key]) for key in ("log_loss", "accuracy"))
        rows.append(f"| {name} | {figures['rows']:,} | {loss} | {figures['prior_log_loss']:.4f} | {accuracy} |")
    return "\n".join(["| source | votes | log-loss | prior | accuracy |", "|---|--:|--:|--:|--:|", *rows])
