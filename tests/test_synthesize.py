"""New pairs from prompts: who answers what, what is dropped and why, and that a stop loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

import served_server
import tiny
from served_server import chat_answer
from tiebreak import comparisons, samples, soft_labels
from tiebreak.errors import DataError, ResourceError, UsageError
from tiebreak.judges.generative.writers import Spec
from tiebreak.judges.generative.writing import Conversation, Sampling, Written
from tiebreak.judges.runtime import Runtime
from tiebreak.teach import mixing, synthesizing
from tiebreak.teach.synthesizing import authors, estimating, judging, pairing, prompts
from tiebreak.teach.synthesizing.authors import Author, Model

ONE, TWO = (Model(name, Spec(f"http://{name}", name)) for name in ("one", "two"))


class Echo:
    """Says who it is, what was asked, and which draw this is."""

    def __init__(self, name: str, fail_after: int | None = None) -> None:
        self.name, self.fail_after = name, fail_after
        self.report: dict[str, Any] = {}
        self.calls: list[list[Conversation]] = []

    def write(
        self, conversations: Sequence[Conversation], sampling: Sampling, *, advance: Callable[[int], None] = print
    ) -> list[list[Written]]:
        if self.fail_after is not None and len(self.calls) >= self.fail_after:
            raise ResourceError("the server is gone")
        self.calls.append(list(conversations))
        self.report = {"tokens": 1}
        advance(len(conversations))
        return [[self.text(chat, sampling, sample) for sample in range(sampling.samples)] for chat in conversations]

    def text(self, chat: Conversation, sampling: Sampling, sample: int) -> Written:
        asked = chat[-1][1]
        draw = f" {sampling.seed} {sample}" if sampling.temperature else ""
        said = {"silence": " ", "parrot": "the very same"}.get(asked, f"{self.name}{draw}: {len(chat)} {asked}")
        return Written(said, asked != "endless", 3)


def planned(tmp_path: Path, words: Sequence[str], models: Sequence[Model] = (ONE, TWO), **options: Any) -> Any:
    chosen = synthesizing.choose([(text,) for text in words])
    return synthesizing.plan(chosen, models, tmp_path / "pairs.parquet", **options)


def made(plan: Any, **options: Any) -> Any:
    return synthesizing.synthesize(plan, writers=lambda spec, runtime: Echo(str(spec.model)), **options)


def test_pairs_say_who_wrote_them(tmp_path: Path) -> None:
    outcome = made(planned(tmp_path, [f"question {i}" for i in range(40)], temperatures=[0.7, 1.0], answers=2))
    table = pl.read_parquet(tmp_path / "pairs.parquet")
    assert comparisons.validate(table).equals(table)
    assert table.height == outcome.paired.table.height == 40
    assert table["id"].n_unique() == 40
    for row in table.iter_rows(named=True):
        for side in "ab":
            model, _, draw = row[f"model_{side}"].partition("@T=")
            assert row[f"response_{side}"][0].startswith(model)
            assert row[f"response_{side}"][0].endswith(row["prompt"][0])
            assert draw in {"0.7#0", "1#0"}
    authors = Counter(table["model_a"].to_list() + table["model_b"].to_list())
    assert set(authors) == {f"{name}@T={t}#0" for name in ("one", "two") for t in ("0.7", "1")}
    assert min(authors.values()) > 8
    assert 5 < (table["model_a"] < table["model_b"]).sum() < 35  # sides are drawn
    assert table["label"].null_count() == table["p_a"].null_count() == 40


def test_all_pairs_or_some(tmp_path: Path) -> None:
    every = made(planned(tmp_path, ["a", "b"], temperatures=[0.5, 1.0], answers=5)).paired
    assert every.table.height == 2 * 10
    some = made(planned(tmp_path, ["a", "b"], temperatures=[0.5, 1.0], answers=5, pairing=pairing.Pairing(3))).paired
    assert some.table.height == 2 * 3
    assert set(some.table["id"]) < set(every.table["id"])
    other = planned(tmp_path, ["a", "b"], temperatures=[0.5, 1.0], answers=5, pairing=pairing.Pairing(3, seed=1))
    assert set(made(other).paired.table["id"]) != set(some.table["id"])


def test_what_is_dropped_is_counted(tmp_path: Path) -> None:
    words = ["fine", "silence", "parrot", "endless", "Fine ", "", "held out"]
    unseen = comparisons.validate(
        pl.DataFrame({"id": ["1"], "prompt": [["Held out"]], "response_a": [["x"]], "response_b": [["y"]]})
    )
    chosen = synthesizing.choose([(text,) for text in words], exclude={"test": unseen})
    assert chosen.dropped == {"empty": 1, "the same as another": 1, "asked in test": 1}
    assert [one[0] for one in chosen.turns] == ["fine", "silence", "parrot", "endless"]
    plan = synthesizing.plan(chosen, [ONE, TWO], tmp_path / "pairs.parquet")
    found = made(plan).paired
    assert found.dropped_answers == {"empty": 2, "cut off by the limit of tokens": 2}
    assert found.dropped_pairs == {"identical answers": 1}
    assert found.table["prompt"].to_list() == [["fine"]]
    kept = made(synthesizing.plan(chosen, [ONE, TWO], tmp_path / "p.parquet", pairing=pairing.Pairing(unfinished=True)))
    assert sorted(kept.paired.table["prompt"].list.first()) == ["endless", "fine"]
    card = json.loads((tmp_path / "pairs.json").read_text())
    assert card["answers"] == {"written": 8, "dropped": found.dropped_answers}
    assert card["pairs"] == {"formed": 2, "kept": 1, "dropped": {"identical answers": 1}}
    assert pl.read_parquet(tmp_path / "pairs.answers.parquet").height == 8


def test_a_pair_that_must_stay_unseen_goes(tmp_path: Path) -> None:
    plan = planned(tmp_path, ["a long enough question", "another question of some length"])
    whole = made(plan).paired.table
    known = comparisons.swap(whole.head(1)).with_columns(pl.Series("prompt", [["asked otherwise"]]))
    left = made(plan, exclude={"test": known}).paired
    assert left.table["id"].to_list() == whole["id"].to_list()[1:]
    assert left.dropped_pairs == {"there in test": 1}


def test_a_later_turn_follows_on_the_authors_own_answers(tmp_path: Path) -> None:
    chosen = synthesizing.choose([("first", "second"), ("only",)], max_turns=2)
    plan = synthesizing.plan(chosen, [ONE, TWO], tmp_path / "pairs.parquet", system="be brief")
    echoes: dict[str, Echo] = {}
    outcome = synthesizing.synthesize(
        plan, writers=lambda spec, runtime: echoes.setdefault(str(spec.model), Echo(str(spec.model)))
    )
    talk = echoes["one"].calls[-1][0]
    assert [role for role, _ in talk] == ["system", "user", "assistant", "user"]
    assert talk[2][1].startswith("one")
    assert [len(row) for row in outcome.paired.table["response_a"]] == [2, 1]


def test_a_stop_loses_nothing_and_the_bytes_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiebreak.teach.synthesizing.planning.ROWS", {"cpu": 4, "cuda": 4})
    words = [f"question {i}" for i in range(17)]
    whole = made(planned(tmp_path, words, answers=3))
    expected = [(tmp_path / name).read_bytes() for name in ("pairs.parquet", "pairs.answers.parquet", "pairs.json")]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    plan = planned(elsewhere, words, answers=3)
    with pytest.raises(ResourceError, match="gone"):
        synthesizing.synthesize(plan, writers=lambda spec, runtime: Echo(str(spec.model), fail_after=2))
    done = [chunk for chunk in plan.chunks if chunk.finished() is not None]
    assert len(done) == 2
    done[0].path.write_bytes(b"half a file")
    outcome = made(planned(elsewhere, words, answers=3))
    assert outcome.reused == done[1].answers
    assert outcome.reused + outcome.written == whole.written == 51
    assert [
        (elsewhere / name).read_bytes() for name in ("pairs.parquet", "pairs.answers.parquet", "pairs.json")
    ] == expected
    assert not plan.work.exists()


def test_done_it_writes_nothing_anew_and_pairs_may_be_drawn_again(tmp_path: Path) -> None:
    words = [f"question {i}" for i in range(6)]
    first = made(planned(tmp_path, words, answers=4))
    whole = (tmp_path / "pairs.parquet").read_bytes()

    def nobody(spec: Spec, runtime: Runtime) -> Echo:
        raise AssertionError("nothing is to be written")

    again = synthesizing.synthesize(planned(tmp_path, words, answers=4), writers=nobody)
    assert (again.written, again.reused) == (0, first.written)
    assert (tmp_path / "pairs.parquet").read_bytes() == whole
    fewer = planned(tmp_path, words, answers=4, pairing=pairing.Pairing(2))
    assert synthesizing.synthesize(fewer, writers=nobody).paired.table.height == 12
    with pytest.raises(AssertionError):
        synthesizing.synthesize(planned(tmp_path, words, answers=3), writers=nobody)


@given(
    count=st.integers(1, 9), seed=st.integers(0, 99), temperatures=st.sets(st.sampled_from([0.0, 0.5, 1.0]), min_size=1)
)
@settings(max_examples=60, deadline=None)
def test_authors_answer_in_turn(count: int, seed: int, temperatures: set[float]) -> None:
    team = authors.authors([ONE, TWO], sorted(temperatures))
    if temperatures == {0.0} and count > 2:
        with pytest.raises(UsageError, match="temperature 0"):
            authors.deal("p", team, count, seed)
        return
    dealt = authors.deal("p", team, count, seed)
    assert sum(dealt.values()) == count
    free = [dealt.get(one, 0) for one in team if one.temperature]
    assert not free or max(free) - min(free) <= 1
    assert all(number == 1 for one, number in dealt.items() if not one.temperature)
    assert dealt == authors.deal("p", team, count, seed)


def test_what_cannot_be_planned(tmp_path: Path) -> None:
    for options in ({"answers": 1}, {"temperatures": [-1.0]}, {"temperatures": [1.0, 1.0]}, {"models": [ONE, ONE]}):
        with pytest.raises(UsageError):
            planned(tmp_path, ["a"], **options)
    with pytest.raises(UsageError, match="no prompts"):
        planned(tmp_path, [""])
    for text in ("nameless", "=place", "a#b=place"):
        with pytest.raises(UsageError, match="NAME=PLACE"):
            Model.parse(text)
    for text in ("served:localhost#m", "served:http://x", ""):
        with pytest.raises(UsageError):
            Spec.parse(text)
    assert Model.parse("big=served:http://h:1/v1#m=2").spec == Spec("http://h:1/v1", "m=2")
    assert Author(ONE, 0.5).name == "one@T=0.5"


def test_what_it_may_cost(tmp_path: Path) -> None:
    paid = Model("one", Spec("http://x", "one", {"price_prompt": 2.0, "price_answer": 10.0}))
    plan = planned(tmp_path, ["x" * 400] * 1, models=[paid], answers=3, sampling=Sampling(max_tokens=50))
    found = estimating.estimate(plan, paid)
    assert (found.answers, found.prompt_tokens, found.answer_tokens) == (3, 300, 150)
    assert found.cost == pytest.approx((300 * 2 + 150 * 10) / 1e6)


def test_prompts_are_read_from_whatever_holds_some(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.csv").write_text('prompt,other\n"a, b",1\n')
    (tmp_path / "c.jsonl").write_text('{"prompt": "x"}\n{"prompt": "y"}\n')
    pl.DataFrame({"question": [["t1", "t2"]]}).write_parquet(tmp_path / "d.parquet")
    (tmp_path / "e.jsonl").write_text('{"id": "1", "prompt": ["p"], "response_a": ["q"], "response_b": ["r"]}\n')
    found = prompts.read([tmp_path / name for name in ("a.txt", "b.csv", "c.jsonl", "e.jsonl")])
    assert found == [("one",), ("two",), ("a, b",), ("x",), ("y",), ("p",)]
    assert prompts.read([tmp_path / "d.parquet"], mapping={"prompt": "question"}) == [("t1", "t2")]
    with pytest.raises(DataError, match="no such file"):
        prompts.read([tmp_path / "f.txt"])


def test_labels_of_one_teacher_and_of_several(tmp_path: Path) -> None:
    table = samples.votes().with_columns(pl.lit(None, dtype=comparisons.LABEL).alias("label"))
    team = judging.read([Path("embedded")])
    found = judging.label(table, team, tmp_path / "pairs.parquet")
    labels = soft_labels.read([found.output])
    assert labels["id"].to_list() == table["id"].to_list()
    assert soft_labels.read_audit(found.output).passed
    with pytest.raises(UsageError, match="one name"):
        judging.read([Path("embedded")] * 2)
    second = type(team[0])("other", team[0].teachers)
    both = judging.label(table, [team[0], second], tmp_path / "both.parquet")
    mean = soft_labels.read([both.output])
    assert len(both.files) == 2
    assert (mean.select(comparisons.SOFT) - labels.select(comparisons.SOFT)).to_numpy().max() < 1e-12
    other = {"id": ["v"], "prompt": [["quite another thing"]], "response_a": [["x"]], "response_b": [["y"]]}
    votes = comparisons.validate(pl.DataFrame({**other, "label": ["a"]}))
    mixed, report = mixing.mix(votes, table, labels, margin=0.0)
    assert report.kept == 60
    assert mixed.height == 61


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = AutoModelForCausalLM.from_config(tiny.config("llama"), dtype=torch.float32)
        for parameter in made.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.15)
    made.save_pretrained(place)
    tiny.tokenizer().save_pretrained(place)
    return place


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tiebreak", "teach", "synthesize", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )  # fmt: skip


def test_the_command(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "prompts.txt").write_text("which\nfox\n")
    words = (
        "prompts.txt", "--model", f"tiny={checkpoint}", "-o", "pairs.parquet", "--answer-tokens", "6",
        "--keep-unfinished", "--precision", "fp32", "--judge", "embedded", "--json",
    )  # fmt: skip
    run = start(tmp_path, *words)
    out, err = run.communicate()
    assert run.returncode == 0, err
    document = json.loads(out)
    assert document["pairs"]["kept"] == 2
    assert document["labels"]["rows"] == 2
    assert document["reports"]["tiny"]["answers"] == 4
    assert "wrote 2 pairs of 2 prompts" in err


@pytest.mark.slow
def test_killed_and_run_again_it_writes_the_same_bytes(tmp_path: Path, checkpoint: Path) -> None:
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "prompts.txt").write_text("".join(f"question number {i}\n" for i in range(60)))
    words = (
        "prompts.txt", "--model", f"tiny={checkpoint}", "-o", "pairs.parquet", "--answer-tokens", "20",
        "--keep-unfinished", "--temperature", "0.8", "--temperature", "1.2", "--answers", "3",
    )  # fmt: skip
    whole = start(tmp_path / "whole", *words)
    whole.communicate()
    assert whole.returncode == 0
    killed = tmp_path / "killed"
    kills = 0
    while not (killed / "pairs.parquet").exists():
        run = start(killed, *words)
        before = len(list(killed.glob("pairs.parquet.run/*.parquet")))
        while run.poll() is None and kills < 2:
            if len(list(killed.glob("pairs.parquet.run/*.parquet"))) > before + 1:
                run.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.02)
        run.communicate()
    assert kills == 2
    for name in ("pairs.parquet", "pairs.answers.parquet", "pairs.json"):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (killed / "pairs.parquet.run").exists()


def test_served_models_through_faults_and_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that slows down, fails and hangs up: nothing is lost, asked twice or paid twice."""
    monkeypatch.setenv("TIEBREAK_CACHE", str(tmp_path / "cache"))
    words = [f"question {i}" for i in range(12)]
    with served_server.running() as server:
        server.chat = lambda body: chat_answer(f"{body['seed']} says {body['messages'][-1]['content']}")
        faults = {0: "429 after 0", 3: "500", 5: "drop", 8: "cut", 11: "malformed"}
        server.plan = lambda number, body: faults.get(number)
        model = Model("big", Spec(server.url, served_server.MODEL))
        outcome = synthesizing.synthesize(planned(tmp_path, words, [model]))
        assert outcome.paired.table.height == 12
        asked = len(server.seen)
        assert asked == 24 + len(faults)
        assert outcome.reports["big"]["answers"] == 24
        whole = (tmp_path / "pairs.parquet").read_bytes()
        synthesizing.synthesize(planned(tmp_path, words, [model]))
        assert len(server.seen) == asked  # answers that were paid for are kept
        assert (tmp_path / "pairs.parquet").read_bytes() == whole
