"""What the parts of a recipe ask of each other: each rule looks at a whole recipe and says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from tiebreak.judges.base import Head
from tiebreak.train.finetune.document import Path
from tiebreak.train.finetune.recipe import Loss, Recipe, Weighting
from tiebreak.train.finetune.shapes import ABSOLUTE
from tiebreak.train.finetune.terms import terms

_EIGHT_BIT: Final = {"adamw_8bit", "paged_adamw_8bit"}


@dataclass(frozen=True)
class Broken:
    """A rule that a recipe breaks.

    Attributes:
        paths: The values that do not go together; the message points to the first.
        wrong: What is wrong.
        expected: What would be right.
        mend: What to write.
    """

    paths: tuple[Path, ...]
    wrong: str
    expected: str = ""
    mend: str = ""


Rule = Callable[[Recipe, dict[str, Any]], Iterator[Broken]]


def broken(recipe: Recipe, model: dict[str, Any] | None) -> list[Broken]:
    """Every rule that a recipe breaks.

    Args:
        recipe: A recipe whose parts are right each by itself.
        model: The fields of the model's config.json, where they are known.
    """
    return [found for rule in RULES for found in rule(recipe, model or {})]


def _adapters(recipe: Recipe, model: dict[str, Any]) -> Iterator[Broken]:
    if recipe.lora is None:
        if recipe.quantize:
            yield Broken(
                (("quantize",), ("lora",)), f"quantize {recipe.quantize} without lora",
                "lora: weights in 4 bits cannot be trained in full", "lora.r=16, or quantize=null",
            )  # fmt: skip
        if recipe.optimiser.head_lr == "rule":
            yield Broken(
                (("optimiser", "head_lr"), ("lora",)), "optimiser.head_lr rule without lora",
                "a number: the rule is backbone rate = (lora.alpha / lora.r) x head rate", "optimiser.head_lr=1e-4",
            )  # fmt: skip
        return
    if recipe.freeze:
        yield Broken((("freeze",), ("lora",)), f"freeze {recipe.freeze} beside lora",
                     "0: with adapters the base is frozen anyway", "lora.layers=[FIRST, LAST]")  # fmt: skip
    if recipe.optimiser.name == "kahan_adamw":
        yield Broken((("optimiser", "name"), ("lora",)), "optimiser kahan_adamw with lora",
                     "full fine-tuning: adapters are float32 and lose nothing", "optimiser.name=adamw")  # fmt: skip
    if recipe.strategy == "fsdp":
        yield Broken((("strategy",), ("lora",)), "strategy fsdp with lora",
                     "full fine-tuning; adapters are trained data-parallel", "strategy=ddp, or lora=null")  # fmt: skip


def _generative(recipe: Recipe, model: dict[str, Any]) -> Iterator[Broken]:
    """What a judge with the vocabulary's own head cannot have, and what no other judge has."""
    if recipe.judge != "generative":
        if recipe.verdicts is not None:
            yield Broken((("verdicts",), ("judge",)), f"verdicts with judge {recipe.judge}",
                         "a generative judge: the others have three outputs", "judge=generative")  # fmt: skip
        return
    if recipe.head != Head():
        yield Broken((("head",), ("judge",)), "a head with judge generative",
                     "none: its verdicts are tokens of the vocabulary", "leave head out")  # fmt: skip
    if recipe.optimiser.head_lr is not None:
        yield Broken((("optimiser", "head_lr"), ("judge",)), "optimiser.head_lr with judge generative",
                     "null: there is no head of its own to train", "optimiser.head_lr=null")  # fmt: skip
    if recipe.strategy == "fsdp":
        yield Broken((("strategy",), ("judge",)), "strategy fsdp with judge generative",
                     "data-parallel training", "strategy=ddp")  # fmt: skip


def _blocks(recipe: Recipe, model: dict[str, Any]) -> Iterator[Broken]:
    count = model.get("num_hidden_layers")
    bounds = f"0 to {count - 1}" if count else "FIRST <= LAST"
    if recipe.lora is not None and recipe.lora.layers is not None:
        first, last = recipe.lora.layers
        if first > last or (count and last >= count):
            yield Broken((("lora", "layers"),), f"lora.layers {first} to {last}",
                         f"blocks of {recipe.base.name}, {bounds}")  # fmt: skip
    if count and recipe.freeze > count:
        yield Broken((("freeze",),), f"freeze {recipe.freeze}", f"at most the {count} blocks of {recipe.base.name}")


