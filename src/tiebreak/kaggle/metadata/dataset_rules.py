"""What Kaggle and its client ask of the keys of `dataset-metadata.json`."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tiebreak.kaggle.metadata import folders, licences, slugs
from tiebreak.kaggle.metadata.dataset import Column, Dataset
from tiebreak.kaggle.metadata.problem import Found, characters, said

LENGTHS: Final = (6, 50)
SUBTITLE: Final = (20, 80)
TYPES: Final = (
    "string",
    "boolean",
    "numeric",
    "datetime",
    "id",
    "uuid",
    "latitude",
    "longitude",
    "coordinates",
    "country",
    "province",
    "postalcode",
    "address",
    "email",
    "url",
    "integer",
    "decimal",
    "city",
    *("date", "time", "yearmonth", "duration", "geopoint", "geojson", "number", "year"),
)
"""Types of columns: Kaggle's, and those of data packages that its client translates."""

PLACEHOLDER_SLUG: Final = "INSERT_SLUG_HERE"
PLACEHOLDER_TITLE: Final = "INSERT_TITLE_HERE"


@Dataset.rule("title", expected="6 to 50 characters", client="refuses")
def _dataset_title_length(dataset: Dataset) -> Iterator[Found]:
    if not LENGTHS[0] <= len(dataset.title) <= LENGTHS[1]:
        yield Found(dataset.title, f"has {characters(dataset.title)}", "choose another title")


@Dataset.rule("title", expected="a title of your own, not the placeholder", client="refuses")
def _dataset_title_placeholder(dataset: Dataset) -> Iterator[Found]:
    if dataset.title == PLACEHOLDER_TITLE:
        yield Found(dataset.title, "is the placeholder of `kaggle datasets init`", "write a title")


@Dataset.rule("id", expected="owner/slug", client="refuses")
def _dataset_id_form(dataset: Dataset) -> Iterator[Found]:
    parts = dataset.id.split("/")
    if len(parts) not in (2, 3) or not all(parts[:2]):
        mend = f"write USER/{dataset.id}" if slugs.is_slug(dataset.id) else ""
        yield Found(dataset.id, said(dataset.id), mend)


@Dataset.rule("id", expected="owner/slug without a version, which the client cuts off", client="changes")
def _dataset_id_version(dataset: Dataset) -> Iterator[Found]:
    parts = dataset.id.split("/")
    if len(parts) == 3 and all(parts[:2]):
        yield Found(dataset.id, said(dataset.id), f"write {parts[0]}/{parts[1]}")


@Dataset.rule("id", expected="a slug of 6 to 50 characters", client="refuses")
def _dataset_slug_length(dataset: Dataset) -> Iterator[Found]:
    slug = slugs.halves(dataset.id)[1].partition("/")[0]
    if slug and not LENGTHS[0] <= len(slug) <= LENGTHS[1]:
        yield Found(dataset.id, f"has a slug of {characters(slug)}", "choose another slug")


@Dataset.rule("id", expected="a slug of your own, not the placeholder", client="refuses")
def _dataset_slug_placeholder(dataset: Dataset) -> Iterator[Found]:
    if slugs.halves(dataset.id)[1] == PLACEHOLDER_SLUG:
        yield Found(dataset.id, "is the placeholder of `kaggle datasets init`", "write a slug")


@Dataset.rule("id", expected=f"a user and a slug of {slugs.IN_WORDS}", client="ignores")
def _dataset_id_letters(dataset: Dataset) -> Iterator[Found]:
    owner, slug, *_ = [*dataset.id.split("/"), ""]
    if not owner or not slug or slug == PLACEHOLDER_SLUG:
        return
    if not (slugs.is_user(owner) and slugs.is_slug(slug)):
        near = f"{owner.lower()}/{slugs.slugify(slug)}"
        yield Found(dataset.id, said(dataset.id), f"write {near}")


