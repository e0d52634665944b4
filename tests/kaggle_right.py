"""The metadata of a pack that break no rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NOTEBOOK: dict[str, Any] = {
    "cells": [
        {"cell_type": "markdown", "id": "about", "metadata": {}, "source": "# A judge"},
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "settings",
            "metadata": {},
            "outputs": [],
            "source": ["SETTINGS = {}\n", "print(SETTINGS)"],
        },
    ],
    "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}

KERNEL = "kernel/kernel-metadata.json"
DATASET = "wheels/dataset-metadata.json"
MODEL = "model/model-metadata.json"
JUDGE = "model/judge/model-instance-metadata.json"
BASE = "model/base/model-instance-metadata.json"

RIGHT: dict[str, dict[str, Any]] = {
    KERNEL: {
        "id": "someone/tiebreak-for-lmsys",
        "title": "tiebreak for LMSYS",
        "code_file": "tiebreak-for-lmsys.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_tpu": False,
        "enable_internet": False,
        "machine_shape": "NvidiaTeslaT4",
        "dataset_sources": ["someone/tiebreak-wheels"],
        "competition_sources": ["llm-classification-finetuning"],
        "kernel_sources": [],
        "model_sources": ["someone/tiebreak/transformers/judge/1", "someone/tiebreak/transformers/base/1"],
        "keywords": [],
    },
    DATASET: {
        "title": "tiebreak wheels",
        "id": "someone/tiebreak-wheels",
        "description": "Wheels of tiebreak, each under its own licence.",
        "licenses": [{"name": "other"}],
        "keywords": [],
        "resources": [],
    },
    MODEL: {
        "ownerSlug": "someone",
        "title": "A judge",
        "slug": "tiebreak",
        "subtitle": "",
        "isPrivate": True,
        "description": "# A judge\n\nIt says which of two answers a person would prefer.",
        "publishTime": "",
        "provenanceSources": "",
    },
    JUDGE: {
        "ownerSlug": "someone",
        "modelSlug": "tiebreak",
        "instanceSlug": "judge",
        "framework": "transformers",
        "overview": "An adapter.",
        "usage": "`tiebreak predict --judge ${PATH}`",
        "licenseName": "Apache 2.0",
        "fineTunable": True,
        "trainingData": ["votes of people"],
        "modelInstanceType": "Unspecified",
        "baseModelInstance": "",
        "externalBaseModelUrl": "",
    },
    BASE: {
        "ownerSlug": "someone",
        "modelSlug": "tiebreak",
        "instanceSlug": "base",
        "framework": "transformers",
        "overview": "Its base.",
        "usage": "",
        "licenseName": "Apache 2.0",
        "fineTunable": True,
        "trainingData": [],
        "modelInstanceType": "Unspecified",
        "baseModelInstance": "",
        "externalBaseModelUrl": "",
    },
}


def write_pack(root: Path) -> None:
    """A pack whose metadata break no rule."""
    for name, values in RIGHT.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    (root / "kernel" / RIGHT[KERNEL]["code_file"]).write_text(json.dumps(NOTEBOOK), encoding="utf-8")
    (root / "wheels" / "wheelhouse.json").write_text("{}", encoding="utf-8")
    (root / "wheels" / "rows.csv").write_text("id,text\n1,x\n", encoding="utf-8")
    (root / "model" / "judge" / "judge.json").write_text("{}", encoding="utf-8")
    (root / "model" / "base" / "config.json").write_text("{}", encoding="utf-8")
