"""Beginning with another judge's weights: they are those, whole, or the run is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import finetune_rows
import tiny
from tiebreak import bundle, row_hashes, samples
from tiebreak.errors import BundleError, DataError, UsageError
from tiebreak.judges.model import ADAPTER, JudgeModel
from tiebreak.train.features import train_features
from tiebreak.train.finetune import modelling, starting
from tiebreak.train.finetune.recipe import Recipe
from tiebreak.train.finetune.run import finetune

OLD, NEW = finetune_rows.votes(24, seed=8), finetune_rows.votes(40)
PAIRS = {
    "lora": {},
    "siamese": {"judge": "siamese", "templates": [{"name": "single", "max_length": 64}]},
    "full": {"lora": None, "optimiser__lr": 1e-3},
    "two_layer": {"head": {"kind": "two_layer"}, "lora__layers": [1, 2]},
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finetune_rows.base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def begun(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small training of each kind."""
    folder = tmp_path_factory.mktemp("begun")
    for name, changes in PAIRS.items():
        recipe = finetune_rows.recipe(base, max_steps=2, evaluation__every=2, name=f"old-{name}", **changes)
        finetune(recipe, OLD, None, folder / name)
    return {name: folder / name for name in PAIRS}


def following(base: Path, bundle: Path, kind: str = "lora", **changes: Any) -> Recipe:
    return finetune_rows.recipe(
        base, **{"start__bundle": str(bundle), "max_steps": 1, "seed": 11, **PAIRS[kind], **changes}
    )


def built(recipe: Recipe) -> JudgeModel:
    torch.manual_seed(recipe.seed)
    model = modelling.build(recipe)
    starting.load(model, recipe)
    return model


def state(model: JudgeModel) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.trainable_state().items()}


@pytest.mark.parametrize("kind", PAIRS)
def test_every_trained_weight_is_that_of_the_judge(kind: str, base: Path, begun: dict[str, Path]) -> None:
    recipe = following(base, begun[kind], kind)
    starting.notes(recipe)
    found = state(built(recipe))
    stored = load_file(begun[kind] / ("model.safetensors" if kind == "full" else ADAPTER))
    assert len(found) == len(stored)
    for name, tensor in found.items():
        plain = name.removeprefix("model.").replace(".default", "").replace("modules_to_save.", "")
        assert torch.equal(tensor, stored[plain]), name
    fresh = state(modelling.build(recipe))
    assert not any(torch.equal(found[name], fresh[name]) for name in found if fresh[name].dim() > 1)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_without_its_head_the_head_is_new(kind: str, base: Path, begun: dict[str, Path]) -> None:
    recipe = following(base, begun[kind], kind, start__head=False)
    assert "new head" in starting.notes(recipe)[0]
    torch.manual_seed(recipe.seed)
    fresh, found = state(modelling.build(recipe)), state(built(recipe))
    whole = state(built(following(base, begun[kind], kind)))
    heads = {name for name in found if "score" in name}
    assert heads
    for name in found:
        assert torch.equal(found[name], (fresh if name in heads else whole)[name]), name


def test_a_run_begins_there_says_so_and_belongs_to_that_beginning(
    base: Path, begun: dict[str, Path], tmp_path: Path
) -> None:
    said: list[str] = []
    recipe = following(base, begun["lora"], templates=[{"name": "blackpearl", "max_length": 200}])
    report: Any = lambda event: said.append(getattr(event, "text", ""))  # noqa: E731
    finetune(recipe, NEW, None, tmp_path / "judge", report=report)
    assert any("begins with the adapter and head of old-lora" in text for text in said)
    assert any("old-lora had template plain, this recipe has blackpearl" in text for text in said)
    assert f"begun with the weights of `{begun['lora']}`" in (tmp_path / "judge" / "README.md").read_text()
    seen = row_hashes.read_trained(tmp_path / "judge")
    assert seen is not None
    assert seen >= (row_hashes.read_trained(begun["lora"]) or set())
    # A step of zero length leaves the weights where they began: adapters, head and all.
    still = following(base, begun["lora"], optimiser__lr=1e-30, optimiser__head_lr=1e-30, lora__dropout=0.0)
    finetune(still, NEW, None, tmp_path / "still")
    left, right = load_file(begun["lora"] / ADAPTER), load_file(tmp_path / "still" / ADAPTER)
    assert all(torch.allclose(left[name], right[name], atol=1e-12) for name in left)
    manifest = bundle.read(begun["lora"])
    moved = tmp_path / "moved"
    bundle.write(moved, manifest.model_copy(update={"name": "other"}), {
        path.name: path for path in begun["lora"].iterdir() if path.name != bundle.MANIFEST
    })  # fmt: skip
    assert starting.identity(following(base, moved)) != starting.identity(recipe)
    assert starting.identity(finetune_rows.recipe(base)) == {}


