"""Beginning where another judge ended: its adapter and head, or all its weights, instead of new ones.

What a judge learnt from other preference pairs (post-pretraining) is then what the training, or each of its folds,
begins with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import torch

from tiebreak import bundle, judges, row_hashes, storage
from tiebreak.errors import DataError, UsageError
from tiebreak.judges import Judge
from tiebreak.judges.base import Base, Located, heads
from tiebreak.judges.base.locate import weight_files
from tiebreak.judges.finetuned import FinetunedJudge, making
from tiebreak.judges.finetuned.settings import Settings
from tiebreak.judges.model import ADAPTER, ADAPTER_CONFIG, GENERATIVE, JudgeModel
from tiebreak.train.finetune import modelling, shapes
from tiebreak.train.finetune.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor


def identity(recipe: Recipe) -> dict[str, str]:
    """Fingerprint of the judge that is begun with; empty where there is none."""
    if recipe.start.bundle is None:
        return {}
    manifest = Path(recipe.start.bundle) / bundle.MANIFEST
    return {"start": storage.sha256(manifest) if manifest.is_file() else ""}


def notes(recipe: Recipe) -> list[str]:
    """What a person should know of the beginning, after it was checked that the training can begin there.

    Raises:
        UsageError: The judge is of another kind, on another base, or its adapter or head is not that of the recipe.
        BundleError: It is no bundle, or was altered.
    """
    if recipe.start.bundle is None:
        return []
    directory = Path(recipe.start.bundle)
    judge = judges.load(directory)
    manifest, settings = judge.manifest, _settings(judge, recipe)
    _check_base(settings, recipe)
    if settings.adapter:
        _check_adapter(directory, recipe)
    if recipe.start.head and settings.head.kind != recipe.head.kind:
        raise _differs(recipe, "head.kind", settings.head.kind, recipe.head.kind, also=", or start.head=false")
    trained = sum(source.rows for source in manifest.training)
    what = ("adapter" if settings.adapter else "weights") + (" and head" if recipe.start.head else ", with a new head")
    said = [f"begins with the {what} of {manifest.name} ({directory}), which was trained on {trained:,} votes"]
    for name, theirs, ours in (
        ("template", settings.template.name, recipe.templates[0].name),
        ("quantize", settings.quantize, recipe.quantize),
        ("soft_capping", settings.soft_capping, recipe.soft_capping),
    ):
        if theirs != ours:
            said.append(f"{manifest.name} had {name} {theirs}, this recipe has {ours}")
    return said


def seen(recipe: Recipe, held_out: Sequence[pl.DataFrame | None]) -> list[str]:
    """A warning where rows that are held out were trained on by the judge that is begun with."""
    before = row_hashes.read_trained(Path(recipe.start.bundle)) if recipe.start.bundle else None
    if not before:
        return []
    count = sum(row_hashes.unordered(table).is_in(list(before)).sum() for table in held_out if table is not None)
    if not count:
        return []
    return [
        f"start.bundle {recipe.start.bundle} was itself trained on {count:,} of the rows that are held out here: their "
        "figures are too good, and the best step is chosen by them"
    ]


def load(model: JudgeModel, recipe: Recipe) -> None:
    """Put the weights of the judge that is begun with into a network of the recipe.

    Raises:
        DataError: The weights do not fit.
    """
    if recipe.start.bundle is None:
        return
    directory = Path(recipe.start.bundle)
    if recipe.lora is not None:
        _load_adapter(model, directory, head=recipe.start.head)
    else:
        _load_whole(model, directory, head=recipe.start.head)


def _settings(judge: Judge, recipe: Recipe) -> Settings:
    """The settings of the judge, if it is one that the recipe could have trained."""
    if not isinstance(judge, FinetunedJudge):
        raise UsageError(
            f"start.bundle {recipe.start.bundle} is a judge of kind {judge.kind}, which has no network",
            expected="a judge that a recipe has trained",
        )
    if judge.kind != recipe.judge:
        raise _differs(recipe, "judge", judge.kind, recipe.judge)
    settings = judge.settings
    if getattr(settings, "compression", None):
        raise UsageError(
            f"start.bundle {recipe.start.bundle}: its weights are compressed",
            expected="a judge as it was trained", mend="start.bundle=THE_JUDGE_BEFORE_COMPRESSION",
        )  # fmt: skip
    if settings.adapter and recipe.lora is None:
        raise UsageError(
            f"start.bundle {recipe.start.bundle} holds an adapter, the recipe trains every weight",
            expected="an adapter for an adapter, whole weights for whole weights",
            mend=f"tiebreak combine merge {recipe.start.bundle} -o MERGED, and start.bundle=MERGED",
        )
    if not settings.adapter and recipe.lora is not None:
        raise UsageError(
            f"start.bundle {recipe.start.bundle} holds whole weights, the recipe trains an adapter",
            expected="an adapter for an adapter, whole weights for whole weights",
            mend=f"base.name={recipe.start.bundle} puts new adapters on these weights",
        )
    return settings


def _check_base(settings: Settings, recipe: Recipe) -> None:
    """The adapter belongs to one base; whole weights bring theirs with them."""
    if settings.base is None or settings.base.sha256 is None or not shapes.here(recipe.base):
        return
    if making.pin(recipe.base).sha256 != settings.base.sha256:
        raise UsageError(
            f"start.bundle {recipe.start.bundle}: its adapter belongs to {settings.base.name}, with other weights than "
            f"{recipe.base.name}",
            expected="a judge on the base of the recipe",
            mend=f"base.name={settings.base.name}",
        )


def _check_adapter(directory: Path, recipe: Recipe) -> None:
    theirs = json.loads((directory / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    ours = modelling.adapter(recipe)
    for key, name in (("r", "lora.r"), ("lora_alpha", "lora.alpha"), ("use_rslora", "lora.rslora")):
        if theirs.get(key) != ours[key]:
            raise _differs(recipe, name, theirs.get(key), ours[key])
    for key, name in (("target_modules", "lora.targets"), ("layers_to_transform", "lora.layers")):
        found, wanted = theirs.get(key), ours.get(key)
        if sorted(found or []) != sorted(wanted or []):
            raise _differs(recipe, name, _listed(found), _listed(wanted))
    if theirs.get("rank_pattern") or theirs.get("alpha_pattern"):
        raise UsageError(
            f"start.bundle {directory}: its adapter has ranks of their own for some layers",
            expected="one lora.r and one lora.alpha for all", mend="tiebreak combine merge, and base.name=MERGED",
        )  # fmt: skip


def _differs(recipe: Recipe, key: str, theirs: Any, ours: Any, also: str = "") -> UsageError:
    return UsageError(
        f"start.bundle {recipe.start.bundle} has {key} {theirs}, the recipe has {ours}",
        expected="the same in both: weights fit one shape alone",
        mend=f"{key}={theirs}{also}",
    )


def _listed(names: list[Any] | None) -> str:
    return "[" + ",".join(map(str, sorted(names or []))) + "]" if names else "null"


def _load_adapter(model: JudgeModel, directory: Path, *, head: bool) -> None:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    own: dict[str, Tensor] = get_peft_model_state_dict(model.model, save_embedding_layers=False)
    found = load_file(directory / ADAPTER)
    wrong = own.keys() ^ found.keys()
    wrong |= {name for name in own.keys() & found.keys() if own[name].shape != found[name].shape}
    if wrong:
        raise _misfit(directory, f"{len(wrong)} weights, for example {min(wrong)}")
    taken = {name: tensor if head or "lora_" in name else own[name] for name, tensor in found.items()}
    set_peft_model_state_dict(model.model, taken)


def _load_whole(model: JudgeModel, directory: Path, *, head: bool) -> None:
    own: dict[str, Tensor] = model.base_model.state_dict()
    if model.kind == GENERATIVE and model.base_model.config.tie_word_embeddings:
        del own["lm_head.weight"]  # the embedding once more, which is stored under its own name
    upper = tuple(f"{name}." for name in heads.parts(model.base_model))
    wanted = {name for name in own if head or not name.startswith(upper)}
    found = set()
    for name, tensor in _tensors(directory):
        found.add(name)
        if name in wanted:
            if own[name].shape != tensor.shape:
                raise _misfit(directory, f"{name} has the shape {tuple(tensor.shape)}, not {tuple(own[name].shape)}")
            with torch.no_grad():
                own[name].copy_(tensor)
    if wrong := sorted(wanted ^ (found & wanted)) or sorted(found - own.keys()):
        raise _misfit(directory, f"{len(wrong)} weights, for example {wrong[0]}")


def _tensors(directory: Path) -> Any:
    from safetensors import safe_open

    for file in weight_files(Located(Base(name=str(directory)), directory)):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a dict
                yield name, opened.get_tensor(name)


def _misfit(directory: Path, what: str) -> DataError:
    return DataError(
        f"start.bundle {directory}: its weights do not fit this network ({what})",
        expected="a judge with the same base, adapter and head",
    )
