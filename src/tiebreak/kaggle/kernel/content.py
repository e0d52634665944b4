"""Know files by their content.

By the sha256 of their bytes, and weights by the digest that a bundle holds of its base. Kaggle keeps no folders within
a dataset or a model: what was a tree was packed flat, and is put together again here, of links.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from tiebreak.kaggle.kernel.reporting import NotebookError


def by_sha256(files: list[Path], root: Path, name: str, sha256: str, source: str) -> Path:
    """The folder with the file of this name and content."""
    named = [path for path in files if path.name == name]
    for path in named:
        if sha256_of(path) == sha256:
            return path.parent
    others = "; ".join(f"{path} is another one ({sha256_of(path)[:16]})" for path in named[:3])
    raise NotebookError(
        f"{name} with sha256 {sha256[:16]}... is nowhere among the {len(files):,} files under {root}"
        + (f"; {others}" if others else ""),
        expected="the very version that this notebook was packed with",
        mend=f"Add Input: what kernel-metadata.json names under {source}, or tiebreak kaggle push once more",
    )


def by_weights(files: list[Path], root: Path, digest: str, scratch: Path) -> Path:
    """The folder of the base model (or its GGUF file) whose weights have this digest."""
    tried = []
    for number, folder in enumerate(sorted({path.parent for path in files if path.name == "config.json"})):
        tree = unflattened(folder, scratch / f"base-{number}")
        whole = tree / "model.safetensors"
        weights = [whole] if whole.is_file() else sorted(tree.glob("model-*-of-*.safetensors"))
        tried += weights[:1]
        if weights and weights_digest(weights) == digest:
            return tree
    for path in files:
        if path.suffix == ".gguf":
            tried.append(path)
            if weights_digest([path]) == digest:
                return path
    raise NotebookError(
        f"the base model with digest {digest[:16]}... is nowhere under {root}; weights of other models: "
        + (", ".join(map(str, tried[:3])) or "none"),
        expected="the very weights that the judge was trained on",
        mend="Add Input: the model that kernel-metadata.json names under model_sources",
    )


def unflattened(folder: Path, tree: Path) -> Path:
    """The folder itself, or, where `layout.json` says that it was a tree, that tree made of links."""
    if not (folder / "layout.json").is_file():
        return folder
    places = json.loads((folder / "layout.json").read_text(encoding="utf-8"))
    for path in folder.iterdir():
        if path.is_file() and path.name != "layout.json" and path.name not in places.values():
            places[path.name] = path.name
    for place, name in places.items():
        if ".." in Path(place).parts or Path(place).is_absolute() or Path(name).name != name:
            raise NotebookError(f"{folder / 'layout.json'}: {place!r}", expected="places inside the folder alone")
        (tree / place).parent.mkdir(parents=True, exist_ok=True)
        if not (tree / place).is_symlink():
            (tree / place).symlink_to(folder / name)
    return tree


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, as hex."""
    total = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def weights_digest(files: list[Path]) -> str:
    """What tiebreak knows weights by: names, sizes and contents; of files over 1 GiB 2,048 blocks of 4 KiB."""
    total = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.name):
        size = path.stat().st_size
        total.update(f"{path.name}\0{size}\0".encode())
        if size <= 1 << 30:
            total.update(bytes.fromhex(sha256_of(path)))
            continue
        with path.open("rb") as stream:
            for number in range(2048):
                stream.seek(number * (size - 4096) // 2047)
                total.update(stream.read(4096))
    return total.hexdigest()


def deliver(written: Path, place: Path) -> None:
    """Put a finished file in its place, whole or not at all."""
    aside = place.with_suffix(".partial")
    shutil.copyfile(written, aside)
    aside.replace(place)
