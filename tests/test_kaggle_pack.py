"""Packs: what is written, that it is the same every time, whole or not at all, and that its record tells all of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import generative_made
import judges_made
import kaggle_packing
from kaggle_packing import LMSYS
from tiebreak import bundle, storage
from tiebreak.cli import run
from tiebreak.errors import DataError, TiebreakError, UsageError
from tiebreak.judges.base import digest
from tiebreak.kaggle import metadata
from tiebreak.kaggle.kernel import finding
from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.packing import Choices, Packed, Record, making, parameters, plan, record, texts, write
from tiebreak.kaggle.wheels import house
from tiebreak.kaggle.wheels.asking import PipError

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("secret-place")
    judges_made.classifier(root / "base").save(root / "judge")
    return root / "judge"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        yield kaggle_packing.index(tmp_path_factory.mktemp("wheels"), patch)


def packed(output: Path, **choices: Any) -> Packed:
    return write(plan(Choices(**{"competition": LMSYS, "user": "someone"} | choices)), output)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.usefixtures("index")
def test_the_embedded_judge_is_notebook_and_wheels_alone(tmp_path: Path) -> None:
    done = packed(tmp_path / "out", notes="first")
    pack = done.layout
    assert sorted(path.name for path in pack.root.iterdir()) == ["kernel", "pack.json", "wheels"]
    metadata.check(pack)
    house.verify(pack.wheels)
    kernel = json.loads((pack.kernel / "kernel-metadata.json").read_text())
    slug = "tiebreak-features-1-llm-classification-finetuning"
    assert kernel["id"] == f"someone/{slug}"
    assert kernel["code_file"] == f"{slug}.ipynb"
    assert kernel["enable_internet"] is False
    assert (kernel["enable_gpu"], kernel.get("machine_shape")) == (False, None)
    assert kernel["competition_sources"] == [LMSYS]
    assert kernel["dataset_sources"] == [json.loads((pack.wheels / "dataset-metadata.json").read_text())["id"]]
    assert kernel["model_sources"] == []
    found = record.check(pack)
    assert found == done.record
    assert found.settings.wheelhouse == storage.sha256(pack.wheels / "wheelhouse.json")
    assert (found.settings.judge, found.settings.needs_gpu, found.settings.hours) == (None, False, 8.5)
    assert (found.notes, found.judge.parameters) == ("first", 0)
    assert {part: set(held.files) for part, held in found.parts.items()} == {
        "kernel": {f"{slug}.ipynb"}, "wheels": {path.name for path in pack.wheels.iterdir()},
    }  # fmt: skip


@pytest.mark.usefixtures("index")
def test_nobody_elses_base_becomes_public_under_a_licence_of_ours(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"its licence is not given.*--base-licence LICENCE"):
        packed(tmp_path / "out", judge=adapter, public=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("index")
def test_an_adapter_is_packed_with_its_base_beside_it(adapter: Path, tmp_path: Path) -> None:
    done = packed(
        tmp_path / "out", judge=adapter, public=True, max_length=200, swap="none", hours=2.0, base_licence="MIT"
    )
    pack, found = done.layout, done.record
    metadata.check(pack)
    kernel = json.loads((pack.kernel / "kernel-metadata.json").read_text())
    assert (kernel["machine_shape"], kernel["enable_gpu"], kernel["is_private"]) == ("NvidiaTeslaT4", True, False)
    assert found.instances == {
        "judge": "someone/tiebreak-tiny/transformers/judge", "base": "someone/tiebreak-tiny/transformers/base",
    }  # fmt: skip
    assert kernel["model_sources"] == [f"{instance}/1" for instance in found.instances.values()]
    assert found.settings.judge == storage.sha256(pack.model / "judge" / "judge.json")
    assert found.settings.bases == [digest([pack.model / "base" / "model.safetensors"])]
    assert found.settings.predicting.max_length == 200
    assert (found.settings.hours, found.settings.needs_gpu) == (1.5, False)
    assert {"torch", "transformers", "peft"} <= {wheel.name for wheel in done.house.wheels}
    assert bundle.read(pack.model / "judge").name == "tiny"
    card = json.loads((pack.model / "model-metadata.json").read_text())
    assert card["isPrivate"] is False
    for said in (
        "`tiny` is a classifier judge",
        "- base: base",
        "What it was trained on is not recorded",
        "No figures",
    ):
        assert said in card["description"]
    judge, base = (
        json.loads((pack.model / name / "model-instance-metadata.json").read_text()) for name in ("judge", "base")
    )
    assert "--judge ${PATH} --base BASE" in judge["usage"]
    assert (judge["licenseName"], base["licenseName"]) == ("Apache 2.0", "MIT")
    for name, content in contents(pack.root).items():
        assert b"secret-place" not in content, name
        assert str(tmp_path).encode() not in content, name
    inputs = finding.survey(pack.model)
    assert finding.by_sha256(inputs, pack.model, "judge.json", str(found.settings.judge), "") == pack.model / "judge"
    assert finding.by_weights(inputs, pack.model, found.settings.bases[0], tmp_path / "s") == pack.model / "base"


@pytest.mark.usefixtures("index")
def test_a_base_that_kaggle_has_is_not_packed(adapter: Path, tmp_path: Path) -> None:
    there = "google/gemma-2/transformers/gemma-2-9b-it/2"
    done = packed(tmp_path / "out", judge=adapter, base_model=there)
    found = done.record
    kernel = json.loads((done.layout.kernel / "kernel-metadata.json").read_text())
    assert kernel["model_sources"] == ["someone/tiebreak-tiny/transformers/judge/1", there]
    assert (found.base_model, found.judge.parameters, found.settings.needs_gpu) == (there, None, True)
    assert len(found.settings.bases) == 1
    assert not (done.layout.model / "base").exists()
    metadata.check(done.layout)
    less = packed(tmp_path / "less", judge=adapter, base_model=there, needs_gpu=False)
    assert less.record.settings.needs_gpu is False


@pytest.mark.usefixtures("index")
def test_a_blend_is_packed_flat(adapter: Path, tmp_path: Path) -> None:
    cheap = kaggle_packing.features(tmp_path / "cheap")
    place = kaggle_packing.blend(tmp_path / "blend", {"cheap": cheap, "dear": adapter})
    done = packed(tmp_path / "out", judge=place)
    folder = done.layout.model / "judge"
    assert all(path.is_file() for path in folder.iterdir())
    assert json.loads((folder / "layout.json").read_text())["members/dear/judge.json"] == "members--dear--judge.json"
    tree = finding.unflattened(folder, tmp_path / "tree")
    assert bundle.read(tree).name == "both"
    card = json.loads((done.layout.model / "model-metadata.json").read_text())["description"]
    assert "- made of: cheap (features), dear (classifier)" in card
    assert "| kaggle_lmsys_1k | 1,000 | Apache-2.0 |" in card


@pytest.mark.usefixtures("index")
def test_a_features_bundle_runs_on_a_cpu_and_has_no_choices_of_networks(tmp_path: Path) -> None:
    judge = kaggle_packing.features(tmp_path / "judge")
    done = packed(tmp_path / "out", judge=judge, competition="wsdm-cup-multilingual-chatbot-arena")
    assert done.record.instances == {"judge": "someone/tiebreak-lengths/other/judge"}
    assert done.record.settings.test == "test.parquet"
    assert done.record.settings.submission.columns == {"winner": "winner_without_tie"}
    assert not any(wheel.name == "torch" for wheel in done.house.wheels)
    notebook = next(done.layout.kernel.glob("*.ipynb")).read_text()
    assert "half of P(tie) goes to each side" in notebook
    card = json.loads((done.layout.model / "model-metadata.json").read_text())["description"]
    assert "| kaggle_lmsys_1k | 1,000 | Apache-2.0 |" in card
    assert "| kaggle_lmsys_1k.log_loss | 1.0128 |" in card
    with pytest.raises(UsageError, match="swap: a features judge has no such choice"):
        packed(tmp_path / "more", judge=judge, swap="both")


def test_what_was_found_wrong_at_training_is_not_passed_over(tmp_path: Path) -> None:
    judge = kaggle_packing.features(tmp_path / "judge")
    document = json.loads((judge / "judge.json").read_text())
    document["metrics"] = {"findings": ["no better than the prior"]}
    document["training"][0]["licence"] = None
    (judge / "judge.json").write_text(json.dumps(document))
    found = plan(Choices(competition=LMSYS, user="someone", judge=judge))
    assert "said at training: no better than the prior" in found.notes
    assert any("no licence is stated for kaggle_lmsys_1k, which it was trained on" in note for note in found.notes)
    assert "- no better than the prior" in texts.card(found.subject)


@pytest.mark.usefixtures("index")
def test_the_same_gives_the_same_bytes(adapter: Path, tmp_path: Path) -> None:
    one, two = (packed(tmp_path / name, judge=adapter, notes="n") for name in ("one", "two"))
    assert contents(one.layout.root) == contents(two.layout.root)
    assert {name: part.digest for name, part in one.record.parts.items()} == {
        name: part.digest for name, part in two.record.parts.items()
    }


@pytest.mark.usefixtures("index")
def test_a_pack_is_replaced_whole_and_remembers_what_was_pushed(adapter: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    packed(out, judge=adapter)
    (out / "pushed.json").write_text('{"kernel": 3}')
    (out / "stray").mkdir()
    packed(out)
    assert sorted(path.name for path in out.iterdir()) == ["kernel", "pack.json", "pushed.json", "wheels"]
    assert (out / "pushed.json").read_text() == '{"kernel": 3}'
    before = contents(out)
    with pytest.raises(PipError):
        packed(out, requirements=("nobody-has-this==1.0",))
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.usefixtures("index")
def test_only_a_pack_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="holds something else than a pack, and would be replaced"):
        packed(tmp_path / "mine")
    judge = kaggle_packing.features(tmp_path / "judge")
    packed(tmp_path / "out")
    shutil.move(judge, tmp_path / "out" / "judge")
    with pytest.raises(UsageError, match=r"lies in .*out, which would be replaced"):
        packed(tmp_path / "out", judge=tmp_path / "out" / "judge")
    with pytest.raises(UsageError, match="is a file"):
        packed(tmp_path / "mine" / "thesis.tex")
    with pytest.raises(UsageError, match="to mend: mkdir -p"):
        packed(tmp_path / "no" / "where")
    (tmp_path / "empty").mkdir()
    packed(tmp_path / "empty")


@pytest.mark.usefixtures("index")
def test_a_file_that_is_missing_altered_or_surplus_is_named(tmp_path: Path) -> None:
    pack = packed(tmp_path / "out", judge=kaggle_packing.features(tmp_path / "judge")).layout
    (pack.model / "judge" / "tie.txt").unlink()
    (pack.model / "judge" / "surplus").write_text("")
    with (pack.wheels / "requirements.lock").open("a") as lock:
        lock.write("evil==1.0\n")
    with (pack.kernel / "kernel-metadata.json").open("a") as file:  # push writes versions into this one
        file.write("\n")
    with pytest.raises(DataError) as caught:
        record.check(pack)
    assert re.findall(r"^  (.*)$", str(caught.value), re.MULTILINE) == [
        "model/judge/surplus was not packed", "model/judge/tie.txt is missing", "wheels/requirements.lock was altered",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "is not a pack: no pack.json in it"), ("{", "cannot be read"), ("[]", "pack.json: "),
        ('{"format": 2}', "format 2 is newer"), ('{"format": 1, "user": "x"}', "kernel: Field required"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_pack_is_told(document: str | None, said: str, tmp_path: Path) -> None:
    if document is not None:
        (tmp_path / "pack.json").write_text(document)
    with pytest.raises(DataError, match=re.escape(said)):
        record.read(Layout(tmp_path))


@pytest.mark.usefixtures("index")
def test_large_files_are_linked_and_small_ones_copied(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "LINKED", 50_000)
    weights = adapter.parent / "base" / "model.safetensors"
    assert weights.stat().st_size > 50_000
    pack = packed(tmp_path / "linked", judge=adapter).layout
    assert (pack.model / "base" / "model.safetensors").samefile(weights)
    assert not (pack.model / "judge" / "adapter_config.json").samefile(adapter / "adapter_config.json")

    def no_links(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", no_links)
    pack = packed(tmp_path / "copied", judge=adapter).layout
    assert not (pack.model / "base" / "model.safetensors").samefile(weights)
    assert (pack.model / "base" / "model.safetensors").read_bytes() == weights.read_bytes()


def test_a_judge_that_is_too_large_for_a_cpu_needs_a_gpu(
    adapter: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wish = {"competition": LMSYS, "user": "someone", "judge": adapter}
    size = plan(Choices(**wish)).subject.parameters
    assert size is not None
    monkeypatch.setattr(parameters, "LARGE", size - 1)
    assert plan(Choices(**wish)).needs_gpu is True
    assert plan(Choices(**wish, needs_gpu=False)).needs_gpu is False
    found = plan(Choices(**wish, machine="cpu"))
    assert found.shape is None
    assert any("on a machine without one: the embedded judge will do all rows" in note for note in found.notes)
    monkeypatch.setattr(parameters, "LARGE", size)
    assert plan(Choices(**wish)).needs_gpu is False
    assert plan(Choices(**wish, machine="NvidiaL4")).shape == "NvidiaL4"


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"max_length": 20}, "max_length 20 is too small for the template plain"),
        ({"backend": "vllm"}, "--backend vllm: a classifier judge runs on torch alone"),
    ],
)
def test_what_the_judge_would_refuse_there_is_refused_here(
    choice: dict[str, Any], said: str, adapter: Path, tmp_path: Path
) -> None:
    cheap = kaggle_packing.features(tmp_path / "cheap")
    for judge in (adapter, kaggle_packing.blend(tmp_path / "blend", {"cheap": cheap, "dear": adapter})):
        with pytest.raises(UsageError, match=re.escape(said)):
            plan(Choices(**{"competition": LMSYS, "user": "someone", "judge": judge} | choice))


@pytest.mark.parametrize("moment", ["wheels", "judge", "record", "last check"])
def test_a_stop_at_any_moment_leaves_the_old_pack_or_the_new_one(
    moment: str, adapter: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    packed(out, notes="old")
    before = contents(out)
    stopped = {
        "wheels": (making.house, "build"), "judge": (making, "place"), "record": (Record, "write"),
        "last check": (making.metadata, "check"),
    }[moment]  # fmt: skip
    (out / "pushed.json").write_text("{}")
    before["pushed.json"] = b"{}"

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(*stopped, stop)
    with pytest.raises(KeyboardInterrupt):
        packed(out, judge=adapter, notes="new")
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_further_requirements_replace_those_that_were_found(adapter: Path) -> None:
    wish = {"competition": LMSYS, "user": "someone", "judge": adapter}
    found = plan(Choices(**wish, requirements=("numpy==1.26.4", "sentencepiece"))).requirements
    assert "numpy==1.26.4" in found
    assert "sentencepiece" in found
    assert sum(text.startswith("numpy") for text in found) == 1
    with pytest.raises(TiebreakError, match="is not a requirement"):
        plan(Choices(**wish, requirements=("numpy=1",)))


@pytest.mark.parametrize(
    ("choices", "platform"),
    [
        ({}, "manylinux_2_28_x86_64"),
        ({"backend": "vllm"}, "manylinux_2_35_x86_64"),
        ({"backend": "vllm", "platform": "manylinux_2_31_x86_64"}, "manylinux_2_31_x86_64"),
    ],
)
def test_vllm_takes_the_newest_wheels_that_kaggle_does(choices: dict[str, str], platform: str, tmp_path: Path) -> None:
    generative_made.judge(tmp_path / "base").save(tmp_path / "judge")
    found = plan(Choices(competition=LMSYS, user="someone", judge=tmp_path / "judge", **choices))
    assert found.choices.target.platform == platform
    assert [text for text in found.requirements if text.startswith("vllm")] == ["vllm==0.32.0"] * bool(choices)


@pytest.mark.usefixtures("index")
def test_the_command_packs_says_what_and_goes_by_its_file(cli: Cli, tmp_path: Path) -> None:
    done = cli("kaggle", "init", "-o", "here", "--user", "someone", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = cli("kaggle", "pack", "--config", "here/pack.yaml", "--hours", "1", "-o", "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["output"], said["kernel"]) == ("out", "someone/tiebreak-features-1-llm-classification-finetuning")
    assert said["settings"]["hours"] == 0.75
    assert said["bytes"].keys() == said["digests"].keys() == {"kernel", "wheels"}
    assert "next: tiebreak kaggle check out" in done.stderr
    done = cli("kaggle", "pack", "--competition", LMSYS, "--user", "someone", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"wheels\s+someone/tiebreak-wheels-features-1-llm-classification-\w{4}\s+\d+", done.stdout)


@pytest.mark.usefixtures("index")
def test_columns_of_the_test_file_under_other_names_are_told_to_the_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.csv").write_text("row_id,left,right\n1,0.5,0.5\n")
    options = ["--sample", "s.csv", "--test-name", "rows.csv", "--map", "prompt=question", "--map", "response_a=left"]
    assert run(["kaggle", "pack", "--competition", "another", "--user", "someone", *options, "-o", "out"]) == 0
    settings = record.read(Layout(Path("out"))).settings
    assert settings.map == {"prompt": "question", "response_a": "left"}
    assert (settings.test, settings.submission.header) == ("rows.csv", ["row_id", "left", "right"])


def test_a_dry_run_says_what_would_be_written_and_writes_nothing(cli: Cli, adapter: Path, tmp_path: Path) -> None:
    options = [str(adapter), "--competition", LMSYS, "--user", "someone", "-o", "out", "--dry-run"]
    done = cli("kaggle", "pack", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for said in ("model/base", "someone/tiebreak-tiny/transformers/base", "NvidiaTeslaT4", "requirements: ", "torch=="):
        assert said in done.stdout
    assert "licence Apache 2.0 (--licence)" in done.stderr
    assert "its base base goes along, licence Apache 2.0 (--base-licence)" in done.stderr
    said = json.loads(cli("kaggle", "pack", *options, "--json", cwd=tmp_path).stdout)
    assert said["bytes"].keys() == {"model/judge", "model/base"}
    assert said["submission"]["columns"] == {"winner_model_a": "p_a", "winner_model_b": "p_b", "winner_tie": "p_tie"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--competition", "titanic", "--user", "someone"], 2, "is not one whose files are known"),
        (["--competition", LMSYS], 2, "--user, or user: in pack.yaml"),
        (["--competition", LMSYS, "--user", "someone", "--column", "x"], 2, "expected NAME=CONTENT"),
        (["--competition", LMSYS, "--user", "someone", "--sample", "absent.csv"], 3, "there is no such file"),
        (["absent", "--competition", LMSYS, "--user", "someone"], 3, "absent is not a judge bundle"),
        (["--competition", LMSYS, "--user", "someone", "--swap", "none"], 2, "the embedded judge has no such choice"),
    ],
)
def test_the_command_refuses_with_a_mend(
    options: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run(["kaggle", "pack", *options, "-o", "out"]) == code
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_init_refuses_what_is_no_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["kaggle", "init", "nothing", "-o", "here"]) == 2
    assert "nothing is not a judge bundle" in capsys.readouterr().err
    kaggle_packing.features(tmp_path / "judge")
    assert run(["kaggle", "init", "judge", "-o", "here"]) == 0
    assert 'judge: "../judge"' in (tmp_path / "here" / "pack.yaml").read_text()


def test_a_pack_of_the_embedded_judge_needs_no_torch() -> None:
    code = (
        "import sys\nfrom tiebreak.kaggle import packing\n"
        f"packing.plan(packing.Choices(competition={LMSYS!r}, user='someone'))\n"
        "print(*sys.modules, sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "kaggle"} & set(done.stdout.split())