def _templates(recipe: Recipe, model: dict[str, Any]) -> Iterator[Broken]:
    names = [template.name for template in recipe.templates]
    if recipe.judge == "siamese" and names != ["single"]:
        yield Broken((("templates",), ("judge",)), f"a siamese judge with the templates {', '.join(names)}",
                     "the one template single: it reads an answer at a time", "templates=[{name: single}]")  # fmt: skip
    if recipe.judge != "siamese" and "single" in names:
        yield Broken((("templates", names.index("single")), ("judge",)), f"a {recipe.judge} with the template single",
                     "a template with both answers: pab, papb, blackpearl, plain or rounds",
                     "judge=siamese, or another template")  # fmt: skip
    longest = model.get("max_position_embeddings")
    if longest and model.get("model_type") in ABSOLUTE:
        for number, template in enumerate(recipe.templates):
            if template.max_length > longest:
                yield Broken((("templates", number, "max_length"), ("templates", number)),
                             f"templates.{number}.max_length {template.max_length}",
                             f"at most {longest}, the positions that {recipe.base.name} has",
                             f"templates.{number}.max_length={longest}")  # fmt: skip


def _arithmetic(recipe: Recipe, model: dict[str, Any]) -> Iterator[Broken]:
    if recipe.optimiser.name == "kahan_adamw" and recipe.precision != "bf16":
        yield Broken((("precision",), ("optimiser", "name")), f"precision {recipe.precision} with kahan_adamw",
                     "bf16: that is what its weights are", "precision=bf16")  # fmt: skip
    if recipe.strategy == "fsdp" and recipe.optimiser.name in _EIGHT_BIT:
        yield Broken((("optimiser", "name"), ("strategy",)), f"optimiser {recipe.optimiser.name} with fsdp",
                     "adamw or kahan_adamw: bitsandbytes cannot shard its states", "optimiser.name=adamw")  # fmt: skip
    if not recipe.soft_capping and model.get("model_type", "gemma2") != "gemma2":
        yield Broken((("soft_capping",),), f"soft_capping false for {model['model_type']}",
                     "it with Gemma 2 only", "leave it out")  # fmt: skip


def _held_out(recipe: Recipe, model: dict[str, Any]) -> Iterator[Broken]:
    if recipe.folds == 1:
        yield Broken((("folds",),), "folds 1", "0 for one training, or 2 and more", "folds=5")
    if recipe.folds > 1 and recipe.data.validation:
        yield Broken((("folds",), ("data", "validation")), f"folds {recipe.folds} and data.validation",
                     "one of them: each fold is held out in its turn", "folds=0, or data.validation=null")  # fmt: skip
    if not recipe.folds and not recipe.data.validation and not 0 < recipe.data.validation_share < 1:
        yield Broken((("data", "validation_share"),), f"data.validation_share {recipe.data.validation_share:g}",
                     "a share between 0 and 1: the best step is found on votes held out",
                     "data.validation_share=0.1")  # fmt: skip


def _steps(recipe: Recipe, model: dict[str, Any]) -> Iterator[Broken]:
    counts: dict[Path, float | None] = {
        ("optimiser", "warmup"): recipe.optimiser.warmup,
        ("evaluation", "every"): recipe.evaluation.every,
        ("evaluation", "save_every"): recipe.evaluation.save_every,
    }
    for path, value in counts.items():
        if value is not None and value > 1 and value != int(value):
            yield Broken((path,), f"{'.'.join(map(str, path))} {value:g}",
                         "a whole number of steps, or a share below 1")  # fmt: skip
    warmup, most = recipe.optimiser.warmup, recipe.max_steps
    if most is not None and warmup >= 1 and warmup >= most:
        yield Broken((("optimiser", "warmup"), ("max_steps",)), f"a warm-up of {warmup:g} steps in {most}",
                     "fewer steps of warm-up than steps, or a share", "optimiser.warmup=0.1")  # fmt: skip


