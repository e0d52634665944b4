"""Recipes are read: every fault at once, with its place and a mend; what is written reads back equal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tiebreak.errors import UsageError
from tiebreak.train.finetune import document, read
from tiebreak.train.finetune.recipe import Recipe

NAMES = read.shipped()

SMALL = """# tiebreak train small.yaml --data train.csv -o judge
base:
  name: some/model
templates:
  - {name: plain, max_length: 512}
"""


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def faults(recipe: str, *overrides: str) -> list[str]:
    """The lines of the message, each without the name of the file."""
    with pytest.raises(UsageError) as caught:
        read.read(recipe, overrides)
    lines = str(caught.value).splitlines()
    return [re.sub(r"^  \S*mine\.yaml:", "line ", line) for line in lines if line.startswith("  ")]


def test_the_seven_recipes_ship() -> None:
    assert {
        "gemma2-9b-qlora-1x16gb", "gemma2-9b-lora-blackpearl", "llama3-8b-full-human-pref", "qwen2.5-7b-qlora",
        "deberta-v3-xsmall-512", "minilm-l6-cpu", "smollm2-135m-lora",
    } <= set(NAMES)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_begins_with_the_command_that_launches_it(name: str) -> None:
    first = read.source(name)[0].splitlines()[0]
    start, options = r"# (torchrun --nproc-per-node \d+ -m )?tiebreak train ", r" --data \S+( --teacher \S+)* -o \S+"
    assert re.fullmatch(start + re.escape(name) + options, first)
    recipe = read.read(name)
    assert recipe.about
    assert recipe.hardware
    assert recipe.base.shape


@pytest.mark.parametrize("name", NAMES)
def test_a_resolved_recipe_reads_back_equal(name: str, tmp_path: Path) -> None:
    recipe = read.read(name, ["optimiser.lr=1e-7", "data.train=[a.csv, 'b: c.csv']"])
    text = read.dump(recipe)
    assert read.read(write(tmp_path, text)) == recipe
    assert Recipe.model_validate(yaml.safe_load(text)) == recipe  # and by anybody's reader of YAML


def test_s1_is_what_its_notebook_did() -> None:
    recipe = read.read("gemma2-9b-qlora-1x16gb")
    assert recipe.lora is not None
    lora = recipe.lora.model_dump()
    assert lora == {"r": 16, "alpha": 32, "dropout": 0.05, "targets": ["q_proj", "k_proj", "v_proj"],
                    "layers": (16, 41), "rslora": False}  # fmt: skip
    assert (recipe.quantize, recipe.epochs, recipe.optimiser.name) == ("nf4", 1, "adamw_8bit")
    assert (recipe.optimiser.lr, recipe.optimiser.warmup, recipe.evaluation.every) == (2e-4, 20, 200)
    assert (recipe.batches.rows, recipe.templates[0].name, recipe.templates[0].max_length) == (6, "plain", 1024)


def test_s0_is_what_its_configuration_said() -> None:
    recipe = read.read("llama3-8b-full-human-pref")
    optimiser = recipe.optimiser
    assert (recipe.lora, recipe.quantize, recipe.strategy, recipe.head.kind, recipe.head.dropout) == (
        None, None, "fsdp", "two_layer", 0.1,
    )  # fmt: skip
    assert (optimiser.name, optimiser.lr, optimiser.betas, optimiser.eps) == ("kahan_adamw", 2.5e-6, (0.9, 0.99), 1e-6)
    assert (optimiser.weight_decay, optimiser.warmup, optimiser.final_lr, optimiser.clip) == (0.01, 0.1, 0.001, None)
    assert [template.name for template in recipe.templates] == ["pab", "papb"]
    assert (recipe.batches.twin, recipe.batches.rows, recipe.checkpointing, recipe.seed) == (True, 16, True, 3)


def test_the_rule_for_the_head() -> None:
    recipe = read.read("qwen2.5-7b-qlora", ["lora.r=64", "lora.alpha=16", "optimiser.lr=5e-5"])
    assert recipe.head_lr == pytest.approx(2e-4)
    assert recipe.optimiser.lr == pytest.approx(16 / 64 * recipe.head_lr)
    assert read.read("smollm2-135m-lora").head_lr == 2e-4


def test_values_are_yaml_1_2(tmp_path: Path) -> None:
    text = f"{SMALL}name: no\nabout: '7'\noptimiser: {{lr: 2e-4, eps: 1E-6, head_lr: rule, warmup: 20, clip: null}}\n"
    recipe = read.read(write(tmp_path, text + "lora: {targets: [on, yes], layers: [0, 3]}\n"))
    assert (recipe.name, recipe.about) == ("no", "7")
    assert (recipe.optimiser.lr, recipe.optimiser.eps, recipe.optimiser.warmup) == (2e-4, 1e-6, 20)
    assert recipe.optimiser.clip is None
    assert recipe.lora is not None
    assert recipe.lora.targets == ["on", "yes"]


def test_overrides_reach_parts_lists_and_what_is_null() -> None:
    recipe = read.read(
        "smollm2-135m-lora",
        ["templates.0.max_length=512", "templates.1.name=papb", "lora=null", "lora.r=4", "lora.targets=[q_proj]",
         "folds=2", "folds=0", "data.limit=10", "evaluation.save_every=~"],
    )  # fmt: skip
    assert [(t.name, t.max_length) for t in recipe.templates] == [("pab", 512), ("papb", 1024)]
    assert recipe.lora is not None
    assert (recipe.lora.r, recipe.lora.alpha, recipe.lora.targets) == (4, 32, ["q_proj"])
    assert (recipe.folds, recipe.data.limit, recipe.evaluation.save_every) == (0, 10, None)


def test_every_fault_is_told_at_once_in_the_order_of_the_lines(tmp_path: Path) -> None:
    text = """name: bad
