"""Whatever stands in a metadata file, nothing falls over, and the official client refuses it where we say so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaggle_official import Official
from kaggle_right import DATASET, JUDGE, KERNEL, MODEL, RIGHT, write_pack
from tiebreak.kaggle import metadata
from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.metadata import Dataset, Instance, Kernel, Model

pytest.importorskip("kaggle", reason="the client comes with the extra kaggle")

WRONG_VALUES: tuple[Any, ...] = (None, 7, 0, 1.5, "x", "", [], {}, [3], [None], True, False, {"name": 3}, [{}], ["x"])


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Official:
    home = tmp_path / "home"
    home.mkdir()
    return Official(monkeypatch, home)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "pack"
    write_pack(root)
    return root


@pytest.mark.parametrize("name", RIGHT)
def test_with_any_value_of_any_type_under_any_key_the_client_refuses_where_we_say_so_and_nowhere_else(
    name: str, root: Path, official: Official, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {"kernel-metadata.json": Kernel, "dataset-metadata.json": Dataset, "model-metadata.json": Model}
    kind = kinds.get(Path(name).name, Instance)
    folder = (root / name).parent
    numbered = {**RIGHT[name], "id_no": 5} if kind in (Kernel, Dataset) else RIGHT[name]
    for start in (RIGHT[name], numbered):
        for key in start:
            for value in WRONG_VALUES:
                (root / name).write_text(json.dumps({**start, key: value}), encoding="utf-8")
                problems = kind.problems(folder)
                outcome = official.push(root / name, capsys)
                refused = any(problem.client == "refuses" for problem in problems)
                assert (outcome.error is not None) == refused, (key, value, problems, outcome.error)
            (root / name).write_text(json.dumps({k: v for k, v in start.items() if k != key}), encoding="utf-8")
            refused = any(problem.client == "refuses" for problem in kind.problems(folder))
            assert (official.push(root / name, capsys).error is not None) == refused, key


WORDS = """
a a/b a/b/c a/b/ /a/b a//b a/b/c/d a/b/c/d/e // //// a/abcdef a/abcdef/1 a/abcdef/ abcdef abcd abcde Abcdefg a_b -a a--b
a/b/onnx/c/1 a/b/onnx/c/x a/b/onnx/c/1_0 a/b/onnx/c/-1 a/b/onnx/c/ someone/tiebreak-wheels a<b a&b 0 1 . ../x /etc _
INSERT_TITLE_HERE INSERT_SLUG_HERE INSERT_OWNER_SLUG_HERE INSERT_FRAMEWORK_HERE someone/INSERT_SLUG_HERE
python r rmarkdown script notebook true FALSE yes original latest newest 2026-11-22 2026-1-2 2026-13-01 20261122
rows.csv wheelhouse.json tiebreak-for-lmsys.ipynb dataset-metadata.json other MIT https://x.y/z
BaseModel KAGGLE_VARIANT PyTorch Scikit_Learn ${PATH} ${X}
"""
TEXTS = (
    "",
    " true",
    "a b",
    "ünïcode title",
    "a subtitle of twenty and more",
    "a/b/onnx/c/ 1",
    "x" * 51,
    "a/" + "x" * 51,
    "a/" + "x" * 60 + "/1",
    *WORDS.split(),
)
RESOURCES: tuple[dict[str, Any], ...] = (
    {},
    {"x": 1},
    {"description": 5},
    {"schema": {}},
    {"schema": None},
    {"schema": {"fields": []}},
    {"schema": {"fields": None}},
    {"schema": {"fields": [{"name": "id", "type": "STRING"}, {"name": "text", "title": "x"}]}},
    {"schema": {"fields": [{"name": "id", "type": None}]}},
    {"schema": {"fields": [{"name": "id", "title": None}]}},
)
OTHERS = (
    *WRONG_VALUES,
    *(-1, [""], [[]], {"name": "x"}, [{"name": "other"}], [{"name": ""}], [{"name": "other", "x": 1}]),
    *([{"path": "rows.csv", **more}] for more in RESOURCES),
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Official]]:
    root = tmp_path_factory.mktemp("pack")
    write_pack(root)
    with pytest.MonkeyPatch.context() as patch:
        yield root, Official(patch, tmp_path_factory.mktemp("home"))


@settings(max_examples=400, deadline=None)
@given(data=st.data(), name=st.sampled_from([KERNEL, DATASET, MODEL, JUDGE]))
def test_whatever_stands_in_a_file_nothing_falls_over_and_the_client_refuses_where_we_say_so(
    fuzzed: tuple[Path, Official], data: st.DataObject, name: str
) -> None:
    root, official = fuzzed
    kind = {KERNEL: Kernel, DATASET: Dataset, MODEL: Model}.get(name, Instance)
    keys = [info.alias or field for field, info in kind.model_fields.items()]
    texts = st.sampled_from(TEXTS)
    values = texts | st.lists(texts, min_size=1, max_size=2) | st.sampled_from(OTHERS)
    changes = data.draw(st.dictionaries(st.sampled_from(keys), values, max_size=2))
    (root / name).write_text(json.dumps({**RIGHT[name], **changes}), encoding="utf-8")
    try:
        metadata.problems(Layout(root))
        problems = kind.problems((root / name).parent)
        outcome = official.push(root / name)
        assert (outcome.error is not None) == any(problem.client == "refuses" for problem in problems), problems
        if not problems:
            kind.read(root / name)
    finally:
        (root / name).write_text(json.dumps(RIGHT[name]), encoding="utf-8")
