"""Whatever a server does, nothing is lost and nothing is guessed: every fault is injected by a real one."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import served_server
import tiny
from served_server import MODEL, FakeServer
from tiebreak.errors import DataError, ResourceError, UsageError
from tiebreak.judges.generative.served import client
from tiebreak.judges.generative.served.backend import ServedBackend
from tiebreak.judges.generative.served.limits import Backoff
from tiebreak.judges.generative.served.settings import Served
from tiebreak.judges.generative.served.store import Store
from tiebreak.judges.generative.verdicts import Tree, Verdicts
from tiebreak.render import Sequences

ONE = Tree.of_ids([[(65,)], [(66,), (98,)], [(67,)]])
TWO = Tree.of_ids([[(65,)], [(66, 9), (98,)], [(66, 10), (67,)]])
PASSING = (
    "429 after 0.05", "500", "503", "cut", "drop", "malformed", "no logprobs", "nan", "error within", "no choices",
)  # fmt: skip


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with served_server.running() as server:
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIEBREAK_CACHE", str(tmp_path / "cache"))
    for name in client.KEYS:
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


def sequences(count: int, start: int = 0) -> Sequences:
    return Sequences.of(np.arange(start + i, start + i + 5 + i % 3, dtype=np.int32) for i in range(count))


def backend(server: FakeServer, **changes: Any) -> ServedBackend:
    made = {"url": server.url, "model": MODEL, "concurrency": 4, "timeout": 10.0, **changes}
    return ServedBackend(Served(**made), tiny.tokenizer(), Verdicts(), backoff=Backoff(first=0.01, most=0.05))


def expected(rows: Sequences, tree: Tree) -> np.ndarray:
    nodes = [
        np.array([served_server.log_probs([*ids.tolist(), *node])[list(children)] for ids in rows])
        for node, children in zip(tree.nodes, tree.children, strict=True)
    ]
    return tree.fold(nodes)


@pytest.mark.parametrize("tree", [ONE, TWO])
def test_the_masses_are_those_of_the_model(server: FakeServer, tree: Tree) -> None:
    rows, asked = sequences(11), backend(server)
    advanced: list[int] = []
    found = asked.masses(rows, tree, advance=advanced.append)
    np.testing.assert_allclose(found.log_mass, expected(rows, tree), atol=1e-12)
    assert (found.unseen == 0).all()
    np.testing.assert_allclose(found.coverage, np.exp(found.log_mass).sum(axis=1))
    assert sum(advanced) == 11
    assert len(server.seen) == 11 * len(tree.nodes) == asked.report["attempts"]
    assert asked.report["prompt_tokens"] == sum(len(body["prompt"]) for body in server.seen)


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_asked_again_and_nothing_is_lost(server: FakeServer, fault: str) -> None:
    rows, asked = sequences(9), backend(server)
    server.plan = lambda number, body: fault if number % 3 == 1 else None
    found = asked.masses(rows, ONE)
    np.testing.assert_allclose(found.log_mass, expected(rows, ONE), atol=1e-12)
    failed = sum(number % 3 == 1 for number in range(len(server.seen)))
    assert failed >= 3
    assert len(server.seen) == 9 + failed == asked.report["attempts"]
    assert sum(asked.report["faults"].values()) == failed
    assert asked.asker.store.account().answers == 9
    assert asked.asker.store.failures() == []


def test_a_slow_answer_is_given_up_in_time_and_asked_for_again(server: FakeServer) -> None:
    server.plan = lambda number, body: "slow" if number == 0 else None
    asked = backend(server, timeout=0.3)
    found = asked.masses(sequences(2), ONE)
    np.testing.assert_allclose(found.log_mass, expected(sequences(2), ONE), atol=1e-12)
    assert asked.report["faults"] == {"no answer in time": 1}


def test_retry_after_holds_everybody_back(server: FakeServer) -> None:
    server.plan = lambda number, body: "429 after 0.5" if number == 0 else None
    backend(server, concurrency=1).masses(sequences(4), ONE)
    assert server.at[1] - server.at[0] >= 0.5
    assert len(server.seen) == 5


def test_who_asks_us_to_come_back_tomorrow_is_not_waited_for(server: FakeServer) -> None:
    server.plan = lambda number, body: "429 after 86400"
    with pytest.raises(ResourceError, match="come back in 86,400 s"):
        backend(server, concurrency=1).masses(sequences(4), ONE)
    assert len(server.seen) == 1


def test_what_is_given_up_is_named_and_the_next_run_asks_for_it_alone(server: FakeServer) -> None:
    rows = sequences(12)
    bad = {tuple(rows[i].tolist()) for i in (2, 7)}
    server.plan = lambda number, body: "500" if tuple(body["prompt"]) in bad else None
    asked = backend(server, attempts=3)
    with pytest.raises(ResourceError, match=r"2 of 12 sequences left without an answer: 2 x status 500") as caught:
        asked.masses(rows, ONE)
    assert str(asked.asker.store.path) in caught.value.expected
    assert len(server.seen) == 10 + 2 * 3
    assert [(what, attempts) for _, what, _, attempts in asked.asker.store.failures()] == [
        ("status 500: the server failed", 3)
    ] * 2
    server.plan = lambda number, body: None
    server.seen.clear()
    again = backend(server)
    found = again.masses(rows, ONE)
    np.testing.assert_allclose(found.log_mass, expected(rows, ONE), atol=1e-12)
    assert {tuple(body["prompt"]) for body in server.seen} == bad
    assert len(server.seen) == 2
    assert again.report["reused"] == 10
    assert again.asker.store.failures() == []


def test_a_third_run_asks_nothing_and_says_the_same(server: FakeServer) -> None:
    rows = sequences(8)
    first = backend(server).masses(rows, TWO)
    server.seen.clear()
    asked = backend(server)
    second = asked.masses(rows, TWO)
    assert server.seen == []
    assert (first.log_mass == second.log_mass).all()
    assert asked.report["attempts"] == 0
    assert asked.report["cost"] == 0


def test_neither_order_nor_company_changes_a_row(server: FakeServer) -> None:
    rows = sequences(8)
    whole = backend(server).masses(rows, ONE).log_mass
    order = np.random.default_rng(0).permutation(8)
    assert (backend(server, revision="2").masses(rows.pick(order), ONE).log_mass == whole[order]).all()


def test_equal_sequences_are_asked_once(server: FakeServer) -> None:
    rows = sequences(3).pick(np.array([0, 1, 0, 2, 0]))
    advanced: list[int] = []
    found = backend(server).masses(rows, ONE, advance=advanced.append)
    assert len(server.seen) == 3
    assert sum(advanced) == 5
    assert (found.log_mass[0] == found.log_mass[4]).all()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("401", "the key was refused"), ("403", "may not use"), ("404", f"has: {MODEL}"),
        ("other model", "'another-model' instead of 'fake-model'"), ("quota", "nothing left on the account"),
    ],
)  # fmt: skip
def test_what_never_passes_stops_at_once(server: FakeServer, fault: str, said: str) -> None:
    server.plan = lambda number, body: fault
    asked = backend(server, concurrency=2)
    with pytest.raises(ResourceError, match=said):
        asked.masses(sequences(50), ONE)
    assert len(server.seen) <= 2
    assert asked.asker.store.account().answers == 0


def test_a_request_that_is_refused_does_not_keep_the_others_back(server: FakeServer) -> None:
    rows = sequences(20)
    server.plan = lambda number, body: "400" if body["prompt"] == rows[3].tolist() else None
    with pytest.raises(ResourceError, match=r"1 of 20 sequences .* status 400: the request was refused \(.*planned"):
        backend(server).masses(rows, ONE)
    assert len(server.seen) == 20


def test_a_server_that_is_gone_is_not_asked_for_ever(server: FakeServer) -> None:
    server.plan = lambda number, body: "drop"
    with pytest.raises(ResourceError, match=r"200 of 200 sequences .* more were not asked"):
        backend(server, attempts=2).masses(sequences(200), ONE)
    assert len(server.seen) <= 2 * (8 + 4)


def test_no_server_at_all() -> None:
    with served_server.running() as server:
        asked = backend(server, attempts=2)
    with pytest.raises(ResourceError, match="the connection broke"):
        asked.masses(sequences(3), ONE)


def test_a_stop_keeps_what_was_answered(server: FakeServer) -> None:
    rows = sequences(40)
    asked = backend(server, concurrency=2)

    def stop(done: int) -> None:
        if len(server.seen) >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asked.masses(rows, ONE, advance=stop)
    kept, sent = asked.asker.store.account().answers, len(server.seen)
    assert 9 <= kept <= sent < 40
    assert asked.masses(rows, ONE).log_mass == pytest.approx(expected(rows, ONE), abs=1e-12)
    assert len(server.seen) == sent + 40 - kept


def test_no_more_at_once_than_allowed(server: FakeServer) -> None:
    server.slow = 0.02
    backend(server, concurrency=3).masses(sequences(12), ONE)
    assert server.most_under_way == 3


def test_requests_and_tokens_a_minute_are_kept(server: FakeServer) -> None:
    backend(server, requests_per_minute=60 * 50).masses(sequences(11), ONE)
    assert server.at[-1] - server.at[0] >= 10 / 50 - 0.03
    server.at.clear()
    rows = sequences(8, start=20)
    backend(server, tokens_per_minute=60 * 200).masses(rows, ONE)
    assert server.at[-1] - server.at[0] >= (int(rows.lengths[:-1].sum()) + 7) / 200 - 0.03


def test_a_likely_list_gives_bounds_that_hold(server: FakeServer) -> None:
    """Without vLLM's parameters, what is not among the likeliest tokens is bounded, and the truth is within."""
    server.extensions = False
    rows = sequences(40)
    listed = np.array([np.isin([65, 66, 98, 67], np.argsort(-served_server.log_probs(i.tolist()))[:200]) for i in rows])
    rows, listed = rows.pick(np.flatnonzero(listed.any(axis=1))), listed[listed.any(axis=1)]
    truth = np.exp(expected(rows, ONE))
    found = backend(server, top=200, extensions=False).masses(rows, ONE)
    whole = np.stack([listed[:, 0], listed[:, 1] & listed[:, 2], listed[:, 3]], axis=1)
    assert (~whole).sum() > 10
    assert ((found.unseen > 0) == ~whole).all()
    middle = np.exp(found.log_mass)
    assert (np.abs(truth - middle) <= found.unseen / 2 + 1e-12).all()
    np.testing.assert_allclose(middle[whole], truth[whole], atol=1e-12)
    assert "logprob_token_ids" not in server.seen[0]


