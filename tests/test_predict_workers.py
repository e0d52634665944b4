"""Several workers on one run: the same bytes as one, whoever dies, whoever is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predict_faults import DIE, environment, processes
from tiebreak import judges, predict, samples
from tiebreak.errors import BadRowsError, DataError, MissingExtraError, ResourceError, TiebreakError, UsageError
from tiebreak.judges import Runtime
from tiebreak.predict import fleet, lock, scale, worker
from tiebreak.predict.parts import Parts
from tiebreak.predict.pool import Chunk, Job, Pool, weigh
from tiebreak.predict.worker import Rank, share

CHUNK = 8
MANY = {"local": predict.predict_local, "torchrun": predict.predict_torchrun}
FAULTY = ["local", pytest.param("torchrun", marks=pytest.mark.slow)]


def rows(copies: int = 2) -> pl.DataFrame:
    votes = samples.votes()
    table = pl.concat([votes] * copies)
    return table.with_columns(id=pl.int_range(table.height).cast(pl.String))


def plan(output: Path, **changes) -> predict.Plan:  # type: ignore[no-untyped-def]
    given = {
        "judge": None, "runtime": Runtime(), "output": output, "form": "parquet", "identity": "x",
        "chunk_rows": CHUNK, "workers": 2,
    } | changes  # fmt: skip
    return predict.Plan(**given)


def alone(output: Path, table: pl.DataFrame, **options) -> bytes:  # type: ignore[no-untyped-def]
    predict.predict_file(
        iter([table]), judges.load(), output, form="parquet", identity="x", chunk_rows=CHUNK, **options
    )
    return output.read_bytes()


# The pool of chunks


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    parts = Parts.begin(tmp_path / "p.parquet", "x", resume=False)
    made = Pool.open(parts, Job("session", None, Runtime()))
    yield made  # type: ignore[misc]
    parts.close()


@settings(max_examples=30, deadline=None)
@given(weights=st.lists(st.integers(0, 10**9), min_size=1, max_size=12), takers=st.integers(1, 4))
def test_every_chunk_is_taken_once_and_the_heaviest_first(weights: list[int], takers: int, tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    parts = Parts.begin(tmp_path_factory.mktemp("pool") / "p", "x", resume=False)
    pool = Pool.open(parts, Job("session", None, Runtime()))
    table = rows(1).head(1)
    for number, weight in enumerate(weights):
        pool.offer(number, table, weight)
    taken = [pool.take(turn % takers, alone=False) for turn in range(len(weights))]
    assert sorted(claim.chunk for claim in taken if claim) == list(range(len(weights)))
    assert [weights[claim.chunk] for claim in taken if claim] == sorted(weights, reverse=True)
    assert pool.take(0, alone=True) is None
    assert {claim.chunk for claim in pool.left_by(range(takers))} == set(range(len(weights)))
    pool.close([])
    assert not pool.exhausted()
    for claim in taken:
        assert claim is not None
        pool.done(claim)
    assert pool.exhausted()
    parts.close()


def test_many_at_once_never_take_the_same_chunk(pool: Pool) -> None:
    table = rows(1).head(1)
    for number in range(60):
        pool.offer(number, table, 1)
    taken: list[list[int]] = [[] for _ in range(8)]

    def grab(rank: int) -> None:
        while (claim := pool.take(rank, alone=False)) is not None:
            taken[rank].append(claim.chunk)

    threads = [threading.Thread(target=grab, args=(rank,)) for rank in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sum(taken, [])) == list(range(60))  # noqa: RUF017


def test_a_chunk_goes_to_another_worker_after_a_death_and_to_the_same_one_if_it_is_alone(pool: Pool) -> None:
    pool.offer(3, rows(1).head(2), 7)
    claim = pool.take(0, alone=False)
    assert claim is not None
    pool.retry(claim)
    assert pool.take(0, alone=False) is None
    assert pool.take(1, alone=False) is not None
    pool.retry(claim)
    assert pool.take(0, alone=True) is not None


def test_a_claim_whose_author_was_killed_before_signing_it_is_not_lost(pool: Pool) -> None:
    pool.offer(0, rows(1).head(2), 7)
    (pool.directory / "000000.claim").touch()
    assert [claim.chunk for claim in pool.left_by([5])] == [0]


def test_the_manifest_lists_every_row_once(tmp_path: Path) -> None:
    table = rows()
    output = tmp_path / "p.parquet"
    parts = Parts.begin(output, "x", resume=False)
    parts.store(2, judges.load().predict(table.slice(2 * CHUNK, CHUNK)))
    pool = Pool.open(parts, Job("session", None, Runtime()))
    spool = predict.sharded.Spool(table.iter_slices(7), parts, pool, CHUNK)
    spool.start()
    spool.join()
    listed = [Chunk(**chunk) for chunk in json.loads((pool.directory / "manifest.json").read_text())]
    assert [chunk.first_row for chunk in listed] == list(range(0, 120, CHUNK))
    assert [chunk.rows for chunk in listed] == [CHUNK] * 15
    assert [chunk.chunk for chunk in listed if chunk.finished] == [2]
    assert pool.unfinished() == set(range(15)) - {2}
    assert sum(chunk.characters for chunk in listed) == weigh(table)
    parts.close()


def test_characters_weigh_a_chunk_and_a_null_turn_weighs_nothing() -> None:
    table = (
        rows(1)
        .head(2)
        .with_columns(
            prompt=pl.Series([["ab"], ["c"]]),
            response_a=pl.Series([["déf"], [None]]),
            response_b=pl.Series([[""], ["gh"]]),
        )
    )
    assert weigh(table) == 2 + 3 + 0 + 1 + 0 + 2
    assert weigh(table.clear()) == 0


# Devices, workers, sizes


@pytest.mark.parametrize(
    ("devices", "rank", "world", "gpus", "expected"),
    [
        ("auto", 0, 1, 4, "auto"),
        ("auto", 1, 2, 0, "auto"),
        ("auto", 1, 2, 2, "cuda:1"),
        ("cuda", 3, 4, 8, "cuda:3"),
        ("cpu", 1, 2, 8, "cpu"),
        ("cpu,cpu", 1, 2, 0, "cpu,cpu"),
        ("cuda:0,cuda:1,cuda:2,cuda:3", 1, 2, 4, "cuda:2,cuda:3"),
        ("cuda:0,cuda:1", 0, 2, 2, "cuda:0"),
        ("cuda:0,cuda:1", 0, 1, 2, "cuda:0,cuda:1"),
    ],
)
def test_each_worker_gets_its_share_of_the_devices(devices, rank, world, gpus, expected) -> None:  # type: ignore[no-untyped-def]
    assert share(devices, Rank(rank, world, rank, world), gpus) == expected


def test_devices_that_cannot_be_shared_out_are_refused() -> None:
    with pytest.raises(UsageError, match=r"4 workers on a machine with 1 GPU;.*--workers 1"):
        share("auto", Rank(0, 4, 0, 4), 1)
    with pytest.raises(UsageError, match="as many devices for one worker"):
        share("cuda:0,cuda:1,cuda:2", Rank(0, 2, 0, 2), 3)


@pytest.mark.parametrize(
    ("environment_", "expected"),
    [
        ({}, Rank(0, 1, 0, 1)),
        ({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}, Rank(5, 8, 1, 4)),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_NTASKS_PER_NODE": "2"},
         Rank(3, 4, 1, 2)),
        ({"SLURM_PROCID": "9", "SLURM_NTASKS": "32", "SLURM_LOCALID": "1", "SLURM_TASKS_PER_NODE": "8(x4)"},
         Rank(9, 32, 1, 8)),
    ],
)  # fmt: skip
def test_the_rank_is_read_from_what_launchers_set(environment_, expected, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    for name in [name for name in os.environ if name.startswith(("SLURM_", "RANK", "WORLD_SIZE", "LOCAL_"))]:
        monkeypatch.delenv(name)
    for name, value in environment_.items():
        monkeypatch.setenv(name, value)
    assert Rank.of_environment() == expected


def test_threads_are_dealt_out_and_never_none() -> None:
    assert worker.threads(1) == worker.cores()
    assert worker.threads(10**6) == 1


def test_the_number_of_workers_has_bounds() -> None:
    manifest = judges.load().manifest
    assert scale.workers(None, manifest) == 1
    assert scale.workers(2, manifest) == 2
    with pytest.raises(UsageError, match=r"--workers 5000.*expected 1 to \d+ on this machine \(\d+ cores, 0 GPUs\)"):
        scale.workers(5000, manifest)


def test_what_can_change_an_answer_is_in_the_identity_and_nothing_else() -> None:
    tuned = judges.load().manifest.model_copy(update={"kind": "classifier"})
    base = scale.decisive(tuned, Runtime(devices="cpu"))
    for same in (Runtime(devices="cpu,cpu"), Runtime(devices="cpu", max_tokens=512), Runtime(devices="cpu", base="/x")):
        assert scale.decisive(tuned, same) == base
    for other in (
        Runtime(devices="cpu", max_length=512), Runtime(devices="cpu", precision="int8"),
        Runtime(devices="cpu", swap="none"), Runtime(devices="cuda"),
    ):  # fmt: skip
        assert scale.decisive(tuned, other) != base
    exact = Runtime(devices="cpu", precision="fp32")
    assert scale.decisive(tuned, exact) == scale.decisive(tuned, Runtime(devices="cuda:0,cuda:1", precision="fp32"))


def test_a_chunk_of_a_network_is_a_minutes_work() -> None:
    features = judges.load().manifest
    tuned = features.model_copy(update={"kind": "siamese"})
    assert scale.chunk_rows(features, "auto") == predict.CHUNK_ROWS
    assert scale.chunk_rows(tuned, "cpu,cpu") == 64
    assert scale.chunk_rows(tuned, "cuda:0,cuda:1") == 512


@pytest.mark.parametrize(
    "error", [UsageError("a", expected="b"), BadRowsError([("f", 1, "r")], 1, mend="m"),
              MissingExtraError("ray", "ray", "x"), ResourceError("full")],
)  # fmt: skip
def test_an_error_arrives_from_a_worker_as_it_was_raised(error: TiebreakError) -> None:
    again = worker.revived(json.loads(json.dumps(worker.words(error))))
    assert (type(again), str(again), again.exit_code) == (type(error), str(error), error.exit_code)


def test_the_lock_is_one_holders_and_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not lock.is_held(path)
    code = (
        "import sys, time; from pathlib import Path; from tiebreak.predict import lock; "
        "held = lock.hold(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    assert lock.is_held(path)
    assert lock.hold(path) is None
    other.kill()
    other.communicate()
    assert not lock.is_held(path)
    mine = lock.hold(path)
    assert mine is not None
    mine.close()


def test_two_runs_for_one_output_do_not_meet(tmp_path: Path, length_judge) -> None:  # type: ignore[no-untyped-def]
    with plan(tmp_path / "p.parquet").begin(), pytest.raises(UsageError, match="another process is at work"):
        predict.predict_file(
            iter([rows()]), length_judge, tmp_path / "p.parquet", form="parquet", identity="x", resume=True
        )


# Whole runs


@pytest.mark.parametrize("engine", MANY)
def test_several_workers_write_the_bytes_of_one(engine: str, tmp_path: Path) -> None:
    table = rows()
    whole = alone(tmp_path / "one.parquet", table)
    heard: list[int] = []
    run = MANY[engine](
        table.iter_slices(7), plan(tmp_path / "many.parquet"), predict.Progress(heard.append, total=heard.append)
    )
    assert (tmp_path / "many.parquet").read_bytes() == whole
    assert (run.rows, run.reused, run.retried) == (120, 0, 0)
    assert sorted(heard) == [CHUNK] * 15 + [120]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many.parquet", "one.parquet"]


def test_no_rows_need_no_workers(tmp_path: Path) -> None:
    assert predict.predict_local(iter([]), plan(tmp_path / "p.parquet")).rows == 0
    assert pl.read_parquet(tmp_path / "p.parquet").height == 0


def test_a_fault_of_the_input_ends_the_workers_and_leaves_nothing(tmp_path: Path) -> None:
    def tables():  # type: ignore[no-untyped-def]
        yield rows()
        time.sleep(1)
        raise DataError("row 121 is bad")

    with pytest.raises(DataError, match="row 121"):
        predict.predict_local(tables(), plan(tmp_path / "p.parquet"))
    assert list(tmp_path.iterdir()) == []
    assert processes(tmp_path) == []


def test_finished_parts_are_not_judged_again(tmp_path: Path) -> None:
    table = rows()
    whole = alone(tmp_path / "one.parquet", table)
    parts = Parts.begin(tmp_path / "p.parquet", "x", resume=False)
    for number in (0, 7, 14):
        parts.store(number, judges.load().predict(table.slice(number * CHUNK, CHUNK)))
    parts.path(3).write_bytes(b"PAR1 not really")
    parts.close()
    run = predict.predict_local(iter([table]), plan(tmp_path / "p.parquet", resume=True))
    assert run.reused == 3 * CHUNK
    assert (tmp_path / "p.parquet").read_bytes() == whole


@pytest.mark.parametrize("engine", FAULTY)
def test_the_chunk_of_a_dead_worker_is_done_by_another(engine: str, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    table = rows()
    whole = alone(tmp_path / "one.parquet", table)
    body = f'if "40" in table["id"] and first_time("died"):\n    {DIE}'
    for name, value in environment(tmp_path, body).items():
        monkeypatch.setenv(name, value)
    notes: list[str] = []
    run = MANY[engine](iter([table]), plan(tmp_path / "p.parquet"), predict.Progress(note=notes.append))
    assert run.retried >= 1
    assert (tmp_path / "p.parquet").read_bytes() == whole
    assert "chunk 5 (rows 41 to 48)" in notes[0]
    assert "| a last word" in notes[0]
    assert engine == "torchrun" or "SIGKILL" in notes[0]


@pytest.mark.parametrize("engine", FAULTY)
def test_a_chunk_that_kills_twice_ends_the_run_and_keeps_the_rest(engine: str, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    table = rows()
    whole = alone(tmp_path / "one.parquet", table)
    for name, value in environment(tmp_path, f'if "40" in table["id"]:\n    {DIE}').items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ResourceError, match=r"(?s)chunk 5 \(rows 41 to 48\).*a last word.*second death.*--resume"):
        MANY[engine](iter([table]), plan(tmp_path / "p.parquet"))
    time.sleep(0.2)
    assert processes(tmp_path / "p.parquet.parts") == []
    assert not (tmp_path / "p.parquet").exists()
    monkeypatch.delenv("PYTHONPATH")
    run = predict.predict_local(iter([table]), plan(tmp_path / "p.parquet", resume=True))
    assert run.reused > 0
    assert (tmp_path / "p.parquet").read_bytes() == whole


def test_a_worker_that_cannot_even_start_is_tried_twice(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    for name, value in environment(tmp_path, "pass").items():
        monkeypatch.setenv(name, value)
    with (tmp_path / "sitecustomize.py").open("a") as site:
        site.write("    sys.stderr.write('no driver\\n'); os._exit(3)\n")
    with pytest.raises(ResourceError, match=r"(?s)exit code 3.*before it took a chunk.*no driver.*second death"):
        predict.predict_local(iter([rows()]), plan(tmp_path / "p.parquet", workers=1))


def test_an_error_on_purpose_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--max-length: a features judge has no such choice"):
        predict.predict_local(iter([rows()]), plan(tmp_path / "p.parquet", runtime=Runtime(max_length=512)))


# Killed from outside


def started(tmp_path: Path, engine: str, *more: str) -> subprocess.Popen[bytes]:
    environment_ = environment(tmp_path, "time.sleep(0.05)", condition="True")
    arguments = ["predict", str(tmp_path / "votes.parquet"), "-o", str(tmp_path / "p.parquet"), "--chunk-rows", "4",
                 "--engine", engine, "--workers", "2", *more]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "tiebreak", *arguments], env={**os.environ, **environment_},
        stderr=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def parts_of(tmp_path: Path) -> int:
    return len(list((tmp_path / "p.parquet.parts").glob("0*.parquet")))


def wait_for(condition, running: subprocess.Popen[bytes]) -> None:  # type: ignore[no-untyped-def]
    until = time.monotonic() + 60
    while not condition():
        assert running.poll() is None, running.communicate()[1].decode()
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("engine", FAULTY)
def test_a_killed_driver_takes_its_workers_with_it_and_resume_gives_the_same_bytes(engine: str, tmp_path: Path) -> None:
    rows().write_parquet(tmp_path / "votes.parquet")
    judge = judges.load()
    predict.predict_file(
        iter([rows()]), judge, tmp_path / "one.parquet", form="parquet", identity="x", chunk_rows=4
    )  # fmt: skip
    for kill, more in enumerate(((), ("--resume",))):
        running = started(tmp_path, engine, *more)
        wait_for(lambda: parts_of(tmp_path) >= 4 * (kill + 1), running)  # noqa: B023
        running.send_signal(signal.SIGKILL)
        running.communicate()
    last = started(tmp_path, engine, "--resume", "--json")
    out, said = last.communicate(timeout=60)
    assert last.returncode == 0, said.decode()
    assert json.loads(out)["reused"] >= 8 * 4
    assert (tmp_path / "p.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    until = time.monotonic() + 15
    while processes(tmp_path / "p.parquet.parts") and time.monotonic() < until:
        time.sleep(0.1)
    assert processes(tmp_path / "p.parquet.parts") == []
    assert not (tmp_path / "p.parquet.parts").exists()


@pytest.mark.slow
def test_workers_killed_at_random_cost_nothing(tmp_path: Path) -> None:
    rows().write_parquet(tmp_path / "votes.parquet")
    predict.predict_file(
        iter([rows()]), judges.load(), tmp_path / "one.parquet", form="parquet", identity="x", chunk_rows=4
    )
    running = started(tmp_path, "local", "--json")
    dice = random.Random(0)
    for _ in range(3):
        wait_for(lambda: processes(tmp_path / "p.parquet.parts"), running)
        reached = parts_of(tmp_path)
        os.kill(dice.choice(processes(tmp_path / "p.parquet.parts")), signal.SIGKILL)
        wait_for(lambda: parts_of(tmp_path) >= min(reached + 3, 30), running)  # noqa: B023
    _out, said = running.communicate(timeout=60)
    assert running.returncode == 0, said.decode()
    assert said.decode().count("SIGKILL") == 3
    assert (tmp_path / "p.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()


def test_ctrl_c_stops_everybody_and_says_how_to_go_on(tmp_path: Path) -> None:
    rows().write_parquet(tmp_path / "votes.parquet")
    running = started(tmp_path, "local")
    wait_for(lambda: parts_of(tmp_path) >= 2, running)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "--resume" in said.decode()
    assert processes(tmp_path / "p.parquet.parts") == []


def test_ctrl_c_that_comes_twice_leaves_nobody_behind(tmp_path: Path) -> None:
    """Polars raises KeyboardInterrupt by itself where Ctrl-C meets it; Python's own followed while workers ended."""
    heard = []

    def press(rows: int) -> None:
        signal.raise_signal(signal.SIGINT)
        heard.append(rows)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict.predict_local(iter([rows()]), plan(tmp_path / "p.parquet"), predict.Progress(advance=press))
    assert heard == [CHUNK]
    assert processes(tmp_path / "p.parquet.parts") == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_does_not_wait_for_those_who_take_their_time(tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(90)"
    )
    crew = fleet.Crew((0,), [sys.executable, "-c", deaf], {}, tmp_path / "log")
    crew.start()
    assert crew.process is not None
    process = crew.process
    while "here" not in (tmp_path / "log").read_text():
        time.sleep(0.01)
    threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        fleet.stop([crew])
    assert process.wait(10) == -signal.SIGKILL


