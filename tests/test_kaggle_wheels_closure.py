"""What a target takes, and the proof that a folder of wheels is closed under its markers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.tags import Tag
from packaging.tags import sys_tags as tags_of_this_machine

from kaggle_wheels import wheel
from tiebreak.errors import DataError, UsageError
from tiebreak.kaggle.wheels import closure
from tiebreak.kaggle.wheels.closure import Lack, Package
from tiebreak.kaggle.wheels.target import Target

KAGGLE = Target("3.12")


def packages(**wanted: tuple[str, ...]) -> dict[str, Package]:
    return {name.replace("_", "-"): Package(name.replace("_", "-"), "1.0", asks) for name, asks in wanted.items()}


def test_a_target_is_the_running_python_on_kaggles_platform() -> None:
    here = Target()
    assert here.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert str(here) == f"Python {here.python} on manylinux_2_28_x86_64"


@pytest.mark.parametrize("python", ["3", "3.12.1", "2.7", "cp312", "", "3.x"])
def test_a_python_is_a_minor_version(python: str) -> None:
    with pytest.raises(UsageError, match=r"expected a minor version such as 3\.12"):
        Target(python)


@pytest.mark.parametrize("platform", ["linux_x86_64", "manylinux2014_x86_64", "win_amd64", "manylinux_2_28", "any"])
def test_a_platform_is_a_manylinux_tag_with_its_glibc(platform: str) -> None:
    with pytest.raises(UsageError, match="manylinux_2_28_x86_64"):
        Target("3.12", platform)


@given(st.integers(5, 40), st.integers(5, 60))
def test_older_glibc_is_taken_and_newer_is_not(own: int, other: int) -> None:
    tags = Target("3.12", f"manylinux_2_{own}_aarch64").tags
    assert (Tag("cp312", "cp312", f"manylinux_2_{other}_aarch64") in tags) == (other <= own)
    assert Tag("cp312", "cp312", f"manylinux_2_{other}_x86_64") not in tags


@pytest.mark.parametrize(
    ("tag", "fits"),
    [
        ("py3-none-any", True), ("py2-none-any", False), ("cp312-cp312-manylinux2014_x86_64", True),
        ("cp312-cp312-manylinux1_x86_64", True), ("cp310-abi3-manylinux_2_17_x86_64", True),
        ("cp313-abi3-manylinux_2_17_x86_64", False), ("cp311-cp311-manylinux_2_17_x86_64", False),
        ("cp312-cp312-linux_x86_64", False), ("cp312-cp312-musllinux_1_2_x86_64", False),
        ("cp312-cp312t-manylinux_2_17_x86_64", False), ("cp312-none-any", True), ("py312-none-any", True),
        ("cp312-cp312-macosx_11_0_arm64", False), ("cp312-cp312-manylinux_2_34_x86_64", False),
    ],
)  # fmt: skip
def test_which_tags_a_target_takes(tag: str, fits: bool) -> None:
    interpreter, abi, platform = tag.split("-")
    assert (Tag(interpreter, abi, platform) in KAGGLE.tags) == fits


@pytest.mark.skipif(sys.platform != "linux", reason="asks what this Linux takes")
def test_the_target_of_this_machine_takes_what_packaging_says_of_it() -> None:
    here = [tag for tag in tags_of_this_machine() if tag.platform.startswith("manylinux_2_")]
    own = Target(platform=here[0].platform).tags
    assert {tag for tag in here if tag.interpreter.startswith(("cp3", "py3"))} <= own


def test_markers_are_those_of_the_target_and_not_of_this_machine() -> None:
    there = packages(
        a=(
            'older; python_version < "3.12"',
            'newer; python_version >= "3.12"',
            'windows; sys_platform == "win32"',
            'linux; platform_system == "Linux" and platform_machine == "x86_64"',
        ),
        older=(), newer=(), windows=(), linux=(),
    )  # fmt: skip
    assert closure.reach(["a"], there, Target("3.12")).names == {"a", "newer", "linux"}
    assert closure.reach(["a"], there, Target("3.11")).names == {"a", "older", "linux"}
    assert closure.reach(["a"], there, Target("3.11", "manylinux_2_28_aarch64")).names == {"a", "older"}


def test_what_some_patch_of_the_python_needs_is_needed() -> None:
    there = packages(
        a=('early; python_full_version < "3.12.3"', 'late; python_full_version >= "3.12.3"'), early=(), late=()
    )
    assert closure.reach(["a"], there, KAGGLE).names == {"a", "early", "late"}
    assert closure.reach(["a"], there, Target("3.13")).names == {"a", "late"}


def test_an_extra_is_followed_where_it_is_asked_for() -> None:
    there = packages(a=("b[fast]",), b=("quick; extra == 'fast'", "slow; extra == 'careful'"), quick=(), slow=())
    assert closure.reach(["a"], there, KAGGLE).names == {"a", "b", "quick"}
    assert closure.reach(["b"], there, KAGGLE).names == {"b"}


def test_requirements_that_run_in_a_circle_end() -> None:
    there = packages(a=("b",), b=("c[x]",), c=("a", "b[y]; extra == 'x'"), d=())
    reached = closure.reach(["a"], there, KAGGLE)
    assert reached.names == {"a", "b", "c"}
    assert reached.lacking == []


def test_all_that_lacks_is_told_with_who_asks() -> None:
    there = packages(a=("b>=2", "c", 'd; python_version > "3"'), b=(), c=("missing[x]>=1,<2",))
    assert closure.reach(["a", "z==1"], there, KAGGLE).lacking == [
        Lack("", "z==1", None), Lack("a 1.0", "b>=2", "1.0"), Lack("a 1.0", "d", None),
        Lack("c 1.0", "missing[x]<2,>=1", None),
    ]  # fmt: skip


def test_what_the_image_brings_is_met_and_not_followed() -> None:
    there = packages(peft=("torch>=2", "numpy"), numpy=())
    reached = closure.reach(["peft", "torch==2.13"], there, KAGGLE, {"torch"})
    assert (reached.names, reached.lacking) == ({"peft", "numpy"}, [])


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.lists(st.sampled_from("abcdefgh"), max_size=4)))
def test_a_closure_is_the_least_closed_set(edges: dict[str, list[str]]) -> None:
    there = {name: Package(name, "1", tuple(edges.get(name, ()))) for name in "abcdefgh"}
    reached = closure.reach(["a"], there, KAGGLE).names
    expected, grown = set(), {"a"}
    while grown != expected:
        expected, grown = grown, grown | {to for name in grown for to in edges.get(name, ())}
    assert reached == expected


def test_a_closed_house_is_proved(tmp_path: Path) -> None:
    asks = wheel(tmp_path, "Some.Name", "1.0", ["b<2"])
    asked = wheel(tmp_path, "b", "1.05", tag="cp312-abi3-manylinux2014_x86_64")  # is 1.5, and many name it so
    closure.prove([asks, asked], ["some-name"], KAGGLE)


def test_every_fault_of_a_house_is_told_at_once(tmp_path: Path) -> None:
    wheels = [
        wheel(tmp_path, "a", "1.0", ["b>=2", "lost"]),
        wheel(tmp_path, "b", "1.0"),
        wheel(tmp_path, "idle", "3.0"),
        wheel(tmp_path, "b", "1.1"),
        wheel(tmp_path, "a-windows", "1", tag="cp312-cp312-win_amd64"),
        wheel(tmp_path, "later", "1", python=">=3.13"),
    ]
    with pytest.raises(DataError) as caught:
        closure.prove(wheels, ["a", "a-windows", "later"], KAGGLE)
    lines = str(caught.value).splitlines()
    assert lines[0] == "the wheels are not what Python 3.12 on manylinux_2_28_x86_64 needs:"
    assert lines[1:-1] == [
        "  b is there twice: 1.0 and 1.1",
        "  a_windows-1-cp312-cp312-win_amd64.whl: not for Python 3.12 on manylinux_2_28_x86_64",
        "  later-1-py3-none-any.whl: asks for Python >=3.13",
        "  a 1.0 needs b>=2: b has version 1.1",
        "  a 1.0 needs lost: lost is not there",
        "  idle: nothing asks for it",
    ]


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a-1.0-py3-none-any.whl").write_text("not a zip")
    (tmp_path / "strange.whl").write_bytes(wheel(tmp_path, "b").read_bytes())
    (tmp_path / "c-2.0-py3-none-any.whl").write_bytes(wheel(tmp_path, "b").read_bytes())
    for name in ("a-1.0-py3-none-any.whl", "strange.whl", "absent-1.0-py3-none-any.whl"):
        with pytest.raises(DataError, match="is not a wheel"):
            closure.read(tmp_path / name)
    with pytest.raises(DataError, match=r"its METADATA is that of b 1\.0; expected c 2\.0"):
        closure.read(tmp_path / "c-2.0-py3-none-any.whl")
