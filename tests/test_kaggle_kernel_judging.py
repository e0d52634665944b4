"""The judge works against the clock, and whatever becomes of it there is a whole submission, which says whose it is."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaggle_packed import PRETENDER, data
from tiebreak.errors import DataError
from tiebreak.kaggle.kernel import asking, guard, judging, offline, rows, verifying
from tiebreak.kaggle.kernel.finding import Found
from tiebreak.kaggle.kernel.reporting import NotebookError, Report
from tiebreak.predict import forms, submission

FORM = forms.LMSYS.model_dump(mode="json")
WSDM = forms.Submission(columns={"winner": "winner_without_tie"}).model_dump(mode="json")
IDS = ["7", "3", "5", "1"]


class Scene:
    """A judge that behaves so, in a place of its own."""

    def __init__(self, root: Path, acts: dict[str, Any] | None, hours: float = 1.0) -> None:
        packages = root / "packages" / "tiebreak"
        packages.mkdir(parents=True)
        (packages / "__init__.py").write_text("")
        (packages / "__main__.py").write_text(PRETENDER)
        data(root / "data", IDS)
        self.root, judge = root, None
        if acts is not None:
            judge = root / "judge"
            judge.mkdir()
            (judge / "judge.json").write_text(json.dumps({"name": "the judge", "acts": acts}))
        self.found = Found(root, judge, None, root / "data" / "test.csv", root / "data" / "sample_submission.csv")
        self.report = Report(root / "tiebreak.json", hours)
        source = Path(str(guard.__file__)).read_text()
        self.environment = offline.guarded_environment(root, source, root / "packages")

    def judge(self, gpus: list[str] | None = None, **changes: Any) -> dict[str, Any]:
        """Judge, and verify what came of it; gives the report."""
        settings = {"submission": FORM, "map": {}, "otherwise": "embedded", "predicting": {}, "needs_gpu": False}
        settings |= changes
        seen = {"gpus": gpus or [], "torch": "2.8"}
        sample = self.found.sample
        assert sample is not None
        written = judging.judge_rows(settings, self.found, sample, seen, self.environment, self.root, self.report)
        assert verifying.verify(written, sample, IDS, FORM) == 4
        facts: dict[str, Any] = json.loads((self.root / "tiebreak.json").read_text()) | self.report.facts
        return facts

    def options(self) -> list[str]:
        """Those of the last `tiebreak predict`."""
        return [str(option) for option in self.report.facts["run"]["options"]]


def of(options: list[str], name: str) -> str | None:
    return options[options.index(name) + 1] if name in options else None


def test_the_embedded_judge_needs_no_guard(tmp_path: Path) -> None:
    scene = Scene(tmp_path, None)
    report = scene.judge()
    assert (report["judge"], report["rows"], report["rows_otherwise"], report["reason"]) == ("embedded", 4, 0, "")
    assert not {"--within", "--judge", "--devices"} & set(scene.options())
    assert report["notes"] == []


def test_a_judge_has_its_time_its_devices_and_its_options(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {})
    predicting = {"max_length": 2048, "precision": "auto", "swap": "uncertain=0.4", "max_tokens": None}
    report = scene.judge(["T4", "T4"], predicting=predicting, map={"prompt": "question"})
    options = scene.options()
    assert (report["judge"], report["rows_otherwise"]) == ("the judge", 0)
    assert of(options, "--judge") == str(tmp_path / "judge")
    assert of(options, "--devices") == "cuda:0,cuda:1"
    assert (of(options, "--max-length"), of(options, "--swap")) == ("2048", "uncertain=0.4")
    assert not {"--precision", "--max-tokens", "--base"} & set(options)
    assert (of(options, "--otherwise"), of(options, "--map")) == ("embedded", "prompt=question")
    assert 3500 <= float(of(options, "--within") or 0) <= 3540


def test_a_base_is_passed_on(tmp_path: Path) -> None:
    found = Found(tmp_path, tmp_path / "judge", tmp_path / "base", tmp_path, None)
    options = asking.judge_options({"otherwise": "embedded", "predicting": {}}, found, ["cuda:0"], seconds=1)
    assert (of(options, "--base"), of(options, "--devices"), of(options, "--within")) == (
        str(tmp_path / "base"), "cuda:0", "1",
    )  # fmt: skip


def test_rows_of_the_cheaper_judge_are_counted(tmp_path: Path) -> None:
    report = Scene(tmp_path, {"otherwise": 0.5}).judge()
    assert (report["judge"], report["rows_otherwise"], report["reason"]) == ("the judge", 2, "no time")
    assert report["notes"] == ["2 rows by the cheaper judge: no time"]


@pytest.mark.parametrize(
    ("acts", "said"),
    [
        ({"exit": 5}, "ended with 5: pretending to judge | CUDA out of memory"),
        ({"signal": 9}, "was killed by signal 9 (9 is often a lack of memory): pretending to judge"),
    ],
)
def test_a_judge_that_fails_is_replaced_and_named(tmp_path: Path, acts: dict[str, Any], said: str) -> None:
    scene = Scene(tmp_path, acts)
    (tmp_path / "submission.csv.parts").mkdir()  # of the run that failed
    report = scene.judge()
    assert (report["judge"], report["rows_otherwise"]) == ("embedded", 4)
    assert report["reason"] == f"tiebreak predict {said}"
    assert not (tmp_path / "submission.csv.parts").exists()
    assert report["notes"][0].startswith("THE JUDGE FAILED: ")


def test_without_a_gpu_a_large_judge_is_not_even_tried(tmp_path: Path) -> None:
    report = Scene(tmp_path, {"exit": 5}).judge(needs_gpu=True)
    assert (report["judge"], report["rows_otherwise"], report["reason"]) == ("embedded", 4, "no GPU")


def test_with_one_it_is(tmp_path: Path) -> None:
    assert Scene(tmp_path, {}).judge(["T4"], needs_gpu=True)["judge"] == "the judge"


def test_what_does_not_run_on_two_gpus_runs_on_one(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"gpus": 1})
    report = scene.judge(["T4", "T4"])
    assert (report["judge"], report["rows_otherwise"]) == ("the judge", 0)
    assert of(scene.options(), "--devices") == "cuda:0"
    assert report["notes"] == ["on several GPUs the judge did no row: once more, on the first alone"]


def test_a_judge_that_hangs_past_its_time_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "GRACE", 1.0)
    report = Scene(tmp_path, {"sleep": 100}, hours=1.5 / 3600).judge()
    assert (report["judge"], report["rows_otherwise"]) == ("embedded", 4)
    assert report["reason"].startswith("tiebreak predict was killed by signal 15")


def test_a_connection_that_is_tried_is_refused_and_counted(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"connect": "192.0.2.1"})
    scene.judge()
    assert len(offline.refused_connections(scene.environment)) == 1


@pytest.mark.parametrize("form", [forms.LMSYS, forms.Submission.model_validate(WSDM), forms.Submission(
    id="row", columns={"who": "winner", "x": "p_a", "y": "p_b", "z": "p_tie"}, labels={"a": "L", "b": "R", "tie": "="},
)])  # fmt: skip
def test_the_form_is_told_so_that_predict_understands_it(form: forms.Submission) -> None:
    options = asking.column_options(form.model_dump(mode="json"))
    told = dict(option.split("=", 1) for option in options[1::2])
    assert set(options[::2]) == {"--column"}
    assert forms.spelled(told) == form


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        ('{\n "rows": 3\n}\n', {"rows": 3}),
        (
            'Loading weights: 100%\n{odd}\n{\n "rows": 3,\n "inner": {\n  "x": 1\n }\n}\n',
            {"rows": 3, "inner": {"x": 1}},
        ),
        ("", {}),
        ("nothing of the kind", {}),
        ('{\n "rows": 3', {}),
    ],
)
def test_the_result_is_found_among_what_libraries_print(printed: str, found: dict[str, Any]) -> None:
    assert judging.result_of(printed) == found


def test_a_run_that_says_nothing_is_no_reason_to_throw_it_away(tmp_path: Path) -> None:
    report = Scene(tmp_path, {"mute": True}).judge(["T4", "T4"])
    assert (report["judge"], report["rows_otherwise"]) == ("the judge", 0)
    assert report["reason"] == "tiebreak predict did not say what it did"


# --- which rows are wanted


def test_ids_of_csv_and_parquet(tmp_path: Path) -> None:
    table = pl.DataFrame({"id": ["x,1", 'y"', "z\nz"], "prompt": ["a" * 200_000, "b\r\n", ""]})
    table.write_csv(tmp_path / "t.csv")
    table.with_columns(number=pl.Series([10, 2, 33])).write_parquet(tmp_path / "t.parquet")
    environment = offline.guarded_environment(tmp_path, "", tmp_path)
    assert rows.ids_of(tmp_path / "t.csv", ["row", "id"], environment) == table["id"].to_list()
    assert rows.ids_of(tmp_path / "t.parquet", ["id", "number"], environment) == table["id"].to_list()
    assert rows.ids_of(tmp_path / "t.parquet", ["number"], environment) == ["10", "2", "33"]
    for name, columns in (("t.csv", "id, prompt"), ("t.parquet", "id, prompt, number")):
        with pytest.raises(NotebookError, match=f"columns {columns}; expected a column row or line"):
            rows.ids_of(tmp_path / name, ["row", "line"], environment)


@pytest.mark.parametrize(
    ("told", "named", "found"),
    [({}, "id", ["id", "id"]), ({}, "row_id", ["id", "row_id"]), ({"id": "number"}, "row_id", ["number"])],
)
def test_ids_are_where_predict_reads_them(told: dict[str, str], named: str, found: list[str]) -> None:
    assert rows.id_columns({"map": told, "submission": {"id": named}}) == found


def test_the_sample_is_taken_if_it_is_that_of_the_test(tmp_path: Path) -> None:
    data(tmp_path, IDS, sampled=sorted(IDS))
    report = Report(tmp_path / "tiebreak.json", 1)
    sample = tmp_path / "sample_submission.csv"
    assert rows.fitting_sample(sample, IDS, FORM, tmp_path / "made", report) == sample
    assert report.facts["notes"] == []


@pytest.mark.parametrize("sampled", [["7"], [*IDS, "9"], ["7", "3", "5", "2"], None])
def test_else_one_with_the_ids_of_the_test_is_made(tmp_path: Path, sampled: list[str] | None) -> None:
    data(tmp_path, IDS, sampled=sampled or [])
    (tmp_path / "made").mkdir()
    report = Report(tmp_path / "tiebreak.json", 1)
    sample = tmp_path / "sample_submission.csv" if sampled else None
    made = rows.fitting_sample(sample, IDS, FORM, tmp_path / "made", report)
    header, table = rows.table_of(made)
    assert (header, [row[0] for row in table]) == (forms.LMSYS.header, IDS)
    assert len(report.facts["notes"]) == 1
    assert forms.recognise(made) == forms.LMSYS


def test_a_sample_of_another_competition_is_refused(tmp_path: Path) -> None:
    data(tmp_path, IDS)
    with pytest.raises(NotebookError, match=r"columns id, winner_model_a, .*expected id, winner; to mend: .*--sample"):
        rows.fitting_sample(tmp_path / "sample_submission.csv", IDS, WSDM, tmp_path, Report(tmp_path / "r.json", 1))


# --- verifying

GOOD = [[name, "0.5", "0.25", "0.25"] for name in IDS]


def spoiled(row: int, column: int, text: str) -> list[list[str]]:
    return [[text if (r, c) == (row, column) else cell for c, cell in enumerate(line)] for r, line in enumerate(GOOD)]


def check(folder: Path, lines: list[list[str]], header: str = ",".join(forms.LMSYS.header)) -> int:
    data(folder, IDS)
    (folder / "submission.csv").write_text("\n".join([header, *(",".join(line) for line in lines)]) + "\n")
    return verifying.verify(folder / "submission.csv", folder / "sample_submission.csv", IDS, FORM)


WRONG = [
    (GOOD[:3], "1 ids are missing (for example 1)"),
    ([*GOOD, ["9", "1", "0", "0"]], "1 ids are not in the test (for example 9)"),
    ([*GOOD[:3], GOOD[0]], "1 ids occur again; 1 ids are missing (for example 1)"),
    ([*GOOD, GOOD[0]], "1 ids occur again"),
    (GOOD[::-1], "the ids are not in the order of the sample"),
    (spoiled(1, 2, "nan"), "row 2: 0.5, nan, 0.25 are not probabilities"),
    (spoiled(3, 1, "inf"), "row 4: inf, 0.25, 0.25 are not probabilities"),
    (spoiled(0, 1, "-0.5"), "row 1: -0.5, 0.25, 0.25 are not probabilities"),
    (spoiled(0, 1, ""), "row 1: , 0.25, 0.25 are not probabilities"),
    (spoiled(0, 1, "half"), "row 1: half, 0.25, 0.25 are not probabilities"),
    (spoiled(2, 3, "0.26"), "row 3: the probabilities add up to 1.01"),
    ([GOOD[0][:3], *GOOD[1:]], "1 rows have not 4 cells (for example 7,0.5,0.25)"),
    ([], "4 ids are missing (for example 1)"),
]


def test_a_good_submission_is_one(tmp_path: Path) -> None:
    assert check(tmp_path, GOOD) == 4


@pytest.mark.parametrize(("lines", "said"), WRONG, ids=[said for _, said in WRONG])
def test_each_fault_is_named(tmp_path: Path, lines: list[list[str]], said: str) -> None:
    with pytest.raises(NotebookError) as raised:
        check(tmp_path, lines)
    assert str(raised.value) == f"submission.csv is not a valid submission: {said}"


def test_columns_are_those_of_the_sample(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="columns id, a, b, c, expected id, winner_model_a, winner_model_b"):
        check(tmp_path, GOOD, "id,a,b,c")


def test_winners_are_words_of_the_form() -> None:
    assert verifying.wrong_cells(["id", "winner"], [["1", "model_a"], ["2", "model_b"]], WSDM) == []
    assert verifying.wrong_cells(["id", "winner"], [["1", "model_a"], ["2", "tie"]], WSDM) == [
        "row 2: tie is none of model_a, model_b"
    ]


TRIPLES = st.tuples(*[st.floats(-1e9, 1e9) | st.sampled_from([math.nan, math.inf, -math.inf])] * 3) | st.tuples(
    st.floats(0, 1), st.floats(0, 1)
).map(lambda two: (two[0] * two[1], two[0] * (1 - two[1]), 1 - two[0]))


@given(st.lists(TRIPLES, min_size=1, max_size=3))
def test_the_notebook_is_of_one_mind_with_predict(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[float, float, float]]
) -> None:
    """Two programs that know nothing of each other pass and refuse the same files."""
    lines = [[str(number), *map(repr, row)] for number, row in enumerate(values)]
    path = tmp_path_factory.mktemp("s") / "submission.csv"
    path.write_text("\n".join(",".join(line) for line in [forms.LMSYS.header, *lines]) + "\n")
    ids = pl.DataFrame({"id": [line[0] for line in lines]})
    built = ids.hstack(pl.DataFrame(values, schema=forms.LMSYS.header[1:], orient="row"))
    try:
        submission.check(path, built)
        passes = True
    except DataError:
        passes = False
    assert (verifying.wrong_cells(forms.LMSYS.header, lines, FORM) == []) == passes
