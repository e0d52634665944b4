"""What prediction with each kind of judge needs."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tiebreak import bundle, judges
from tiebreak.bundle import Manifest
from tiebreak.errors import BundleError, UsageError
from tiebreak.kaggle.wheels import needs

CORE = {"numpy", "polars", "pydantic", "rich", "safetensors", "typer"}
NETWORK = CORE | {"accelerate", "jinja2", "torch", "transformers"}


def manifest(kind: str, **settings: Any) -> Manifest:
    return Manifest(kind=kind, name="j", swap_equivariant=True, settings=settings)


def write(directory: Path, kind: str, **settings: Any) -> Path:
    bundle.write(directory, manifest(kind, **settings), {})
    return directory


def test_the_embedded_judge_needs_little_and_in_the_versions_that_are_installed() -> None:
    found = needs.of(bundle.read(judges.EMBEDDED), judges.EMBEDDED)
    assert found == tuple(f"{name}=={version(name)}" for name in sorted(CORE))


@pytest.mark.parametrize(
    ("kind", "settings", "further"),
    [
        ("features", {}, None),
        ("classifier", {"base": None, "adapter": False}, set()),
        ("classifier", {"base": {"name": "google/gemma-2-9b-it"}, "adapter": True}, {"peft"}),
        ("classifier", {"base": {"name": "a/b"}, "adapter": True, "quantize": "nf4"}, {"peft", "bitsandbytes"}),
        ("siamese", {"base": None, "adapter": False, "compression": {"method": "nf4"}}, {"bitsandbytes"}),
        ("siamese", {"base": None, "adapter": False, "compression": {"method": "gptq-4"}}, set()),
        ("reward", {"base": {"name": "there/is/none.gguf"}, "adapter": False}, {"gguf"}),
        ("retrieval", {"encoder": {"name": "nobody/encoder"}}, {"faiss-cpu"}),
        ("generative", {"base": None, "adapter": False, "backend": "transformers"}, set()),
        ("generative", {"base": None, "adapter": False, "backend": "vllm"}, {"vllm"}),
    ],
)
def test_what_each_kind_needs(kind: str, settings: dict[str, Any], further: set[str] | None, tmp_path: Path) -> None:
    found = needs.names(manifest(kind, **settings), tmp_path)
    assert found == (CORE if further is None else NETWORK | further)


def test_a_backend_that_is_chosen_counts_and_not_the_one_of_the_bundle(tmp_path: Path) -> None:
    judge = manifest("generative", base=None, adapter=False, backend="vllm")
    assert "vllm" not in needs.names(judge, tmp_path, backend="transformers")
    assert "vllm" in needs.names(manifest("generative", backend="transformers"), tmp_path, backend="vllm")


def test_weights_that_lie_here_are_looked_at(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "bitsandbytes"}}))
    (base / "model.safetensors").write_bytes(b"")
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    four = needs.names(manifest("classifier", base={"name": str(base)}, adapter=False), tmp_path)
    packed = needs.names(manifest("classifier", base={"name": str(tmp_path / "m.gguf")}, adapter=True), tmp_path)
    assert (four - NETWORK, packed - NETWORK) == ({"bitsandbytes"}, {"gguf", "peft"})
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"load_in_4bit": True}}))
    whole = needs.names(manifest("classifier", base=None, adapter=False), tmp_path)
    assert whole - NETWORK == {"bitsandbytes"}


def test_a_base_that_lies_elsewhere_is_looked_at_there(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    judge = manifest("classifier", base={"name": "nobody/model"}, adapter=False)
    further = [needs.of(judge, tmp_path / "j", bases=bases) for bases in ([], [tmp_path / "m.gguf"], ["a/b-bnb-4bit"])]
    assert [{Requirement(text).name for text in one} - NETWORK for one in further] == [
        set(),
        {"gguf"},
        {"bitsandbytes"},
    ]
    assert needs.of(bundle.read(judges.EMBEDDED), judges.EMBEDDED, bases=[tmp_path / "m.gguf"]) == needs.of(
        bundle.read(judges.EMBEDDED), judges.EMBEDDED
    )


def test_a_judge_of_several_needs_what_each_of_them_does(tmp_path: Path) -> None:
    (tmp_path / "members").mkdir()
    members = [
        {"name": "tuned", "place": str(write(tmp_path / "members" / "tuned", "classifier", base=None, adapter=True))},
        {"name": "near", "place": "members/near"},
        {"name": "table", "place": None},
    ]
    write(tmp_path / "members" / "near", "retrieval", encoder={"name": "nobody/encoder"})
    inner = write(tmp_path / "members" / "inner", "blend", members=members)
    (inner / "members").symlink_to(tmp_path / "members")
    outer = manifest("cascade", members=[{"name": "inner", "place": "members/inner"}])
    assert needs.names(outer, tmp_path) == NETWORK | {"peft", "faiss-cpu"}
    assert needs.names(manifest("blend", members=[{"name": "t", "place": None}]), tmp_path) == CORE


def test_a_kind_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="unknown kind of judge 'oracle'"):
        needs.of(manifest("oracle"), tmp_path)


def test_what_is_not_installed_has_the_bounds_of_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise needs.PackageNotFoundError(name)

    monkeypatch.setattr(needs, "version", absent)
    assert needs.pinned("faiss-cpu") == "faiss-cpu>=1.9"
    assert needs.pinned("jinja2") == "jinja2"


def test_vllm_decides_the_versions_beside_it_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = manifest("generative", base=None, adapter=True, backend="vllm")
    there = {"numpy": "2.4.0", "torch": "2.13.0+cpu", "peft": "0.21.2"}

    def some(name: str) -> str:
        if name not in there:
            raise needs.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(needs, "version", some)
    found = needs.of(judge, tmp_path)
    assert {"numpy>=1.26", "peft>=0.18", "torch>=2.6", "vllm==0.32.0"} < set(found)
    there["vllm"] = "0.31.1"
    found = needs.of(judge, tmp_path)
    assert {"numpy==2.4.0", "peft==0.21.2", "torch==2.13.0", "vllm==0.31.1"} < set(found)


def test_a_build_is_no_part_of_a_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "version", lambda name: "2.13.0+cpu")
    assert needs.pinned("torch") == "torch==2.13.0"


def test_from_which_torch_on_an_image_will_do() -> None:
    assert needs.least("torch") == "2.6"
    assert needs.least("no-such-thing") == "0"
    assert all(Requirement(f"{name}{bound}") for name, bound in needs.floors().items())


def test_a_user_replaces_and_adds() -> None:
    assert needs.override(("numpy==2.4.6", "polars==2.1.0"), ["NumPy==1.26.4", "sentencepiece>=0.2"]) == (
        "NumPy==1.26.4", "polars==2.1.0", "sentencepiece>=0.2",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("numpy=1", "'numpy=1' is not a requirement"),
        ("a @ https://example.org/a.whl", "names a place"),
        ("", "is not a"),
    ],
)
def test_what_a_user_gives_is_a_name_and_a_version(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        needs.override((), [text])


def test_what_was_tested_is_no_bound_of_the_own_wheel_but_what_a_user_asks_for_is() -> None:
    assert needs.loosened(needs.pinned("numpy")) == f"numpy{needs.floors()['numpy']}" == "numpy>=1.26"
    assert needs.loosened(needs.pinned("jinja2")) == "jinja2"
    assert needs.loosened("numpy==1.26.4") == "numpy==1.26.4"
    assert needs.loosened("sentencepiece>=0.2") == "sentencepiece>=0.2"
