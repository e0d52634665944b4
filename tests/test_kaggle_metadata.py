"""Kaggle's metadata: what is written is read back, and our own readings of slugs, notebooks, Markdown and names agree
with the libraries that Kaggle's client uses."""

from __future__ import annotations

import copy
import json
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kaggle_official import Official
from kaggle_right import JUDGE, KERNEL, NOTEBOOK, RIGHT, write_pack
from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.metadata import (
    Column,
    Dataset,
    Instance,
    Kernel,
    Licence,
    Metadata,
    MetadataError,
    Model,
    Resource,
    Schema,
    check,
    licences,
    machines,
    problems,
    slugs,
)
from tiebreak.kaggle.metadata.model_rules import MARKUP, plain
from tiebreak.kaggle.metadata.notebooks import form_faults

WRITTEN: tuple[Metadata, ...] = (
    Kernel(
        id="someone/my-judge",
        title="My judge",
        code_file="my-judge.ipynb",
        language="python",
        kernel_type="notebook",
        enable_internet=False,
        competition_sources=["llm-classification-finetuning"],
    ),
    Dataset(
        title="Wheels of tiebreak",
        id="someone/tiebreak-wheels",
        subtitle="What the judge needs, without a network",
        licenses=[Licence(name="CC0-1.0")],
        resources=[Resource(path="rows.csv", table=Schema(fields=[Column(name="id", type="string")]))],
    ),
    Model(owner_slug="someone", title="A judge", slug="tiebreak", is_private=True, description="Ünïcode."),
    Instance(
        owner_slug="someone",
        model_slug="tiebreak",
        instance_slug="judge",
        framework="other",
        license_name="Apache 2.0",
    ),
)


@pytest.mark.parametrize("metadata", WRITTEN, ids=lambda metadata: type(metadata).__name__)
def test_what_is_written_is_read_back_equal_and_written_again_byte_for_byte(metadata: Metadata, tmp_path: Path) -> None:
    path = metadata.write(tmp_path)
    assert path == tmp_path / type(metadata).file
    assert type(metadata).read(path) == metadata == type(metadata).read(tmp_path)
    first = path.read_bytes()
    type(metadata).read(path).write(tmp_path)
    assert path.read_bytes() == first
    assert first.endswith(b"}\n")
    assert first.isascii(), "the client reads these files in the code of the locale"


def test_the_bytes_of_a_file(tmp_path: Path) -> None:
    metadata = Dataset(title="Wheels of tiebreak", id="someone/wheels-1", licenses=[Licence(name="CC0-1.0")])
    assert metadata.write(tmp_path).read_text() == (
        '{\n  "title": "Wheels of tiebreak",\n  "id": "someone/wheels-1",\n  "licenses": [\n    {\n'
        '      "name": "CC0-1.0"\n    }\n  ],\n  "keywords": [],\n  "resources": []\n}\n'
    )
    assert json.loads(WRITTEN[3].text())["baseModelInstance"] == ""


def test_reading_one_file_does_not_ask_for_what_lies_beside_it(tmp_path: Path) -> None:
    """Versions are written into a kernel's sources while the rest of the pack may be anywhere."""
    WRITTEN[0].write(tmp_path)
    kernel = Kernel.read(tmp_path)
    changed = kernel.model_copy(update={"model_sources": ["someone/tiebreak/other/judge/2"]})
    changed.write(tmp_path)
    assert Kernel.read(tmp_path).model_sources == ["someone/tiebreak/other/judge/2"]
    assert [problem.key for problem in Kernel.problems(tmp_path)] == ["code_file"]


def test_the_models_take_no_unknown_argument_and_no_other_type() -> None:
    values = WRITTEN[0].model_dump()
    for wrong in ({"enable_internte": False}, {"enable_gpu": 1}, {"title": None}):
        with pytest.raises(ValidationError):
            Kernel(**{**values, **wrong})