def distillation(recipe: Recipe, model: dict[str, Any]) -> Iterator[Broken]:
    """Teachers that nothing hears, a beginning that is none.

    That a loss hears teachers that are not there is no fault of a recipe: they may come with the command.
    """
    hears = terms(recipe.loss, max(1, len(recipe.data.teachers))).taught
    if recipe.data.teachers and recipe.self_distil:
        yield Broken((("self_distil",), ("data", "teachers")), "self_distil beside the labels of teachers",
                     "one of them: with self_distil the recipe's own folds are the teacher",
                     "self_distil=false, or no teachers")  # fmt: skip
    elif recipe.data.teachers and not hears and recipe.weighting.kind not in ("teacher_agreement", "margin"):
        yield Broken((("data", "teachers"), ("loss", "preset"), ("loss",)),
                     f"{len(recipe.data.teachers)} teachers with loss.preset {recipe.loss.preset}, which hears none",
                     "a loss with terms for them", "loss.preset=blackpearl (or wsdm1, hinton, conflict)")  # fmt: skip
    if recipe.start.bundle is None and not recipe.start.head:
        yield Broken((("start", "head"), ("start",)), "start.head false without start.bundle",
                     "the judge whose adapter is taken", "start.bundle=JUDGE, or leave it out")  # fmt: skip


def _loss(recipe: Recipe, model: dict[str, Any]) -> Iterator[Broken]:
    """Keys of the loss that would say nothing."""
    settings, chosen = recipe.loss, terms(recipe.loss, 1)
    if settings.alpha != Loss().alpha and settings.preset != "hinton":
        yield Broken((("loss", "alpha"), ("loss",)), f"loss.alpha {settings.alpha:g} with preset {settings.preset}",
                     "it with the preset hinton: a T^2 KL + (1 - a) CE", "loss.preset=hinton, or loss.kl")  # fmt: skip
    for name in ("cross_entropy", "kl"):
        if settings.preset == "hinton" and getattr(settings, name) is not None:
            yield Broken((("loss", name), ("loss", "preset")), f"loss.{name} beside loss.preset hinton",
                         "loss.alpha, which is the share of the teachers", "loss.alpha=0.7")  # fmt: skip
    if settings.temperature is not None and not chosen.kl:
        yield Broken((("loss", "temperature"), ("loss",)), f"loss.temperature {settings.temperature:g} without KL",
                     "a preset with one, or loss.kl", "loss.preset=hinton")  # fmt: skip
    if settings.conflict is not None and not chosen.taught:
        yield Broken((("loss", "conflict"), ("loss",)), f"loss.conflict {settings.conflict:g} without teachers' terms",
                     "a loss that hears them", "loss.preset=conflict")  # fmt: skip
    if not chosen.cross_entropy and not chosen.taught:
        yield Broken((("loss", "cross_entropy"), ("loss",)), "a loss whose every term weighs 0",
                     "at least one that does not", "loss.cross_entropy=1")  # fmt: skip
    if not chosen.cross_entropy and (settings.smoothing or settings.focal):
        yield Broken((("loss", "smoothing" if settings.smoothing else "focal"), ("loss",)),
                     "smoothing or focal without the cross-entropy that they change", "loss.cross_entropy above 0",
                     "loss.cross_entropy=1")  # fmt: skip


def _weighting(recipe: Recipe, model: dict[str, Any]) -> Iterator[Broken]:
    """Bounds that leave a factor no room, and keys that would say nothing."""
    settings = recipe.weighting
    if settings.low > 1 or settings.high < 1:
        name = "low" if settings.low > 1 else "high"
        yield Broken((("weighting", name), ("weighting",)), f"weighting.{name} {getattr(settings, name):g}",
                     "low up to 1 and high from 1: a row that is like the others has the factor 1",
                     f"weighting.{name}={0.5 if name == 'low' else 2}")  # fmt: skip
    used = {
        None: set(), "learning_progress": {"strength", "decay", "low", "high"},
        "teacher_agreement": {"strength", "low", "high"}, "margin": {"strength", "margin"},
    }[settings.kind]  # fmt: skip
    changed = {name for name, value in settings if name != "kind" and value != getattr(Weighting(), name)}
    for name in sorted(changed - used):
        yield Broken((("weighting", name), ("weighting",)), f"weighting.{name} with weighting.kind {settings.kind}",
                     "a kind that asks for it", f"leave weighting.{name} out, or another weighting.kind")  # fmt: skip


RULES: Final[tuple[Rule, ...]] = (
    _adapters, _generative, _blocks, _templates, _arithmetic, _held_out, _steps, distillation, _loss, _weighting,
)  # fmt: skip
