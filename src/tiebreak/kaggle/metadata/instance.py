"""`model-instance-metadata.json`: one variation of a model, which holds the files."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from tiebreak.kaggle import layout
from tiebreak.kaggle.metadata.problem import Entry
from tiebreak.kaggle.metadata.schema import Metadata


class Instance(Metadata):
    """What Kaggle is told of an instance (it says "variation" on its pages).

    Attributes:
        owner_slug: Who owns the model.
        model_slug: The model.
        instance_slug: The instance.
        framework: One of Kaggle's frameworks, such as `transformers` or `other`.
        overview: A short text.
        usage: Markdown; Kaggle fills in `${VERSION_NUMBER}`, `${VARIATION_SLUG}`, `${FRAMEWORK}`, `${PATH}`,
            `${FILEPATH}` and `${URL}`.
        license_name: The name of a licence, as Kaggle spells it for models.
        fine_tunable: Whether it can be trained further.
        training_data: What it was trained on.
        model_instance_type: `Unspecified`, `BaseModel`, `KaggleVariant` or `ExternalVariant`.
        base_model_instance: Of a `KaggleVariant`: `owner/model/framework/instance`.
        external_base_model_url: Of an `ExternalVariant`: where its base is.
    """

    model_config = ConfigDict(alias_generator=to_camel)

    file: ClassVar[str] = layout.INSTANCE_METADATA
    elsewhere: ClassVar[dict[str, str]] = {
        "variationSlug": "write instanceSlug",
        "baseModelInstanceId": "write baseModelInstance, as owner/model/framework/instance",
    }

    owner_slug: Annotated[str, Entry("the name of a user", absent="refuses", null="ignores")]
    model_slug: Annotated[str, Entry("the slug of the model", absent="refuses", null="ignores")]
    instance_slug: Annotated[str, Entry("a slug", absent="refuses", null="ignores")]
    framework: Annotated[str, Entry("a framework", absent="refuses")]
    overview: Annotated[str, Entry("a text")] = ""
    usage: Annotated[str, Entry("Markdown")] = ""
    license_name: Annotated[str, Entry("the name of a licence", absent="refuses", null="ignores")]
    fine_tunable: Annotated[bool, Entry("true or false")] = False
    training_data: Annotated[list[str], Entry("a list of texts")] = Field(default_factory=list)
    model_instance_type: Annotated[str, Entry("a type of instance")] = "Unspecified"
    base_model_instance: Annotated[str, Entry("owner/model/framework/instance", null="ignores")] = ""
    external_base_model_url: Annotated[str, Entry("an address", null="ignores")] = ""