def test_an_answer_without_any_verdict_is_an_error_and_not_a_third(server: FakeServer) -> None:
    server.extensions = False
    asked = backend(server, top=1)
    with pytest.raises(DataError, match=r"in \d+ of 6 answers no verdict is among the 1 likeliest"):
        asked.masses(sequences(6), ONE)
    assert asked.asker.store.account().answers == 6


def test_tokens_that_are_told_as_texts(server: FakeServer) -> None:
    tokenizer = tiny.tokenizer()
    server.names = lambda token: tokenizer.decode([token])
    tree = Tree.of(Verdicts(a=("A",), b=("B",), tie=("C",)), tokenizer)
    rows = sequences(5)
    np.testing.assert_allclose(backend(server).masses(rows, tree).log_mass, expected(rows, tree), atol=1e-12)


def test_the_key_is_sent_and_kept_nowhere(server: FakeServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIEBREAK_API_KEY", "sk-very-secret")
    server.plan = lambda number, body: "401" if number > 2 else None
    asked = backend(server, concurrency=1)
    with pytest.raises(ResourceError) as caught:
        asked.masses(sequences(5), ONE)
    assert set(server.keys) == {"Bearer sk-very-secret"}
    asked.asker.store.close()
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert files
    assert not any(b"very-secret" in path.read_bytes() for path in files)
    assert "very-secret" not in f"{caught.value}{asked.report}{asked.served}"


def test_a_bundle_cannot_send_texts_to_an_address_of_its_own(cache: Path) -> None:
    served = Served(url="https://elsewhere.example/v1", model="m")
    with pytest.raises(UsageError, match="nobody here has named") as caught:
        client.check(served, named=False)
    assert "--server https://elsewhere.example/v1" in caught.value.mend
    client.check(served, named=True)
    client.check(served, named=False)
    client.check(Served(url="http://localhost:8000/v1", model="m"), named=False)
    for wrong in ("ftp://x/v1", "no url", "https://me:secret@elsewhere.example/v1"):
        with pytest.raises(UsageError) as refused:
            client.check(Served(url=wrong, model="m"), named=True)
        assert "secret" not in str(refused.value)


def test_a_damaged_store_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"not a database at all, but long enough to be one" * 50)
    with pytest.raises(ResourceError, match=r"store\.sqlite"):
        Store(path)


