"""The judges, one module a kind. `load` turns a bundle into the judge it holds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

from tiebreak import bundle
from tiebreak.bundle import Manifest
from tiebreak.errors import BundleError
from tiebreak.judges.judge import Judge, Prediction, Reason, Scores
from tiebreak.judges.runtime import Runtime

KINDS: Final = {
    "features": ("tiebreak.judges.features", "FeaturesJudge"),
    "classifier": ("tiebreak.judges.classifier", "ClassifierJudge"),
    "siamese": ("tiebreak.judges.siamese", "SiameseJudge"),
    "generative": ("tiebreak.judges.generative", "GenerativeJudge"),
    "reward": ("tiebreak.judges.reward", "RewardJudge"),
    "retrieval": ("tiebreak.judges.retrieval", "RetrievalJudge"),
    "blend": ("tiebreak.judges.blend", "BlendJudge"),
    "cascade": ("tiebreak.judges.cascade", "CascadeJudge"),
}
"""Closed: a bundle names a kind, never a module, so loading one cannot import what its author chose."""

COMPOSITE: Final = frozenset({"blend", "cascade"})
"""Kinds of judges that are made of other judges, whole bundles in the folder `members` of theirs."""

EMBEDDED: Final = Path(__file__).parent.parent / "weights"
"""The judge that ships inside the package."""


WITHOUT_NETWORK: Final = frozenset({"features"})
"""Kinds of judges that run on the CPU alone: no devices to choose, no torch to set up."""


def has_network(manifest: Manifest) -> bool:
    """Whether the judge, or one of those it is made of, is a neural network, which has devices and takes its time."""
    members = manifest.settings.get("members")
    if manifest.kind in COMPOSITE and isinstance(members, list):
        return any(isinstance(member, dict) and member.get("network") is not False for member in members)
    return manifest.kind not in WITHOUT_NETWORK


def load(directory: str | Path | None = None, runtime: Runtime | None = None) -> Judge:
    """Load a judge from its bundle; without an argument, the embedded judge.

    Args:
        directory: The bundle.
        runtime: Devices, precision, lengths and swap policy of a fine-tuned judge.

    Raises:
        UsageError: A choice of the runtime does not apply to this kind of judge.
        MissingExtraError: The judge needs torch, which is not installed.
        BundleError: The directory is no bundle, is damaged, too new, or of a kind this version does not know.
    """
    directory = EMBEDDED if directory is None else Path(directory)
    judge = of_manifest(bundle.read(directory), directory)
    if runtime is not None:
        judge.run_with(runtime)
    return judge


def of_manifest(manifest: Manifest, directory: Path) -> Judge:
    """The judge of a bundle whose manifest and files were checked already.

    Raises:
        BundleError: It is of a kind this version does not know.
        MissingExtraError: The judge needs torch, which is not installed.
    """
    if manifest.kind not in KINDS:
        raise BundleError(
            f"{directory}: unknown kind of judge {manifest.kind!r}",
            expected=f"one of {', '.join(KINDS)}",
            mend="pip install --upgrade tiebreak",
        )
    module, name = KINDS[manifest.kind]
    kind: type[Judge] = getattr(import_module(module), name)
    return kind.from_bundle(manifest, directory)


__all__ = [
    "COMPOSITE", "EMBEDDED", "KINDS", "Judge", "Prediction", "Reason", "Runtime", "Scores", "has_network", "load",
    "of_manifest",
]  # fmt: skip
