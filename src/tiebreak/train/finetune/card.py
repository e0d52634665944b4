"""The card of a fine-tuned judge: what it is, what it was made of, how good it is, and what it is not for."""

from __future__ import annotations

from typing import Any

from tiebreak.bundle import TrainingSource
from tiebreak.train.finetune.recipe import Recipe
from tiebreak.train.finetune.terms import in_words


def write(name: str, recipe: Recipe, training: list[TrainingSource], metrics: dict[str, Any]) -> str:
    """The card as Markdown."""
    return "\n\n".join([
        f"# {name}",
        f"A judge of tiebreak, kind `{recipe.judge}`: given a prompt and two answers it predicts P(A), P(B), P(tie), "
        f"which of the two a person would prefer. It is `{recipe.base.name}`, {_way(recipe)}. {_symmetry(recipe)}",
        "```\ntiebreak predict votes.parquet --judge THIS_FOLDER -o predictions.parquet\n```",
        "## Trained on\n\n" + _data(training),
        *_teachers(metrics),
        "## How\n\n" + _settings(recipe, metrics),
        "## How good it is\n\n" + _figures(metrics),
        *_findings(metrics),
        "## Limits\n\n"
        "- It knows the crowd it was trained on; other crowds prefer other things.\n"
        "- It judges what people like, not what is true: it checks no fact and runs no code.\n"
        "- It can be gamed; do not train a model against it without a check by people.\n"
        "- Its probabilities were not calibrated by training: `tiebreak calibrate` does that on votes held out.",
    ]) + "\n"  # fmt: skip


def _way(recipe: Recipe) -> str:
    if recipe.lora is None:
        return "fine-tuned in full" if not recipe.freeze else f"fine-tuned above its first {recipe.freeze} blocks"
    base = ", on a base in 4 bits (NF4)" if recipe.quantize else ""
    head = "" if recipe.judge == "generative" else " and a trained head"
    return f"with low-rank adapters (r {recipe.lora.r}, alpha {recipe.lora.alpha:g}){base}{head}"


def _symmetry(recipe: Recipe) -> str:
    if recipe.judge == "siamese":
        return "It reads each answer by itself, so that swapping the answers swaps the probabilities exactly."
    return "It reads both answers in both orders and averages, so that swapping them swaps the probabilities exactly."


def _data(training: list[TrainingSource]) -> str:
    rows = [f"| {source.name} | {source.rows:,} | `{source.fingerprint[:16]}` |" for source in training]
    return "\n".join(["| source | votes | fingerprint |", "|---|--:|---|", *rows])


def _teachers(metrics: dict[str, Any]) -> list[str]:
    """Who taught it beside the votes, and what is known against them."""
    found = metrics.get("teachers", [])
    if not found:
        return []
    header = ["| teacher | labels | in its own training data | audit |", "|---|--:|--:|---|"]
    rows = [f"| {one['name']} | {one['rows']:,} | {_known(one)} | {_audit(one['audit'])} |" for one in found]
    return ["## Taught by\n\n" + "\n".join([*header, *rows])]


def _known(teacher: dict[str, Any]) -> str:
    unknown = f", unknown of {teacher['in_sample_unknown']:.0%}" if teacher["in_sample_unknown"] else ""
    return f"{teacher['in_sample']:.0%}{unknown}"


def _audit(audit: dict[str, Any]) -> str:
    return "passed" if audit["passed"] else f"**refused, and overruled**: {'; '.join(audit['faults'])}"


def _settings(recipe: Recipe, metrics: dict[str, Any]) -> str:
    chosen = recipe.optimiser
    twin = ", each with its swapped twin" if recipe.batches.twin and recipe.judge != "siamese" else ""
    lines = [
        f"- {metrics['steps']:,} steps of {recipe.batches.rows} votes{twin}; the bundle holds step "
        f"{metrics['best_step']:,}",
        f"- loss: {in_words(recipe.loss, len(metrics.get('teachers', [])))}",
        *([f"- begun with the weights of `{recipe.start.bundle}`"] if recipe.start.bundle else []),
        f"- {chosen.name}, rate {chosen.lr:g}, head {recipe.head_lr:g}, {chosen.schedule} schedule, seed {recipe.seed}",
        f"- template {', '.join(template.name for template in recipe.templates)}, at most "
        f"{recipe.templates[0].max_length:,} tokens, truncation {recipe.templates[0].truncation}",
    ]
    return "\n".join([*lines, "- the whole recipe is in `judge.json`, under `settings.recipe`"])


def _figures(metrics: dict[str, Any]) -> str:
    found = metrics.get("validation")
    if found is None:
        return "Nothing was held out, so nothing is known: `tiebreak evaluate` tells, on votes of your own."
    header = "| votes held out | log-loss | of the prior | accuracy | macro-F1 |\n|--:|--:|--:|--:|--:|\n"
    row = (
        f"| {found['rows']:,} | {found['log_loss']:.4f} | {found['prior_log_loss']:.4f} | {found['accuracy']:.3f} "
        f"| {found['macro_f1']:.3f} |"
    )
    return (
        f"{header}{row}\n\nThe step was chosen by this very log-loss, which is therefore a little optimistic. "
        "“Of the prior”: always predicting the class shares of the training votes."
    )


def _findings(metrics: dict[str, Any]) -> list[str]:
    if not metrics["findings"]:
        return []
    return ["## What looked wrong\n\n" + "\n".join(f"- {finding}" for finding in metrics["findings"])]
