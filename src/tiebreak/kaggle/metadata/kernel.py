"""`kernel-metadata.json`: the notebook."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from tiebreak.kaggle import layout
from tiebreak.kaggle.metadata.problem import Entry, Problem
from tiebreak.kaggle.metadata.schema import Metadata

FLAG = "true or false"


def _flag(value: object) -> object:
    """The client takes the words too, and its own template writes them."""
    words = {"true": True, "false": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


Flag = Annotated[bool, BeforeValidator(_flag)]
Texts = list[str]


class Kernel(Metadata):
    """What Kaggle is told of a notebook.

    Attributes:
        id: `owner/slug`.
        id_no: The number that Kaggle gave it.
        title: Its title; the slug is made from it.
        code_file: The notebook, beside this file.
        language: What it is written in.
        kernel_type: A notebook or a script.
        is_private: Whether only its owner sees it.
        enable_gpu: Whether it runs with a GPU.
        enable_tpu: Whether it runs with a TPU.
        enable_internet: Never, in a code competition; and always said, since its absence means yes.
        machine_shape: Kaggle's name of the accelerator.
        dataset_sources: `owner/slug`.
        competition_sources: Slugs.
        kernel_sources: `owner/slug`.
        model_sources: `owner/model/framework/variation/version`.
        keywords: Tags of Kaggle.
        docker_image_pinning_type: Whether the image stays what it is.
        docker_image: The image.
    """

    file: ClassVar[str] = layout.KERNEL_METADATA

    id: Annotated[str, Entry("owner/slug", absent="refuses")]
    id_no: Annotated[int | None, Entry("a whole number")] = None
    title: Annotated[str, Entry("a text", absent="ignores", null="ignores")]
    code_file: Annotated[str, Entry("the name of the notebook", absent="refuses")]
    language: Annotated[Literal["python", "r", "rmarkdown"], Entry("python, r or rmarkdown", absent="refuses")]
    kernel_type: Annotated[Literal["notebook", "script"], Entry("notebook or script", absent="refuses")]
    is_private: Annotated[Flag, Entry(FLAG)] = True
    enable_gpu: Annotated[Flag, Entry(FLAG)] = False
    enable_tpu: Annotated[Flag, Entry(FLAG)] = False
    enable_internet: Annotated[
        Flag,
        Entry(
            "false, given: without it the client sends true", absent="changes", mend='write "enable_internet": false'
        ),
    ]
    machine_shape: Annotated[str | None, Entry("the name of an accelerator")] = None
    dataset_sources: Annotated[Texts, Entry("a list of owner/slug")] = Field(default_factory=list)
    competition_sources: Annotated[Texts, Entry("a list of slugs", null="ignores")] = Field(default_factory=list)
    kernel_sources: Annotated[Texts, Entry("a list of owner/slug")] = Field(default_factory=list)
    model_sources: Annotated[Texts, Entry("a list of owner/model/framework/variation/version")] = Field(
        default_factory=list
    )
    keywords: Annotated[Texts, Entry("a list of texts", null="ignores")] = Field(default_factory=list)
    docker_image_pinning_type: Annotated[Literal["original", "latest"] | None, Entry("original or latest")] = None
    docker_image: Annotated[str | None, Entry("the name of an image")] = None

    @classmethod
    def told(cls, problem: Problem, values: dict[str, Any]) -> Problem:
        """With a number the client asks for no id, and it takes true for a number."""
        nameless = problem.key == "id" and problem.value in (None, "") and values.get("id_no")
        if nameless or (problem.key == "id_no" and isinstance(problem.value, bool)):
            return replace(problem, client="ignores")
        return problem
