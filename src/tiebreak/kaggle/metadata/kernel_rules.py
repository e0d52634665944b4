"""What Kaggle and its client ask of the keys of `kernel-metadata.json`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tiebreak.kaggle.metadata import machines, slugs
from tiebreak.kaggle.metadata.kernel import Kernel
from tiebreak.kaggle.metadata.problem import Found, characters, said

MIN_TITLE: Final = 5
MAX_TITLE: Final = 50
MIN_SLUG: Final = 5


@Kernel.rule("id", expected="owner/slug without a version", client="refuses")
def _kernel_id_form(kernel: Kernel) -> Iterator[Found]:
    parts = kernel.id.split("/")
    if not kernel.id:
        yield Found(kernel.id, "is empty")
    elif len(parts) == 3 and all(parts):
        yield Found(kernel.id, f"{said(kernel.id)}, with a version", f"write {parts[0]}/{parts[1]}")
    elif len(parts) > 2 or not all(parts):
        yield Found(kernel.id, said(kernel.id))


@Kernel.rule("id", expected="the owner in front: owner/slug", client="ignores")
def _kernel_id_owner(kernel: Kernel) -> Iterator[Found]:
    owner, slug = slugs.halves(kernel.id)
    if kernel.id and "/" not in kernel.id:
        yield Found(kernel.id, said(kernel.id), f"write USER/{kernel.id}")
    elif owner and slug and not slugs.is_user(owner):
        yield Found(kernel.id, f"names the owner {owner}", "write the name of the user as its address has it")


@Kernel.rule("id", expected=f"a slug of {MIN_SLUG} characters or more", client="refuses")
def _kernel_slug_length(kernel: Kernel) -> Iterator[Found]:
    _, slug = slugs.halves(kernel.id)
    if 0 < len(slug) < MIN_SLUG:
        yield Found(kernel.id, f"has a slug of {characters(slug)}", "choose a longer title and slug")


@Kernel.rule("title", expected=f"{MIN_TITLE} characters or more", client="refuses")
def _kernel_title_short(kernel: Kernel) -> Iterator[Found]:
    if 0 < len(kernel.title) < MIN_TITLE:
        yield Found(kernel.title, f"has {characters(kernel.title)}", "choose a longer title")


@Kernel.rule("title", expected=f"1 to {MAX_TITLE} characters (the server fails on more)", client="ignores")
def _kernel_title_long(kernel: Kernel) -> Iterator[Found]:
    if not kernel.title:
        yield Found(kernel.title, "is empty", "write one: the slug is made from it")
    elif len(kernel.title) > MAX_TITLE:
        yield Found(kernel.title, f"has {characters(kernel.title)}", "choose a shorter title")


@Kernel.rule("title", expected="plain ASCII, so that its slug is certain", client="ignores")
def _kernel_title_plain(kernel: Kernel) -> Iterator[Found]:
    if not slugs.is_plain(kernel.title):
        odd = next((c for c in kernel.title if not c.isascii() or not c.isprintable()), "&")
        yield Found(kernel.title, f"holds {odd!a}", "write it in ASCII")


@Kernel.rule("title", expected="a title of your own, not the placeholder", client="ignores")
def _kernel_title_placeholder(kernel: Kernel) -> Iterator[Found]:
    if kernel.title == "INSERT_TITLE_HERE":
        yield Found(kernel.title, "is the placeholder of `kaggle kernels init`", "write a title")


@Kernel.rule("id", "title", expected="the slug that the title becomes", client="ignores")
def _kernel_slug_of_title(kernel: Kernel) -> Iterator[Found]:
    owner, slug = slugs.halves(kernel.id)
    wanted = slugs.slugify(kernel.title)
    certain = len(kernel.title) >= MIN_TITLE and slugs.is_plain(kernel.title)
    if slug and "/" not in slug and certain and slug != wanted:
        mend = f"write {owner}/{wanted}" if len(wanted) >= MIN_SLUG else "choose another title"
        yield Found(kernel.id, f"has the slug {slug}, and the title becomes {wanted or 'nothing'}", mend)


@Kernel.rule("kernel_type", "language", expected="a language that notebooks have", client="changes")
def _kernel_language_of_notebook(kernel: Kernel) -> Iterator[Found]:
    if kernel.kernel_type == "notebook" and kernel.language == "rmarkdown":
        yield Found("rmarkdown", "is rmarkdown for a notebook, which becomes r", "write r, or python", key="language")


@Kernel.rule("enable_internet", expected="false: a code competition takes no other notebook", client="ignores")
def _kernel_internet(kernel: Kernel) -> Iterator[Found]:
    if kernel.enable_internet:
        yield Found(True, "is true", 'write "enable_internet": false')


@Kernel.rule("enable_gpu", "enable_tpu", expected="one of the two at most", client="ignores")
def _kernel_gpu_or_tpu(kernel: Kernel) -> Iterator[Found]:
    if kernel.enable_gpu and kernel.enable_tpu:
        yield Found(True, "is true, and so is enable_tpu", "write false for one of them")


@Kernel.rule("machine_shape", expected="an accelerator that Kaggle still has", client="ignores")
def _kernel_machine_retired(kernel: Kernel) -> Iterator[Found]:
    shape = kernel.machine_shape or ""
    if shape in machines.RETIRED:
        instead = machines.RETIRED[shape]
        yield Found(shape, f"{said(shape)}, which is retired: the server takes {instead}", f"write {instead}")


@Kernel.rule("machine_shape", expected=f"one of {', '.join(machines.SHAPES)}", client="ignores")
def _kernel_machine_known(kernel: Kernel) -> Iterator[Found]:
    shape = kernel.machine_shape or ""
    if shape in machines.INTERNAL:
        wrong = f"{said(shape)}, a pool of Kaggle's own staff"
        yield Found(shape, wrong, f"write {machines.T4X2}, which is two T4")
    elif shape and shape not in machines.SHAPES and shape not in machines.RETIRED:
        near = machines.near_shape(shape)
        yield Found(shape, said(shape), f"write {near}" if near else "")


@Kernel.rule("machine_shape", "enable_gpu", "enable_tpu", expected="the switch of that accelerator", client="ignores")
def _kernel_machine_switch(kernel: Kernel) -> Iterator[Found]:
    shape = kernel.machine_shape
    for key, on, shapes in (
        ("enable_gpu", kernel.enable_gpu, machines.GPUS),
        ("enable_tpu", kernel.enable_tpu, machines.TPUS),
    ):
        if shape in shapes and not on:
            yield Found(shape, f"{said(shape)} while {key} is false", f'write "{key}": true')


@Kernel.rule("code_file", expected="a file beside kernel-metadata.json", client="ignores")
def _kernel_code_beside(kernel: Kernel) -> Iterator[Found]:
    if "/" in kernel.code_file or "\\" in kernel.code_file:
        yield Found(kernel.code_file, said(kernel.code_file), "put the notebook beside it and write its name alone")


@Kernel.rule("code_file", "kernel_type", expected="NAME.ipynb for a notebook", client="ignores")
def _kernel_code_suffix(kernel: Kernel) -> Iterator[Found]:
    if kernel.kernel_type == "notebook" and kernel.code_file and not kernel.code_file.endswith(".ipynb"):
        yield Found(kernel.code_file, said(kernel.code_file), "give the notebook the suffix .ipynb")