base: {name: some/model, shape: gemma2-9b}
templates:
  - {name: plain, max_lenght: 512}
  - {name: plan}
lorra: {r: 3}
quantize: nf4
optimiser:
  name: adam
  lr: no
  head_lr: rul
  betas: [0.9, 1.5]
batches:
  rows: 0
  rows: 3
folds: 1
freeze: -1
"""
    found = faults(write(tmp_path, text), "epochs=0", "precision=int8", "batch.rows=3")
    assert found == [
        "line 2: shape 'gemma2-9b' is not known; expected one of deberta-v3-xsmall, gemma-2-9b, llama-3-70b, "
        "llama-3-8b, minilm-l6, qwen2-72b, qwen2.5-7b, smollm2-135m, yi-1.5-34b; to mend: base.shape=gemma-2-9b",
        "line 4: unknown key 'templates.0.max_lenght'; to mend: write max_length",
        "line 5: templates.1.name is 'plan'; expected 'pab', 'papb', 'blackpearl', 'plain', 'rounds' or 'single'; "
        "to mend: templates.1.name=plain",
        "line 6: unknown key 'lorra'; to mend: write lora",
        "line 9: optimiser.name is 'adam'; expected 'adamw', 'adamw_8bit', 'paged_adamw_8bit' or 'kahan_adamw'; "
        "to mend: optimiser.name=adamw",
        "line 10: optimiser.lr is 'no'; expected a number",
        "line 11: optimiser.head_lr is 'rul'; expected a number or 'rule'; to mend: optimiser.head_lr=rule",
        "line 12: optimiser.betas.1 is 1.5; expected less than 1",
        "line 14: batches.rows is 0; expected greater than or equal to 1",
        f"line 15: key 'rows' again; it stands at {tmp_path}/mine.yaml:14 too",
        "line 17: freeze is -1; expected greater than or equal to 0",
        "  override precision=int8: precision is 'int8'; expected 'fp32', 'bf16' or 'fp16'",
        "  override epochs=0: epochs is 0; expected greater than 0",
        "  override batch.rows=3: unknown key 'batch'; to mend: write batches",
    ]


def test_rules_are_held_beside_faults_of_other_values(tmp_path: Path) -> None:
    found = faults(write(tmp_path, f"{SMALL}quantize: nf4\nfolds: 1\nseed: x\n"))
    assert [line.split(";")[0] for line in found] == [
        "line 6: quantize nf4 without lora", "line 7: folds 1", "line 8: seed is 'x'",
    ]  # fmt: skip


RULES = {
    "quantize nf4 without lora": ["lora=null"],
    "optimiser.head_lr rule without lora": ["lora=null", "quantize=null", "optimiser.head_lr=rule"],
    "freeze 2 beside lora": ["freeze=2"],
    "optimiser kahan_adamw with lora": ["optimiser.name=kahan_adamw", "precision=bf16"],
    "strategy fsdp with lora": ["strategy=fsdp", "optimiser.name=adamw"],
    "optimiser adamw_8bit with fsdp": ["strategy=fsdp", "lora=null", "quantize=null"],
    "precision fp16 with kahan_adamw": ["lora=null", "quantize=null", "optimiser.name=kahan_adamw"],
    "lora.layers 16 to 42": ["lora.layers=[16, 42]"],
    "lora.layers 9 to 3": ["lora.layers=[9, 3]"],
    "freeze 43": ["freeze=43", "lora=null", "quantize=null"],
    "a siamese judge with the templates plain": ["judge=siamese"],
    "a classifier with the template single": ["templates.0.name=single"],
    "folds 1": ["folds=1"],
    "folds 3 and data.validation": ["folds=3", "data.validation=[held.csv]"],
    "data.validation_share 0": ["data.validation_share=0"],
    "data.validation_share 1": ["data.validation_share=1"],
    "optimiser.warmup 2.5": ["optimiser.warmup=2.5"],
    "evaluation.every 1.5": ["evaluation.every=1.5"],
    "a warm-up of 20 steps in 20": ["max_steps=20"],
}


@pytest.mark.parametrize("wrong", RULES)
def test_each_rule_between_parts(wrong: str) -> None:
    found = faults("gemma2-9b-qlora-1x16gb", *RULES[wrong])
    assert len(found) == 1, found
    assert f": {wrong};" in found[0]
    assert "expected " in found[0]


def test_rules_that_hang_on_the_family() -> None:
    assert "at most 512" in faults("minilm-l6-cpu", "templates.0.max_length=513")[0]
    assert "it with Gemma 2 only" in faults("qwen2.5-7b-qlora", "soft_capping=false")[0]
    assert not read.read("gemma2-9b-qlora-1x16gb", ["soft_capping=false"]).soft_capping
    assert read.read("deberta-v3-xsmall-512", ["templates.0.max_length=1024"]).templates[0].max_length == 1024


@pytest.mark.parametrize(
    ("override", "wrong"),
    [
        ("folds", "not KEY=VALUE"),
        ("=3", "not KEY=VALUE"),
        ("lora..r=3", "not KEY=VALUE"),
        ("epochs={a", "the value is not YAML"),
        ("templates.x.name=pab", "no item 'x' in templates; expected a number from 0 to 1"),
        ("templates.2.name=pab", "no item '2' in templates"),
        ("folds.x=3", "folds is 1 and has no parts"),
        ("optimiser=null", "optimiser is null; expected keys and values"),
        ("templates=[]", "templates is a list; expected at least 1 item"),
        ("base=null", "base is null"),
    ],
)
def test_overrides_that_cannot_be(override: str, wrong: str) -> None:
    found = faults("smollm2-135m-lora", "folds=1", override) if "folds.x" in override else faults(
        "smollm2-135m-lora", override
    )  # fmt: skip
    assert any(f"override {override}: {wrong}" in line for line in found), found


def test_what_is_missing(tmp_path: Path) -> None:
    found = faults(write(tmp_path, "name: x\ntemplates: [{max_length: 3}]\n"))
    assert [line.rpartition(": ")[0].split(": ", 1)[1] for line in found] == [
        "base is missing; to mend: add base", "templates.0.name is missing; to mend: add name",
    ]  # fmt: skip


def test_names_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"did you mean smollm2-135m-lora"):
        read.read("smolm2-135m-lora")
    with pytest.raises(UsageError, match="tiebreak recipe ls"):
        read.read(str(tmp_path / "absent.yaml"))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not text"):
        read.read(str(tmp_path / "binary.yaml"))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("a: [1, 2", ":1: not YAML"),
        ("a: b: c", ":1: not YAML"),
        ("- a\n- b", "holds no recipe"),
        ("", "holds no recipe"),
        ("x" * (document.LARGEST + 1), "is over 256 KiB"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
         "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]", "over 10,000 values"),
        ("a: &a [*a]", "20 levels"),
        ("[" * 30 + "]" * 30, "holds no recipe"),
        ("a: " + "[" * 30 + "]" * 30, "20 levels"),
    ],
)  # fmt: skip
def test_texts_that_are_no_recipe(tmp_path: Path, text: str, wrong: str) -> None:
    with pytest.raises(UsageError, match=re.escape(wrong)):
        read.read(write(tmp_path, text))


def test_a_tag_makes_no_object(tmp_path: Path) -> None:
    evil = f"{SMALL}about: !!python/object/apply:os.system [exit]\n"
    found = faults(write(tmp_path, evil))
    assert found[0].startswith("line 6: tag tag:yaml.org,2002:python/object/apply:os.system; expected plain values")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(blacklist_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), VALUES, max_size=4))
def test_what_is_dumped_is_parsed_as_it_was(values: dict[str, object]) -> None:
    text = document.dump(values)
    if values:
        assert document.parse(text, "x").values == values


@given(st.text(max_size=200))
def test_any_text_is_a_document_or_a_usage_error(text: str) -> None:
    try:
        found = document.parse(text, "x")
    except UsageError:
        return
    assert isinstance(found.values, dict)