def test_a_pack_without_a_model_is_whole(tmp_path: Path) -> None:
    write_pack(tmp_path)
    for path in sorted((tmp_path / "model").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (tmp_path / "model").rmdir()
    kernel = tmp_path / KERNEL
    kernel.write_text(json.dumps({**RIGHT[KERNEL], "model_sources": []}))
    check(Layout(tmp_path))


def test_words_for_flags_are_taken_as_the_client_takes_them(tmp_path: Path) -> None:
    write_pack(tmp_path)
    for words in (
        {"enable_internet": "False", "is_private": "TRUE"},
        {"enable_internet": "false", "enable_gpu": "true"},
    ):
        (tmp_path / KERNEL).write_text(json.dumps({**RIGHT[KERNEL], **words}))
        assert problems(Layout(tmp_path)) == []
        assert Kernel.read(tmp_path / KERNEL).enable_internet is False


def test_every_fault_inside_a_value_is_told_with_its_place(tmp_path: Path) -> None:
    fields = [{"name": "id"}, {"nam": 3}, {"name": "x", "type": 5}]
    content = {"title": "tiebreak wheels", "id": "someone/tiebreak-wheels", "licenses": [{"name": "CC0-1.0"}]}
    content["resources"] = [{"path": "rows.csv", "schema": {"fields": fields}}]
    (tmp_path / "dataset-metadata.json").write_text(json.dumps(content))
    with pytest.raises(MetadataError) as raised:
        Dataset.read(tmp_path)
    assert [(problem.key, problem.client) for problem in raised.value.problems] == [
        ("resources[0].schema.fields[1].name", "refuses"),
        ("resources[0].schema.fields[1].nam", "ignores"),
        ("resources[0].schema.fields[2].type", "refuses"),
    ]


def test_frameworks_are_compared_as_kaggle_spells_them_in_many_ways(tmp_path: Path) -> None:
    write_pack(tmp_path)
    sources = ["someone/tiebreak/Transformers/judge/12", "someone/tiebreak/TRANSFORMERS/base/1"]
    (tmp_path / KERNEL).write_text(json.dumps({**RIGHT[KERNEL], "model_sources": sources}))
    (tmp_path / JUDGE).write_text(json.dumps({**RIGHT[JUDGE], "framework": "TRANSFORMERS"}))
    check(Layout(tmp_path))


@pytest.mark.parametrize("text", ["a\nb/c", "\x1b[2Jowner/my-judge", "\ud800/my-judge", "a\u2028b/my-judge"])
def test_a_problem_is_one_printable_line_whatever_the_file_holds(text: str, tmp_path: Path) -> None:
    content = {
        **WRITTEN[0].model_dump(),
        "id": text,
        text: 1,
        "title": text,
        "code_file": text,
        "dataset_sources": [text],
    }
    (tmp_path / Kernel.file).write_text(json.dumps(content))
    told = [str(problem) for problem in Kernel.problems(tmp_path)]
    assert len(told) >= 3
    assert all(line.isprintable() for line in told)
    with pytest.raises(MetadataError) as raised:
        Kernel.read(tmp_path)
    assert len(str(raised.value).splitlines()) == 1 + len(raised.value.problems)


def test_json_that_is_nested_without_end_is_told_too(tmp_path: Path) -> None:
    endless = "[" * 100_000
    (tmp_path / Model.file).write_text(endless)
    (problem,) = Model.problems(tmp_path)
    assert (problem.client, problem.key) == ("refuses", "")
    write_pack(tmp_path)
    (tmp_path / "kernel" / RIGHT[KERNEL]["code_file"]).write_text(endless)
    (problem,) = problems(Layout(tmp_path))
    assert problem.key == "code_file"


@given(title=st.text(string.ascii_letters + string.digits + string.punctuation + " "))
def test_the_slug_of_a_plain_title_is_the_one_that_the_client_makes(title: str) -> None:
    slugify = pytest.importorskip("slugify").slugify
    if slugs.is_plain(title):
        assert slugs.slugify(title) == slugify(title)
        assert not slugs.slugify(title) or slugs.is_slug(slugs.slugify(title))


@pytest.mark.parametrize("title", ["Größe", "tie\tbreak", "A &amp; B", "A &#65; B", "裁判"])
def test_titles_whose_slug_is_uncertain_are_not_plain(title: str) -> None:
    assert not slugs.is_plain(title)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 6) | st.text(string.ascii_letters, max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "name", "source"]), inner),
    max_leaves=4,
)
PLACES: tuple[tuple[Any, ...], ...] = (
    ("nbformat",),
    ("nbformat_minor",),
    ("metadata",),
    ("cells",),
    *(("cells", number, key) for number in (0, 1) for key in NOTEBOOK["cells"][number]),
)


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(PLACES), value=JSON, gone=st.booleans())
def test_a_notebook_without_faults_is_one_that_nbformats_own_schema_takes(
    place: tuple[Any, ...], value: Any, gone: bool
) -> None:
    nbformat = pytest.importorskip("nbformat")
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(nbformat.__file__).parent / "v4" / "nbformat.v4.5.schema.json").read_text())
    content = copy.deepcopy(NOTEBOOK)
    inner = content
    for part in place[:-1]:
        inner = inner[part]
    if gone:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    faults = list(form_faults(content))
    if jsonschema.Draft4Validator(schema).is_valid(content):
        assert not faults
    elif place[-1] not in ("metadata", "outputs", "nbformat_minor"):
        # The schema also looks into metadata and outputs, and is for no older minor version.
        assert faults


