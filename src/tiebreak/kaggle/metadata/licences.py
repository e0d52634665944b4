"""The names that Kaggle has for licences: one list for datasets, another spelling for models.

Kaggle's client sends any name; the server refuses an unknown one, or takes it as unknown.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Final

OTHER: Final = "other"
"""The name for datasets whose licence is told in their description."""

DATASET: Final = (
    "CC0-1.0",
    "CC-BY-3.0",
    "CC-BY-3.0-IGO",
    "CC-BY-4.0",
    "CC-BY-NC-4.0",
    "CC-BY-NC-ND-4.0",
    "CC-BY-NC-SA-3.0-IGO",
    "CC-BY-NC-SA-4.0",
    "CC-BY-ND-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "CDLA-Permissive-1.0",
    "CDLA-Sharing-1.0",
    "DbCL-1.0",
    "EU-ODP-Legal-Notice",
    "FDL-1.3",
    "AGPL-3.0",
    "GPL-2.0",
    "GPL-3.0",
    "LGPL-3.0",
    "ODC-BY-1.0",
    "ODbL-1.0",
    "PDDL",
    "US-Government-Works",
    "apache-2.0",
    "copyright-authors",
    OTHER,
    "unknown",
)
"""Names of licences of datasets."""

MODEL: Final = {
    "Apache 2.0": "Apache-2.0",
    "Attribution 3.0 IGO (CC BY 3.0 IGO)": "CC-BY-3.0-IGO",
    "Attribution 3.0 Unported (CC BY 3.0)": "CC-BY-3.0",
    "Attribution 4.0 International (CC BY 4.0)": "CC-BY-4.0",
    "Attribution-NoDerivatives 4.0 International (CC BY-ND 4.0)": "CC-BY-ND-4.0",
    "Attribution-NonCommercial 4.0 International (CC BY-NC 4.0)": "CC-BY-NC-4.0",
    "Attribution-NonCommercial-NoDerivatives 4.0 International (CC BY-NC-ND 4.0)": "CC-BY-NC-ND-4.0",
    "Attribution-NonCommercial-ShareAlike 3.0 IGO (CC BY-NC-SA 3.0 IGO)": "CC-BY-NC-SA-3.0-IGO",
    "BSD-3-Clause": "BSD-3-Clause",
    "CC BY-NC-SA 4.0": "CC-BY-NC-SA-4.0",
    "CC BY-SA 3.0": "CC-BY-SA-3.0",
    "CC BY-SA 4.0": "CC-BY-SA-4.0",
    "CC0: Public Domain": "CC0-1.0",
    "Community Data License Agreement - Permissive - Version 1.0": "CDLA-Permissive-1.0",
    "Community Data License Agreement - Sharing - Version 1.0": "CDLA-Sharing-1.0",
    "GNU Affero General Public License 3.0": "AGPL-3.0",
    "GNU Free Documentation License 1.3": "GFDL-1.3",
    "GNU Lesser General Public License 3.0": "LGPL-3.0",
    "GPL 2": "GPL-2.0",
    "GPL 3": "GPL-3.0",
    "MIT": "MIT",
    "ODC Attribution License (ODC-By)": "ODC-By-1.0",
    "ODC Public Domain Dedication and Licence (PDDL)": "PDDL-1.0",
}
"""Names of licences of models, and what SPDX calls each."""

_ALSO = {"pddl10": "PDDL", "gfdl13": "FDL-1.3"}


def for_dataset(licence: str) -> str:
    """Kaggle's name for datasets of a licence named as SPDX does; "other" where Kaggle has none for it."""
    names = {_key(name): name for name in DATASET} | _ALSO
    return names.get(_spdx(licence), OTHER)


def for_model(licence: str) -> str | None:
    """Kaggle's name for models of a licence named as SPDX does; None where Kaggle has none for it."""
    names = {_key(spdx): name for name, spdx in MODEL.items()} | {_key(name): name for name in MODEL}
    return names.get(_spdx(licence)) or names.get(_key(licence))


def near_dataset(name: str) -> str:
    """What was probably meant by an unknown name of a dataset's licence."""
    meant = for_model(name)
    guess = for_dataset(MODEL[meant] if meant else name)
    if guess != OTHER:
        return guess
    near = get_close_matches(name, DATASET, n=1, cutoff=0.8)
    return near[0] if near else OTHER


def near_model(name: str) -> str | None:
    """What was probably meant by an unknown name of a model's licence."""
    near = get_close_matches(name, MODEL, n=1, cutoff=0.8)
    return for_model(name) or (near[0] if near else None)


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _spdx(licence: str) -> str:
    """SPDX says "only" or "or later" where Kaggle says neither."""
    return _key(re.sub(r"-(only|or-later)$", "", licence.strip(), flags=re.IGNORECASE))