def test_two_processes_may_share_a_store(tmp_path: Path) -> None:
    stores = [Store(tmp_path / "s.sqlite") for _ in range(2)]

    def write(number: int) -> None:
        for i in range(50):
            stores[number].keep(f"{number}-{i}", {"model": "m", "choices": [i]}, 2, 1)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stores[0].account() == stores[1].account()
    assert stores[0].account().answers == 100
    assert stores[0].account().prompt_tokens == 200
    with sqlite3.connect(tmp_path / "s.sqlite") as file:
        (text,) = file.execute("SELECT answer FROM answers WHERE key = '1-7'").fetchone()
    assert json.loads(text) == {"model": "m", "choices": [7]}
    for store in stores:
        store.close()


def test_two_tokens_of_one_text_are_counted_once_by_a_server_that_tells_texts(server: FakeServer) -> None:
    server.names = lambda token: "A" if token in {65, 66} else str(token)
    asked = backend(server)
    asked._texts = lambda tree: {token: server.names(token) for token in (65, 66, 98, 67)}  # type: ignore[method-assign]
    tree = Tree.of_ids([[(65,), (66,)], [(98,)], [(67,)]])
    found = asked.masses(sequences(3), tree)
    truth = np.array([served_server.log_probs(ids.tolist())[[66, 98, 67]] for ids in sequences(3)])
    np.testing.assert_allclose(found.log_mass, truth, atol=1e-12)