@given(text=st.text(st.characters(codec="utf-8") | st.sampled_from("<>&;`*# \n")))
def test_markdown_without_markup_passes_the_clients_sanitiser_unchanged(text: str) -> None:
    bleach = pytest.importorskip("bleach")
    if not MARKUP.search(text):
        assert bleach.clean(text) == text
    assert not MARKUP.search(plain(text))
    assert bleach.clean(plain(text)) == plain(text)


def test_signs_become_words() -> None:
    assert plain("p < .05 & n >= 3\r\na -> b") == "p below .05 and n at least 3\na to b"


def test_every_framework_and_type_that_the_client_knows_is_known_and_no_other() -> None:
    enums = pytest.importorskip("kagglesdk.models.types.model_enums")
    named = {machines.framework(item.name.removeprefix("MODEL_FRAMEWORK_")) for item in enums.ModelFramework}
    assert named - {None} == set(machines.FRAMEWORKS)
    types = {machines.instance_type(item.name) for item in enums.ModelInstanceType}
    assert types == set(machines.INSTANCE_TYPES)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Official]:
    pytest.importorskip("kaggle")
    with pytest.MonkeyPatch.context() as patch:
        yield Official(patch, tmp_path_factory.mktemp("home"))


@given(name=st.text("pPyYtT_oOrRcChHxX-", max_size=10) | st.sampled_from(machines.FRAMEWORKS).map(str.upper))
def test_a_framework_is_found_where_the_client_finds_it(official: Official, name: str) -> None:
    enums = pytest.importorskip("kagglesdk.models.types.model_enums")
    try:
        found = official.api.lookup_enum(enums.ModelFramework, None, name)
    except KeyError:
        found = None
    assert (found is not None) == (machines.framework(name) is not None)


@pytest.mark.parametrize(
    ("spdx", "dataset", "model"),
    [
        ("Apache-2.0", "apache-2.0", "Apache 2.0"),
        ("apache-2.0", "apache-2.0", "Apache 2.0"),
        ("MIT", "other", "MIT"),
        ("BSD-3-Clause", "other", "BSD-3-Clause"),
        ("CC-BY-4.0", "CC-BY-4.0", "Attribution 4.0 International (CC BY 4.0)"),
        ("CC0-1.0", "CC0-1.0", "CC0: Public Domain"),
        ("GPL-3.0-only", "GPL-3.0", "GPL 3"),
        ("GPL-2.0-or-later", "GPL-2.0", "GPL 2"),
        ("PDDL-1.0", "PDDL", "ODC Public Domain Dedication and Licence (PDDL)"),
        ("gemma", "other", None),
    ],
)
def test_licences_by_their_spdx_names(spdx: str, dataset: str, model: str | None) -> None:
    assert licences.for_dataset(spdx) == dataset
    assert licences.for_model(spdx) == model
    assert dataset in licences.DATASET
    assert model is None or model in licences.MODEL


def test_every_name_of_a_licence_is_found_again() -> None:
    assert [licences.for_dataset(name) for name in licences.DATASET] == list(licences.DATASET)
    assert [licences.for_model(name) for name in licences.MODEL] == list(licences.MODEL)
    assert [licences.for_model(spdx) for spdx in licences.MODEL.values()] == list(licences.MODEL)


def test_no_shape_is_both_there_and_gone() -> None:
    assert not set(machines.SHAPES) & {*machines.RETIRED, *machines.INTERNAL}
    assert set(machines.RETIRED.values()) <= set(machines.SHAPES)
