"""From judge to bundle: stages, gate, environment. Plain rounding stands for the worker; NF4 is real."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

import finetune_rows
import judges_made
from tiebreak import comparisons, environments, judges, predictions
from tiebreak.cli import run
from tiebreak.compress import environment, quantising
from tiebreak.compress.run import compress
from tiebreak.compress.task import Task
from tiebreak.environments import Environment, Recipe
from tiebreak.errors import ResourceError, TiebreakError, UsageError
from tiebreak.judges import Runtime
from tiebreak.judges.finetuned import Compression, Settings
from tiebreak.judges.finetuned.loading import own_precision
from tiebreak.listening import Listener
from tiebreak.row_hashes import TRAINED, trained_rows

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:bitsandbytes", "ignore::FutureWarning:bitsandbytes")
EXACT = Runtime(precision="fp32")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("compress")
    judges_made.classifier(here / "base").save(here / "judge")
    judges_made.siamese(here / "other", "llama").save(here / "pair")
    return here


def task(made: Path, output: Path, **changes: Any) -> Task:
    rows = finetune_rows.votes(30)
    asked: dict[str, Any] = {
        "judge": made / "judge", "method": "gptq-8", "calibration": rows, "validation": finetune_rows.votes(20, seed=5),
        "output": output, "rows": 8, "python": Path("somewhere"),
    }  # fmt: skip
    return Task(**asked | changes)


class Worker:
    """Rounds weights to the nearest of so many bits, in the format of llm-compressor."""

    def __init__(self, *, shards: int = 1, damage: float = 0.0) -> None:
        self.shards, self.damage, self.calls = shards, damage, 0

    def __call__(self, made_in: Environment, folder: Path, listener: Listener) -> None:
        self.calls += 1
        asked = json.loads((folder / "settings.json").read_text())
        assert len(load_file(folder / "calibration.safetensors")["offsets"]) == 9
        tensors = load_file(folder / "plain" / "model.safetensors")
        stored: dict[str, torch.Tensor] = {}
        for name, tensor in tensors.items():
            if not name.startswith("model."):
                continue
            name = name.removeprefix("model.")
            stored |= self._packed(name, tensor, asked) if "proj" in name else {name: tensor}
        target = folder / "quantised"
        target.mkdir()
        names = sorted(stored)
        for part in range(self.shards):
            file = "model.safetensors" if self.shards == 1 else f"model-{part + 1:05}-of-{self.shards:05}.safetensors"
            save_file({name: stored[name] for name in names[part :: self.shards]}, target / file)
        weights = {"num_bits": asked["bits"], "type": "int", "strategy": "group", "group_size": asked["group"]}
        scheme = {
            "quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": [],
            "config_groups": {"g": {"weights": weights, "targets": ["Linear"]}},
        }  # fmt: skip
        (target / "config.json").write_text(json.dumps({"quantization_config": scheme}))

    def _packed(self, name: str, weight: torch.Tensor, asked: dict[str, Any]) -> dict[str, torch.Tensor]:
        half, per, group = 2 ** (asked["bits"] - 1), 32 // asked["bits"], asked["group"]
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        grouped = (weight + self.damage * noise).reshape(len(weight), -1, group)
        scale = grouped.abs().amax(dim=2, keepdim=True) / (half - 1)
        whole = (torch.round(grouped / scale).long() + half).reshape(len(weight), -1, per)
        words = (whole << (torch.arange(per) * asked["bits"])).sum(dim=2)
        layer = name.removesuffix(".weight")
        return {
            f"{layer}.weight_packed": words.to(torch.uint32).view(torch.int32), f"{layer}.weight_scale": scale[:, :, 0],
            f"{layer}.weight_shape": torch.tensor(weight.shape),
        }  # fmt: skip


@pytest.fixture
def working(monkeypatch: pytest.MonkeyPatch) -> Callable[[Worker], Worker]:
    def use(worker: Worker) -> Worker:
        monkeypatch.setattr(quantising, "run", worker)
        monkeypatch.setattr(environment, "find", lambda *_: Environment(Path("python"), {"llmcompressor": "none"}))
        return worker

    return use


def said(folder: Path, rows: pl.DataFrame) -> np.ndarray:
    return predictions.probabilities(judges.load(folder, EXACT).predict(rows))


@pytest.mark.parametrize("shards", [1, 3])
def test_the_bundle_says_nearly_what_the_judge_said(made: Path, tmp_path: Path, working: Any, shards: int) -> None:
    working(Worker(shards=shards))
    asked = task(made, tmp_path / "small", runtime=EXACT, force=True)
    outcome = compress(asked)
    assert outcome.refusal is None
    before, after = said(asked.judge, asked.validation), said(asked.output, asked.validation)
    assert 0 < np.abs(before - after).max() < 0.05
    assert outcome.document["bytes"]["compressed"] < 0.5 * outcome.document["bytes"]["original"]
    assert not asked.run_folder.exists()

    judge = judges.load(asked.output)
    assert isinstance(judge.settings, Settings)
    assert judge.settings.base is None
    assert judge.settings.compression == Compression(method="gptq-8", bits=8, group=64, activation_bits=16)
    assert judge.manifest.metrics["compression"] == outcome.document
    assert "## Compressed" in (asked.output / "README.md").read_text()
    scheme = json.loads((asked.output / "config.json").read_text())["quantization_config"]
    assert scheme["ignore"] == ["score"]
    assert (asked.output / "model.safetensors.index.json").is_file() is (shards > 1)


def test_head_and_embeddings_keep_their_bits_and_the_adapter_is_merged(
    made: Path, tmp_path: Path, working: Any
) -> None:
    working(Worker())
    compress(task(made, tmp_path / "small", force=True))
    stored = load_file(tmp_path / "small" / "model.safetensors")
    adapter = load_file(made / "judge" / "adapter_model.safetensors")
    assert torch.equal(stored["score.weight"], adapter["base_model.model.score.weight"])
    base = load_file(made / "base" / "model.safetensors")
    assert torch.equal(stored["model.embed_tokens.weight"], base["model.embed_tokens.weight"])
    merged = judges.load(made / "judge", EXACT).network.model.model.layers[0].self_attn.q_proj.weight
    unpacked = judges.load(tmp_path / "small", EXACT).network.model.model.layers[0].self_attn.q_proj.weight
    scale = stored["model.layers.0.self_attn.q_proj.weight_scale"]
    assert ((merged - unpacked).abs() <= scale.max() / 2 + 1e-6).all()
    assert (merged - base["model.layers.0.self_attn.q_proj.weight"]).abs().max() > 2 * scale.max()


def test_a_pair_judge_and_what_it_was_trained_on_come_along(made: Path, tmp_path: Path, working: Any) -> None:
    working(Worker())
    judge = judges.load(made / "pair")
    rows = finetune_rows.votes(20, seed=5)
    judge._directory.joinpath(TRAINED).write_bytes(trained_rows(rows.head(7)))
    judge.save(tmp_path / "pair")
    (made / "pair" / TRAINED).unlink()
    outcome = compress(task(made, tmp_path / "small", judge=tmp_path / "pair", method="gptq-4", force=True))
    assert outcome.document["validation_rows_trained_on"] == 7
    assert outcome.document["vllm"].startswith("no:")
    assert (tmp_path / "small" / TRAINED).read_bytes() == trained_rows(rows.head(7))
    assert judges.load(tmp_path / "small").predict(rows).height == 20


def test_the_gate_refuses_and_force_overrules_without_doing_it_again(made: Path, tmp_path: Path, working: Any) -> None:
    worker = working(Worker(damage=0.3))
    rows = finetune_rows.votes(20, seed=5)
    own = said(made / "judge", rows)  # against what the judge itself says, every change costs
    rows = rows.with_columns(pl.Series(name, own[:, i]) for i, name in enumerate(comparisons.SOFT))
    asked = task(made, tmp_path / "bad", validation=rows)
    outcome = compress(asked)
    assert outcome.refusal is not None
    assert "--force" in str(outcome.refusal)
    assert outcome.parity.change is not None
    assert outcome.parity.change.value > 0.005
    assert not asked.output.exists()
    again = compress(task(made, tmp_path / "bad", validation=rows, force=True))
    assert again.refusal is None
    assert again.document["forced"]
    assert worker.calls == 1
    assert "by force" in (asked.output / "README.md").read_text()


def test_an_interrupted_run_leaves_nothing_and_goes_on(made: Path, tmp_path: Path, working: Any) -> None:
    worker = working(Worker())
    asked = task(made, tmp_path / "small", force=True)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    working(stopped)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        compress(asked)
    assert not asked.output.exists()
    plain = asked.run_folder / "plain" / "model.safetensors"
    written = plain.stat().st_mtime_ns
    working(stopped)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        compress(asked)
    assert plain.stat().st_mtime_ns == written
    working(stopped)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):  # another method begins anew
        compress(task(made, tmp_path / "small", method="gptq-4"))
    assert plain.stat().st_mtime_ns != written
    working(worker)
    assert compress(asked).refusal is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small"]


def test_nf4_is_read_back_as_it_was_written(made: Path, tmp_path: Path) -> None:
    asked = task(made, tmp_path / "nf4", method="nf4", force=True, python=None)
    outcome = compress(asked)
    assert outcome.document["bytes"]["compressed"] < 0.35 * outcome.document["bytes"]["original"]
    stored = load_file(asked.output / "model.safetensors")
    assert stored["model.layers.0.mlp.up_proj.weight"].dtype == torch.uint8
    assert stored["score.weight"].dtype == torch.float32
    first, second = (judges.load(asked.output).predict(asked.validation) for _ in range(2))
    assert first.equals(second)
    again = predictions.probabilities(first) - predictions.probabilities(
        judges.load(asked.judge).predict(asked.validation)
    )
    assert np.abs(again).max() == pytest.approx(outcome.parity.largest_change, abs=1e-6)
    with pytest.raises(UsageError, match="in 4 bits"):
        judges.load(asked.output, Runtime(precision="int8"))


def test_what_cannot_be_compressed_is_refused_before_any_work(made: Path, tmp_path: Path, working: Any) -> None:
    working(Worker())
    compress(task(made, tmp_path / "small", force=True))
    for changes, words in (
        ({"judge": judges.EMBEDDED}, "features judge has no network"),
        ({"judge": tmp_path / "small", "output": tmp_path / "again"}, "compressed already"),
        ({"output": made / "judge"}, "is the judge itself"),
    ):
        with pytest.raises(UsageError, match=words):
            compress(task(made, changes.pop("output", tmp_path / "other"), **changes))
    assert not (tmp_path / "other.run").exists()


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ("import sys; print('one'); print('it broke'); sys.exit(3)", TiebreakError, "one / it broke"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", ResourceError, "signal 9"),
    ],
)
def test_a_worker_that_fails_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, kind: type[TiebreakError], words: str
) -> None:
    (tmp_path / "worker.py").write_text(script)
    monkeypatch.setattr(quantising, "WORKER", tmp_path / "worker.py")
    with pytest.raises(kind, match=words):
        quantising.run(Environment(Path(sys.executable), {}), tmp_path, Listener())


def test_progress_is_read_from_what_the_worker_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    moved: list[int] = []

    @contextmanager
    def progress(what: str, total: int | None, unit: str) -> Any:
        yield moved.append

    said_so = r"(1/3): Calibrating: 50%\r(1/3): Calibrating: 100%\r\n(2/3): Propagating\n(3/3): Calibrating"
    script = f"import os, sys; sys.stdout.write('{said_so}'); os.mkdir(os.path.join(sys.argv[1], 'quantised'))"
    (tmp_path / "worker.py").write_text(script)
    monkeypatch.setattr(quantising, "WORKER", tmp_path / "worker.py")
    quantising.run(Environment(Path(sys.executable), {}), tmp_path, Listener(progress=progress))
    assert moved == [1, 1, 1]
    assert "Propagating" in (tmp_path / quantising.LOG).read_text()


def test_an_environment_is_made_once_and_anew_where_the_making_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIEBREAK_CACHE", str(tmp_path))
    monkeypatch.delenv(environment.PYTHON, raising=False)
    called: list[list[str]] = []
    broken = True

    def call(recipe: Recipe, command: Any, failed: str) -> None:
        called.append(list(command))
        environment.place().mkdir(parents=True, exist_ok=True)
        (environment.place() / "left-over").touch()
        if broken and len(called) == 2:
            raise ResourceError(failed)

    monkeypatch.setattr(environments, "_call", call)
    monkeypatch.setattr(environments, "inspect", lambda _, python: Environment(python, {"llmcompressor": "1"}))
    told: list[str] = []
    with pytest.raises(ResourceError, match="cannot be made"):
        environment.find(listener=Listener(say=told.append))
    assert not environment.is_there()
    assert "1.5 GB" in told[0]
    broken, old = False, environment.place() / "left-over"
    inode = old.stat().st_ino
    found = environment.find()
    assert environment.is_there()
    assert old.stat().st_ino != inode or len(called) == 5  # begun from nothing
    assert found.versions == {"llmcompressor": "1"}
    assert environment.find() == found
    assert len(called) == 5
    torch_first, all_of_it = (step[5:] for step in called[-2:])
    assert len(torch_first) + 1 == len(all_of_it)
    assert torch_first[-1].startswith("torch==")
    assert "+" not in torch_first[-1]


def test_a_python_without_llm_compressor_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no Python with llm-compressor.*pip install llmcompressor=="):
        environment.find(Path(sys.executable))
    monkeypatch.setenv(environment.PYTHON, str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="nowhere"):
        environment.find()


def test_rounded_inputs_run_in_int8_where_there_are_kernels(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = judges.load(made / "judge").network
    whole = Compression(method="int8", bits=8, group=None, activation_bits=8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for there, meant in ((True, "int8"), (False, "auto")):
        monkeypatch.setattr("tiebreak.engine.cpu.has_int8", lambda family, there=there: there)
        assert own_precision(whole, network, "auto") == meant
    assert own_precision(whole, network, "cuda") == "auto"
    eight = Compression(method="gptq-8", bits=8, group=64, activation_bits=16)
    assert own_precision(eight, network, "auto") == "auto"


def test_the_command_line(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def ran(*arguments: object) -> tuple[int, dict[str, Any], str]:
        code = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, json.loads(out or "{}"), err

    rows = finetune_rows.votes(20, seed=5)
    rows.with_columns(label=None).write_parquet(tmp_path / "texts.parquet")
    own = said(made / "judge", rows)
    soft = [pl.Series(name, own[:, i]) for i, name in enumerate(comparisons.SOFT)]
    rows.with_columns(soft).write_parquet(tmp_path / "own.parquet")
    base = ["compress", made / "judge", "--method", "nf4", "--json"]
    code, found, _ = ran(*base, "--validation", tmp_path / "own.parquet", "-o", tmp_path / "no")
    assert (code, found["output"]) == (6, None)
    assert not (tmp_path / "no").exists()
    code, found, err = ran(*base, "--validation", tmp_path / "texts.parquet", "-o", tmp_path / "yes")
    assert (code, found["output"]) == (0, str(tmp_path / "yes"))
    assert "no votes" in err
    assert found["compression"]["log_loss_change"] is None
    assert found["compression"]["kl"][0] > 0
    _, found, _ = ran(*base, "--validation", tmp_path / "own.parquet", "-o", tmp_path / "no", "--dry-run")
    assert "4-bit NormalFloat" in found["plan"]["method"]
    code, _, err = ran(*base[:-2], "gptq-8", "--validation", tmp_path / "own.parquet", "-o", tmp_path / "no")
    assert code == 2
    assert "--calibration" in err


def test_the_commands_of_the_page(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[1] / "docs" / "compress.md"
    block = page.read_text(encoding="utf-8").split("```console slow\n")[1].split("```")[0]
    judges.load(made / "judge").save(tmp_path / "judge")
    finetune_rows.votes(12).write_parquet(tmp_path / "votes.parquet")
    monkeypatch.chdir(tmp_path)
    for line in block.splitlines():
        assert run(shlex.split(line)[2:]) == 0, line
    assert pl.read_parquet("predictions.parquet").height == 12
