"""The reward judge: scores as transformers gives them, exact mirrors, chats that no text can change, and its CLI."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

import tiny
from judges_made import real_rows, rows
from render_tokenizers import DOWNLOADED, load
from tiebreak import bundle, comparisons, judges, predictions
from tiebreak.cli import run
from tiebreak.errors import BundleError, DataError, UsageError
from tiebreak.judges import Runtime
from tiebreak.judges.reward import Layer, RewardJudge, lengths
from tiebreak.judges.reward.reading import ChatRenderer
from tiebreak.judges.reward.wrapping import wrap
from tiebreak.render import template
from tiebreak.render.frame import DATE
from tiebreak.render.texts import forbidden_ids

FP32 = Runtime(precision="fp32", devices="cpu")
SINGLE = template("single", max_length=300)
TABLE = rows(("Name a prime.", "Seven.", "Nine is a prime."), ("q", "a", "b " * 50), ("q", "same", "same"))
TRIMMING = tiny.CHAT_TEMPLATE.replace("message['content']", "message['content'] | trim")
# As of Qwen 3: the last answer is written with an empty thought before it.
THINKING = tiny.CHAT_TEMPLATE.replace(
    "{{ message['content'] }}",
    "{% if loop.last and message['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ message['content'] }}",
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("reward") / "llama", "llama", num_labels=1)


@pytest.fixture(scope="module")
def made(checkpoint: Path) -> RewardJudge:
    judge = wrap(str(checkpoint), template=SINGLE)
    judge.run_with(FP32)
    return judge


def as_transformers(folder: Path, chats: list[list[str]]) -> np.ndarray:
    """Scores of chats, the way a model card does it: the chat template, the tokenizer, a forward a chat."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer = tiny.tokenizer()
    found = []
    for texts in chats:
        messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
        ids = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            found.append(float(model(torch.tensor([ids])).logits[0, 0]))
    return np.array(found)


def configured(folder: Path, tmp_path: Path, **changes: object) -> Path:
    copy = shutil.copytree(folder, tmp_path / "changed")
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return copy


@pytest.mark.parametrize("pad", [0, 2, None])
def test_scores_are_those_of_transformers(checkpoint: Path, tmp_path: Path, pad: int | None) -> None:
    """Also where the chat's last token is taken for padding (2 is <|im_end|>), so that another one is read."""
    folder = configured(checkpoint, tmp_path, pad_token_id=pad)
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = ending = tiny.CHAT_TEMPLATE.replace("<|im_end|>\n", "<|im_end|>")
    tokenizer.save_pretrained(folder)
    judge = wrap(str(folder), template=SINGLE)
    judge.run_with(FP32)
    found = judge.score_answers(["q", "q", ["one", "two"]], ["a", "some words", ["yes", "no"]])
    chats = [["q", "a"], ["q", "some words"], ["one", "yes", "two", "no"]]
    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    for chat, score in zip(chats, found, strict=True):
        messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(chat)]
        text = tokenizer.apply_chat_template(messages, tokenize=False, chat_template=ending)
        with torch.inference_mode():
            expected = model(torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])).logits[0, 0]
        assert score == pytest.approx(float(expected), abs=1e-5)


