"""Metadata files with one rule broken each, and what Kaggle's client sends of them all the same.

What is said of each stands in kaggle_wrong.txt, in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaggle_right import BASE, DATASET, JUDGE, KERNEL, MODEL, NOTEBOOK, RIGHT

DELETE: Any = object()


@dataclass(frozen=True)
class Wrong:
    """One broken rule.

    Attributes:
        rule: Its name.
        file: The file that is changed and complained about.
        change: Keys with other values, or `DELETE`.
        also: Changes of other files that the same fault needs in order to break one rule alone.
        sent: What the client puts into its request in spite of it, by dotted path.
        break_: What else is done to the folder of the file.
    """

    rule: str
    file: str
    change: dict[str, Any] = field(default_factory=dict)
    also: dict[str, dict[str, Any]] = field(default_factory=dict)
    sent: dict[str, Any] = field(default_factory=dict)
    break_: Callable[[Path], object] | None = None

    def apply(self, root: Path) -> None:
        """Break the rule in a pack."""
        for name, change in {self.file: self.change, **self.also}.items():
            path = root / name
            values = {**json.loads(path.read_text(encoding="utf-8")), **change}
            path.write_text(json.dumps({k: v for k, v in values.items() if v is not DELETE}), encoding="utf-8")
        if self.break_:
            self.break_((root / self.file).parent)


def _notebook(**change: Any) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        (folder / RIGHT[KERNEL]["code_file"]).write_text(json.dumps({**NOTEBOOK, **change}), encoding="utf-8")

    return write


def _raw(name: str, text: str | bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def _ran(folder: Path) -> None:
    cells = json.loads(json.dumps(NOTEBOOK["cells"]))
    cells[1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "{}\n"}]
    _notebook(cells=cells)(folder)


def _stripped() -> str:
    """The notebook as the client sends it: without outputs, every cell one text."""
    cells = [{**cell, "source": "".join(cell["source"])} for cell in NOTEBOOK["cells"]]
    return json.dumps({**NOTEBOOK, "cells": cells})


STRUCTURE = (
    Wrong(
        "no file",
        KERNEL,
        break_=lambda folder: (folder / "kernel-metadata.json").unlink(),
    ),
    Wrong(
        "old name",
        DATASET,
        break_=lambda folder: (folder / "dataset-metadata.json").rename(folder / "datapackage.json"),
    ),
    Wrong(
        "no JSON",
        MODEL,
        break_=_raw("model-metadata.json", "{'title': 1}"),
    ),
    Wrong(
        "no UTF-8",
        KERNEL,
        break_=_raw("kernel-metadata.json", b'{"title": "\xfc"}'),
    ),
    Wrong(
        "no object",
        DATASET,
        break_=_raw("dataset-metadata.json", '["title"]'),
    ),
    Wrong(
        "twice",
        MODEL,
        break_=lambda folder: _raw(
            "model-metadata.json", json.dumps(RIGHT[MODEL]).replace('"slug"', '"slug": "other", "slug"')
        )(folder),
        sent={"slug": "tiebreak"},
    ),
    Wrong(
        "unknown key",
        KERNEL,
        change={"enabel_gpu": True},
    ),
    Wrong("unknown key", MODEL, change={"licenseName": "MIT"}),
    Wrong("unknown key", JUDGE, change={"baseModelInstanceId": 0}),
    Wrong("unknown key", DATASET, change={"isPrivate": False}, sent={"isPrivate": True}),
    Wrong("missing", KERNEL, change={"enable_internet": DELETE}, sent={"enableInternet": True}),
    Wrong("missing", KERNEL, change={"title": DELETE}),
    Wrong("missing", KERNEL, change={"language": DELETE}),
    Wrong("missing", DATASET, change={"licenses": DELETE}),
    Wrong("missing", MODEL, change={"description": DELETE}),
    Wrong("missing", JUDGE, change={"framework": DELETE}),
    Wrong("mistyped", KERNEL, change={"is_private": "yes"}),
    Wrong("mistyped", KERNEL, change={"enable_gpu": 1}),
    Wrong("mistyped", KERNEL, change={"kernel_type": "ipynb"}),
    Wrong("mistyped", KERNEL, change={"docker_image_pinning_type": "newest"}),
    Wrong("mistyped", DATASET, change={"licenses": [{}]}),
    Wrong(
        "mistyped", DATASET, change={"licenses": [{"name": "CC0-1.0", "path": "x"}]}, sent={"licenseName": "CC0-1.0"}
    ),
    Wrong("mistyped", MODEL, change={"isPrivate": "true"}),
    Wrong("mistyped", JUDGE, change={"fineTunable": "False"}),
    Wrong("mistyped", JUDGE, change={"trainingData": "votes"}),
)

KERNELS = (
    Wrong("kernel_id_form", KERNEL, change={"id": "someone/tiebreak-for-lmsys/3"}),
    Wrong("kernel_id_owner", KERNEL, change={"id": "tiebreak-for-lmsys"}, sent={"slug": "tiebreak-for-lmsys"}),
    Wrong("kernel_slug_length", KERNEL, change={"id": "someone/judg", "title": "Judg!"}),
    Wrong("kernel_title_short", KERNEL, change={"id": "someone/jud-ge", "title": "Judg"}),
    Wrong("kernel_title_long", KERNEL, change={"id": "someone/" + "a" * 51, "title": "a" * 51}),
    Wrong(
        "kernel_title_plain", KERNEL, change={"title": "tiebreak f\u00fcr LMSYS", "id": "someone/tiebreak-fur-lmsys"}
    ),
    Wrong("kernel_title_placeholder", KERNEL, change={"title": "INSERT_TITLE_HERE", "id": "someone/insert-title-here"}),
    Wrong(
        "kernel_slug_of_title",
        KERNEL,
        change={"title": "Ties, and who breaks them"},
        sent={"slug": "someone/tiebreak-for-lmsys", "newTitle": "Ties, and who breaks them"},
    ),
    Wrong("kernel_language_of_notebook", KERNEL, change={"language": "rmarkdown"}, sent={"language": "r"}),
    Wrong("kernel_internet", KERNEL, change={"enable_internet": "true"}, sent={"enableInternet": True}),
    Wrong(
        "kernel_gpu_or_tpu",
        KERNEL,
        change={"enable_tpu": True},
        sent={"enableGpu": True, "enableTpu": True},
    ),
    Wrong(
        "kernel_machine_retired",
        KERNEL,
        change={"machine_shape": "NvidiaTeslaP100"},
        sent={"machineShape": "NvidiaTeslaP100"},
    ),
    Wrong("kernel_machine_known", KERNEL, change={"machine_shape": "T4x2"}, sent={"machineShape": "T4x2"}),
    Wrong("kernel_machine_known", KERNEL, change={"machine_shape": "NvidiaTeslaT4Highmem"}),
    Wrong("kernel_machine_switch", KERNEL, change={"enable_gpu": False}, sent={"enableGpu": False}),
    Wrong(
        "kernel_code_beside",
        KERNEL,
        change={"code_file": "../kernel/tiebreak-for-lmsys.ipynb"},
    ),
    Wrong(
        "kernel_code_suffix",
        KERNEL,
        change={"code_file": "notebook.json"},
        break_=lambda folder: (folder / "tiebreak-for-lmsys.ipynb").rename(folder / "notebook.json"),
    ),
    Wrong("dataset_sources_form", KERNEL, change={"dataset_sources": ["someone/tiebreak-wheels", "wheels"]}),
    Wrong(
        "dataset_sources_exact",
        KERNEL,
        change={"dataset_sources": ["someone/tiebreak-wheels", "other/rows/2"]},
        sent={"datasetDataSources": ["someone/tiebreak-wheels", "other/rows/2"]},
    ),
    Wrong("kernel_sources_form", KERNEL, change={"kernel_sources": ["other/abc"]}),
    Wrong("kernel_sources_exact", KERNEL, change={"kernel_sources": ["other/some notebook"]}),
    Wrong(
        "competition_sources_form",
        KERNEL,
        change={"competition_sources": ["competitions/llm-classification-finetuning"]},
        sent={"competitionDataSources": ["competitions/llm-classification-finetuning"]},
    ),
    Wrong("competition_sources_some", KERNEL, change={"competition_sources": []}),
    Wrong(
        "model_sources_parts",
        KERNEL,
        change={"model_sources": [*RIGHT[KERNEL]["model_sources"], "google/gemma-2/transformers/gemma-2-9b-it"]},
    ),
    Wrong(
        "model_sources_version",
        KERNEL,
        change={"model_sources": [*RIGHT[KERNEL]["model_sources"], "google/gemma-2/transformers/gemma-2-9b-it/v2"]},
    ),
    Wrong(
        "model_sources_exact",
        KERNEL,
        change={"model_sources": [*RIGHT[KERNEL]["model_sources"], "google/gemma-2/safetensors/gemma-2-9b-it/2"]},
    ),
    Wrong("model_sources_exact", KERNEL, change={"model_sources": [*RIGHT[KERNEL]["model_sources"], "a/b/onnx/c/0"]}),
    Wrong("sources_twice", KERNEL, change={"dataset_sources": ["someone/tiebreak-wheels"] * 2}),
    Wrong("code_exists", KERNEL, change={"code_file": "judge.ipynb"}),
    Wrong("notebook_json", KERNEL, break_=_raw("tiebreak-for-lmsys.ipynb", "{")),
    Wrong("code_size", KERNEL, break_=_notebook(metadata={**NOTEBOOK["metadata"], "x": "x" * 1_000_000})),
    Wrong("notebook_format", KERNEL, break_=_notebook(nbformat=3)),
    Wrong("notebook_format", KERNEL, break_=_notebook(cells=[{"cell_type": "code", "source": "1"}])),
    Wrong("notebook_kernelspec", KERNEL, break_=_notebook(metadata={})),
    Wrong("notebook_outputs", KERNEL, break_=_ran, sent={"text": _stripped()}),
)

DATASETS = (
    Wrong("dataset_title_length", DATASET, change={"title": "wheel"}),
    Wrong("dataset_title_placeholder", DATASET, change={"title": "INSERT_TITLE_HERE"}),
    Wrong("dataset_id_form", DATASET, change={"id": "tiebreak-wheels"}),
    Wrong(
        "dataset_id_version",
        DATASET,
        change={"id": "someone/tiebreak-wheels/2"},
        sent={"ownerSlug": "someone", "slug": "tiebreak-wheels"},
    ),
    Wrong(
        "dataset_slug_length",
        DATASET,
        change={"id": "someone/wheel"},
        also={KERNEL: {"dataset_sources": ["someone/wheel"]}},
    ),
    Wrong("dataset_slug_placeholder", DATASET, change={"id": "someone/INSERT_SLUG_HERE"}),
    Wrong(
        "dataset_id_letters",
        DATASET,
        change={"id": "someone/Tiebreak_Wheels"},
        also={KERNEL: {"dataset_sources": ["someone/Tiebreak_Wheels"]}},
        sent={"slug": "Tiebreak_Wheels"},
    ),
    Wrong("dataset_one_licence", DATASET, change={"licenses": [{"name": "CC0-1.0"}, {"name": "other"}]}),
    Wrong(
        "dataset_licence_name",
        DATASET,
        change={"licenses": [{"name": "Apache 2.0"}]},
        sent={"licenseName": "Apache 2.0"},
    ),
    Wrong("dataset_licence_name", DATASET, change={"licenses": [{"name": "MIT"}]}),
    Wrong("dataset_other_licence", DATASET, change={"description": ""}),
    Wrong("dataset_subtitle", DATASET, change={"subtitle": "Wheels for a judge"}),
    Wrong("resource_exists", DATASET, change={"resources": [{"path": "votes.csv"}]}),
    Wrong("resource_twice", DATASET, change={"resources": [{"path": "rows.csv"}, {"path": "rows.csv"}]}),
    Wrong("resource_uploaded", DATASET, change={"resources": [{"path": "../wheels/rows.csv"}]}),
    Wrong(
        "column_type",
        DATASET,
        change={
            "resources": [{"path": "rows.csv", "schema": {"fields": [{"name": "id", "type": "int"}, {"name": "text"}]}}]
        },
    ),
    Wrong(
        "columns_complete",
        DATASET,
        change={"resources": [{"path": "rows.csv", "schema": {"fields": [{"name": "text", "type": "string"}]}}]},
    ),
    Wrong("folder_flat", DATASET, break_=lambda folder: (folder / "wheels").mkdir()),
    Wrong("folder_archives", DATASET, break_=_raw("wheels.tar.gz", "")),
    Wrong(
        "folder_some",
        JUDGE,
        break_=lambda folder: (folder / "judge.json").unlink(),
    ),
    Wrong("folder_strays", JUDGE, break_=_raw("dataset-metadata.json", "{}")),
)

MODELS = (
    Wrong("model_owner", MODEL, change={"ownerSlug": "Some One"}),
    Wrong("model_slug", MODEL, change={"slug": "tie_break"}),
    Wrong("model_title_placeholder", MODEL, change={"title": "INSERT_TITLE_HERE"}),
    Wrong("model_title", MODEL, change={"title": " "}, sent={"title": " "}),
    Wrong("model_card", MODEL, change={"description": ""}, sent={"description": ""}),
    Wrong(
        "model_card_plain",
        MODEL,
        change={"description": "# A judge\n\nLog loss < 1 & falling."},
        sent={"description": "# A judge\n\nLog loss &lt; 1 &amp; falling."},
    ),
    Wrong("model_date", MODEL, change={"publishTime": "22.11.2026"}),
)

INSTANCES = (
    Wrong("instance_placeholder", JUDGE, change={"framework": "INSERT_FRAMEWORK_HERE"}),
    Wrong("instance_owner", JUDGE, change={"ownerSlug": "Some One"}, sent={"ownerSlug": "Some One"}),
    Wrong("instance_slugs", JUDGE, change={"instanceSlug": "Judge 1"}, sent={"body.instanceSlug": "Judge 1"}),
    Wrong("instance_framework", JUDGE, change={"framework": "sklearn"}),
    Wrong("instance_framework_told", JUDGE, change={"framework": "unspecified"}),
    Wrong("instance_licence", JUDGE, change={"licenseName": ""}),
    Wrong(
        "instance_licence_name", JUDGE, change={"licenseName": "apache-2.0"}, sent={"body.licenseName": "apache-2.0"}
    ),
    Wrong(
        "instance_plain",
        JUDGE,
        change={"usage": "cat rows | tiebreak > out"},
        sent={"body.usage": "cat rows | tiebreak &gt; out"},
    ),
    Wrong("instance_variables", JUDGE, change={"usage": "`${MODEL}`"}, sent={"body.usage": "`${MODEL}`"}),
    Wrong("instance_type", JUDGE, change={"modelInstanceType": "internal variant"}),
    Wrong(
        "instance_base_form",
        JUDGE,
        change={
            "modelInstanceType": "KaggleVariant",
            "baseModelInstance": "google/gemma-2/transformers/gemma-2-9b-it/2",
        },
    ),
    Wrong("instance_base_of_variant", JUDGE, change={"modelInstanceType": "KaggleVariant"}),
    Wrong("instance_base_of_variant", JUDGE, change={"baseModelInstance": "google/gemma-2/transformers/gemma-2-9b-it"}),
    Wrong(
        "instance_base_address",
        JUDGE,
        change={"modelInstanceType": "ExternalVariant", "externalBaseModelUrl": "gemma"},
        sent={"body.externalBaseModelUrl": "gemma"},
    ),
    Wrong("instance_address_of_variant", JUDGE, change={"modelInstanceType": "ExternalVariant"}),
)

PACKS = (
    Wrong(
        "pack_dataset_owner",
        DATASET,
        change={"id": "other/tiebreak-wheels"},
        also={KERNEL: {"dataset_sources": ["other/tiebreak-wheels"]}},
    ),
    Wrong("pack_wheels_read", KERNEL, change={"dataset_sources": ["other/tiebreak-wheels"]}),
    Wrong(
        "pack_model_owner",
        MODEL,
        change={"ownerSlug": "other"},
        also={
            JUDGE: {"ownerSlug": "other"},
            BASE: {"ownerSlug": "other"},
            KERNEL: {"model_sources": ["other/tiebreak/transformers/judge/1", "other/tiebreak/transformers/base/1"]},
        },
    ),
    Wrong("pack_instance_owner", JUDGE, change={"ownerSlug": "other"}),
    Wrong("pack_instance_model", BASE, change={"modelSlug": "judges"}),
    Wrong(
        "pack_instance_twice",
        BASE,
        change={"instanceSlug": "judge"},
        also={KERNEL: {"model_sources": ["someone/tiebreak/transformers/judge/1"]}},
    ),
    Wrong("pack_instances_read", KERNEL, change={"model_sources": ["someone/tiebreak/transformers/judge/1"]}),
    Wrong(
        "pack_instances_exist",
        KERNEL,
        change={"model_sources": [*RIGHT[KERNEL]["model_sources"], "someone/tiebreak/transformers/old/3"]},
    ),
    Wrong(
        "pack_model_empty",
        MODEL,
        break_=lambda folder: [(folder / name / "model-instance-metadata.json").unlink() for name in ("judge", "base")],
        also={KERNEL: {"model_sources": []}},
    ),
)

ALL = (*STRUCTURE, *KERNELS, *DATASETS, *MODELS, *INSTANCES, *PACKS)