@Dataset.rule("licenses", expected="exactly one licence", client="refuses")
def _dataset_one_licence(dataset: Dataset) -> Iterator[Found]:
    if len(dataset.licenses) != 1:
        yield Found([licence.name for licence in dataset.licenses], f"names {len(dataset.licenses)}")


@Dataset.rule("licenses", expected="a licence as Kaggle names it for datasets", client="ignores")
def _dataset_licence_name(dataset: Dataset) -> Iterator[Found]:
    for number, licence in enumerate(dataset.licenses):
        if licence.name not in licences.DATASET:
            near = licences.near_dataset(licence.name)
            told = " and tell the licence in the description" if near == licences.OTHER else ""
            where = f"licenses[{number}].name"
            yield Found(licence.name, said(licence.name), f"write {near}{told}", key=where)


@Dataset.rule("description", "licenses", expected='a description, since the licence is "other"', client="ignores")
def _dataset_other_licence(dataset: Dataset) -> Iterator[Found]:
    if licences.OTHER in [licence.name for licence in dataset.licenses] and not (dataset.description or "").strip():
        yield Found(dataset.description, "is empty", "tell the licences of the files in it")


@Dataset.rule("subtitle", expected="20 to 80 characters, or none", client="refuses")
def _dataset_subtitle(dataset: Dataset) -> Iterator[Found]:
    subtitle = dataset.subtitle or ""
    if subtitle and not SUBTITLE[0] <= len(subtitle) <= SUBTITLE[1]:
        yield Found(subtitle, f"has {characters(subtitle)}", "write another, or none")


@Dataset.rule("resources", expected="a file that exists", client="refuses", beside=True)
def _resource_exists(dataset: Dataset, folder: Path) -> Iterator[Found]:
    for number, resource in enumerate(dataset.resources):
        if not (folder / resource.path).is_file():
            yield Found(resource.path, said(resource.path), "take it out", key=f"resources[{number}].path")


@Dataset.rule("resources", expected="each file once", client="refuses")
def _resource_twice(dataset: Dataset) -> Iterator[Found]:
    paths = [resource.path for resource in dataset.resources]
    for number, path in enumerate(paths):
        if path in paths[:number]:
            yield Found(path, f"{said(path)} again", "take one of them out", key=f"resources[{number}].path")


@Dataset.rule("resources", expected="the name of an uploaded file, without a folder", client="ignores")
def _resource_uploaded(dataset: Dataset) -> Iterator[Found]:
    for number, resource in enumerate(dataset.resources):
        if "/" in resource.path or resource.path in folders.LEFT_OUT:
            mend = "take it out: no uploaded file has this name"
            yield Found(resource.path, said(resource.path), mend, key=f"resources[{number}].path")


@Dataset.rule("resources", expected="a type of column that Kaggle knows", client="ignores")
def _column_type(dataset: Dataset) -> Iterator[Found]:
    for place, column in _columns(dataset):
        if column.type is not None and column.type.lower() not in TYPES:
            yield Found(column.type, said(column.type), key=f"{place}.type")


@Dataset.rule("resources", expected="all columns of the file, in order", client="ignores", beside=True)
def _columns_complete(dataset: Dataset, folder: Path) -> Iterator[Found]:
    for number, resource in enumerate(dataset.resources):
        path = folder / resource.path
        if resource.table is None or path.suffix != ".csv" or not path.is_file():
            continue
        named = [column.name for column in resource.table.fields]
        with path.open(encoding="utf-8", errors="replace", newline="") as stream:
            header = next(csv.reader(stream), [])
        if named != header:
            wrong = f"names {', '.join(named) or 'none'} of the columns {', '.join(header)}"
            yield Found(named, wrong, "name them all", key=f"resources[{number}].schema.fields")


def _columns(dataset: Dataset) -> Iterator[tuple[str, Column]]:
    for number, resource in enumerate(dataset.resources):
        for position, column in enumerate(resource.table.fields if resource.table else []):
            yield f"resources[{number}].schema.fields[{position}]", column
