"""Where things lie in a pack. `pack.json` says what the pack is; credentials never come near it.

```
PACK/
  pack.json                     what was packed, from what, for what
  kernel/                       kernel-metadata.json, SLUG.ipynb
  wheels/                       dataset-metadata.json, wheelhouse.json, requirements.lock, *.whl
  model/                        model-metadata.json
  model/judge/                  model-instance-metadata.json and the bundle, flat
  model/base/                   model-instance-metadata.json and the base model, where it is not on Kaggle already
  pushed.json                   written by push: versions on Kaggle, and digests of what they hold
```
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

RECORD: Final = "pack.json"
PUSHED: Final = "pushed.json"
KERNEL_METADATA: Final = "kernel-metadata.json"
DATASET_METADATA: Final = "dataset-metadata.json"
MODEL_METADATA: Final = "model-metadata.json"
INSTANCE_METADATA: Final = "model-instance-metadata.json"
WHEELHOUSE: Final = "wheelhouse.json"
LOCK: Final = "requirements.lock"


@dataclass(frozen=True)
class Layout:
    """The places of one pack."""

    root: Path

    @property
    def record(self) -> Path:
        """What was packed."""
        return self.root / RECORD

    @property
    def pushed(self) -> Path:
        """What is on Kaggle, as far as was pushed from here."""
        return self.root / PUSHED

    @property
    def kernel(self) -> Path:
        """The folder of the notebook."""
        return self.root / "kernel"

    @property
    def wheels(self) -> Path:
        """The folder of the dataset of wheels."""
        return self.root / "wheels"

    @property
    def model(self) -> Path:
        """The folder of the model."""
        return self.root / "model"

    def instances(self) -> list[Path]:
        """The folders of the model's instances: the judge first, then its base."""
        return [self.model / name for name in ("judge", "base") if (self.model / name / INSTANCE_METADATA).is_file()]