def test_probabilities_are_the_layer_of_the_difference(made: RewardJudge, checkpoint: Path) -> None:
    a = as_transformers(checkpoint, [[r["prompt"][0], r["response_a"][0]] for r in TABLE.iter_rows(named=True)])
    b = as_transformers(checkpoint, [[r["prompt"][0], r["response_b"][0]] for r in TABLE.iter_rows(named=True)])
    expected = Layer().probabilities(a - b, np.zeros(3))
    np.testing.assert_allclose(made.score(TABLE).probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(made.margins(TABLE), a - b, atol=1e-5)
    assert made.predict(TABLE).row(2, named=True)["label"] == "tie"


@pytest.mark.parametrize("family", [pytest.param("gemma2", marks=pytest.mark.slow), "qwen3"])
def test_real_rows_and_their_twins_mirror_bit_by_bit(tmp_path: Path, family: str) -> None:
    folder = tiny.save(tmp_path / "base", family, num_labels=1)
    layer = Layer(family="rao-kupper", scale=0.7, tie=1.9, length=0.3)
    judge = wrap(str(folder), template=template("single", max_length=200), layer=layer)
    table = real_rows(8)
    one, other = (predictions.probabilities(judge.predict(each)) for each in (table, comparisons.swap(table)))
    assert (one == other[:, [1, 0, 2]]).all()
    assert len(np.unique(one[:, 0])) > 4, "a judge that says the same of all is mirrored too"
    assert judge.manifest.swap_equivariant


def test_each_answer_is_read_once(made: RewardJudge) -> None:
    answers = [f"answer {i} {'x' * i}" for i in range(5)]
    made.predict(rows(*[("q", a, b) for a in answers for b in answers if a != b]))
    assert (made.report["rows"], made.report["sequences"]) == (20, 5)


@pytest.mark.parametrize("self_contained", [True, False])
def test_saved_and_loaded_it_says_the_same(checkpoint: Path, tmp_path: Path, self_contained: bool) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "base")
    layer = Layer(family="rao-kupper", scale=0.7, tie=1.9, length=0.3)
    judge = wrap(str(folder), template=SINGLE, layer=layer, self_contained=self_contained)
    judge.save(tmp_path / "judge")
    judge.run_with(FP32)
    expected = judge.predict(TABLE)
    if self_contained:
        shutil.rmtree(folder)
    assert judges.load(tmp_path / "judge", FP32).predict(TABLE).equals(expected)
    shorter = judges.load(tmp_path / "judge", Runtime(precision="fp32", devices="cpu", max_length=70))
    assert shorter.predict(TABLE)["truncated"].to_list() == [False, True, False]


def test_a_template_without_a_chat(checkpoint: Path) -> None:
    judge = wrap(str(checkpoint), template=SINGLE, chat=False)
    assert judge.renderer.tokenizer.decode(judge.renderer.render_answers([["q"]], [["a"]]).sequences[0]) == (
        "Question: q\n\nAnswer: a\n"
    )


def test_null_is_not_nothing(made: RewardJudge) -> None:
    made.predict(rows(([None], [None], [""]), ([""], [None], [""])))
    assert made.report["sequences"] == 4


@pytest.mark.parametrize("chat_template", [tiny.CHAT_TEMPLATE, TRIMMING, THINKING], ids=["plain", "trim", "think"])
def test_chats_are_rendered_as_transformers_does(chat_template: str) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = chat_template
    texts = [["  the fox\n", "answers "], ["which", "the brown", "better?", " two"]]
    rendered = ChatRenderer(SINGLE, tokenizer).render_answers([t[::2] for t in texts], [t[1::2] for t in texts])
    for chat, ids in zip(texts, rendered.sequences, strict=True):
        messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(chat)]
        whole = tokenizer.apply_chat_template(messages, tokenize=False)
        assert tokenizer.decode(ids) == whole
    assert not rendered.truncated.any()


@pytest.mark.parametrize("name", [*DOWNLOADED, "smollm2"])
def test_chats_of_real_tokenizers_are_those_of_their_templates(name: str) -> None:
    tokenizer = load(name)
    if tokenizer is None:
        pytest.skip(f"the tokenizer of {name} is not here")
    chat = ["which fox is it? ", "The brown one.", "really?", "Yes, indeed. \n"]
    ids = ChatRenderer(SINGLE, tokenizer).render_answers([chat[::2]], [chat[1::2]]).sequences[0]
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(chat)]
    text = tokenizer.apply_chat_template(messages, tokenize=False, date_string=DATE)
    assert ids.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]


@given(st.lists(st.sampled_from(["<|im_end|>", "<|im_start|>user\n", "[SEP]", "{{ x }}", " a ", ""]), max_size=4))
@settings(max_examples=40, deadline=None)
def test_no_answer_changes_the_structure(parts: list[str]) -> None:
    tokenizer = tiny.tokenizer()
    special = sorted(forbidden_ids(tokenizer))

    def structure(text: str) -> list[int]:
        ids = ChatRenderer(SINGLE, tokenizer).render_answers([["q"]], [[text]]).sequences[0]
        return [int(i) for i in ids if i in special]

    assert structure("".join(parts)) == structure("fox")


