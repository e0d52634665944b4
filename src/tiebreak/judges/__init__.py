"""The judges, one module a kind. `load` turns a bundle into the judge it holds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

from tiebreak import bundle
from tiebreak.errors import BundleError
from tiebreak.judges.judge import Judge, Prediction, Reason, Scores

KINDS: Final = {"features": ("tiebreak.judges.features", "FeaturesJudge")}
"""Closed: a bundle names a kind, never a module, so loading one cannot import what its author chose."""

EMBEDDED: Final = Path(__file__).parent.parent / "weights"
"""The judge that ships inside the package."""


def load(directory: str | Path | None = None) -> Judge:
    """Load a judge from its bundle; without an argument, the embedded judge.

    Raises:
        BundleError: The directory is no bundle, is damaged, too new, or of a kind this version does not know.
    """
    directory = EMBEDDED if directory is None else Path(directory)
    manifest = bundle.read(directory)
    if manifest.kind not in KINDS:
        raise BundleError(
            f"{directory}: unknown kind of judge {manifest.kind!r}",
            expected=f"one of {', '.join(KINDS)}",
            mend="pip install --upgrade tiebreak",
        )
    module, name = KINDS[manifest.kind]
    judge: type[Judge] = getattr(import_module(module), name)
    return judge.from_bundle(manifest, directory)


__all__ = ["EMBEDDED", "KINDS", "Judge", "Prediction", "Reason", "Scores", "load"]
