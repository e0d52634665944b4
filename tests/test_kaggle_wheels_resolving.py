"""pip against a folder of tiny wheels: what it resolves for another machine, and what is kept of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from kaggle_wheels import only, source, wheel
from tiebreak.errors import DataError
from tiebreak.kaggle.wheels import asking, downloading, locked, resolving
from tiebreak.kaggle.wheels.asking import PipError
from tiebreak.kaggle.wheels.resolving import Chosen, Resolution
from tiebreak.kaggle.wheels.target import Target
from tiebreak.listening import Listener
from tiebreak.storage import sha256

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
LATER = Target("3.14")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "index"
    only(folder, monkeypatch, tmp_path / "cache")
    return folder


def names(found: Resolution) -> list[str]:
    return [one.name for one in found.wheels]


@pytest.fixture(params=["as it is", pytest.param("another pip", marks=pytest.mark.slow)])
def any_pip(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """pip with the target's markers, and one whose inside is arranged otherwise, so that it keeps this machine's."""
    if request.param == "another pip":
        monkeypatch.setattr(asking, "_FOR_TARGET", asking._FOR_TARGET.replace("pip._vendor", "nobody"))
    return str(request.param)


@pytest.mark.usefixtures("any_pip")
def test_markers_are_those_of_the_target(index: Path) -> None:
    """The known trap: left to itself pip leaves `deep` and `later` out, and brings `earlier`."""
    wheel(index, "a", "1.0", ['later; python_version >= "3.14"', 'earlier; python_version < "3.14"'])
    wheel(index, "later", "1.0", ['deep>=2; python_version >= "3.14"'])
    for version in ("1.0", "2.0"):
        wheel(index, "deep", version)
    wheel(index, "earlier")
    found = resolving.resolve(["a"], LATER)
    assert [(one.name, one.version) for one in found.wheels] == [("a", "1.0"), ("deep", "2.0"), ("later", "1.0")]
    assert found.torch is None
    assert names(resolving.resolve(["a"], Target(HERE))) == ["a", "earlier"]


def test_of_many_versions_the_last_are_told(index: Path) -> None:
    for minor in range(9):
        wheel(index, "a", f"1.{minor}")
    with pytest.raises(PipError, match=r"a==2 \(from versions: \.\.\., 1\.4, 1\.5, 1\.6, 1\.7, 1\.8\)\n"):
        resolving.resolve(["a==2"], LATER)


def test_bounds_of_other_pythons_do_not_bind(index: Path, any_pip: str) -> None:
    wheel(index, "a", "1.0", ['c<2; python_version < "3.14"', 'c>=2; python_version >= "3.14"'])
    wheel(index, "b", "1.0", ["c<2"])
    wheel(index, "c", "1.0")
    wheel(index, "c", "2.0")
    if any_pip == "as it is":
        assert [one.version for one in resolving.resolve(["a"], LATER).wheels] == ["1.0", "2.0"]
        assert [one.version for one in resolving.resolve(["a"], Target(HERE)).wheels] == ["1.0", "1.0"]
    else:
        with pytest.raises(PipError, match="conflicting dependencies"):
            resolving.resolve(["a"], LATER)
    with pytest.raises(PipError, match=r"(?s)conflicting dependencies.*c>=2|a 1.0 depends on c>=2"):
        resolving.resolve(["a", "b"], LATER)


def test_a_wheel_is_the_one_of_the_target(index: Path) -> None:
    tags = [
        "cp314-cp314-manylinux_2_28_x86_64", "cp314-cp314-manylinux_2_39_x86_64", "cp314-cp314-win_amd64",
        "cp313-cp313-manylinux2014_x86_64", "cp314-cp314-manylinux_2_28_aarch64",
    ]  # fmt: skip
    files = {tag: wheel(index, "a", tag=tag) for tag in tags}
    assert resolving.resolve(["a"], LATER).wheels == (
        Chosen(name="a", version="1.0", file=files[tags[0]].name, sha256=sha256(files[tags[0]])),
    )
    arm = resolving.resolve(["a"], Target("3.14", "manylinux_2_28_aarch64"))
    assert arm.wheels[0].file == files[tags[4]].name


def test_what_comes_as_source_or_for_others_alone_is_refused(index: Path) -> None:
    source(index, "a")
    wheel(index, "b", tag="cp314-cp314-win_amd64")
    for name in ("a", "b"):
        with pytest.raises(PipError) as caught:
            resolving.resolve([f"{name}==1.0"], LATER)
        assert not caught.value.unreachable
        assert str(caught.value).splitlines()[:3] == [
            "the wheels for Python 3.14 on manylinux_2_28_x86_64 cannot be resolved",
            f"  pip: Could not find a version that satisfies the requirement {name}==1.0 (from versions: none)",
            f"  pip: No matching distribution found for {name}==1.0",
        ]


def test_circles_extras_and_names_in_any_spelling(index: Path) -> None:
    wheel(index, "Round_A", "1.0", ["round.b[more]"])
    wheel(index, "round-b", "1.0", ["ROUND-A", "more; extra == 'more'", "less; extra == 'less'"])
    wheel(index, "more")
    assert names(resolving.resolve(["round.a==1.0"], LATER)) == ["more", "round-a", "round-b"]


def test_what_others_bring_along_has_the_version_that_is_installed(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    wheel(index, "a", "1.0", ["beside"])
    for version in ("1.0", "2.0", "3.0"):
        wheel(index, "beside", version)
    for installed, expected in (("2.0", "2.0"), ("9.0", "3.0")):
        monkeypatch.setattr(resolving, "installed", lambda asked, version=installed: {"beside": version})
        found = resolving.resolve(["a"], LATER, listener=Listener(say=said.append))
        assert found.wheels[1].version == expected
    assert said == ["packages that others bring along differ from the ones installed here: no wheels of those fit"]


def test_versions_of_this_environment_are_bare_and_none_of_what_is_asked_for() -> None:
    found = resolving.installed(["NumPy==2", "polars"])
    assert "pydantic-core" in found
    assert not {"numpy", "polars", "torch", "tiebreak"} & found.keys()
    assert not any("+" in version for version in found.values())


def torch(index: Path, *, cuda: bool, cpu: bool) -> None:
    wheel(index, "net", "1.0", ["torch>=2", "shared"])
    wheel(index, "shared")
    wheel(index, "sympy")
    if cuda:
        cards = ["sympy", "shared", 'nvidia-cublas-cu12; platform_system == "Linux"', "triton"]
        wheel(index, "torch", "2.13.0", cards, tag="cp314-cp314-manylinux_2_28_x86_64")
    if cpu:
        wheel(index, "torch", "2.13.0+cpu", ["sympy", "shared"], tag="cp314-cp314-manylinux_2_28_x86_64")
    wheel(index, "nvidia-cublas-cu12", tag="py3-none-manylinux_2_27_x86_64")
    wheel(index, "triton", tag="cp314-cp314-manylinux_2_27_x86_64")


ASKED = ["net", "torch==2.13.0"]


def test_torch_comes_without_cuda_and_what_it_alone_needs_is_left_to_an_image_that_has_it(index: Path) -> None:
    torch(index, cuda=True, cpu=True)
    found = resolving.resolve(ASKED, LATER)
    assert {one.name: one.image for one in found.wheels} == {
        "net": False, "shared": False, "sympy": True, "torch": True,
    }  # fmt: skip
    assert (found.torch, found.wheels[3].version, found.provided) == ("cpu", "2.13.0+cpu", frozenset())


def test_an_index_with_cuda_alone_leaves_torch_to_the_image(index: Path) -> None:
    torch(index, cuda=True, cpu=False)
    found = resolving.resolve(ASKED, LATER)
    assert (names(found), found.torch, found.provided) == (["net", "shared"], "image only", {"torch"})
    whole = resolving.resolve(ASKED, LATER, torch="cuda")
    assert (len(whole.wheels), whole.torch) == (6, "cuda")


def test_what_runs_with_one_torch_alone_is_not_left_to_an_image(index: Path) -> None:
    torch(index, cuda=True, cpu=False)
    wheel(index, "bound", "1.0", ["torch==2.13.0"])
    with pytest.raises(DataError, match=r"bound 1\.0 needs torch==2\.13\.0, which the index has only with CUDA"):
        resolving.resolve(["bound", *ASKED], LATER)
    assert resolving.resolve(["bound", *ASKED], LATER, torch="cuda").torch == "cuda"


def test_a_build_without_cuda_that_bears_no_mark_of_it_is_taken(index: Path) -> None:
    torch(index, cuda=False, cpu=False)
    wheel(index, "torch", "2.13.0", ["sympy"], tag="cp314-cp314-manylinux_2_28_x86_64")
    assert resolving.resolve(ASKED, LATER).torch == "cpu"


def test_a_kept_resolution_needs_no_index_where_all_is_pinned(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(index, "a", "1.0", ["b"])
    wheel(index, "b", "1.0")
    first = locked.resolution(["a==1.0"], LATER)
    wheel(index, "b", "2.0")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert locked.resolution(["a==1.0"], LATER) == first
    monkeypatch.setattr(resolving, "installed", lambda asked: {"b": "2.0"})  # now another b would be shipped
    with pytest.raises(PipError):
        locked.resolution(["a==1.0"], LATER)
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    assert [one.version for one in locked.resolution(["a==1.0"], LATER).wheels] == ["1.0", "2.0"]


def test_without_a_network_the_last_resolution_serves_and_it_is_said(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    wheel(index, "a", "1.0")
    first = locked.resolution(["a"], LATER)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    assert locked.resolution(["a"], LATER, listener=Listener(say=said.append)) == first
    assert said == ["the package index cannot be reached: the same wheels as the last time"]
    with pytest.raises(PipError, match="cannot be reached") as caught:
        locked.resolution(["b"], LATER)
    assert caught.value.unreachable
    assert "secret" not in str(caught.value)


def test_a_resolution_that_had_to_leave_torch_out_is_tried_again(index: Path) -> None:
    torch(index, cuda=True, cpu=False)
    wheels = ["net==1.0", "torch==2.13.0"]
    assert locked.resolution(wheels, LATER).torch == "image only"
    torch(index, cuda=True, cpu=True)
    assert locked.resolution(wheels, LATER).torch == "cpu"


def test_a_kept_resolution_that_is_damaged_is_made_anew(index: Path, tmp_path: Path) -> None:
    wheel(index, "a", "1.0")
    first = locked.resolution(["a==1.0"], LATER)
    (kept,) = (tmp_path / "cache" / "resolutions").iterdir()
    kept.write_text(json.dumps({"wheels": "none"}))
    assert locked.resolution(["a==1.0"], LATER) == first
    assert Resolution.model_validate_json(kept.read_bytes()) == first


def test_wheels_come_once_and_then_from_the_cache(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(index, "a", "1.0", ["b"])
    wheel(index, "b", "1.0", tag="cp314-abi3-manylinux2014_x86_64")
    found = resolving.resolve(["a"], LATER)
    for name in ("once", "twice", "mended"):
        (tmp_path / name).mkdir()
    once = downloading.fetch(found.wheels, LATER, tmp_path / "once")
    assert [sha256(path) for path in once] == [one.sha256 for one in found.wheels]
    monkeypatch.setattr(downloading, "pip", None)
    twice = downloading.fetch(found.wheels, LATER, tmp_path / "twice")
    assert [path.read_bytes() for path in twice] == [path.read_bytes() for path in once]
    monkeypatch.setattr(downloading, "pip", asking.pip)
    kept = tmp_path / "cache" / "wheels" / found.wheels[1].sha256 / found.wheels[1].file
    kept.unlink()
    kept.write_bytes(b"damaged")
    (mended,) = downloading.fetch(found.wheels[1:], LATER, tmp_path / "mended")
    assert sha256(mended) == found.wheels[1].sha256


def test_a_wheel_that_was_exchanged_on_the_index_is_refused(index: Path, tmp_path: Path) -> None:
    wheel(index, "a", "1.0")
    found = resolving.resolve(["a"], LATER)
    wheel(index, "a", "1.0", content="import os\n")
    (tmp_path / "house").mkdir()
    with pytest.raises(PipError, match=f"Expected sha256 {found.wheels[0].sha256}"):
        downloading.fetch(found.wheels, LATER, tmp_path / "house")
    assert list((tmp_path / "house").iterdir()) == []
    assert list((tmp_path / "cache" / "wheels").iterdir()) == []
