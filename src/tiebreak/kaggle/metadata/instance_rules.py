"""What Kaggle and its client ask of the keys of `model-instance-metadata.json`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from tiebreak.kaggle.metadata import licences, machines, slugs
from tiebreak.kaggle.metadata.instance import Instance
from tiebreak.kaggle.metadata.model_rules import PLAIN, rewritten
from tiebreak.kaggle.metadata.problem import Found, said

PLACEHOLDERS: Final = {
    "ownerSlug": "INSERT_OWNER_SLUG_HERE",
    "modelSlug": "INSERT_EXISTING_MODEL_SLUG_HERE",
    "instanceSlug": "INSERT_INSTANCE_SLUG_HERE",
    "framework": "INSERT_FRAMEWORK_HERE",
}
VARIABLES: Final = ("VERSION_NUMBER", "VARIATION_SLUG", "FRAMEWORK", "PATH", "FILEPATH", "URL")
"""What Kaggle fills in where it shows the usage."""


@Instance.rule(*PLACEHOLDERS, expected="a value of your own, not the placeholder", client="refuses")
def _instance_placeholder(instance: Instance) -> Iterator[Found]:
    values = (instance.owner_slug, instance.model_slug, instance.instance_slug, instance.framework)
    for (key, placeholder), value in zip(PLACEHOLDERS.items(), values, strict=True):
        if value == placeholder:
            yield Found(value, "is the placeholder of `kaggle models variations init`", "write it", key=key)


@Instance.rule(
    "ownerSlug", expected="the name of a user of lower case letters, digits, single - and _", client="ignores"
)
def _instance_owner(instance: Instance) -> Iterator[Found]:
    if not slugs.is_user(instance.owner_slug) and instance.owner_slug != PLACEHOLDERS["ownerSlug"]:
        yield Found(instance.owner_slug, said(instance.owner_slug), "write the name of the user")


@Instance.rule("modelSlug", "instanceSlug", expected=f"a slug of {slugs.IN_WORDS}", client="ignores")
def _instance_slugs(instance: Instance) -> Iterator[Found]:
    for key, slug in (("modelSlug", instance.model_slug), ("instanceSlug", instance.instance_slug)):
        if not slugs.is_slug(slug) and slug != PLACEHOLDERS[key]:
            near = slugs.slugify(slug)
            yield Found(slug, said(slug), f"write {near}" if near else "", key=key)


@Instance.rule("framework", expected="a framework that Kaggle knows", client="refuses")
def _instance_framework(instance: Instance) -> Iterator[Found]:
    name = instance.framework
    if machines.framework(name) is None and name != PLACEHOLDERS["framework"] and not _unspecified(name):
        yield Found(name, said(name), f"write {machines.near_framework(name)}")


@Instance.rule("framework", expected="a framework that says something", client="ignores")
def _instance_framework_told(instance: Instance) -> Iterator[Found]:
    if _unspecified(instance.framework):
        yield Found(instance.framework, said(instance.framework), "write other")


@Instance.rule("licenseName", expected="a licence", client="refuses")
def _instance_licence(instance: Instance) -> Iterator[Found]:
    if not instance.license_name:
        yield Found("", "is empty", "write the name of a licence, such as Apache 2.0")


@Instance.rule("licenseName", expected="a licence as Kaggle names it for models", client="ignores")
def _instance_licence_name(instance: Instance) -> Iterator[Found]:
    name = instance.license_name
    if name and name not in licences.MODEL:
        near = licences.near_model(name)
        yield Found(name, said(name), f"write {near}" if near else f"write one of {', '.join(licences.MODEL)}")


@Instance.rule("overview", "usage", expected=PLAIN, client="changes")
def _instance_plain(instance: Instance) -> Iterator[Found]:
    for key, text in (("overview", instance.overview), ("usage", instance.usage)):
        if wrong := rewritten(text):
            yield Found(text, wrong, "say it in words", key=key)


@Instance.rule("usage", expected=f"of variables only {', '.join(VARIABLES)}", client="ignores")
def _instance_variables(instance: Instance) -> Iterator[Found]:
    for name in dict.fromkeys(re.findall(r"\$\{([^}]*)\}", instance.usage)):
        if name not in VARIABLES:
            yield Found(name, f"holds ${{{name}}}, which Kaggle does not fill in", "write one that it does, or none")


@Instance.rule("modelInstanceType", expected=f"one of {', '.join(machines.INSTANCE_TYPES)}", client="refuses")
def _instance_type(instance: Instance) -> Iterator[Found]:
    name = instance.model_instance_type
    if machines.instance_type(name) is None:
        mend = "write KaggleVariant" if "internal" in name.lower() else ""
        yield Found(name, said(name), mend)


@Instance.rule("baseModelInstance", expected="owner/model/framework/instance without a version", client="ignores")
def _instance_base_form(instance: Instance) -> Iterator[Found]:
    base = instance.base_model_instance
    parts = base.split("/")
    if base and (len(parts) != 4 or not all(slugs.FOREIGN.fullmatch(part) for part in parts)):
        yield Found(base, said(base), f"write {'/'.join(parts[:4])}" if len(parts) == 5 else "")


@Instance.rule(
    "baseModelInstance", "modelInstanceType", expected="a base on Kaggle for a KaggleVariant alone", client="ignores"
)
def _instance_base_of_variant(instance: Instance) -> Iterator[Found]:
    base, kind = instance.base_model_instance, machines.instance_type(instance.model_instance_type)
    if kind == "KaggleVariant" and not base:
        yield Found(base, "is empty for a KaggleVariant", "name the base, or write Unspecified as the type")
    elif base and kind is not None and kind != "KaggleVariant":
        yield Found(base, f"{said(base)} while the type is {kind}", 'write "modelInstanceType": "KaggleVariant"')


@Instance.rule("externalBaseModelUrl", expected="an https address", client="ignores")
def _instance_base_address(instance: Instance) -> Iterator[Found]:
    address = instance.external_base_model_url
    if address and not _is_address(address):
        yield Found(address, said(address))


@Instance.rule(
    "externalBaseModelUrl", "modelInstanceType", expected="an address for an ExternalVariant alone", client="ignores"
)
def _instance_address_of_variant(instance: Instance) -> Iterator[Found]:
    address, kind = instance.external_base_model_url, machines.instance_type(instance.model_instance_type)
    if kind == "ExternalVariant" and not address:
        yield Found(address, "is empty for an ExternalVariant", "name its address, or write Unspecified as the type")
    elif address and kind is not None and kind != "ExternalVariant":
        yield Found(address, f"is given while the type is {kind}", 'write "modelInstanceType": "ExternalVariant"')


def _unspecified(name: str) -> bool:
    return name.replace("_", "").lower().removeprefix("modelframework") == "unspecified"


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme == "https" and "." in parts.netloc and not any(c.isspace() for c in text)
