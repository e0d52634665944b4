"""What a notebook may read: the forms of its sources, which Kaggle's client looks at hardly, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tiebreak.kaggle.metadata import machines, slugs
from tiebreak.kaggle.metadata.kernel import Kernel
from tiebreak.kaggle.metadata.kernel_rules import MIN_SLUG
from tiebreak.kaggle.metadata.problem import Found, said

LISTS = ("dataset_sources", "competition_sources", "kernel_sources", "model_sources")


@Kernel.rule("dataset_sources", expected="owner/slug", client="refuses")
def _dataset_sources_form(kernel: Kernel) -> Iterator[Found]:
    for place, source in _numbered("dataset_sources", kernel.dataset_sources):
        if source and not _pair(source):
            yield Found(source, said(source), key=place)


@Kernel.rule("dataset_sources", expected="owner/slug without a version", client="ignores")
def _dataset_sources_exact(kernel: Kernel) -> Iterator[Found]:
    for place, source in _numbered("dataset_sources", kernel.dataset_sources):
        if not source or (_pair(source) and not _foreign(source, 2)):
            yield Found(source, said(source), _shorter(source), key=place)


@Kernel.rule("kernel_sources", expected=f"owner/slug, the slug of {MIN_SLUG} characters or more", client="refuses")
def _kernel_sources_form(kernel: Kernel) -> Iterator[Found]:
    for place, source in _numbered("kernel_sources", kernel.kernel_sources):
        if source and not (_pair(source) and len(source.split("/")[1]) >= MIN_SLUG and source.split("/")[-1]):
            yield Found(source, said(source), key=place)


@Kernel.rule("kernel_sources", expected="owner/slug without a version", client="ignores")
def _kernel_sources_exact(kernel: Kernel) -> Iterator[Found]:
    for place, source in _numbered("kernel_sources", kernel.kernel_sources):
        if not source or (_pair(source) and source.split("/")[-1] and not _foreign(source, 2)):
            yield Found(source, said(source), _shorter(source), key=place)


@Kernel.rule("competition_sources", expected="the slug of a competition alone", client="ignores")
def _competition_sources_form(kernel: Kernel) -> Iterator[Found]:
    for place, source in _numbered("competition_sources", kernel.competition_sources):
        if not slugs.is_slug(source):
            last = source.rstrip("/").rpartition("/")[2].lower()
            yield Found(source, said(source), f"write {last}" if slugs.is_slug(last) else "", key=place)


@Kernel.rule("competition_sources", expected="the competition that it submits to", client="ignores")
def _competition_sources_some(kernel: Kernel) -> Iterator[Found]:
    if not kernel.competition_sources:
        yield Found([], "names none: the notebook would find no data", "write its slug")


@Kernel.rule("model_sources", expected="five parts, owner/model/framework/variation/version", client="refuses")
def _model_sources_parts(kernel: Kernel) -> Iterator[Found]:
    for place, source in _numbered("model_sources", kernel.model_sources):
        parts = source.split("/")
        if source and (len(parts) != 5 or not all(parts)):
            mend = f"write {source}/1" if len(parts) == 4 and all(parts) else ""
            yield Found(source, said(source), mend, key=place)


@Kernel.rule("model_sources", expected="a whole number as its version", client="refuses")
def _model_sources_version(kernel: Kernel) -> Iterator[Found]:
    for place, source, version in _versions(kernel):
        if not _is_number(version):
            yield Found(source, f"ends in {version}", f"write {source.removesuffix(version)}1", key=place)


@Kernel.rule(
    "model_sources", expected="owner, model, a framework of Kaggle, variation, a version from 1", client="ignores"
)
def _model_sources_exact(kernel: Kernel) -> Iterator[Found]:
    for place, source in _numbered("model_sources", kernel.model_sources):
        if not source:
            yield Found(source, "is empty", key=place)
    for place, source, version in _versions(kernel):
        owner, model, framework, variation, _ = source.split("/")
        if _is_number(version) and not (version.isascii() and version.isdigit() and version[0] != "0"):
            yield Found(source, f"has the version {version}", key=place)
        elif not all(slugs.FOREIGN.fullmatch(part) for part in (owner, model, variation)):
            yield Found(source, said(source), key=place)
        elif machines.framework(framework) is None:
            near = machines.near_framework(framework)
            yield Found(source, f"names the framework {framework}", f"write {near}", key=place)


@Kernel.rule(*LISTS, expected="each source once", client="ignores")
def _sources_twice(kernel: Kernel) -> Iterator[Found]:
    for key in LISTS:
        seen: set[str] = set()
        for place, source in _numbered(key, getattr(kernel, key)):
            if source in seen:
                yield Found(source, f"{said(source)} again", "take it out", key=place)
            seen.add(source)


def _numbered(key: str, sources: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"{key}[{number}]", source) for number, source in enumerate(sources)]


def _versions(kernel: Kernel) -> Iterator[tuple[str, str, str]]:
    """Sources of five parts: place, source and what stands for the version."""
    for place, source in _numbered("model_sources", kernel.model_sources):
        parts = source.split("/")
        if len(parts) == 5 and all(parts):
            yield place, source, parts[4]


def _pair(source: str) -> bool:
    """What the client lets pass: two or three parts, of which the first two are not empty."""
    parts = source.split("/")
    return len(parts) in (2, 3) and bool(parts[0] and parts[1])


def _foreign(source: str, parts: int) -> bool:
    found = source.split("/")
    return len(found) == parts and all(slugs.FOREIGN.fullmatch(part) for part in found)


def _shorter(source: str) -> str:
    parts = source.split("/")
    return f"write {parts[0]}/{parts[1]}" if len(parts) == 3 else "take it out" if not source else ""


def _is_number(text: str) -> bool:
    """As the client asks: whatever Python reads as a whole number."""
    try:
        int(text)
    except ValueError:
        return False
    return True