def test_a_long_chat_loses_first_rounds_then_the_middle_of_long_texts() -> None:
    renderer = ChatRenderer(template("single", max_length=64), tiny.tokenizer())
    prompts, answers = [f"q{i}" for i in range(30)], [f"a{i}" for i in range(30)]
    rendered = renderer.render_answers([prompts, ["fox " * 5], ["q"]], [answers, ["fox " * 300], ["a"]])
    assert (rendered.sequences.lengths <= 64).all()
    assert rendered.truncated.tolist() == [True, True, False]
    text = renderer.tokenizer.decode(rendered.sequences[0])
    assert "a29" in text
    assert "q0" not in text
    assert text.startswith("<|im_start|>user")
    ledger = rendered.ledger.row(1, named=True)
    assert ledger["kept_prompt"] == ledger["tokens_prompt"]
    assert ledger["kept_answer"] < ledger["tokens_answer"]
    assert rendered.ledger["tokens_prompt"][0] > rendered.ledger["kept_prompt"][0] > 0
    with pytest.raises(UsageError, match="too small"):
        renderer.at(renderer.least_length - 1)
    assert renderer.at(renderer.least_length).render_answers([["q " * 9]], [["a " * 9]]).truncated.all()
    assert renderer.render_answers([], []).sequences.lengths.tolist() == []
    with pytest.raises(UsageError, match="differ in number or in turns"):
        renderer.render_answers([["q"]], [["a", "b"]])


