"""From combined weights to a judge: the files, what it was trained on, and who taught its parts."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue

from tiebreak import row_hashes, storage
from tiebreak.bundle import MANIFEST, Manifest, TrainingSource
from tiebreak.calibration import Calibration
from tiebreak.combine.alike import Member
from tiebreak.judges.finetuned import FinetunedJudge, Settings, making
from tiebreak.judges.model import ADAPTER, ADAPTER_CONFIG

WHOLE: Final = ("model*.safetensors", "model.safetensors.index.json", "config.json")
"""Files of a bundle that hold whole weights, and their configuration."""

_OWN: Final = (ADAPTER, ADAPTER_CONFIG, making.CARD, row_hashes.TRAINED)


def copy_rest(member: Member, folder: Path, *, whole: bool) -> None:
    """Copy what a combined judge takes over as it is: the tokenizer, and the base where the bundle holds it.

    Args:
        member: Whose files.
        folder: Where they go.
        whole: Whether to copy whole weights and their configuration too.
    """
    left = _OWN if whole else (*_OWN, *WHOLE)
    for name in member.judge.manifest.files:
        if not any(fnmatch(name, pattern) for pattern in left):
            shutil.copyfile(member.path / name, folder / name)


def judge(
    members: Sequence[Member],
    folder: Path,
    settings: Settings,
    *,
    name: str,
    metrics: Mapping[str, Any],
    calibration: Calibration | None = None,
    card: str = "",
) -> FinetunedJudge:
    """The judge whose weights and tokenizer lie in `folder`; the folder goes with it.

    Args:
        members: What it was made of.
        folder: A temporary folder.
        settings: Of the network.
        name: Of the judge.
        metrics: Figures; the teachers of the members are added.
        calibration: Of the judge.
        card: Said beside the short card.
    """
    training = sources(members)
    text = making.card(members[0].judge.kind, name, settings, training)
    (folder / making.CARD).write_text("\n".join([text, card]) if card else text, encoding="utf-8")
    if (seen := trained(members)) is not None:
        (folder / row_hashes.TRAINED).write_bytes(row_hashes.trained_file(seen))
    taught = teachers(members)
    manifest = Manifest(
        kind=members[0].judge.kind, name=name, swap_equivariant=settings.equivariant, settings=settings.document(),
        calibration=calibration, training=training, metrics={**metrics, **({"teachers": taught} if taught else {})},
        versions=making.versions(),
    )  # fmt: skip
    return type(members[0].judge)(manifest, folder, temporary=True)


def sources(members: Sequence[Member]) -> list[TrainingSource]:
    """The training data of all, each once."""
    return _each_once(source for one in members for source in one.judge.manifest.training)


def trained(members: Sequence[Member]) -> frozenset[str] | None:
    """The rows that any of them was trained on; None where one does not say."""
    found = [row_hashes.read_trained(one.path) for one in members]
    return None if any(rows is None for rows in found) else frozenset().union(*(rows for rows in found if rows))


def teachers(members: Sequence[Member]) -> list[JsonValue]:
    """What taught the members, each teacher once."""
    found = (one.judge.manifest.metrics.get("teachers") for one in members)
    return _each_once(item for value in found if value for item in (value if isinstance(value, list) else [value]))


def revision(member: Member) -> str:
    """The identity of a bundle: first 16 digits of the sha256 of its `judge.json`, as soft labels name it."""
    return storage.sha256(member.path / MANIFEST)[:16]


def _each_once(items: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found


def with_figures(made: FinetunedJudge, metrics: Mapping[str, Any], card: str) -> FinetunedJudge:
    """Add figures that were measured with the judge itself to its manifest and to its card."""
    files = made.weights()
    path = files[making.CARD]
    assert isinstance(path, Path)  # noqa: S101 - the judge lies in a folder
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{card}", encoding="utf-8")
    made.manifest = made.manifest.model_copy(update={"metrics": {**made.manifest.metrics, **metrics}})
    return made
