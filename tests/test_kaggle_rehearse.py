"""Notebooks that behave and notebooks that do not, rehearsed behind both kinds of walls."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import polars as pl
import pytest

import kaggle_handmade
from kaggle_handmade import SUBMIT, WSDM
from test_kaggle_rehearse_walls import LINUX, namespaces, running, wait
from tiebreak.errors import DataError, UsageError
from tiebreak.kaggle import rehearse
from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.rehearse import image, memory, picture, sandbox
from tiebreak.kaggle.wheels.house import House
from tiebreak.kaggle.wheels.target import KAGGLE_PYTHON
from tiebreak.listening import Listener

DRAW = picture.draw
KINDS = [
    pytest.param(
        "namespaces",
        marks=pytest.mark.skipif(
            sys.platform != "linux" or not namespaces(), reason="this machine makes no namespaces"
        ),
    ),
    "python",
]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(image, "make", kaggle_handmade.bare_image)
    monkeypatch.setattr(picture, "draw", lambda *_: None)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))


def left(tmp_path: Path) -> list[str]:
    """What a run has left in the folder for temporary files."""
    return [path.name for path in (tmp_path / "temporary").iterdir()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_notebook_leaves_its_submission_a_log_and_itself(
    tmp_path: Path, kind: sandbox.Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "draw", DRAW)
    report = {"stages": {"find": 0.5, "judge": 1.5}, "rows_otherwise": 1, "reason": "no time", "network_refused": 2}
    pack = kaggle_handmade.make(
        tmp_path / "pack",
        "print('one line'); print('[     0.5 s] stamped'); print('half', end='\\rwhole\\n')\n" + SUBMIT,
        f"(working / 'tiebreak.json').write_text(json.dumps({report!r}))\n"
        "(working / 'more').mkdir(); (working / 'more' / 'kept.txt').write_text('kept')\n"
        "print('at the end', end='', file=sys.stderr)",
    )
    heard: list[str] = []
    ran = rehearse.run(pack, keep=tmp_path / "kept", isolation=kind, listener=Listener(say=heard.append))
    assert ran.rows == 3
    assert ran.submission.read_text() == (
        "id,winner_model_a,winner_model_b,winner_tie\n1001,0.5,0.25,0.25\n1002,0.5,0.25,0.25\n1003,0.5,0.25,0.25\n"
    )
    assert (ran.rows_otherwise, ran.reason, ran.connections) == (1, "no time", 2)
    assert list(ran.stages) == ["environment", "find", "judge"]
    assert ran.stages["judge"] == 1.5
    assert 0 < ran.peak < ran.limit
    assert ran.walls.kind == kind
    lines = (tmp_path / "kept" / "log.txt").read_text().splitlines()
    assert [line.partition("] ")[2] for line in lines] == ["one line", "stamped", "whole", "at the end"]
    assert lines[1] == "[     0.5 s] stamped"
    assert heard == [heard[0], *lines, "clearing up ..."]
    assert (tmp_path / "kept" / "more" / "kept.txt").read_text() == "kept"
    assert (tmp_path / "kept" / "memory.png").read_bytes().startswith(b"\x89PNG")
    executed = nbformat.read(tmp_path / "kept" / "executed.ipynb", as_version=4)
    nbformat.validate(executed)
    said = [
        "".join(output["text"] for output in cell["outputs"]) for cell in executed.cells if cell.cell_type == "code"
    ]
    assert said[0] == ""
    assert said[1].endswith("whole\n")
    assert said[2] == "at the end\n"
    kept = json.loads((tmp_path / "kept" / "rehearsal.json").read_text())
    assert kept == {**ran.as_dict(), "report": report}
    assert left(tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_this_machine_reaches_the_notebook(
    tmp_path: Path, kind: sandbox.Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KAGGLE_KEY", "PIP_INDEX_URL", "HTTPS_PROXY", "PYTHONPATH", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "secret-of-mine")
    pack = kaggle_handmade.make(
        tmp_path / "pack",
        "(working / 'seen.json').write_text(json.dumps([dict(os.environ), sys.path, str(Path.home()), os.getcwd(),"
        " [str(p.relative_to(root)) for p in sorted(root.rglob('*')) if p.is_file()]]))\n" + SUBMIT,
    )
    ran = rehearse.run(pack, isolation=kind)
    environment, path, home, here, files = json.loads((ran.folder / "seen.json").read_text())
    assert "secret-of-mine" not in json.dumps(environment)
    assert environment["PIP_CONFIG_FILE"] == os.devnull
    assert not any("site-packages" in place and "kaggle/image" not in place for place in path)
    assert home != str(Path.home())
    assert here.endswith("/kaggle/working")
    assert files == [
        "competitions/llm-classification-finetuning/sample_submission.csv",
        "competitions/llm-classification-finetuning/test.csv", "datasets/someone/the-wheels/wheelhouse.json",
    ]  # fmt: skip
    shutil.rmtree(ran.folder)


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_no_way_out_for_the_notebook_and_for_its_children(tmp_path: Path, kind: sandbox.Isolation) -> None:
    attempt = (
        "import socket\\n"
        "connect = socket.create_connection\\n"
        "for act in (lambda: connect(('192.0.2.1', 443), 2),"
        " lambda: socket.getaddrinfo('example.org', 443), lambda: connect(('2001:db8::1', 443), 2)):\\n"
        "    try: act()\\n"
        "    except OSError as error: print(type(error).__name__)\\n"
        "server = socket.create_server(('127.0.0.1', 0))\\n"
        "socket.create_connection(server.getsockname()).close()\\n"
        "print('here')\\n"
    )
    pack = kaggle_handmade.make(
        tmp_path / "pack",
        f"import subprocess\ncode = '''{attempt}'''\n"
        "said = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout\n"
        "(working / 'said.txt').write_text(said)\n" + SUBMIT,
    )
    ran = rehearse.run(pack, isolation=kind, keep=tmp_path / "kept")
    assert (tmp_path / "kept" / "said.txt").read_text().split() == ["OSError", "gaierror", "OSError", "here"]
    assert ran.walls.hold
    assert ran.walls.outside
    assert ran.walls.interfaces == ("lo",) or kind == "python"


@pytest.mark.parametrize("kind", KINDS)
def test_the_input_cannot_be_written_and_the_pack_stays_as_it_is(tmp_path: Path, kind: sandbox.Isolation) -> None:
    """Where there are no namespaces root may write all the same: into copies, and it is found out."""
    pack = kaggle_handmade.make(
        tmp_path / "pack",
        "house = next(root.rglob('wheelhouse.json'))\n"
        "for act in (lambda: house.write_text('spoilt'), house.unlink, lambda: (root / 'new').touch()):\n"
        "    try: act()\n"
        "    except OSError as error: print(type(error).__name__, error.errno)\n" + SUBMIT,
    )
    if kind == "python" and os.geteuid() == 0:
        with pytest.raises(rehearse.FailedError, match="changed 2 of its input files"):
            rehearse.run(pack, isolation=kind, keep=tmp_path / "kept")
    else:
        rehearse.run(pack, isolation=kind, keep=tmp_path / "kept")
        assert (tmp_path / "kept" / "log.txt").read_text().count("OSError 30" if kind == "namespaces" else "Error") == 3
    assert (pack.wheels / "wheelhouse.json").read_text() == "{}"
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("cell", "wrong"),
    [
        ("pass", "the notebook wrote no submission.csv"),
        ("submit(rows[:2])", "2 rows; 1 ids are missing, 0 are not asked for"),
        ("submit(rows[::-1])", "3 rows; 0 ids are missing"),
        ("submit([{**row, 'id': int(row['id']) + 1} for row in rows])", "1 ids are missing, 1 are not asked for"),
        ("submit([{**row, 'winner_tie': 'nan'} for row in rows])", "a cell of winner_tie is no probability"),
        ("submit([{**row, 'winner_tie': ''} for row in rows])", "a cell of winner_tie is no probability"),
        ("submit([{**row, 'winner_tie': 1.5} for row in rows])", "a cell of winner_tie is no probability"),
        ("submit([{**row, 'winner_tie': .9} for row in rows])", "of a row do not sum to 1"),
        ("submit([{'id': row['id'], 'winner_tie': 1} for row in rows])", "columns id, winner_tie; expected id, "),
        ("(working / 'submission.csv').write_bytes(b'\\x00\\xff')", "cannot be read as CSV|columns"),
        (SUBMIT + "\nraise SystemExit(3)", "failed with exit code 3 at 'Hand in'"),
        (SUBMIT + "\nprint('so', flush=True); 1 / 0", r"exit code 1 at 'Hand in':\n.* so\n(.*\n)+.*ZeroDivisionError"),
        (SUBMIT + "\nos.kill(os.getpid(), 9)", "failed with exit code 137"),
    ],
)  # fmt: skip
def test_what_is_not_a_whole_submission_is_told(tmp_path: Path, cell: str, wrong: str) -> None:
    pack = kaggle_handmade.make(tmp_path / "pack", cell)
    with pytest.raises(rehearse.FailedError, match=wrong):
        rehearse.run(pack, keep=tmp_path / "kept")
    assert (tmp_path / "kept" / "log.txt").is_file()
    assert left(tmp_path) == []


def test_an_earlier_run_is_replaced_whole_and_nothing_else_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "kept"
    rehearse.run(kaggle_handmade.make(tmp_path / "good", "(working / 'more').mkdir()\n" + SUBMIT), keep=kept)
    assert (kept / "submission.csv").is_file()
    with pytest.raises(rehearse.FailedError, match=r"wrote no submission\.csv"):
        rehearse.run(kaggle_handmade.make(tmp_path / "lazy", "(working / 'log.txt').touch(); print('I')"), keep=kept)
    assert sorted(path.name for path in kept.iterdir()) == ["executed.ipynb", "log.txt"]
    assert (kept / "log.txt").read_text().endswith("] I\n")
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").touch()
    with pytest.raises(UsageError, match="is not empty, and not of an earlier rehearsal"):
        rehearse.run(Layout(tmp_path / "good"), keep=other)
    with pytest.raises(UsageError, match="is a file"):
        rehearse.run(Layout(tmp_path / "good"), keep=other / "mine.txt")
    assert [path.name for path in other.iterdir()] == ["mine.txt"]
    monkeypatch.setattr("tiebreak.kaggle.rehearse.rehearsal.DISK", 1e-9)
    with pytest.raises(rehearse.TooMuchError, match=r"left 0\.0 GiB"):
        rehearse.run(Layout(tmp_path / "good"), keep=kept)


@pytest.mark.parametrize("winner", ["model_a", "tie"])
def test_a_competition_of_winners_has_its_own_form(tmp_path: Path, winner: str) -> None:
    pack = kaggle_handmade.make(
        tmp_path / "pack", f"submit([{{'id': row['id'], 'winner': {winner!r}}} for row in rows])", form=WSDM,
        test="test.parquet",
    )  # fmt: skip
    if winner == "tie":
        with pytest.raises(rehearse.FailedError, match="winner holds 'tie'"):
            rehearse.run(pack, keep=tmp_path / "kept")
    else:
        assert rehearse.run(pack, keep=tmp_path / "kept").rows == 3


@pytest.mark.parametrize("kind", KINDS)
def test_too_much_memory_ends_it_all(tmp_path: Path, kind: sandbox.Isolation) -> None:
    """The memory is held by a grandchild that has a session of its own."""
    mark = f"35{time.time_ns() % 10**7:07d}"
    code = f"import time; block = bytearray(b'x') * (1 << 29); time.sleep({mark})"
    pack = kaggle_handmade.make(
        tmp_path / "pack", "import subprocess, time\nprint('before', flush=True)\n"
        f"subprocess.Popen([sys.executable, '-c', {code!r}], start_new_session=True)\ntime.sleep(600)",
    )  # fmt: skip
    with pytest.raises(rehearse.TooMuchError, match=r"it held 0\.\d+ GiB of memory .* more than 0\.25 GiB\n.*before"):
        rehearse.run(pack, memory=0.25, isolation=kind, keep=tmp_path / "kept")
    assert not running(mark)
    assert left(tmp_path) == []


def test_too_much_time_ends_it_and_the_notebook_was_told_of_a_little_less(tmp_path: Path) -> None:
    pack = kaggle_handmade.make(
        tmp_path / "pack", "import time\nprint(os.environ['TIEBREAK_KAGGLE_HOURS'], flush=True); time.sleep(600)"
    )
    with pytest.raises(rehearse.TooMuchError, match=r"still at work after 0\.00 hours\n.*\] 0\.0003\b"):
        rehearse.run(pack, hours=0.0004, keep=tmp_path / "kept")


def test_limits_are_of_kaggle_and_of_this_machine(tmp_path: Path) -> None:
    pack = kaggle_handmade.make(tmp_path / "pack", "print(os.environ['TIEBREAK_KAGGLE_HOURS'])\n" + SUBMIT)
    ran = rehearse.run(pack, memory=1e6, keep=tmp_path / "kept")
    assert ran.limit == memory.of_this_machine()
    assert "] 8.5\n" in (tmp_path / "kept" / "log.txt").read_text()
    for wrong in ({"memory": 0.0}, {"hours": 0.0}, {"hours": -1.0}):
        with pytest.raises(UsageError, match="expected numbers over 0"):
            rehearse.run(pack, **wrong)  # type: ignore[arg-type]


def test_as_many_rows_as_asked_for(tmp_path: Path) -> None:
    test = tmp_path / "mine.csv"
    pl.DataFrame({"id": [7, 8], "prompt": ["p", "q"], "response_a": ["a\nb", "c"], "response_b": ["", "d"]}).write_csv(
        test
    )
    pack = kaggle_handmade.make(
        tmp_path / "pack", "assert os.environ['KAGGLE_IS_COMPETITION_RERUN']\n"
        "table = list(csv.DictReader(next(root.rglob('test.csv')).open(newline='')))\n"
        "print(sorted({row['response_a'] for row in table}))\n" + SUBMIT,
    )  # fmt: skip
    ran = rehearse.run(pack, test=test, rows=500, keep=tmp_path / "kept")
    assert ran.rows == 500
    assert pl.read_csv(ran.submission)["id"].to_list() == list(range(1, 501))
    assert r"['a\nb', 'c']" in (tmp_path / "kept" / "log.txt").read_text()


@LINUX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_leaves_nothing_running_mounted_or_lying_about(tmp_path: Path, kind: str, number: int) -> None:
    mark = f"36{time.time_ns() % 10**7:07d}"
    code = f"import time; time.sleep({mark})"
    pack = kaggle_handmade.make(
        tmp_path / "pack", "import subprocess, time\n"
        f"subprocess.Popen([sys.executable, '-c', {code!r}], start_new_session=True)\ntime.sleep({mark})",
    )  # fmt: skip
    program = (
        "import sys; from tiebreak.kaggle.rehearse import image; import kaggle_handmade\n"
        "image.make = kaggle_handmade.bare_image\n"
        "from tiebreak.cli import main; main(sys.argv[1:])"
    )
    temporary = tmp_path / "temporary"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "kaggle", "run", pack.root, "-o", tmp_path / "kept", "--isolation", kind],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(temporary)} | {
            "PYTHONPATH": str(Path(__file__).parent)
        },
    )  # fmt: skip
    wait(lambda: len(sleeping(mark)) == 1)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == (130 if number == signal.SIGINT else 143), said
    assert "Traceback" not in said
    assert not sleeping(mark)
    assert "tiebreak-kaggle" not in Path("/proc/mounts").read_text()
    assert left(tmp_path) == []


def sleeping(mark: str) -> list[int]:
    """Children of the notebook, which sleep."""
    return [
        int(entry.parent.name)
        for entry in Path("/proc").glob("[0-9]*/cmdline")
        if readable(entry).startswith(("/kaggle/image", "/")) and f"time.sleep({mark})" in readable(entry)
    ]


def readable(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def test_what_is_no_pack_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not a pack: no pack\.json"):
        rehearse.run(Layout(tmp_path))
    pack = kaggle_handmade.make(tmp_path / "pack", SUBMIT)
    (pack.kernel / "the-notebook.ipynb").write_text("{}")
    with pytest.raises(DataError, match="is no notebook"):
        rehearse.run(pack)


def test_a_check_tells_all_that_is_wrong_at_once(tmp_path: Path) -> None:
    pack = kaggle_handmade.make(tmp_path / "pack", SUBMIT)
    document = json.loads((pack.kernel / "kernel-metadata.json").read_text())
    (pack.kernel / "kernel-metadata.json").write_text(json.dumps({**document, "enable_internet": True}))
    (pack.kernel / "more.txt").write_text("")
    found = rehearse.check(pack, keep=tmp_path / "kept")
    assert [(check.name, check.held) for check in found.checks] == [
        ("metadata", False), ("files", False), ("wheels", False), ("notebook", None),
    ]  # fmt: skip
    assert not found.good
    assert found.rehearsal is None
    with pytest.raises(DataError, match=r"enable_internet(.*\n)+.*more.txt was not packed(.*\n)+.*wheelhouse.json"):
        found.raise_failures()


def a_house(**facts: Any) -> House:
    """A house without wheels, for the Python that Kaggle has unless the facts are others."""
    return House(**{"python": KAGGLE_PYTHON, "platform": "manylinux_2_28_x86_64", "wheels": ()} | facts)


def test_a_check_that_finds_nothing_wrong_says_what_it_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = kaggle_handmade.make(tmp_path / "pack", SUBMIT)
    monkeypatch.setattr("tiebreak.kaggle.rehearse.checking._wheels", lambda pack: "as if there were some")
    torch = {"torch": "cpu"}
    monkeypatch.setattr("tiebreak.kaggle.wheels.house.read", lambda folder: a_house(**torch))
    found = rehearse.check(pack, keep=tmp_path / "kept")
    assert found.good
    assert [check.name for check in found.checks] == [
        "metadata", "files", "wheels", "network", "input", "notebook", "judge", "submission",
    ]  # fmt: skip
    found.raise_failures()
    torch["torch"] = "image only"
    found = rehearse.check(pack, keep=tmp_path / "kept")
    assert [check.held for check in found.checks] == [True, True, True, False]
    with pytest.raises(DataError, match="torch is not among the wheels, so that the notebook cannot be run here"):
        found.raise_failures()
    torch["torch"], torch["python"] = "cpu", "3.11"
    found = rehearse.check(pack, keep=tmp_path / "kept")
    assert (found.checks[3].name, found.checks[3].held) == ("python", None)
    assert "wheels for Python 3.11, and Kaggle's image has 3.12" in found.checks[3].found
    assert found.good
    del torch["python"]
    failing = kaggle_handmade.make(tmp_path / "failing", "1 / 0")
    found = rehearse.check(failing, keep=tmp_path / "kept")
    assert [check.held for check in found.checks] == [True, True, True, False]
    with pytest.raises(DataError, match="ZeroDivisionError"):
        found.raise_failures()


@pytest.mark.parametrize(
    ("reason", "held"),
    [("no GPU", None), ("the time was up (3 s)", None), ("CUDA out of memory", False), ("", False), (None, False)],
)
def test_a_submission_by_the_cheaper_judge_does_not_hide_a_broken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str | None, held: bool | None
) -> None:
    report = {"stages": {"judge": 1.0}, "rows_otherwise": 3, "reason": reason}
    pack = kaggle_handmade.make(
        tmp_path / "pack", f"(working / 'tiebreak.json').write_text(json.dumps({report!r}))\n" + SUBMIT
    )
    monkeypatch.setattr("tiebreak.kaggle.rehearse.checking._wheels", lambda pack: "as if there were some")
    monkeypatch.setattr("tiebreak.kaggle.wheels.house.read", lambda folder: a_house(torch="cpu"))
    found = rehearse.check(pack, keep=tmp_path / "kept")
    judge = next(check for check in found.checks if check.name == "judge")
    assert judge.held is held
    assert judge.found == f"embedded answered 3 of 3 rows: {reason}"
    assert found.good is (held is None)
    if held is False:
        with pytest.raises(DataError, match="the judge failed, and embedded answered 3 of 3 rows"):
            found.raise_failures()


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (["--isolation", "prayer"], "--isolation 'prayer'; expected one of auto, namespaces, python"),
        (["--mounts", "both"], "--mounts 'both'; expected one of new, old"),
    ],
)
def test_the_command_line_is_held_to_its_choices(
    cli: Callable[..., Any], tmp_path: Path, options: list[str], wrong: str
) -> None:
    done = cli("kaggle", "check", tmp_path, *options)
    assert done.returncode == 2
    assert wrong in done.stderr
