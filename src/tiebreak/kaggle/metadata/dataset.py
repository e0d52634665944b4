"""`dataset-metadata.json`: the dataset that the wheels are uploaded as."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tiebreak.kaggle import layout
from tiebreak.kaggle.metadata.problem import Entry
from tiebreak.kaggle.metadata.schema import Metadata

FORMER: Final = "datapackage.json"
UPDATE_ONLY: Final = "take it out: only `kaggle datasets metadata --update` reads it"


class Closed(BaseModel):
    """A part of the file, as closed as the whole."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Licence(Closed):
    """The name of a licence, as Kaggle spells it for datasets."""

    name: str


def _given(value: object) -> object:
    """The client asks whether a key is there, and stumbles over its null."""
    if value is None:
        raise ValueError("null")
    return value


class Column(Closed):
    """A column of a resource."""

    name: str
    title: str | None = None
    description: str | None = None
    type: Annotated[str | None, BeforeValidator(_given)] = None


class Schema(Closed):
    """The columns of a resource: all of them, in order."""

    fields: list[Column] = Field(default_factory=list)


class Resource(Closed):
    """What is said of one file of the dataset."""

    path: str
    description: str | None = None
    table: Annotated[Schema | None, BeforeValidator(_given)] = Field(default=None, alias="schema")


class Dataset(Metadata):
    """What Kaggle is told of a dataset.

    Attributes:
        title: Its title, 6 to 50 characters.
        id: `owner/slug`; the slug has 6 to 50 characters.
        id_no: The number that Kaggle gave it.
        subtitle: 20 to 80 characters, or none.
        description: Markdown.
        licenses: Exactly one.
        keywords: Tags of Kaggle.
        resources: What is said of single files.
    """

    file: ClassVar[str] = layout.DATASET_METADATA
    former: ClassVar[str] = FORMER
    elsewhere: ClassVar[dict[str, str]] = {
        "isPrivate": "take it out: `kaggle datasets create --public` says it",
        "expectedUpdateFrequency": UPDATE_ONLY,
        "userSpecifiedSources": UPDATE_ONLY,
        "image": UPDATE_ONLY,
        "collaborators": UPDATE_ONLY,
    }

    title: Annotated[str, Entry("a text", absent="refuses")]
    id: Annotated[str, Entry("owner/slug", absent="refuses")]
    id_no: Annotated[int | None, Entry("a whole number", mistyped="ignores")] = None
    subtitle: Annotated[str | None, Entry("a text of 20 to 80 characters")] = None
    description: Annotated[str | None, Entry("a text")] = None
    licenses: Annotated[list[Licence], Entry('[{"name": the name of a licence}]', absent="refuses")]
    keywords: Annotated[list[str], Entry("a list of texts", null="ignores")] = Field(default_factory=list)
    resources: Annotated[list[Resource], Entry("a list of {path, description, schema}", empty="ignores")] = Field(
        default_factory=list
    )
