"""What a flow takes before it runs: estimates against sums by hand, schedules against schedules by hand, requests."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiebreak import samples
from tiebreak.budget import gpus, networks
from tiebreak.errors import ResourceError, UsageError
from tiebreak.flow import graph, planning, reading, slurm, snakefile
from tiebreak.flow.node import Node
from tiebreak.flow.planning import Plan
from tiebreak.flow.rows import Rows
from tiebreak.flow.schema import Flow, Resources, Slurm
from tiebreak.train.finetune import read, shapes

GOLDEN = Path(__file__).parent / "flow_requests.txt"
Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def flow() -> Flow:
    return reading.read("blackpearl")


@pytest.fixture(scope="module")
def plan(flow: Flow) -> Plan:
    return planning.plan(flow, graph.graph(flow), gpus=8, folder="/scratch/blackpearl")


def job(plan: Plan, name: str) -> planning.Job:
    return next(job for job in plan.jobs if job.node.name == name)


def made(name: str, *inputs: str, gpus: int = 0) -> Node:
    return Node(name, "teacher", ("train",), inputs, ("judge",), resources=Resources(gpus=gpus))


# --- networks


@pytest.mark.parametrize(
    ("recipe", "causal", "vocabulary", "hidden"),
    [
        ("llama3-70b-qlora-blackpearl", 70_553_706_496, 128_256, 8192),
        ("qwen2-72b-qlora-blackpearl", 72_706_203_648, 152_064, 8192),
    ],
)
def test_the_large_shapes_have_the_published_number_of_weights(
    recipe: str, causal: int, vocabulary: int, hidden: int
) -> None:
    found = read.read(recipe)
    network = networks.network(shapes.settings(found.base) or {}, found)
    assert network is not None
    assert network.base == causal - vocabulary * hidden + 3 * hidden  # a head of three instead of the vocabulary


def test_the_teacher_takes_what_its_matrices_say() -> None:
    recipe = read.read("llama3-70b-qlora-blackpearl")
    size = networks.size(shapes.settings(recipe.base) or {}, recipe)
    assert size is not None
    matrices = 80 * (2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672)
    ends = 2 * (8192 + 8192) + 2 * (8192 + 1024) + 3 * (8192 + 28672)
    adapters = 80 * 64 * ends
    assert size.forward == 2 * (matrices + adapters)
    # Forward, forward again for the checkpoints, the gradient of the input, and that of the adapters themselves.
    assert size.training == 2 * (3 * (matrices + adapters) + adapters)
    assert size.trainable == adapters + 3 * 8192
    assert 37 < size.weight_bytes / 2**30 < 39


# --- estimates


def test_a_training_is_reckoned_as_by_hand(plan: Plan, flow: Flow) -> None:
    found = job(plan, "teacher-llama3-70b-fold-0").estimate
    recipe = read.read("llama3-70b-qlora-blackpearl")
    size = networks.size(shapes.settings(recipe.base) or {}, recipe)
    assert size is not None
    train = round(78664 * 0.9)
    held = round(train / 5)
    rows = train - held
    steps = math.ceil(2 * rows / 32)
    assert (found.work.rows, found.work.steps) == (rows, steps)
    trained, validated, finished = steps * 64 * 580, 20 * 4000 * 2 * 580, held * 2 * 580
    assert found.work.tokens == trained + validated + finished
    alone = finished * size.forward
    flops = trained * size.training + validated * size.forward
    assert found.work.petaflops == pytest.approx((flops + alone) / 1e15)
    hours = flops / (8 * 312e12 * 0.35 * 3600) + alone / (312e12 * 0.35 * 3600)
    assert found.hours == pytest.approx(hours)
    assert found.gpu_hours == pytest.approx(8 * hours)
    assert found.cost == pytest.approx(16 * hours)


def test_shards_share_the_labelling_and_both_orders_cost_twice(plan: Plan) -> None:
    one = job(plan, "label-qwen2-72b-1-of-8").estimate
    train, test = round(78664 * 0.9), round(78664 * 0.05)
    assert one.work.rows == round((train + 5 * test) / 8)  # a vote by one fold, a test row by all five
    single, both = (job(plan, f"predict-compress{end}").estimate for end in ("", "-both"))
    assert both.work.tokens == 2 * single.work.tokens


def test_the_sums_are_the_sums_of_the_jobs(plan: Plan) -> None:
    assert plan.total.jobs == len(plan.jobs) == sum(total.jobs for total in plan.stages.values())
    for name in ("petaflops", "gpu_hours", "cost"):
        parts = sum(getattr(total, name) or 0 for total in plan.stages.values())
        assert getattr(plan.total, name) == pytest.approx(parts)


def test_the_plan_agrees_with_what_the_original_took(plan: Plan) -> None:
    """The first place: a 70B fold with its labels a day on 8 A100, the whole about 15 days (from its write-up)."""
    assert 20 < (job(plan, "teacher-llama3-70b-fold-0").estimate.hours or 0) < 36
    assert 10 < plan.hours / 24 < 20


def test_planning_needs_few_operations_and_no_torch(plan: Plan) -> None:
    """A plan of blackpearl in a process of its own: the calls that it makes are counted, not its seconds."""
    code = """