# Started by somebody else


def test_ranks_of_a_launcher_share_one_run(tmp_path: Path) -> None:
    """As under SLURM: two processes with nothing in common but variables and a file system."""
    rows().write_parquet(tmp_path / "votes.parquet")
    whole = alone(tmp_path / "one.parquet", rows())
    command = [sys.executable, "-m", "tiebreak", "predict", str(tmp_path / "votes.parquet"), "--engine", "torchrun",
               "-o", str(tmp_path / "p.parquet"), "--chunk-rows", str(CHUNK)]  # fmt: skip
    ranks = []
    for rank in (1, 0):
        slurm = {"SLURM_PROCID": str(rank), "SLURM_NTASKS": "2", "SLURM_LOCALID": str(rank), "SLURM_JOB_ID": "7",
                 "SLURM_STEP_ID": "0", "SLURM_NTASKS_PER_NODE": "2"}  # fmt: skip
        slow = environment(tmp_path, "time.sleep(0.05)", condition="True")
        ranks.append(subprocess.Popen(command, env={**os.environ, **slow, **slurm}, stderr=subprocess.PIPE))
    said = [process.communicate(timeout=60)[1].decode() for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], said
    assert "wrote 120 predictions" in said[1]
    assert said[0] == ""
    assert (tmp_path / "p.parquet").read_bytes() == whole


def test_a_rank_that_finds_no_run_says_so(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(predict.sharded, "ARRIVAL", 0.2)
    with pytest.raises(ResourceError, match=r"rank 1 of 2 saw no chunk.*one file system"):
        predict.predict_as_rank(lambda: iter([]), plan(tmp_path / "p"), Rank(1, 2, 1, 2), "launch")


def test_an_exit_code_has_a_cause() -> None:
    assert fleet.cause(3) == "exit code 3"
    assert fleet.cause(-signal.SIGTERM) == "SIGTERM"
    assert "memory" in fleet.cause(-signal.SIGKILL)
    assert np.isfinite(len(fleet.last_lines(Path("/nowhere"))))
