"""Which wheels are installed, which are left to the image, and what happens when they do not fit together."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from kaggle_packed import HERE, house, pretender, wheel
from tiebreak.kaggle.kernel import guard, installing, offline
from tiebreak.kaggle.kernel.choosing import Wheelhouse
from tiebreak.kaggle.kernel.packages import packages_of_image
from tiebreak.kaggle.kernel.reporting import NotebookError, Report

OTHER = "cp399-cp399-manylinux_2_17_x86_64"
THIS = f"cp{HERE.replace('.', '')}-cp{HERE.replace('.', '')}-linux_x86_64"


def image(**packages: str | tuple[str, list[str]]) -> dict[str, Any]:
    found = {}
    for name, said in packages.items():
        version, requires = said if isinstance(said, tuple) else (said, [])
        found[name.replace("_", "-")] = SimpleNamespace(version=version, requires=requires)
    return found


def wheelhouse(folder: Path, wheels: list[dict[str, Any]], there: dict[str, Any], **said: Any) -> Wheelhouse:
    document = {"python": "3.99", "wheels": wheels, "torch": None, "image_at_least": {}} | said
    return Wheelhouse(folder, document, there)


def chosen(house: Wheelhouse) -> list[str]:
    return [wheel["name"] for wheel in house.choose()]


def test_where_all_fits_all_is_installed(tmp_path: Path) -> None:
    wheels = [wheel(tmp_path, "tiebreak", "1", requires=("numpy==2",)), wheel(tmp_path, "numpy", "2", tag=THIS)]
    found = wheelhouse(tmp_path, wheels, image(numpy="1.26"))
    assert chosen(found) == ["numpy", "tiebreak"]
    assert found.left == {}


def test_wheels_for_another_python_are_left_to_the_image(tmp_path: Path) -> None:
    wheels = [
        wheel(tmp_path, "tiebreak", "1", requires=("numpy>=1.26", "rich")), wheel(tmp_path, "numpy", "2", tag=OTHER),
        wheel(tmp_path, "rich", "15"), wheel(tmp_path, "polars-runtime", "2", tag="cp39-abi3-manylinux_2_17_x86_64"),
    ]  # fmt: skip
    found = wheelhouse(tmp_path, wheels, image(numpy="2.1.3", rich="13"))
    assert chosen(found) == ["polars-runtime", "rich", "tiebreak"]
    assert found.left == {"numpy": "it is not for this Python"}


def test_pins_are_followed_until_all_fits(tmp_path: Path) -> None:
    wheels = [
        wheel(tmp_path, "tiebreak", "1", requires=("pydantic>=2.10",)),
        wheel(tmp_path, "pydantic", "2.14", requires=("pydantic_core==2.50", "typing-extensions>=4")),
        wheel(tmp_path, "pydantic-core", "2.50", tag=OTHER), wheel(tmp_path, "typing-extensions", "4.16"),
    ]  # fmt: skip
    there = image(pydantic=("2.11", ["pydantic-core==2.33"]), pydantic_core="2.33")
    found = wheelhouse(tmp_path, wheels, there)
    assert chosen(found) == ["tiebreak", "typing-extensions"]
    assert found.left["pydantic"] == "pydantic needs pydantic_core==2.50; pydantic-core is the image's own, 2.33"


def test_what_the_image_s_own_package_needs_counts_too(tmp_path: Path) -> None:
    wheels = [
        wheel(tmp_path, "tiebreak", "1", requires=("core", "shared")), wheel(tmp_path, "core", "2", tag=OTHER),
        wheel(tmp_path, "shared", "9"),
    ]  # fmt: skip
    found = wheelhouse(tmp_path, wheels, image(core=("1", ["shared<9", 'shared<1; extra == "odd"']), shared="8"))
    assert chosen(found) == ["tiebreak"]
    assert found.left["shared"] == "core needs shared<9; core is the image's own, 1"


NAMES = ("a", "b", "c", "d")
BOUNDS = st.sampled_from(["", ">=2", "<2", "==1", "==2", ">=1,<3"])
NEEDS = st.lists(st.tuples(st.sampled_from(NAMES), BOUNDS).map("".join), max_size=3)


@settings(deadline=None, max_examples=40)
@given(
    wheels=st.fixed_dictionaries({name: st.tuples(st.booleans(), NEEDS) for name in NAMES}),
    there=st.dictionaries(st.sampled_from(NAMES), st.tuples(st.sampled_from("123"), NEEDS)),
)
def test_what_is_chosen_goes_together_with_what_is_left(
    tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, tuple[bool, list[str]]], there: dict[str, Any]
) -> None:
    """Between the two sides every requirement is met; within a side whoever made it answers for it."""
    folder = tmp_path_factory.mktemp("wheels")
    made = [
        wheel(folder, name, "2", requires=tuple(needs), tag="py3-none-any" if fits else OTHER)
        for name, (fits, needs) in wheels.items()
    ]
    found = wheelhouse(folder, made, image(**there))
    try:
        installed = set(chosen(found))
    except NotebookError:
        assert set(found.left) - there.keys()
        return
    assert installed == {name for name in NAMES if name not in found.left}
    assert all(wheels[name][0] for name in installed)
    for name in NAMES:
        for need in wheels[name][1] if name in installed else there[name][1]:
            requirement = Requirement(need)
            if (requirement.name in installed) != (name in installed):
                version = "2" if requirement.name in installed else there[requirement.name][0]
                assert version in requirement.specifier


@pytest.mark.parametrize("there", [image(), image(numpy="1.20")])
def test_what_lacks_is_named_with_what_mends_it(tmp_path: Path, there: dict[str, Any]) -> None:
    wheels = [
        wheel(tmp_path, "tiebreak", "1", requires=("numpy>=1.26",)), wheel(tmp_path, "numpy", "2", tag=OTHER),
    ]  # fmt: skip
    lacking = (
        "tiebreak (tiebreak needs numpy>=1.26; numpy is the image's own, 1.20)" if there
        else "numpy (it is not for this Python)"
    )  # fmt: skip
    with pytest.raises(NotebookError) as raised:
        wheelhouse(tmp_path, wheels, there).choose()
    assert str(raised.value) == (
        f"the wheels are for Python 3.99, this is Python {HERE}, and the image lacks {lacking}; expected an image with "
        f"Python 3.99, or with these packages; to mend: tiebreak kaggle pack --python {HERE}, and push again"
    )


def test_tiebreak_pins_what_was_tested_and_runs_with_more(tmp_path: Path) -> None:
    wheels = [
        wheel(tmp_path, "tiebreak", "1", requires=("numpy==2",)),
        wheel(tmp_path, "numpy", "2", tag=OTHER) | {"accepts": ">=1.26"},
    ]  # fmt: skip
    assert chosen(wheelhouse(tmp_path, wheels, image(numpy="1.26.4"))) == ["tiebreak"]
    with pytest.raises(NotebookError, match=r"numpy is the image's own, 1\.25"):
        wheelhouse(tmp_path, wheels, image(numpy="1.25")).choose()


def network(folder: Path) -> list[dict[str, Any]]:
    return [
        wheel(folder, "tiebreak", "1", requires=("torch==2.13.0", "peft")),
        wheel(folder, "peft", "1", requires=("torch>=1.13.0", 'torch<2; extra == "odd"')),
        wheel(folder, "torch", "2.13.0+cpu", requires=("sympy",)) | {"image": True},
        wheel(folder, "sympy", "1.14") | {"image": True},
    ]


@pytest.mark.parametrize(
    ("there", "left"),
    [
        (image(torch="2.8.0+cu126", sympy="1.13"), {"torch", "sympy"}),
        (image(torch="2.8.0+cu126"), {"torch"}),
        (image(torch="2.5.1"), set()),
        (image(), set()),
    ],
)
def test_torch_is_the_image_s_own_where_it_is_new_enough(tmp_path: Path, there: Any, left: set[str]) -> None:
    found = wheelhouse(tmp_path, network(tmp_path), there, torch="cpu", image_at_least={"torch": "2.6"})
    found.choose()
    assert set(found.left) == left


@pytest.mark.parametrize(("own", "said"), [("2.8", None), ("2.5", "2.5"), (None, "none")])
def test_a_torch_that_was_not_packed_must_be_there(tmp_path: Path, own: str | None, said: str | None) -> None:
    there = image(**({"torch": own} if own else {}))
    found = wheelhouse(tmp_path, network(tmp_path)[:2], there, torch="image only", image_at_least={"torch": "2.6"})
    if said is None:
        assert chosen(found) == ["peft", "tiebreak"]
        return
    with pytest.raises(NotebookError, match=rf"the image lacks torch>=2.6 \(its own: {said}\)"):
        found.choose()


def test_a_judge_without_a_network_asks_nothing_of_torch(tmp_path: Path) -> None:
    found = wheelhouse(tmp_path, [wheel(tmp_path, "tiebreak", "1")], image(torch="1.0"))
    assert chosen(found) == ["tiebreak"]


def test_the_minimum_of_a_wheel_for_its_python_counts(tmp_path: Path) -> None:
    found = wheelhouse(tmp_path, [wheel(tmp_path, "new", "1", python=">=3.99")], image(new="0.9"))
    assert chosen(found) == []


def test_the_packages_of_the_image_are_seen() -> None:
    assert packages_of_image()["pydantic-core"].version == __import__("pydantic_core").__version__


def test_missing_and_altered_wheels_are_all_named(tmp_path: Path) -> None:
    wheels = [wheel(tmp_path, name, "1") for name in ("one", "two", "three")]
    (tmp_path / wheels[0]["file"]).unlink()
    (tmp_path / wheels[2]["file"]).write_bytes(b"other")
    with pytest.raises(NotebookError) as raised:
        installing.check_wheels(tmp_path, {"wheels": wheels})
    assert str(raised.value) == (
        f"{tmp_path}: one-1-py3-none-any.whl is missing; three-1-py3-none-any.whl was altered; expected the 3 wheels "
        "of wheelhouse.json, byte for byte; to mend: tiebreak kaggle push once more, and attach that version of the "
        "dataset"
    )


def test_wheels_are_installed_beside_the_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheels = tmp_path / "with a space" / "wheels"
    house(wheels.parent / "wheels", [pretender(wheels), wheel(wheels, "numpy", "99.1")])
    report = Report(tmp_path / "tiebreak.json", 1)
    environment = offline.guarded_environment(tmp_path, Path(str(guard.__file__)).read_text(), tmp_path / "packages")
    seen = installing.install(wheels, tmp_path / "packages", environment, report)
    assert seen["tiebreak"] == "0.1.0"
    assert seen["numpy"] == "99.1"
    assert (seen["network"], seen["gpus"]) == (False, [])
    assert (tmp_path / "packages" / "tiebreak" / "__main__.py").is_file()
    assert "installed 2 wheels" in capsys.readouterr().out
    assert report.facts["left_to_image"] == {}
    assert offline.refused_connections(environment) == []


def test_what_pip_says_is_passed_on(tmp_path: Path) -> None:
    made = wheel(tmp_path, "one", "1")
    environment = offline.guarded_environment(tmp_path, "", tmp_path / "packages")
    with pytest.raises(NotebookError, match=r"pip could not install 1 wheels \(exit code 1\):\n(.|\n)*HASH"):
        installing.run_pip(tmp_path, tmp_path / "packages", [made | {"sha256": "0" * 64}], environment)


def test_what_cannot_be_imported_is_said(tmp_path: Path) -> None:
    (tmp_path / "tiebreak").mkdir()
    (tmp_path / "tiebreak" / "__init__.py").write_text("raise ImportError('half of it is missing')")
    with pytest.raises(NotebookError, match=r"cannot be imported:\n(.|\n)*half of it is missing"):
        installing.look({**os.environ, "PYTHONPATH": str(tmp_path)}, torch=False)
