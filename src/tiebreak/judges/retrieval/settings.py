"""What `judge.json` says of a retrieval judge: a closed schema."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from tiebreak import bundle
from tiebreak.bundle import Manifest
from tiebreak.errors import BundleError
from tiebreak.judges.base import Base
from tiebreak.judges.retrieval.encoder import Manner
from tiebreak.judges.retrieval.index import Shape
from tiebreak.judges.retrieval.kernel import Kernel

Share = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseModel):
    """Settings of a retrieval judge.

    Attributes:
        encoder: The sentence encoder, with the digest of its weights; it does not lie in the bundle.
        manner: How the encoder reads a text.
        kernel: How neighbours become probabilities.
        index: How neighbours are found.
        prior: Mass of (a, b, tie) among the votes, with the mean of a and b for both.
        votes: How many there are.
        recipe: How the kernel was chosen.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: Base
    manner: Manner
    kernel: Kernel
    index: Shape
    prior: tuple[Share, Share, Share]
    votes: Annotated[int, Field(ge=1)]
    recipe: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Read the settings of a bundle.

        Raises:
            BundleError: A setting is missing, unknown or of a wrong kind.
        """
        found = bundle.settings(manifest, cls)
        if found.prior[0] != found.prior[1] or abs(sum(found.prior) - 1) > 1e-6:
            raise BundleError(f"judge.json: settings.prior: {found.prior}", expected="equal mass for a and b, sum 1")
        return found
