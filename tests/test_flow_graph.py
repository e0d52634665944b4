"""The recipe of a flow and the graph that it becomes."""

from __future__ import annotations

import fnmatch
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiebreak.errors import ResourceError, UsageError
from tiebreak.flow import drawing, families, graph, launching, place, reading, snakefile
from tiebreak.flow.node import Node
from tiebreak.flow.schema import Flow, Resources
from tiebreak.train.finetune import read

TEACHER: dict[str, Any] = {"name": "mini", "recipe": "minilm-l6-cpu"}
FEATURES: dict[str, Any] = {"name": "features", "recipe": "features"}
BASE: dict[str, Any] = {
    "data": {"votes": ["votes.csv"], "folds": 3},
    "teachers": [FEATURES],
    "student": {"recipe": "smollm2-135m-lora"},
}


def flow(**changes: Any) -> Flow:
    return Flow.model_validate({**BASE, **changes})


def named(nodes: list[Node]) -> dict[str, Node]:
    return {node.name: node for node in nodes}


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    """Flows of every shape: teachers or none, a pool, pairs, test votes of their own."""
    teachers = draw(st.sampled_from([[], [FEATURES], [FEATURES, TEACHER], [{**TEACHER, "shards": 2, "pretrain": {}}]]))
    data = {
        "votes": ["votes.csv", "more.jsonl"][: draw(st.integers(1, 2))],
        "pairs": ["pairs.parquet"],
        "pool": ["pool.parquet"] if teachers and draw(st.booleans()) else [],
        "test": draw(st.sampled_from([0.2, ["test.csv"]])),
        "folds": draw(st.integers(2, 4)),
    }
    student = {
        "recipe": "smollm2-135m-lora", "control": draw(st.booleans()), "pretrain": draw(st.sampled_from([None, {}])),
    }  # fmt: skip
    return flow(
        data=data, teachers=teachers, student=student,
        combine={"per_teacher": draw(st.booleans())},
        compress={"method": draw(st.sampled_from([None, "gptq-8"]))},
        predict={"swap": draw(st.sampled_from(["both", "none"])), "teachers": draw(st.booleans())},
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(flows())
def test_every_graph_can_be_walked_and_nothing_learns_from_the_test_rows(wanted: Flow) -> None:
    nodes = graph.graph(wanted)
    known = named(nodes)
    assert len(known) == len(nodes)
    done: set[str] = set()
    for node in nodes:
        assert set(node.inputs) <= done, node.name
        mentioned = set(re.findall(r"stages/([^/ ]+)/", " ".join([*node.command, *node.takes.values()])))
        assert mentioned - {node.name} == set(node.inputs)
        # Everything that a command reads of another node is an output of that node.
        for other in node.inputs:
            paths = re.findall(rf"stages/{re.escape(other)}/([^ ]+)", " ".join([*node.command, *node.takes.values()]))
            for path in paths:
                assert fnmatch.filter(known[other].outputs, path.split("/")[0]), (node.name, other, path)
        done.add(node.name)
    # The labels of the test rows are read by the ladder alone, and their texts by judges that are finished.
    for node in nodes:
        if f"{known['data-split'].output}/test.parquet" in node.command or "data-test" in node.inputs:
            assert node.stage in {"data", "predict", "ladder"} or node.name == "mix", node.name
    assert len(set(snakefile.rules(nodes).values())) == len(nodes)
    assert graph.ancestors(nodes, "ladder") >= {node.name for node in nodes if node.stage == "predict"}
    assert graph.finished(wanted).split("/")[1] in known


def test_what_the_commands_say() -> None:
    nodes = named(graph.graph(flow(teachers=[{**FEATURES, "changes": {"repeats": 2}}, {**TEACHER, "shards": 2}])))
    assert nodes["teacher-features-fold-1"].command == (
        "train", "features", "--data", "stages/data-folds/votes.parquet", "--fold", "1", "--name", "features",
        "--repeats", "2", "-o", "stages/teacher-features-fold-1/fold-1",
    )  # fmt: skip
    student = nodes["student-fold-2"]
    assert student.command == (
        "train", "recipes/student.yaml", "--data", "stages/data-folds/votes.parquet", "--fold", "2",
        "--teacher", "stages/combine-features/labels.parquet", "--teacher", "stages/combine-mini/labels.parquet",
        "-o", "stages/student-fold-2/fold-2",
    )  # fmt: skip
    assert student.resumable
    assert student.recipe is not None
    assert (student.recipe.folds, student.recipe.loss.preset, student.recipe.name) == (3, "blackpearl", "flow")
    audit = nodes["audit-mini"]
    assert audit.takes == {
        f"labels.shard-{n}-of-2.parquet": f"stages/label-mini-{n}-of-2/labels.shard-{n}-of-2.parquet" for n in (1, 2)
    }
    assert audit.command[2] == "stages/audit-mini/labels.shard-*.parquet"
    assert nodes["predict-teacher-mini-fold-0"].command[-4:-2] == ("--swap", "none")
    assert "--swap" not in nodes["predict-teacher-features-fold-0"].command
    assert nodes["ladder"].command[-4:] == ("--prior", "stages/data-folds/votes.parquet", "-o", "stages/ladder/ladder")


def test_pretraining_comes_before_every_fold_and_keeps_the_recipe() -> None:
    data = {**BASE["data"], "pairs": ["pairs.csv"]}
    student = {**BASE["student"], "changes": {"lora": {"r": 4}}, "pretrain": {"changes": {"max_steps": 7}}}
    nodes = named(graph.graph(flow(data=data, student=student)))
    first, fold = nodes["pretrain-student"], nodes["student-fold-0"]
    assert first.recipe is not None
    assert fold.recipe is not None
    assert (first.recipe.max_steps, first.recipe.folds, first.recipe.lora) == (7, 0, fold.recipe.lora)
    assert fold.recipe.max_steps is None
    assert "start.bundle=stages/pretrain-student/judge" in fold.command
    assert first.command[first.command.index("--data") + 1] == "stages/data-pairs/votes.parquet"


def test_resources_of_a_teacher_stand_over_those_of_its_stage_and_those_over_the_default() -> None:
    wanted = flow(
        teachers=[{**TEACHER, "resources": {"gpus": 4}}],
        resources={"default": {"cpus": 2, "memory": 8}, "teacher": {"gpus": 1, "cpus": 6}},
    )
    nodes = named(graph.graph(wanted))
    assert nodes["teacher-mini-fold-0"].resources == Resources(gpus=4, cpus=6, memory=8)
    assert nodes["data-clean"].resources == Resources(cpus=2, memory=8)
    with pytest.raises(ResourceError) as caught:
        launching.local(list(nodes.values()), cores=2, gpus=1)
    assert "teacher-mini-fold-0 asks for 4 GPUs, and 1 are here" in str(caught.value)


def test_all_faults_are_told_at_once_with_their_places_and_the_nearest_names(tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text(
        "data: {votes: [a.csv], fold: 3}\nteachers:\n  - {name: X, recipe: features}\n"
        "student: {recipe: smollm2-135m-lora}\ncompress: {method: gptq8}\n"
    )
    with pytest.raises(UsageError) as caught:
        reading.read(str(file))
    said = str(caught.value)
    assert "3 faults" in said
    assert "flow.yaml:1: unknown key 'data.fold'; to mend: write folds" in said
    assert "flow.yaml:3: teachers.0.name" in said
    assert "compress.method=gptq-8" in said


def test_faults_of_recipes_are_faults_of_the_flow(tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text(
        "data: {votes: [a.csv]}\nteachers:\n  - {name: one, recipe: features, changes: {repeat: 3}}\n"
        "  - {name: one, recipe: minilm-l6-cpu, pretrain: {}}\n"
        "student:\n  recipe: smollm2-135m-lora\n  changes: {max_stps: 3}\n"
    )
    with pytest.raises(UsageError) as caught:
        reading.read(str(file))
    said = str(caught.value)
    for part in ("write repeats", "two teachers are named one", "pretrain without pairs", "write max_steps"):
        assert part in said


@pytest.mark.parametrize("name", reading.shipped())
def test_flows_that_ship_are_read_back_equal_and_name_how_they_are_started(name: str, tmp_path: Path) -> None:
    found = reading.read(name)
    assert found.name == name
    assert found.about
    assert found.hardware
    file = tmp_path / "again.yaml"
    file.write_text(reading.dump(found))
    assert reading.read(str(file)) == found
    assert reading.source(name)[0].startswith(f"# tiebreak flow run {name} ")
    assert graph.graph(found)


def test_overrides_reach_into_recipes_and_keep_their_types() -> None:
    found = reading.read("blackpearl-tiny", ["student.changes.optimiser.lr=2e-4", "data.votes=[x.csv]", "seed=3"])
    nodes = named(graph.graph(found))
    recipe = nodes["student-fold-0"].recipe
    assert recipe is not None
    assert recipe.optimiser.lr == 2e-4
    assert nodes["data-split"].command[nodes["data-split"].command.index("--seed") + 1] == "3"
    assert nodes["data-import"].files == (str(Path("x.csv").absolute()),)


def test_a_base_on_this_disk_is_named_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    student = {"recipe": "smollm2-135m-lora", "changes": {"base": {"name": "model"}}}
    recipe = named(graph.graph(flow(student=student)))["student-fold-0"].recipe
    assert recipe is not None
    assert recipe.base.name == str(tmp_path / "model")
    assert read.read("smollm2-135m-lora").base.name.startswith("package:")


def test_nodes_are_kept_and_read_back(tmp_path: Path) -> None:
    where = place.Place(tmp_path / "chain")
    where.make()
    nodes = graph.graph(flow(resources={"default": {"gpu": "a100", "gpus": 1}}))
    place.write(where, nodes)
    for before, after in zip(nodes, place.read(where), strict=True):
        assert {**vars(before), "recipe": None} == vars(after)


def test_the_graph_in_words_and_pictures() -> None:
    nodes = graph.graph(flow(teachers=[FEATURES, TEACHER]))
    found = families.families(nodes)
    assert [own.name for own in found if own.name.startswith("teacher")] == ["teacher features", "teacher mini"]
    student = next(own for own in found if own.name == "student")
    assert student.inputs == ["combine features", "combine mini"]
    assert len(student.nodes) == 3
    assert "student  <- combine features, combine mini" in drawing.text(nodes)
    svg = drawing.draw(nodes, {"data-import": "done", "student-fold-0": "failed"}, ".svg")
    assert svg == drawing.draw(nodes, {"data-import": "done", "student-fold-0": "failed"}, ".svg")
    assert b"student" in svg
    assert b"averages" in svg
    assert drawing.mermaid(nodes).count("-->") == sum(len(node.inputs) for node in nodes)
    assert drawing.dot(nodes).count("->") == sum(len(node.inputs) for node in nodes)
    with pytest.raises(UsageError, match=r"\.gif"):
        drawing.draw(nodes, {}, ".gif")


def test_the_snakefile_quotes_what_it_is_given() -> None:
    nodes = [Node("a-b", "data", ("x",), (), ("o",)), Node("a.b", "data", ("x",), ("a-b",), ("o",))]
    text = snakefile.text(nodes, lambda node: {"gpu": 1, "slurm_extra": '--x="{y}"'}, "module load z && ")
    assert "rule a_b:" in text
    assert "rule a_b_:" in text
    assert json.dumps('--x="{y}"') in text
    assert 'input: "done/a-b"' in text
    assert '"module load z && exec ' in text