import sys
from tiebreak.flow import graph, planning, reading
flow = reading.read("blackpearl")
calls = 0
def count(frame, event, argument):
    global calls
    calls += event == "call"
sys.setprofile(count)
planning.plan(flow, graph.graph(flow))
sys.setprofile(None)
print(calls, "torch" in sys.modules, "transformers" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    calls, *heavy = done.stdout.split()
    assert heavy == ["False", "False"]
    assert int(calls) < 1_000_000  # Python makes some five million calls in a second


def test_rows_are_counted_where_the_files_are_here(tmp_path: Path) -> None:
    votes = samples.votes()
    votes.write_parquet(tmp_path / "votes.parquet")
    (tmp_path / "flow.yaml").write_text(
        f"data: {{votes: [{tmp_path / 'votes.parquet'}], test: 0.1, validation: 0.1}}\n"
        "student: {recipe: gemma2-9b-lora-blackpearl}\n"
    )
    flow = reading.read(str(tmp_path / "flow.yaml"))
    rows = Rows.expected(flow)
    assert rows.train == round(votes.height * 0.8)
    assert rows.pairs == rows.pool == 0
    recipe = read.read("gemma2-9b-lora-blackpearl")
    texts = votes.select(
        pl.sum_horizontal(pl.col("prompt", "response_a", "response_b").list.join("", ignore_nulls=True).str.len_chars())
    )
    assert rows.tokens(recipe) == pytest.approx((texts.to_series() / 3.6 + 30).clip(upper_bound=1024).mean())
    assert rows.tokens(recipe, longest=50) <= 50
    stated = flow.model_copy(update={"assume": flow.assume.model_copy(update={"votes": 1000, "tokens": 300})})
    assert Rows.expected(stated).train == 800
    assert Rows.expected(stated).tokens(recipe) == 300


def test_without_rows_nothing_is_guessed_and_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text("data: {votes: [absent.csv]}\nstudent: {recipe: gemma2-9b-lora-blackpearl}\n")
    flow = reading.read(str(tmp_path / "flow.yaml"))
    plan = planning.plan(flow, graph.graph(flow))
    assert plan.total.petaflops == 0
    assert any("assume.votes is not stated" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("name", "gpu"),
    [("a100", "A100"), ("nvidia_a100_80gb_pcie", "A100"), ("tesla_t4", "T4"), ("H100", "H100"), ("l40s", "L40S"),
     ("rtx4090", "4090"), ("nvidia_rtx_3090", "3090"), ("a10", "A10"), ("v100_sxm2_32gb", "V100")],
)  # fmt: skip
def test_a_cluster_s_name_of_a_gpu_is_understood(name: str, gpu: str) -> None:
    found = gpus.find(name)
    assert found is not None
    assert found.name == gpu


def test_an_unknown_gpu_has_no_hours_and_what_does_not_fit_is_said(flow: Flow) -> None:
    changed = reading.read("blackpearl", ["resources.teacher.gpu=mystery", "resources.label.gpu_memory=24"])
    plan = planning.plan(changed, graph.graph(changed))
    assert job(plan, "teacher-llama3-70b-fold-0").estimate.hours is None
    assert any("10 jobs on GPUs of a kind that is not known (mystery)" in note for note in plan.notes)
    assert any("label-llama3-70b-1-of-8 will not fit" in note for note in plan.notes)
    short = reading.read("blackpearl", ["resources.teacher.hours=6"])
    said = planning.plan(short, graph.graph(short)).notes
    assert any("is stopped after 6 h: it goes on" in note for note in said)


# --- schedules


def test_a_schedule_by_hand() -> None:
    nodes = {node.name: node for node in (made("a"), made("b"), made("c", "a"), made("d", "b", "c"))}
    hours = {"a": 2.0, "b": 5.0, "c": 1.0, "d": 4.0}
    assert planning.critical_path(nodes, hours) == ["b", "d"]
    assert planning.makespan(nodes, hours, 2) == 9.0
    assert planning.makespan(nodes, hours, 1) == 12.0


def test_gpus_limit_what_runs_side_by_side() -> None:
    nodes = {node.name: node for node in (made("a", gpus=4), made("b", gpus=4), made("c", gpus=1))}
    hours = {"a": 3.0, "b": 2.0, "c": 1.0}
    assert planning.makespan(nodes, hours, 9) == 3.0
    assert planning.makespan(nodes, hours, 9, gpus=5) == 5.0
    assert planning.makespan(nodes, hours, 9, gpus=1) == 6.0  # larger than all there is: it runs alone


@given(
    st.lists(st.tuples(st.integers(1, 20), st.sets(st.integers(0, 9)), st.integers(0, 4)), min_size=1, max_size=10),
    st.integers(1, 4), st.integers(1, 5),
)  # fmt: skip
def test_no_schedule_is_shorter_than_its_bounds(jobs: list[tuple[int, set[int], int]], many: int, room: int) -> None:
    nodes = {
        str(i): made(str(i), *(str(j) for j in sorted(after) if j < i), gpus=count)
        for i, (_, after, count) in enumerate(jobs)
    }
    hours = {str(i): float(length) for i, (length, _, _) in enumerate(jobs)}
    whole = sum(hours.values())
    longest = sum(hours[name] for name in planning.critical_path(nodes, hours))
    found = planning.makespan(nodes, hours, many, room)
    assert max(longest, whole / many) - 1e-9 <= found <= whole + 1e-9
    assert planning.makespan(nodes, hours, len(jobs)) == pytest.approx(longest)


# --- requests


def test_the_requests_are_those_on_file(plan: Plan) -> None:
    """Written anew by `python tests/test_flow_plan.py`; a change here is a change of what a cluster is asked for."""
    assert requests(plan) == GOLDEN.read_text(encoding="utf-8")


def requests(plan: Plan) -> str:
    return "".join(f"{job.request}\n" for job in plan.jobs)


@pytest.mark.skipif(find_spec("snakemake_executor_plugin_slurm") is None, reason="Snakemake's plugin is not installed")
def test_the_requests_are_those_of_snakemake_s_plugin(plan: Plan, flow: Flow) -> None:
    from snakemake_executor_plugin_slurm.submit_string import get_submit_command
    from snakemake_executor_plugin_slurm.utils import set_gres_string
    from snakemake_executor_plugin_slurm.validation import validate_slurm_extra

    extra = (
        "resources.default={cpus: 2, memory: 1.5, hours: 0.3, partition: p q, account: a;b, qos: low, constraint: x|y}"
    )
    odd = reading.read(
        "blackpearl", [extra, "resources.default.options=--exclusive --mail-type=END", "slurm.requeue=false"]
    )
    for chain in (flow, odd):
        nodes = graph.graph(chain)
        rules = snakefile.rules(nodes)
        settings = SimpleNamespace(
            requeue=chain.slurm.requeue, no_requeue=not chain.slurm.requeue, qos=None, reservation=None
        )
        for node in nodes:
            job = SimpleNamespace(resources=Wanted(slurm.resources(node, chain)), threads=node.threads, is_group=bool)
            validate_slurm_extra(job)
            account, partition = (job.resources.get(f"slurm_{name}") for name in ("account", "partition"))
            params = {
                "run_uuid": "RUN_ID", "slurm_logfile": f"/d/logs/slurm/rule_{rules[node.name]}/%j.log",
                "comment_str": f"rule_{rules[node.name]}", "workdir": "/d",
                "account": f" -A {shlex.quote(account)}" if account else "",
                "partition": f" -p {shlex.quote(partition)}" if partition else "",
            }  # fmt: skip
            theirs = get_submit_command(job, params, settings) + set_gres_string(job)
            ours = slurm.request(node, chain, rules[node.name], folder="/d")
            assert ours.split() == theirs.split()


class Wanted(dict[str, int | str]):
    """Resources as Snakemake hands them over: by key and by attribute."""

    def __getattr__(self, name: str) -> int | str | None:
        return self.get(name)


def test_a_resumable_job_is_warned_before_its_time_is_over(plan: Plan) -> None:
    assert "--signal=TERM@120" in job(plan, "student-fold-0").request
    assert "--signal" not in job(plan, "merge").request


def test_without_accounting_no_account_is_named() -> None:
    flow = reading.read("blackpearl", ["resources.default.account=mine"])
    node = graph.graph(flow)[0]
    assert "-A mine" in slurm.request(node, flow, "r")
    assert "-A" not in slurm.request(node, flow, "r", accounting=False).split()
    assert "--slurm-no-account" in slurm.launch(flow, accounting=False).arguments
    assert "slurm_account" not in slurm.launch(flow, accounting=False).wanted(node)
    assert "--slurm-no-account" not in slurm.launch(flow, accounting=True).arguments


@pytest.mark.parametrize(
    ("sacct", "age", "keeps"), [(0, "300", True), (1, "300", False), (1, "60", None), (0, "60", True)]
)
def test_a_cluster_is_asked_whether_it_keeps_accounts(
    sacct: int, age: str, keeps: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = {"sbatch": "true", "sacct": f"exit {sacct}", "scontrol": f"echo 'MinJobAge               = {age} sec'"}
    for name, line in says.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if keeps is None:
        with pytest.raises(ResourceError, match="forgets an ended job after 60 s"):
            slurm.has_accounting()
    else:
        assert slurm.has_accounting() is keeps
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(ResourceError, match="no sbatch"):
        slurm.has_accounting()


def test_words_of_a_recipe_reach_the_shell_quoted(flow: Flow) -> None:
    lines = [["module", "load", "cuda; rm -rf ~"], ["export", "A=$(id)"]]
    changed = flow.model_copy(update={"slurm": Slurm(setup=lines)})
    assert slurm.setup(changed) == "module load 'cuda; rm -rf ~' && export 'A=$(id)' && "
    node = replace(graph.graph(flow)[0], resources=Resources(options="--exclusive '--mail-user=a b;id'"))
    assert slurm.resources(node, flow)["slurm_extra"] == "--exclusive '--mail-user=a b;id'"


@pytest.mark.parametrize(
    "options", ["--mem=5G", "-p long", "-plong", "--gres=gpu:1", "rm", "--signal=B:USR2@9", "-A x"]
)
def test_options_that_other_keys_decide_are_refused(options: str, flow: Flow) -> None:
    node = replace(graph.graph(flow)[0], resources=Resources(options=options))
    with pytest.raises(UsageError, match="resources of data"):
        slurm.resources(node, flow)


def test_what_cannot_be_passed_on_is_refused(flow: Flow) -> None:
    node = replace(graph.graph(flow)[0], resources=Resources(gpus=1, gpu="a100-sxm4"))
    with pytest.raises(UsageError, match="letters, digits"):
        slurm.resources(node, flow)
    with pytest.raises(UsageError, match="begins with"):
        slurm.setup(flow.model_copy(update={"slurm": Slurm(setup=[["curl", "x"]])}))


def test_stages_that_stay_here_are_not_submitted() -> None:
    flow = reading.read("blackpearl", ["slurm.local=[data, ladder]"])
    plan = planning.plan(flow, graph.graph(flow))
    assert all((job.request == "") == (job.node.stage in {"data", "ladder"}) for job in plan.jobs)


# --- the command


def test_the_command_shows_jobs_sums_requests_and_notes(cli: Cli, tmp_path: Path) -> None:
    shown = cli("flow", "plan", "blackpearl", "--gpus", "8", "-o", "here", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "teacher-llama3-70b-fold-4" in shown.stdout
    assert f"-D {tmp_path / 'here'} --gpus=a100:8" in shown.stdout
    assert "78,664 rows as stated" in shown.stderr
    assert not (tmp_path / "here").exists()
    document = json.loads(cli("flow", "plan", "blackpearl-1gpu", "--json").stdout)
    assert document["total"]["jobs"] == len(document["jobs"])
    assert document["jobs"][0]["command"][0] == "data"
    wrong = cli("flow", "plan", "blackpearl", "--executor", "cloud")
    assert wrong.returncode == 2


if __name__ == "__main__":
    pearl = reading.read("blackpearl")
    GOLDEN.write_text(requests(planning.plan(pearl, graph.graph(pearl), gpus=8, folder="/scratch/blackpearl")))
