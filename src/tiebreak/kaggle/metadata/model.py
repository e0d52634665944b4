"""`model-metadata.json`: the model under which judges are uploaded."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from tiebreak.kaggle import layout
from tiebreak.kaggle.metadata.problem import Entry
from tiebreak.kaggle.metadata.schema import Metadata


class Model(Metadata):
    """What Kaggle is told of a model: its card. Weights belong to its instances.

    Attributes:
        owner_slug: Who owns it.
        title: Its title.
        slug: Its slug.
        subtitle: A line beneath the title.
        is_private: Whether only its owner sees it.
        description: The model card, in Markdown.
        publish_time: A date as YYYY-MM-DD, or "".
        provenance_sources: Where it comes from.
    """

    model_config = ConfigDict(alias_generator=to_camel)

    file: ClassVar[str] = layout.MODEL_METADATA
    elsewhere: ClassVar[dict[str, str]] = {"licenseName": "move it to model-instance-metadata.json"}

    owner_slug: Annotated[str, Entry("the name of a user", absent="refuses")]
    title: Annotated[str, Entry("a text", absent="refuses", null="ignores")]
    slug: Annotated[str, Entry("a slug", absent="refuses")]
    subtitle: Annotated[str, Entry("a text", null="ignores")] = ""
    is_private: Annotated[bool, Entry("true or false", absent="refuses")]
    description: Annotated[str, Entry("the model card, in Markdown", absent="refuses")]
    publish_time: Annotated[str, Entry('a date as YYYY-MM-DD, or ""', empty="ignores")] = ""
    provenance_sources: Annotated[str, Entry("a text", null="ignores")] = ""
