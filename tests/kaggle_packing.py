"""What the tests of packing share: an index of tiny wheels in place of the real ones, and judges of every making."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import kaggle_wheels
from tiebreak import bundle, judges, storage
from tiebreak.bundle import MANIFEST, Manifest
from tiebreak.judges.blend.mixing import Mix
from tiebreak.judges.members import Member
from tiebreak.kaggle.wheels import needs

LMSYS = "llm-classification-finetuning"


def index(folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> Path:
    """A folder that pip takes for its index: a tiny wheel of every package that a judge may need, as installed here."""
    kaggle_wheels.only(folder / "index", monkeypatch, folder / "cache")
    for name in {*needs.CORE, *needs.NETWORK, "peft", "faiss-cpu", "gguf", "bitsandbytes", *more}:
        pin = Requirement(needs.pinned(name))
        version = next((one.version for one in pin.specifier), "1.0")
        kaggle_wheels.wheel(folder / "index", name, version)
    return folder / "index"


def features(folder: Path, name: str = "lengths") -> Path:
    """A features bundle: the embedded judge under another name."""
    judge = judges.load()
    judge.manifest = judge.manifest.model_copy(update={"name": name})
    judge.save(folder)
    return folder


def blend(folder: Path, members: Mapping[str, Path], *, refer: Sequence[str] = (), table: bool = False) -> Path:
    """A blend of bundles in equal shares; some are only referred to, and one may be a table of predictions."""
    listed, files = [], {}
    for name, place in members.items():
        manifest = bundle.read(place)
        outside = name in refer
        listed.append(Member(
            name=name, kind=manifest.kind, network=judges.has_network(manifest), swap_equivariant=True,
            place=str(place) if outside else f"members/{name}",
            sha256=storage.sha256(place / MANIFEST) if outside else None,
        ))  # fmt: skip
        if not outside:
            files |= {f"members/{name}/{file}": place / file for file in (MANIFEST, *manifest.files)}
    if table:
        listed.append(Member(name="asked", kind="table", network=False, swap_equivariant=True, place=None))
    weights = tuple(1 / len(listed) for _ in listed)
    made = Manifest(
        kind="blend", name="both", swap_equivariant=True,
        settings={
            "members": [one.model_dump(mode="json") for one in listed], "rule": "equal",
            "mix": Mix(weights=weights, space="probabilities").model_dump(mode="json"),
        },
    )  # fmt: skip
    bundle.write(folder, made, files)
    return folder


def changed(directory: Path, **settings: Any) -> Path:
    """A bundle with other settings than it was written with."""
    path = directory / MANIFEST
    document = json.loads(path.read_text())
    document["settings"] |= settings
    path.write_text(json.dumps(document))
    return directory