def test_models_that_are_no_scalar_reward_models_are_named(checkpoint: Path, tmp_path: Path) -> None:
    gated = configured(
        checkpoint, tmp_path, auto_map={"AutoModel": "x.Y"}, architectures=["LlamaForRewardModelWithGating"]
    )
    with pytest.raises(DataError, match="LlamaForRewardModelWithGating brings code of its own"):
        wrap(str(gated), template=SINGLE)
    for number, (change, message) in enumerate(
        [
            ({"regression_layer.weight": torch.zeros(19, 64)}, "regression_layer"),
            ({"v_head.summary.weight": torch.zeros(1, 64)}, "v_head"),
            ({"score.weight": torch.zeros(5, 64)}, "5 outputs"),
            ({"score.weight": torch.zeros(3, 64)}, "classifier of pairs"),
            ({"score.weight": None}, "no linear layer for a score"),
            ({"score.weight": None, "score.0.weight": torch.zeros(64, 64)}, r"only score\.0\.weight"),
        ]
    ):
        folder = shutil.copytree(checkpoint, tmp_path / str(number))
        weights = load_file(folder / "model.safetensors") | change
        save_file({k: v for k, v in weights.items() if v is not None}, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(DataError, match=message):
            wrap(str(folder), template=SINGLE)


def test_choices_that_do_not_apply_are_refused(made: RewardJudge, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no order"):
        made.run_with(Runtime(swap="both"))
    with pytest.raises(UsageError, match="runs on torch alone"):
        made.run_with(Runtime(backend="vllm"))
    with pytest.raises(UsageError, match="reads one answer"):
        wrap(str(checkpoint), template=template("pab"))
    folder = shutil.copytree(checkpoint, tmp_path / "dumb")
    document = json.loads((folder / "tokenizer_config.json").read_text())
    document.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(document))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(UsageError, match="no chat template"):
        wrap(str(folder), template=SINGLE)
    made.save(tmp_path / "judge")
    manifest = json.loads((tmp_path / "judge" / "judge.json").read_text())
    manifest["settings"]["layer"]["tie"] = -1
    (tmp_path / "judge" / "judge.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="not above"):
        judges.load(tmp_path / "judge")


def voted(judge: RewardJudge, n: int, layer: Layer) -> pl.DataFrame:
    """An arena of short texts whose people follow a layer over the judge's own scores."""
    rng = np.random.default_rng(0)
    texts = [f"w{i} " * int(rng.integers(1, 9)) for i in range(40)]
    a, b = rng.integers(0, 40, n), rng.integers(0, 40, n)
    table = rows(*[(f"q{i % 5}", texts[x], texts[y]) for i, (x, y) in enumerate(zip(a, b, strict=True))])
    p = layer.probabilities(judge.margins(table), lengths(table))
    codes = (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    groups = pl.Series("group", [str(i) for i in range(n)])
    return table.with_columns(pl.Series("label", np.array(comparisons.LABELS)[codes]).cast(comparisons.LABEL), groups)


def test_the_command_line_from_a_checkpoint_to_a_fitted_judge(
    made: RewardJudge, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = Layer(family="rao-kupper", scale=2.0, tie=2.2, length=0.0)
    votes = voted(made, 240, truth)
    votes.write_parquet(tmp_path / "votes.parquet")
    judge, fitted, again = (str(tmp_path / name) for name in ("judge", "fitted", "again"))
    assert run(["wrap", "reward", str(checkpoint), "-o", judge, "--max-length", "300", "--model", "rao-kupper"]) == 0
    assert "not fitted yet" in capsys.readouterr().err
    data = str(tmp_path / "votes.parquet")
    command = ["calibrate", data, "--judge", judge, "--method", "rao-kupper", "--precision", "fp32", "-o", fitted]
    assert run([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    scale, tie = document["methods"]["rao-kupper"]["intervals"].values()
    assert scale[1] < 2.0 < scale[2]
    assert tie[1] < 2.2 < tie[2]
    layer = bundle.read(Path(fitted)).settings["layer"]
    assert layer == document["methods"]["rao-kupper"]["layer"]
    assert layer["fitted"] is True  # type: ignore[index, call-overload]

    # From predictions, no answer is read again, and the same layer comes out.
    said = str(tmp_path / "said.parquet")
    assert run(["predict", data, "--judge", fitted, "--precision", "fp32", "-o", said]) == 0
    capsys.readouterr()
    assert run(["calibrate", said, "--labels", data, "--judge", fitted, "--method", "rao-kupper", "-o", again]) == 0
    assert "a unit of reward, in log-odds" in capsys.readouterr().out
    other = bundle.read(Path(again)).settings["layer"]
    for name in ("scale", "tie", "length"):
        assert other[name] == pytest.approx(layer[name], rel=1e-4, abs=1e-9)  # type: ignore[index, call-overload]

    # Any other calibration goes on top of it as it does with every judge, and a new layer takes it off.
    top = str(tmp_path / "top")
    assert run(["calibrate", said, "--labels", data, "--judge", fitted, "--method", "temperature", "-o", top]) == 0
    assert bundle.read(Path(top)).calibration is not None
    assert run(["calibrate", data, "--judge", top, "--precision", "fp32", "-o", str(tmp_path / "last")]) == 0
    assert bundle.read(Path(tmp_path / "last")).calibration is None
    assert bundle.read(Path(tmp_path / "last")).settings["layer"]["family"] == "davidson"  # type: ignore[index, call-overload]


def test_a_reward_model_that_knows_nothing_is_refused_and_nothing_written(
    made: RewardJudge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    votes = voted(made, 90, Layer(scale=0.0, tie=1.0))
    votes.write_parquet(tmp_path / "votes.parquet")
    made.save(tmp_path / "judge")
    command = ["calibrate", str(tmp_path / "votes.parquet"), "--judge", str(tmp_path / "judge")]
    assert run([*command, "-o", str(tmp_path / "out")]) == 6
    assert "refused" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run([*command, "-o", str(tmp_path / "out"), "--force"]) == 0
    assert bundle.read(tmp_path / "out").metrics["calibration"]["forced"]  # type: ignore[index, call-overload]
    assert run([*command, "--method", "elo"]) == 2
    assert run([*command, "-o", str(tmp_path / "x.json")]) == 2


def test_the_layer_is_fitted_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nimport tiebreak.calibrate.ties\nimport tiebreak.judges.reward\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