def test_rows_held_out_that_it_was_trained_on_are_a_warning(base: Path, begun: dict[str, Path], tmp_path: Path) -> None:
    recipe = following(base, begun["lora"])
    trained = row_hashes.read_trained(begun["lora"])
    assert trained is not None
    known = OLD.filter(row_hashes.unordered(OLD).is_in(list(trained)))
    swapped = known.rename({"response_a": "response_b", "response_b": "response_a"})
    (warning,) = starting.seen(recipe, [swapped.head(5), None])
    assert f"itself trained on {row_hashes.unordered(swapped.head(5)).len()} of the rows that are held out" in warning
    assert starting.seen(recipe, [NEW]) == []
    assert starting.seen(finetune_rows.recipe(base), [OLD]) == []


WRONG: list[tuple[str, str, dict[str, Any], str]] = [
    ("lora", "lora", {"lora__r": 8}, r"has lora.r 4, the recipe has 8; .* lora.r=4"),
    ("lora", "lora", {"lora__alpha": 16}, r"has lora.alpha 8\S*, the recipe has 16"),
    ("lora", "lora", {"lora__rslora": True}, "has lora.rslora False"),
    ("lora", "lora", {"lora__targets": ["q_proj"]}, r"has lora.targets \[q_proj,v_proj\], the recipe has \[q_proj\]"),
    ("lora", "lora", {"lora__layers": [0, 1]}, r"has lora.layers null, the recipe has \[0,1\]"),
    ("lora", "lora", {"head": {"kind": "two_layer"}}, "has head.kind linear.* or start.head=false"),
    ("siamese", "lora", {}, "has judge siamese, the recipe has classifier"),
    ("lora", "full", {}, "holds an adapter, the recipe trains every weight; .* tiebreak combine merge"),
    ("full", "lora", {}, "holds whole weights, the recipe trains an adapter; .* base.name="),
]


@pytest.mark.parametrize(("theirs", "ours", "changes", "told"), WRONG)
def test_what_does_not_fit_is_refused_with_the_key_that_mends_it(
    theirs: str, ours: str, changes: dict[str, Any], told: str, base: Path, begun: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=told):
        finetune(following(base, begun[theirs], ours, **changes), NEW, None, tmp_path / "judge")
    assert not (tmp_path / "judge.run").exists()


def test_whole_weights_can_be_the_base_of_new_adapters(begun: dict[str, Path], tmp_path: Path) -> None:
    """What the message above says is so."""
    outcome = finetune(finetune_rows.recipe(begun["full"], max_steps=1), NEW, None, tmp_path / "judge")
    assert outcome.validation is not None


def test_another_base_a_broken_bundle_and_weights_of_another_shape(
    base: Path, begun: dict[str, Path], tmp_path: Path
) -> None:
    other = tiny.save(tmp_path / "other", "llama", seed=5)
    with pytest.raises(UsageError, match=f"its adapter belongs to {base}, with other weights than {other}"):
        starting.notes(following(other, begun["lora"]))
    with pytest.raises(BundleError, match="is not a judge bundle"):
        starting.notes(following(base, tmp_path / "nothing"))
    weights = load_file(begun["lora"] / ADAPTER)
    for changed, told in (
        ({name: tensor for name, tensor in weights.items() if "layers.1" not in name}, "4 weights"),
        ({name: tensor[:, :-1].contiguous() if "lora_A" in name else tensor for name, tensor in weights.items()},
         "6 weights"),
    ):  # fmt: skip
        broken = tmp_path / told.replace(" ", "-")
        broken.mkdir()
        save_file(changed, broken / ADAPTER)
        with pytest.raises(DataError, match=told):
            built(following(base, broken))


def test_a_judge_without_a_network_is_nothing_to_begin_with(base: Path, tmp_path: Path) -> None:
    train_features(samples.votes()).save(tmp_path / "features")
    with pytest.raises(UsageError, match="a judge of kind features, which has no network"):
        starting.notes(following(base, tmp_path / "features"))
