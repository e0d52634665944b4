"""A bundle is read only when it is whole, known and unaltered; nothing in it is executed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiebreak import bundle, judges, storage
from tiebreak.bundle import Manifest, TrainingSource
from tiebreak.calibration import Calibration
from tiebreak.errors import BundleError, ResourceError, UsageError

MANIFEST = Manifest(
    kind="features",
    name="test",
    swap_equivariant=True,
    settings={"depth": 3, "names": ["x", "y"]},
    calibration=Calibration(method="temperature", weight=((2, 0, 0), (0, 2, 0), (0, 0, 2)), bias=(0, 0, 0)),
    training=[TrainingSource(name="votes", rows=3, fingerprint="00", licence="MIT")],
    metrics={"log_loss": 1.02},
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    bundle.write(tmp_path / "judge", MANIFEST, {"weights.bin": b"\x00\x01", "card.md": b"# card"})
    return tmp_path / "judge"


def alter(path: Path, **fields: object) -> None:
    document = json.loads((path / "judge.json").read_text())
    (path / "judge.json").write_text(json.dumps({**document, **fields}))


def test_what_is_written_is_read(saved: Path) -> None:
    read = bundle.read(saved)
    assert read.model_copy(update={"files": {}}) == MANIFEST
    assert set(read.files) == {"weights.bin", "card.md"}


def test_the_same_content_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    bundle.write(tmp_path / "again", MANIFEST, {"card.md": b"# card", "weights.bin": b"\x00\x01"})
    for name in ("judge.json", "weights.bin", "card.md"):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_writing_over_a_bundle_replaces_it_whole(saved: Path) -> None:
    bundle.write(saved, MANIFEST, {"other.bin": b"2"})
    assert sorted(path.name for path in saved.iterdir()) == ["judge.json", "other.bin"]
    assert [path.name for path in saved.parent.iterdir()] == ["judge"]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda path: (path / "weights.bin").write_bytes(b"\x00\x02"), "was altered"),
        (lambda path: (path / "weights.bin").unlink(), "'weights.bin' is missing"),
        (lambda path: (path / "judge.json").unlink(), "is not a judge bundle"),
        (lambda path: (path / "judge.json").write_text("{"), "is not JSON"),
        (lambda path: (path / "judge.json").write_bytes(b"\xff\xfe"), "is not JSON"),
        (lambda path: (path / "judge.json").write_text("[]"), "holds a list"),
        (lambda path: alter(path, schema_version=2), "schema version 2 is newer"),
        (lambda path: alter(path, surprise=1), "surprise"),
        (lambda path: alter(path, classes=["b", "a", "tie"]), "classes"),
        (lambda path: alter(path, files={"../judge/card.md": "00"}), "is missing"),
        (lambda path: alter(path, calibration={"method": "temperature", "weight": "x", "bias": [0, 0, 0]}), "weight"),
        (lambda path: alter(path, kind="os.system"), "unknown kind of judge 'os.system'"),
    ],
)
def test_a_harmed_bundle_is_refused_with_the_reason(saved: Path, harm, words: str) -> None:  # type: ignore[no-untyped-def]
    harm(saved)
    with pytest.raises(BundleError, match=words):
        judges.load(saved)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail_midway() -> None:
        with storage.replacing(path) as aside:
            aside.write_text("half")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail_midway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_directory_and_a_full_disk_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mkdir -p"), storage.replacing(tmp_path / "no" / "file"):
        pass
    with pytest.raises(ResourceError, match="No space left"), storage.replacing(tmp_path / "file"):
        raise OSError(28, "No space left on device")


def test_calibration_is_one_affine_map_on_log_probabilities() -> None:
    import numpy as np

    p = np.array([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0]])
    identity = Calibration(method="temperature", weight=((1, 0, 0), (0, 1, 0), (0, 0, 1)), bias=(0, 0, 0))
    np.testing.assert_allclose(identity.apply(p), p, atol=1e-11)
    assert MANIFEST.calibration is not None
    squared = p**2 / (p**2).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(MANIFEST.calibration.apply(p), squared, atol=1e-12)


def test_any_calibration_keeps_the_mirror_when_applied_equivariantly() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], size=200)
    skewed = Calibration(
        method="dirichlet", weight=((1.1, 0.2, 0.3), (0, 0.7, 0.1), (0.4, 0.5, 1.3)), bias=(0.1, -0.3, 0.2)
    )
    even = Calibration(method="symmetric", weight=((1.1, 0, 0), (0, 1.1, 0), (0, 0, 0.8)), bias=(0, 0, 0.3))
    assert not skewed.is_symmetric
    assert even.is_symmetric
    for calibration in (skewed, even):
        mirrored = calibration.apply_equivariant(p[:, [1, 0, 2]])
        np.testing.assert_array_equal(mirrored, calibration.apply_equivariant(p)[:, [1, 0, 2]])
        np.testing.assert_allclose(mirrored.sum(axis=1), 1, atol=1e-12)
