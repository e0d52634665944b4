"""`tiebreak wrap`: checkpoints and adapters that were trained elsewhere become judges."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BitsAndBytesConfig

import tiny
from judges_made import lora, network, rows
from tiebreak import judges, predictions
from tiebreak.cli import run
from tiebreak.errors import DataError, UsageError
from tiebreak.judges import Runtime
from tiebreak.judges.base import Head
from tiebreak.judges.wrapping import inspect, wrap
from tiebreak.render import Renderer, template

ONCE = Runtime(precision="fp32", devices="cpu", swap="none")
PLAIN = template("plain", max_length=300, chat=False)
TABLE = rows(("Name a prime.", "Seven.", "Nine is a prime."), ("q", "a", "b " * 50))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("wrapped") / "llama", "llama")


@pytest.fixture
def checkpoint(kept: Path, tmp_path: Path) -> Path:
    return shutil.copytree(kept, tmp_path / "checkpoint")


def reference(model: nn.Module, table: pl.DataFrame = TABLE) -> np.ndarray:
    """Probabilities as transformers gives them, a padded forward a row."""
    with torch.inference_mode():
        out = [
            model(torch.from_numpy(ids.astype(np.int64))[None]).logits.float().softmax(-1)[0].numpy()
            for ids in Renderer(PLAIN, tiny.tokenizer()).render(table).sequences
        ]
    return np.stack(out)


def said(judge: Any) -> np.ndarray:
    judge.run_with(ONCE)
    return predictions.probabilities(judge.predict(TABLE))


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("self_contained", [True, False])
@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3", "deberta-v2", "bert", "modernbert"])
def test_a_checkpoint_says_what_it_said_in_transformers(tmp_path: Path, family: str, self_contained: bool) -> None:
    folder = tiny.save(tmp_path / "checkpoint", family)
    expected = reference(AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval())
    wrap(str(folder), template=PLAIN, self_contained=self_contained).save(tmp_path / "judge")
    if self_contained:
        shutil.rmtree(folder)
    else:
        assert not list((tmp_path / "judge").glob("*.safetensors"))
    np.testing.assert_allclose(said(judges.load(tmp_path / "judge")), expected, atol=1e-5)


def test_a_two_layer_head_by_the_names_of_human_pref(checkpoint: Path) -> None:
    """score = Sequential(Dropout, Linear, Dropout, GELU, Linear): the state dict says score.1 and score.4."""
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, attn_implementation="eager")
    torch.manual_seed(3)
    model.score = nn.Sequential(nn.Dropout(0.1), nn.Linear(64, 32), nn.Dropout(0.1), nn.GELU(), nn.Linear(32, 3))
    for parameter in model.score.parameters():
        nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(checkpoint)
    assert {"score.1.weight", "score.4.bias"} <= load_file(checkpoint / "model.safetensors").keys()
    judge = wrap(str(checkpoint), template=PLAIN)
    assert judge.settings.head.kind == "two_layer"
    np.testing.assert_allclose(said(judge), reference(model.eval()), atol=1e-5)
    with pytest.raises(UsageError, match="those of a two_layer head") as caught:
        wrap(str(checkpoint), template=PLAIN, head="linear")
    assert caught.value.mend == "--head two_layer"


@pytest.mark.parametrize("place", ["checkpoint names its base", "base and adapter"])
def test_an_adapter_with_its_head(checkpoint: Path, tmp_path: Path, place: str) -> None:
    model = network(checkpoint, "llama", head=Head(kind="two_layer"), lora=lora("llama"))
    (adapter := tmp_path / "adapter").mkdir()
    model.model.save_pretrained(adapter)
    tiny.tokenizer().save_pretrained(adapter)
    if place == "base and adapter":
        judge = wrap(str(checkpoint), adapter=adapter, template=PLAIN)
    else:
        judge = wrap(str(adapter), template=PLAIN)
    assert judge.settings.adapter
    assert judge.settings.base is not None
    assert judge.settings.base.name == str(checkpoint)
    np.testing.assert_allclose(said(judge), reference(model.model), atol=1e-5)


def test_an_adapter_without_its_head_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    model = network(checkpoint, "llama", lora=lora("llama"))
    model.model.save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(path).items() if "lora" in name}, path)
    with pytest.raises(DataError, match="no classification head"):
        wrap(str(checkpoint), adapter=tmp_path / "adapter", template=PLAIN)
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(DataError, match="is a pickle"):
        wrap(str(checkpoint), adapter=tmp_path / "adapter", template=PLAIN)
    with pytest.raises(UsageError, match=r"no adapter_config\.json"):
        wrap(str(checkpoint), adapter=tmp_path, template=PLAIN)


def test_an_adapter_on_a_checkpoint_that_comes_in_4_bits(tmp_path: Path) -> None:
    """S1's way: a language model that was saved in NF4, an adapter and a head on top of it."""
    config = tiny.config("llama")
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "language")
    four_bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    quantised = AutoModelForCausalLM.from_pretrained(
        tmp_path / "language", quantization_config=four_bits, device_map={"": "cpu"}
    )
    quantised.save_pretrained(base := tmp_path / "base-bnb-4bit")
    tiny.tokenizer().save_pretrained(base)
    model = network(base, "llama", lora=lora("llama"))
    assert type(model.base_model.model.layers[0].mlp.up_proj).__name__ == "Linear4bit"
    assert model.base_model.score.original_module.weight.dtype == torch.float32
    (adapter := tmp_path / "adapter").mkdir()
    model.files(adapter)
    judge = wrap(str(base), adapter=adapter, template=PLAIN)
    np.testing.assert_allclose(said(judge), reference(model.model), atol=2e-2)
    assert any("lora" in name for name, _ in judge.network.named_parameters()), "not merged into 4 bits"


