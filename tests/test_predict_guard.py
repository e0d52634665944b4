"""The guard of a run: every row answered in time, each by one judge or the other, whatever becomes of the dear one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from predict_faults import DIE, environment, processes
from tiebreak import judges, predict, predictions, samples
from tiebreak.calibration import Calibration
from tiebreak.errors import DataError, ResourceError, UsageError
from tiebreak.judges import Runtime
from tiebreak.predict import Guard, Plan, Progress, guard
from tiebreak.predict.parts import Parts
from tiebreak.predict.progress import SILENT

CHUNK = 8
ROWS = 120
HALF_AS_SURE = Calibration(method="temperature", weight=((0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5)), bias=(0, 0, 0))
HANG = "if not any(first_time(f'chunk{i}') for i in range(4)):\n    first_time('hangs'); time.sleep(600)"
"""Four chunks are judged, and the fifth never ends."""


def rows() -> pl.DataFrame:
    votes = samples.votes()
    return pl.concat([votes] * 2).with_columns(id=pl.int_range(ROWS).cast(pl.String))


@dataclass
class Case:
    """A dear judge, what it would say of all rows, and what the cheap one would."""

    folder: Path
    judge: Path
    dear: pl.DataFrame
    cheap: pl.DataFrame

    def plan(self, **changes) -> Plan:  # type: ignore[no-untyped-def]
        given = {
            "judge": self.judge, "runtime": Runtime(), "output": self.folder / "p.parquet", "form": "parquet",
            "identity": "dear", "chunk_rows": CHUNK, "workers": 1,
        } | changes  # fmt: skip
        return Plan(**given)

    def read(self) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "p.parquet")

    @property
    def parts(self) -> Path:
        return self.folder / "p.parquet.parts"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pl.DataFrame, pl.DataFrame]:
    folder = tmp_path_factory.mktemp("judges") / "dear"
    dear = judges.load()
    cheap = dear.predict(rows())
    dear.manifest = dear.manifest.model_copy(update={"name": "dear", "calibration": HALF_AS_SURE})
    dear.save(folder)
    said = pl.concat([judges.load(folder).predict(table) for table in rows().iter_slices(CHUNK)])
    assert (said["p_a"] != cheap["p_a"]).all()
    return folder, said, cheap


@pytest.fixture
def case(made: tuple[Path, pl.DataFrame, pl.DataFrame], tmp_path: Path) -> Case:
    return Case(tmp_path, *made)


@dataclass(frozen=True)
class Until(Guard):
    """A guard whose time is up when something has happened, however slow the machine is."""

    happened: Callable[[], bool] = lambda: False

    @property
    def until(self) -> float:
        return 0.0 if self.happened() else float("inf")


def plain(within: float | None = None) -> Guard:
    return Guard(None, Runtime(), "cheap", 4096, within)


def run(case: Case, watch: Guard, progress: Progress = SILENT, **changes) -> predict.Run:  # type: ignore[no-untyped-def]
    return predict.predict_guarded(lambda: iter([rows()]), case.plan(**changes), watch, progress)


def hung(case: Case) -> predict.Run:
    """A run that is stopped by the clock when four chunks are done."""
    hangs = Until(None, Runtime(), "cheap", 4096, 5.0, happened=(case.folder / "hangs").exists)
    return run(case, hangs)


def enter(monkeypatch: pytest.MonkeyPatch, folder: Path, body: str, *more: str) -> None:
    for name, value in environment(folder, body, *more).items():
        monkeypatch.setenv(name, value)


def rows_of(spans: tuple[tuple[int, int], ...]) -> list[int]:
    return [row - 1 for start, last in spans for row in range(start, last + 1)]


def check(case: Case, done: predict.Run) -> None:
    """Every row is one judge's or the other's, bit by bit, and the spans say whose."""
    left = rows_of(done.spans)
    assert (done.rows, done.otherwise) == (ROWS, len(left))
    table, other = case.read(), set(left)
    assert_frame_equal(table[left], case.cheap[left], check_exact=True)
    kept = [row for row in range(ROWS) if row not in other]
    assert_frame_equal(table[kept], case.dear[kept], check_exact=True)


STUBBORN = """if not any(first_time(f'chunk{i}') for i in range(4)):
    import subprocess
    signal.signal(signal.SIGTERM, lambda *_: (here / "asked").touch())
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", str(here / "p.parquet.parts")])
    first_time("hangs")
    time.sleep(600)"""


def test_a_judge_that_hangs_is_killed_in_time_and_goes_on_later(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(monkeypatch, case.folder, STUBBORN)
    done = hung(case)
    check(case, done)
    assert done.otherwise == ROWS - 4 * CHUNK
    assert done.reason.startswith("the time was up (5 s, 1.")
    assert processes(case.parts) == []  # nor what the worker had started
    assert not (case.folder / "asked").exists()  # nobody waits for one that hangs
    left = sorted(path.name for path in case.parts.iterdir())
    assert [name for name in left if not name[0].isdecimal()] == ["lock", "otherwise-cheap.parquet", "run.json"]

    with pytest.raises(UsageError, match="holds 4 finished parts of an interrupted run"):
        run(case, plain())
    heard: list[int] = []
    monkeypatch.delenv("PYTHONPATH")
    again = predict.predict_guarded(
        lambda: iter([rows()]),
        case.plan(resume=True),
        plain(600),
        first=Progress(advance=heard.append, taken=lambda rows: heard.append(-rows)),
    )
    assert heard == [-ROWS]  # the cheaper answers were there
    assert (again.rows, again.reused, again.otherwise, again.reason) == (ROWS, 4 * CHUNK, 0, "")
    check(case, again)
    assert not case.parts.exists()


def test_what_the_clock_left_is_finished_without_a_guard(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(monkeypatch, case.folder, HANG)
    hung(case)
    predict.predict_file(
        iter([rows()]), judges.load(case.judge), case.folder / "p.parquet", form="parquet", identity="dear",
        resume=True, chunk_rows=CHUNK,
    )  # fmt: skip
    assert_frame_equal(case.read(), case.dear, check_exact=True)
    assert not case.parts.exists()


def test_with_no_time_at_all_the_cheaper_answers_are_the_output(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(monkeypatch, case.folder, '(here / "worked").touch()')
    heard: list[str] = []
    done = predict.predict_guarded(
        lambda: iter([rows()]), case.plan(), plain(0), first=Progress(advance=lambda n: heard.append(f"cheap {n}")),
        answered=lambda: heard.append("answered"),
    )  # fmt: skip
    assert heard == ["cheap 120", "answered"]
    assert (done.otherwise, done.spans) == (ROWS, ((1, ROWS),))
    assert_frame_equal(case.read(), case.cheap, check_exact=True)
    assert not (case.folder / "worked").exists()


def test_no_rows_need_no_judge(case: Case) -> None:
    done = predict.predict_guarded(lambda: iter([]), case.plan(), plain(600))
    assert (done.rows, done.otherwise, done.spans, done.reason) == (0, 0, (), "")
    assert case.read().height == 0


@pytest.mark.slow
def test_a_death_in_good_time_costs_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(monkeypatch, case.folder, f'if "40" in table["id"] and first_time("died"):\n    {DIE}')
    done = run(case, plain(600))
    check(case, done)
    assert (done.otherwise, done.retried, done.reason) == (0, 1, "")
    assert not case.parts.exists()


def test_a_chunk_that_kills_its_worker_falls_to_the_other_judge_alone(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(monkeypatch, case.folder, f'if "40" in table["id"]:\n    {DIE}')
    notes: list[str] = []
    done = run(case, plain(), Progress(note=notes.append))
    check(case, done)
    assert done.spans == ((41, 48),)
    assert done.reason == "chunk 5: worker 0 died (SIGKILL, as when memory runs out) in chunk 5 (rows 41 to 48)"
    assert "chunk 5 was given up, the rest goes on" in notes[-1]
    assert "| a last word" in notes[-1]


def test_an_error_on_purpose_costs_its_chunk_and_is_told_whole(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    body = (
        'if "40" in table["id"]:\n'
        "    from tiebreak.errors import ResourceError\n"
        '    raise ResourceError("CUDA out of memory", expected="a larger card", mend="--max-tokens 64")'
    )
    enter(monkeypatch, case.folder, body)
    notes: list[str] = []
    done = run(case, plain(), Progress(note=notes.append))
    check(case, done)
    assert (done.spans, done.reason) == (((41, 48),), "chunk 5: CUDA out of memory")
    assert notes == [
        "chunk 5 was given up, the rest goes on: "
        "CUDA out of memory; expected a larger card; to mend: --max-tokens 64"
    ]  # fmt: skip


@pytest.mark.slow
def test_too_many_lost_chunks_are_the_fault_of_the_judge(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LOSSES", 1)
    bad = '{"40", "80"} & set(table["id"])'
    enter(monkeypatch, case.folder, f'if {bad}:\n    raise ValueError("a tensor of the wrong shape")')
    notes: list[str] = []
    done = run(case, plain(), Progress(note=notes.append))
    check(case, done)
    assert set(rows_of(done.spans)) >= {*range(40, 48), *range(80, 88)}
    assert done.reason.startswith("worker 0 died (exit code 1) in chunk ")
    assert notes[-1].startswith("the judge was given up: worker 0 died")
    assert "ValueError: a tensor of the wrong shape" in notes[-1]


def test_a_judge_that_cannot_be_loaded_ends_in_the_other_ones_answers(case: Case) -> None:
    notes: list[str] = []
    done = run(case, plain(600), Progress(note=notes.append), runtime=Runtime(max_length=512))
    assert done.otherwise == ROWS
    assert done.reason == "--max-length: a features judge has no such choice"
    assert notes == [f"the judge was given up: {done.reason}; expected a fine-tuned judge (--judge DIR of tiebreak train RECIPE)"]  # noqa: E501 # fmt: skip
    assert_frame_equal(case.read(), case.cheap, check_exact=True)


LATE = """while not (here / "gone2").exists():
        time.sleep(0.05)
    time.sleep(1)"""


@pytest.mark.parametrize("before", ["pass", pytest.param(LATE, marks=pytest.mark.slow)], ids=["early", "late"])
def test_a_worker_that_cannot_start_leaves_the_work_to_the_others(
    before: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(monkeypatch, case.folder, f'if "40" in table["id"] and first_time("died"):\n    {before}\n    {DIE}')
    with (case.folder / "sitecustomize.py").open("a") as site:
        site.write("    if os.environ['RANK'] == '1':\n        first_time('gone1') or first_time('gone2')\n")
        site.write("        sys.stderr.write('no room\\n'); os._exit(3)\n")
    notes: list[str] = []
    done = run(case, plain(), Progress(note=notes.append), workers=2)
    check(case, done)
    assert (done.otherwise, done.retried) == (0, 1)
    assert any("worker 1 was given up, the rest goes on" in note and "no room" in note for note in notes)


def test_a_fault_of_the_input_is_no_fault_of_the_judge(case: Case) -> None:
    opened = 0

    def tables():  # type: ignore[no-untyped-def]
        nonlocal opened
        opened += 1
        yield rows()
        if opened == 2:
            raise DataError("row 121 is bad")

    with pytest.raises(DataError, match="row 121"):
        predict.predict_guarded(tables, case.plan(), plain())
    assert not (case.folder / "p.parquet").exists()
    assert not case.parts.exists()


def test_a_form_that_does_not_fit_is_found_out_before_the_judge_begins(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(monkeypatch, case.folder, '(here / "worked").touch()')
    (case.folder / "sample.csv").write_text("id,winner_model_a,winner_model_b,winner_tie\n0,1,0,0\n")
    with pytest.raises(DataError, match="119 ids are not in the sample"):
        run(case, plain(600), form="kaggle", sample=case.folder / "sample.csv")
    assert not (case.folder / "worked").exists()
    assert not case.parts.exists()


def test_a_cheaper_judge_that_fails_is_no_guard(case: Case) -> None:
    with pytest.raises(UsageError, match="--max-length"):
        run(case, Guard(None, Runtime(max_length=512), "cheap", 4096))
    assert not case.parts.exists()


@pytest.mark.slow
def test_another_cheaper_judge_answers_anew_when_the_run_goes_on(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(monkeypatch, case.folder, HANG)
    hung(case)
    other = Guard(case.judge, Runtime(), "other", 16, 0)
    done = run(case, other, resume=True)
    assert (done.reused, done.otherwise) == (4 * CHUNK, ROWS - 4 * CHUNK)
    assert_frame_equal(case.read(), case.dear, check_exact=True)  # here both are the same judge


# The parts and the answers, put together


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(0, 23), chunk_rows=st.integers(1, 7), chosen=st.sets(st.integers(0, 22)),
    damaged=st.sets(st.integers(0, 22)), counted=st.booleans(),
)  # fmt: skip
def test_every_row_is_of_a_whole_part_or_of_the_answers(  # type: ignore[no-untyped-def]
    count, chunk_rows, chosen, damaged, counted, tmp_path_factory
) -> None:
    ids = pl.Series("id", [str(i // 3) for i in range(count)], dtype=pl.String)  # repeated: rows meet by place
    numbers = pl.int_range(count, eager=True).to_numpy()
    cheap = predictions.build(ids, _spread(numbers, 0.25))
    ledger = pl.DataFrame({name: numbers for name in predictions.LEDGER}) if counted else None
    dear = predictions.build(ids, _spread(numbers, 0.5), ledger=ledger)
    parts = Parts.begin(tmp_path_factory.mktemp("merge") / "p", "x", resume=False)
    for number in chosen:
        parts.store(number, dear.slice(number * chunk_rows, chunk_rows))
        if number in damaged:
            parts.path(number).write_bytes(b"PAR1 not really")
    parts.close()
    table, spans = guard.merged(parts, cheap, chunk_rows)
    left = rows_of(spans)
    whole = chosen - damaged
    assert left == [row for row in range(count) if row // chunk_rows not in whole]
    assert all(before[1] + 1 < after[0] for before, after in pairwise(spans))
    names = list(cheap.columns)
    assert_frame_equal(table[left].select(names), cheap[left], check_exact=True)
    kept = [row for row in range(count) if row not in set(left)]
    assert_frame_equal(table[kept].select(names), dear[kept].select(names), check_exact=True)
    if kept and counted:
        assert table.columns == dear.columns
        assert table[left]["kept_a"].null_count() == len(left)
    predictions.validate(table)


def _spread(numbers, p_a):  # type: ignore[no-untyped-def]
    import numpy as np

    tie = numbers / 100
    return np.stack([np.full(len(numbers), p_a), 1 - p_a - tie, tie], axis=1).reshape(-1, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8h30m", 30600), ("90m", 5400), ("1.5h", 5400), ("45s", 45), ("5400", 5400), ("1d1h1m1s", 90061), ("0", 0)],
)  # fmt: skip
def test_times_are_read_as_people_write_them(text: str, expected: float) -> None:
    assert guard.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "h", "-5", "8x", "5m3h", "8h30", "8 h", "nan", "1e3"])
def test_a_time_that_may_mean_two_things_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"a time of .*8h30m"):
        guard.seconds(text)


# From the command line


def command(case: Case, *more: str, output: str = "p.parquet") -> list[str]:
    if not (case.folder / "votes.parquet").exists():
        rows().write_parquet(case.folder / "votes.parquet")
    return [sys.executable, "-m", "tiebreak", "predict", str(case.folder / "votes.parquet"), "-j", str(case.judge),
            "-o", str(case.folder / output), "--chunk-rows", str(CHUNK), *more]  # fmt: skip


def started(case: Case, body: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(case, *more), env={**os.environ, **environment(case.folder, body)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(condition: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_slow_judge_from_the_command_line(case: Case) -> None:
    ids = [str(i) for i in range(ROWS)]
    (case.folder / "sample.csv").write_text(
        "id,winner_model_a,winner_model_b,winner_tie\n" + "".join(f"{i},0.3,0.3,0.4\n" for i in ids)
    )
    form = ("--format", "kaggle", "--sample", str(case.folder / "sample.csv"), "--json")
    environment_ = {**os.environ, **environment(case.folder, "time.sleep(600)")}
    done = subprocess.run(
        command(case, "--within", "4", *form, output="s.csv"), env=environment_, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["rows"], told["rows_otherwise"], told["spans_otherwise"]) == (ROWS, ROWS, [[1, ROWS]])
    assert told["otherwise"] == "embedded (tiebreak-features-1)"
    assert told["reason"].startswith("the time was up (4 s")
    assert "warning: 120 of 120 rows were answered by embedded (tiebreak-features-1): the time was up" in done.stderr
    assert "the same command with --resume and more time goes on" in done.stderr
    table = pl.read_csv(case.folder / "s.csv", schema_overrides={"id": pl.String})
    assert table["id"].to_list() == ids
    assert_frame_equal(
        table.rename(dict(zip(table.columns, case.cheap.columns, strict=False))),
        case.cheap.select("id", "p_a", "p_b", "p_tie"), check_exact=True,
    )  # fmt: skip
    again = subprocess.run(
        command(case, "--within", "10m", "--resume", *form, output="s.csv"), capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert (json.loads(again.stdout)["rows_otherwise"], json.loads(again.stdout)["reason"]) == (0, "")
    assert pl.read_csv(case.folder / "s.csv")["winner_model_a"].to_list() == case.dear["p_a"].to_list()
    assert not (case.folder / "s.csv.parts").exists()


SLOW_SIGNALS = [pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGTERM, signal.SIGKILL)]


@pytest.mark.parametrize("number", [signal.SIGINT, *SLOW_SIGNALS])
def test_a_stopped_driver_leaves_what_can_go_on(number: signal.Signals, case: Case) -> None:
    running = started(case, HANG, "--within", "1h", "--workers", "2")
    wait_for(lambda: len(list(case.parts.glob("0*.parquet"))) == 4, running)
    assert (case.parts / "otherwise.parquet").exists()  # a whole answer, for whoever needs one now
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == (130 if number == signal.SIGINT else -number)
    assert ("--resume" in said) == (number == signal.SIGINT)
    until = time.monotonic() + 20
    while processes(case.parts) and time.monotonic() < until:
        time.sleep(0.1)
    assert processes(case.parts) == []
    assert not (case.folder / "p.parquet").exists()
    done = subprocess.run(command(case, "--within", "1h", "--resume"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "32 of them taken over" in done.stderr
    assert_frame_equal(case.read(), case.dear, check_exact=True)
    assert not case.parts.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--within", "soon"], "a time of 'soon'"),
        (["--within", "1h", "--engine", "ray"], "--engine local --workers N"),
        (["--otherwise", "embedded", "-o", "-"], "not a pipe"),
        (["-", "--otherwise", "embedded"], "not a pipe"),
        (["--otherwise", "no-such-judge"], "no-such-judge"),
    ],
)
def test_what_a_guard_cannot_watch_is_refused(options: list[str], words: str, case: Case, capsys) -> None:  # type: ignore[no-untyped-def]
    from tiebreak import cli

    code = cli.run([*command(case)[3:], *options])
    said = capsys.readouterr().err
    assert code in {2, 3}
    assert words in said
    assert not case.parts.exists()


def test_a_judge_is_not_guarded_by_itself(case: Case, capsys) -> None:  # type: ignore[no-untyped-def]
    from tiebreak import cli

    assert cli.run([*command(case)[3:], "--otherwise", str(case.judge), "--json"]) == 0
    out, said = capsys.readouterr()
    assert "the judge and --otherwise are the same (dear)" in said
    assert json.loads(out)["rows_otherwise"] == 0
    assert_frame_equal(case.read(), case.dear, check_exact=True)


def test_a_dry_run_says_what_the_guard_is_for(case: Case, capsys) -> None:  # type: ignore[no-untyped-def]
    from tiebreak import cli

    assert cli.run([*command(case)[3:], "--within", "8h30m", "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "embedded (tiebreak-features-1) answers every row first" in said
    assert "8 h 30 min from now" in said
    assert not case.parts.exists()


@pytest.mark.parametrize(
    ("rows_a_minute", "taken", "said"),
    [
        (100, 0, ["at this pace the judge gets to about 6,000 of 10,000 rows in time; the others are those of cheap"]),
        (100, 5000, []),
        (200, 0, []),
    ],
)
def test_a_run_that_will_not_get_done_says_so_early_and_once(rows_a_minute, taken, said, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from tiebreak.cli.meter import Meter
    from tiebreak.cli.predict_guard import Fallback, Outlook

    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    meter = Meter("predict", 10_000)
    outlook = Outlook(Fallback(Guard(None, Runtime(), "x", 1, 3600, started=1000), "cheap"), lambda: meter)
    outlook.begin()
    meter.taken(taken)
    for minute in range(1, 20):
        clock[0] += 60
        outlook.advance(rows_a_minute)
        heard = capsys.readouterr().err.splitlines()
        assert heard == (said if minute == 3 else [])
    assert meter.rows == 19 * rows_a_minute


def test_a_full_disk_is_told_as_it_is(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise ResourceError("cannot write p.parquet: No space left on device")

    monkeypatch.setattr(guard.write, "write", full)
    with pytest.raises(ResourceError, match="No space left"):
        run(case, plain())
