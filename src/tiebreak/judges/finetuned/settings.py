"""What `judge.json` says of a fine-tuned judge: a closed schema."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, JsonValue, field_validator

from tiebreak import bundle
from tiebreak.bundle import Manifest
from tiebreak.errors import UsageError
from tiebreak.judges.base import Base, Head
from tiebreak.render import Template

SINGLE: Final = "single"
"""The template of one answer."""


class Compression(BaseModel):
    """How the weights of a judge were given fewer bits (`tiebreak compress`).

    Attributes:
        method: gptq-8, gptq-4, awq-4, nf4 or int8.
        bits: Of a weight of the backbone's linear layers.
        group: Weights that share a scale, along the inputs; None: a scale an output.
        activation_bits: Bits that the inputs of those layers are rounded to, a scale a token; 16 leaves them alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["gptq-8", "gptq-4", "awq-4", "nf4", "int8"]
    bits: Literal[4, 8]
    group: int | None
    activation_bits: Literal[8, 16]


class Settings(BaseModel):
    """Settings of every judge with a network.

    Attributes:
        base: The pretrained model that the bundle refers to, with its revision and digest; None: all weights are in
            the bundle.
        adapter: Whether the bundle holds an adapter, with the head in it.
        head: The layer on top.
        template: How a comparison becomes tokens, whole.
        fingerprint: Of the token ids that this template and tokenizer give (`tiebreak.render.Renderer.fingerprint`).
        pooling: Which state stands for a sequence; None: the family's own way.
        quantize: nf4: the base was in 4 bits at training and is so at prediction; the adapter stays apart from it,
            for it was trained against the error of those 4 bits.
        soft_capping: Whether Gemma 2 keeps the soft caps on its attention logits.
        recipe: The recipe it was trained with, resolved.
        compression: How the weights in the bundle were compressed after training; None: they were not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    one_answer: ClassVar[bool] = False
    """Whether a sequence holds one answer and not a comparison."""

    base: Base | None
    adapter: bool
    head: Head = Head()
    template: Template
    fingerprint: str
    pooling: Literal["last", "first", "mean"] | None = None
    quantize: Literal["nf4"] | None = None
    soft_capping: bool = True
    recipe: dict[str, JsonValue] | None = None
    compression: Compression | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Read the settings of a bundle.

        Raises:
            BundleError: A setting is missing, unknown or of a wrong kind.
        """
        return bundle.settings(manifest, cls)

    @field_validator("template")
    @classmethod
    def fitting(cls, template: Template) -> Template:
        """The template, if this kind of judge can read what it renders.

        Raises:
            UsageError: It renders single answers for a judge of pairs, or the other way round.
        """
        if (template.name == SINGLE) != cls.one_answer:
            reads = "one answer" if cls.one_answer else "both answers"
            raise UsageError(
                f"template {template.name}: this kind of judge reads {reads} in a sequence",
                expected=f"template {SINGLE}" if cls.one_answer else f"any template but {SINGLE}",
            )
        return template

    @property
    def four_bits(self) -> Literal["nf4"] | None:
        """How the weights are held in 4 bits while the network runs, if they are: GPTQ and AWQ are unpacked at load."""
        compressed = self.compression is not None and self.compression.method == "nf4"
        return "nf4" if compressed else self.quantize

    @property
    def equivariant(self) -> bool:
        """Whether exchanging the answers exchanges the probabilities exactly."""
        return True

    def document(self) -> dict[str, Any]:
        """As `judge.json` holds it."""
        document = self.model_dump(mode="json")
        if self.compression is None:  # older versions read the bundles of judges that were not compressed
            del document["compression"]
        return document