def test_the_order_of_the_classes(checkpoint: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, attn_implementation="eager").eval()
    raw = reference(model)
    np.testing.assert_allclose(said(wrap(str(checkpoint), template=PLAIN)), raw, atol=1e-5)
    tie_first = wrap(str(checkpoint), template=PLAIN, outputs=("tie", "b", "a"))
    np.testing.assert_allclose(said(tie_first), raw[:, [2, 1, 0]], atol=1e-5)
    configure(checkpoint, id2label={"0": "chosen", "1": "rejected", "2": "winner_tie"})
    with pytest.raises(DataError, match="id2label is"):
        wrap(str(checkpoint), template=PLAIN)
    configure(checkpoint, id2label={"0": "Model B wins", "1": "model_a", "2": "Tie"})
    assert wrap(str(checkpoint), template=PLAIN).settings.outputs == ("b", "a", "tie")
    assert wrap(str(checkpoint), template=PLAIN, outputs=("b", "a", "tie")).settings.outputs == ("b", "a", "tie")
    with pytest.raises(UsageError, match=r"id2label of .* says b,a,tie") as caught:
        wrap(str(checkpoint), template=PLAIN, outputs=("a", "b", "tie"))
    assert caught.value.mend.startswith("--classes b,a,tie")


def test_a_checkpoint_that_is_no_judge(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="its head has 2 outputs"):
        inspect(str(tiny.save(tmp_path / "two", "llama", num_labels=2)))
    AutoModelForCausalLM.from_config(tiny.config("llama")).save_pretrained(tmp_path / "language")
    with pytest.raises(DataError, match="no classification head"):
        inspect(str(tmp_path / "language"))


@pytest.mark.slow
def test_from_the_command_line_to_a_submission(checkpoint: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    """S0's job with a tiny model."""
    made = cli(
        "wrap", "checkpoint", "-o", "judge", "--template", "plain", "--max-length", "256", "--json", cwd=tmp_path
    )
    assert made.returncode == 0, made.stderr
    settings = json.loads(made.stdout)["judge"]["settings"]
    assert settings["template"]["max_length"] == 256
    assert settings["base"]["name"] == str(checkpoint)
    cells = pl.col("prompt", "response_a", "response_b").map_elements(
        lambda turns: json.dumps(turns.to_list()), return_dtype=pl.String
    )
    TABLE.select("id", cells).write_csv(tmp_path / "test.csv")
    done = cli(
        "predict", "test.csv", "--judge", "judge", "--max-length", "512", "--max-tokens", "1024", "--format", "kaggle",
        "-o", "submission.csv", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    submission = pl.read_csv(tmp_path / "submission.csv")
    assert submission.columns == ["id", "winner_model_a", "winner_model_b", "winner_tie"]
    assert submission.height == TABLE.height


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["checkpoint", "--head", "two-layer"], "--head two_layer"),
        (["checkpoint", "--classes", "a,b"], "a, b and tie in the order"),
        (["checkpoint", "--classes", "x,y,z"], "a, b and tie in the order"),
        (["checkpoint", "--template", "papp"], "template pa"),
        (["checkpoint", "--template", "mine.yaml"], "mine.yaml"),
        (["checkpoint", "--template", "single"], "reads both answers"),
        (["checkpoint", "--max-length", "16", "--template", "pab"], "too small"),
        (["./absent"], "no such folder"),
    ],
)
def test_mistakes_on_the_command_line(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run(["wrap", *arguments, "-o", "judge"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "judge").exists()


def test_a_template_of_ones_own(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("name: plain\ninstruction: Which is better?\nmarks: {prompt: 'Q: '}\n")
    assert run(["-q", "wrap", "checkpoint", "-o", "judge", "--template", "mine.yaml", "--max-length", "200"]) == 0
    shape = json.loads((tmp_path / "judge" / "judge.json").read_text())["settings"]["template"]
    assert (shape["instruction"], shape["marks"]["prompt"], shape["max_length"]) == ("Which is better?", "Q: ", 200)
