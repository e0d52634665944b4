"""Pushing through the official client's own code to a Kaggle on loopback."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kaggle_remote
import kaggle_server
from kaggle_remote import COMPETITION, JUDGE, KERNEL, WHEELS, Desk, actions
from kaggle_server import KEY, USER, Kaggle, hang_up, refuse
from tiebreak.errors import DataError, ResourceError, StoppedError, TiebreakError, UsageError
from tiebreak.kaggle import remote
from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.metadata import Kernel
from tiebreak.kaggle.remote import Pace, state

ALL_NEW = {"wheels": ("create", 1), "model": ("create", 0), "judge": ("create", 1), "kernel": ("create", 1)}
SHORT = Pace(every=0.0, version=0.3, run=0.3)
MADE = ["CreateDataset", "CreateModel", "CreateModelInstance", "SaveKernel"]


@pytest.fixture
def kaggle() -> Iterator[Kaggle]:
    with kaggle_server.Running() as server:
        yield server


@pytest.fixture
def desk(kaggle: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    kaggle_remote.sign_in(kaggle, tmp_path, monkeypatch)
    return Desk()


@pytest.fixture
def pack(tmp_path: Path) -> Layout:
    return kaggle_remote.make_pack(tmp_path / "out", judge=True)


def test_a_first_push_makes_everything_in_order(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    assert actions(desk.push(pack)) == ALL_NEW
    assert kaggle.names() == MADE
    for sent, folder, metadata in (
        (kaggle.datasets[WHEELS].versions[0], pack.wheels, "dataset-metadata.json"),
        (kaggle.instances[JUDGE].versions[0], pack.model / "judge", "model-instance-metadata.json"),
    ):
        assert sent == {path.name: path.read_bytes() for path in folder.iterdir() if path.name != metadata}
    kernel = kaggle.kernels[KERNEL][0]
    assert kernel["enableInternet"] is False
    assert kernel["modelDataSources"] == [f"{JUDGE}/1"]
    assert kaggle.datasets[WHEELS].body["isPrivate"] is True
    written = json.loads(pack.pushed.read_text())
    assert {name: part["version"] for name, part in written["parts"].items()} == {
        name: version for name, (_, version) in ALL_NEW.items()
    }
    assert written["begun"] == {}


def test_the_dataset_of_a_public_notebook_is_public(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    Kernel.read(pack.kernel).model_copy(update={"is_private": False}).write(pack.kernel)
    desk.push(pack)
    assert not kaggle.datasets[WHEELS].body.get("isPrivate", False)


def test_nothing_changed_nothing_is_sent(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    desk.push(pack)
    written = pack.pushed.read_bytes()
    assert {action for action, _ in actions(desk.push(pack)).values()} == {"nothing"}
    assert kaggle.names() == MADE
    assert pack.pushed.read_bytes() == written


def test_what_changed_is_sent_and_the_notebook_names_the_new_version(
    kaggle: Kaggle, desk: Desk, pack: Layout
) -> None:  # fmt: skip
    desk.push(pack)
    (pack.model / "judge" / "adapter.safetensors").write_bytes(bytes(3001))
    assert actions(desk.push(pack)) == {
        "wheels": ("nothing", 1), "model": ("nothing", 0), "judge": ("version", 2), "kernel": ("version", 2),
    }  # fmt: skip
    assert kaggle.names()[4:] == ["CreateModelInstanceVersion", "SaveKernel"]
    assert kaggle.kernels[KERNEL][1]["modelDataSources"] == [f"{JUDGE}/2"]
    assert Kernel.read(pack.kernel).model_sources == [f"{JUDGE}/2"]
    notes = dict(kaggle.requests)["CreateModelInstanceVersion"]["body"]["versionNotes"]
    assert notes.startswith("tiebreak ")


def test_new_wheels_run_the_notebook_again_for_it_reads_their_latest_version(
    kaggle: Kaggle, desk: Desk, pack: Layout
) -> None:
    desk.push(pack)
    (pack.wheels / "wheelhouse.json").write_text('{"format": 2}')
    done = actions(desk.push(pack, notes="numpy 2.1"))
    assert (done["wheels"], done["kernel"]) == (("version", 2), ("version", 2))
    assert dict(kaggle.requests)["CreateDatasetVersion"]["body"]["versionNotes"] == "numpy 2.1"


def test_changed_cards_are_updated_without_an_upload(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    desk.push(pack)
    uploads = len(kaggle.uploaded)
    for path, key in (
        (pack.model / "model-metadata.json", "description"),
        (pack.model / "judge" / "model-instance-metadata.json", "overview"),
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: "Said anew."}))
    assert actions(desk.push(pack)) == {
        "wheels": ("nothing", 1), "model": ("update", 0), "judge": ("update", 1), "kernel": ("nothing", 1),
    }  # fmt: skip
    assert len(kaggle.uploaded) == uploads
    assert kaggle.instances[JUDGE].body["overview"] == "Said anew."


def test_a_dataset_that_others_moved_on_is_pushed_again(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    desk.push(pack)
    kaggle.datasets[WHEELS].versions.append({"other.whl": b""})
    assert actions(desk.push(pack))["wheels"] == ("version", 3)


def test_what_was_deleted_on_kaggle_is_made_again(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    desk.push(pack)
    del kaggle.datasets[WHEELS]
    assert actions(desk.push(pack))["wheels"] == ("create", 1)


def test_a_notebook_that_others_changed_or_deleted_is_pushed_again(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    desk.push(pack)
    edited = json.loads(kaggle.kernels[KERNEL][0]["text"])
    edited["cells"][0]["source"] = "print('by hand')"
    kaggle.kernels[KERNEL].append(kaggle.kernels[KERNEL][0] | {"text": json.dumps(edited)})
    assert actions(desk.push(pack))["kernel"] == ("version", 3)
    del kaggle.kernels[KERNEL]
    assert actions(desk.push(pack))["kernel"] == ("create", 1)


def test_a_kaggle_that_rewrites_notebooks_does_not_get_one_with_every_push(
    kaggle: Kaggle, desk: Desk, pack: Layout
) -> None:
    def rewrite() -> None:
        held = json.loads(kaggle.kernels[KERNEL][-1]["text"])
        held["cells"].insert(0, {"cell_type": "code", "source": "# by Kaggle"})
        kaggle.kernels[KERNEL][-1]["text"] = json.dumps(held)

    kaggle.after["SaveKernel"] = [rewrite]
    desk.push(pack)
    assert any("does not show the notebook yet" in text for text in desk.said)
    assert actions(desk.push(pack))["kernel"] == ("nothing", 1)


def test_a_new_name_is_a_new_thing(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    desk.push(pack)
    for path, keys in (
        (pack.wheels / "dataset-metadata.json", {"id": f"{USER}/wheels-anew"}),
        (pack.kernel / "kernel-metadata.json", {"dataset_sources": [f"{USER}/wheels-anew"]}),
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    assert actions(desk.push(pack))["wheels"] == ("create", 1)
    assert len(kaggle.datasets) == 2


def test_one_part_alone(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    with pytest.raises(DataError, match="was never pushed"):
        desk.push(pack, only="kernel")
    assert list(actions(desk.push(pack, only="wheels"))) == ["wheels"]
    assert list(actions(desk.push(pack, only="model"))) == ["model", "judge"]
    assert actions(desk.push(pack, only="kernel")) == {"kernel": ("create", 1)}
    assert kaggle.names() == MADE


def test_a_rerun_pushes_the_same_notebook_again(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    desk.push(pack)
    assert actions(desk.push(pack, rerun=True))["kernel"] == ("version", 2)
    assert actions(desk.push(pack, accelerator="NvidiaL4"))["kernel"] == ("version", 3)
    assert kaggle.kernels[KERNEL][2]["machineShape"] == "NvidiaL4"


# Stopped


def stopped_at(number: int) -> Callable[[tuple[str, ...]], None]:
    """Ctrl-C at the call of that number, from 0."""
    left = iter(range(number, -1, -1))

    def stop(arguments: tuple[str, ...]) -> None:
        if next(left, -1) == 0:
            raise KeyboardInterrupt

    return stop


def hold_that_nothing_is_made_twice(desk: Desk, kaggle: Kaggle, pack: Layout, number: int, when: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        desk.push(pack, submit="m", **{when: stopped_at(number)})  # type: ignore[arg-type]
    desk.push(pack, submit="m")
    assert kaggle.names() == [*MADE, "CreateCodeSubmission"], (when, number)
    assert len(kaggle.submissions) == 1
    assert len(kaggle.uploaded) == 5


def all_calls(desk: Desk, folder: Path) -> list[tuple[str, ...]]:
    desk.push(kaggle_remote.make_pack(folder, judge=True), submit="m")
    return list(desk.calls)


def test_killed_when_something_was_just_made_it_is_not_made_again(
    kaggle: Kaggle, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = all_calls(desk, tmp_path / "whole")
    making = [number for number, call in enumerate(calls) if {"create", "push", "submit"} & set(call)]
    assert len(making) == 5
    for number in making:
        with kaggle_server.Running() as fresh:
            kaggle_remote.sign_in(fresh, tmp_path, monkeypatch)
            pack = kaggle_remote.make_pack(tmp_path / str(number), judge=True)
            hold_that_nothing_is_made_twice(desk, fresh, pack, number, "after")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_call_the_same_command_goes_on_and_nothing_is_made_twice(
    when: str, kaggle: Kaggle, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(len(all_calls(desk, tmp_path / "whole"))):
        with kaggle_server.Running() as fresh:
            kaggle_remote.sign_in(fresh, tmp_path, monkeypatch)
            pack = kaggle_remote.make_pack(tmp_path / str(number), judge=True)
            hold_that_nothing_is_made_twice(desk, fresh, pack, number, when)


def test_uploads_that_are_done_are_not_done_again(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    kaggle.faults["CreateDataset"] = [refuse(503, "Service Unavailable", plain=True)]
    with pytest.raises(ResourceError, match="503 Server Error"):
        desk.push(pack)
    assert sorted(kaggle.uploaded) == ["numpy-2.0-py3-none-any.whl", "requirements.lock", "wheelhouse.json"]
    assert actions(desk.push(pack)) == ALL_NEW
    assert len(kaggle.uploaded) == 5


def test_uploads_of_other_bytes_are_never_taken_for_these(
    kaggle: Kaggle, desk: Desk, pack: Layout, tmp_path: Path
) -> None:
    """The client knows a half-done upload by path, size and time alone; two packs may share all three."""
    wheel = pack.wheels / "numpy-2.0-py3-none-any.whl"
    times = wheel.stat().st_mtime_ns
    kaggle.faults["CreateDataset"] = [refuse(503, "Service Unavailable", plain=True)]
    with pytest.raises(ResourceError):
        desk.push(pack)
    wheel.write_bytes(b"QK" + bytes(5000))
    os.utime(wheel, ns=(times, times))
    desk.push(pack)
    assert kaggle.datasets[WHEELS].versions[0][wheel.name].startswith(b"QK")


@pytest.mark.parametrize("request_name", ["CreateModel", "SaveKernel"])
def test_an_answer_lost_on_the_way_is_not_a_reason_to_make_it_twice(
    request_name: str, kaggle: Kaggle, desk: Desk, pack: Layout
) -> None:
    kaggle.after[request_name] = [hang_up]
    with pytest.raises(ResourceError, match="Kaggle cannot be reached"):
        desk.push(pack)
    name = {"CreateModel": "model", "SaveKernel": "kernel"}[request_name]
    assert actions(desk.push(pack))[name] == ("taken over", ALL_NEW[name][1])
    assert kaggle.names() == MADE


def test_a_file_that_did_not_arrive_is_an_error_though_the_client_says_ok(
    kaggle: Kaggle, desk: Desk, pack: Layout
) -> None:
    kaggle.uploads["wheelhouse.json"] = [500]
    with pytest.raises(DataError, match=r"Upload unsuccessful: wheelhouse\.json"):
        desk.push(pack)
    assert "wheelhouse.json" not in kaggle.datasets[WHEELS].versions[0]
    assert actions(desk.push(pack))["wheels"] == ("version", 2)
    assert "wheelhouse.json" in kaggle.datasets[WHEELS].versions[1]


def test_kaggle_may_take_its_time(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    kaggle.lag = 3
    assert actions(desk.push(pack)) == ALL_NEW
    assert any("blobs_received" in text for text in desk.said)


def test_kaggle_takes_too_long_and_the_same_command_goes_on_waiting(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    kaggle.lag = 10_000
    with pytest.raises(StoppedError, match="is not ready after"):
        desk.push(pack, pace=SHORT)
    kaggle.datasets[WHEELS].looks = kaggle.lag = 0
    assert actions(desk.push(pack)) == ALL_NEW | {"wheels": ("taken over", 1)}
    assert kaggle.names() == MADE


def test_a_version_that_lacks_files_is_made_anew(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    def lose() -> None:
        kaggle.datasets[WHEELS].versions[0].pop("requirements.lock")

    kaggle.after["CreateDataset"] = [lose]
    with pytest.raises(DataError, match=r"is on Kaggle without requirements\.lock"):
        desk.push(pack, pace=SHORT)
    assert actions(desk.push(pack))["wheels"] == ("version", 2)


# What Kaggle and its client say


@pytest.mark.parametrize(
    ("request_name", "fault", "kind", "words"),
    [
        ("CreateDataset", refuse(400, "Title too rude"), DataError, "Title too rude"),
        ("CreateModel", refuse(403, "Permission 'models.create' was denied"), DataError, "sign in as the owner"),
        ("SaveKernel", refuse(400, "Phone verification is required"), DataError, "verify the phone number"),
        ("SaveKernel", refuse(400, "Maximum weekly GPU quota reached"), DataError, "wait until Kaggle allows more"),
        ("GetModel", refuse(500, "", plain=True), ResourceError, "500 Server Error"),
        ("GetDatasetStatus", refuse(401, "", plain=True), UsageError, "does not accept the credentials"),
        ("CreateModel", hang_up, ResourceError, "cannot be reached"),
    ],
)
def test_refusals(
    request_name: str, fault: Callable[[], None], kind: type[TiebreakError], words: str, kaggle: Kaggle, desk: Desk,
    pack: Layout,
) -> None:  # fmt: skip
    kaggle.faults[request_name] = [fault]
    with pytest.raises(TiebreakError, match=words) as caught:
        desk.push(pack)
    assert type(caught.value) is kind
    assert actions(desk.push(pack))["kernel"] == ("create", 1)


def test_an_error_after_which_the_client_leaves_with_0_is_an_error(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    kaggle.models["someone/tiebreak-judge"] = kaggle_server.Thing({"title": "", "ownerSlug": USER})
    kaggle.faults["GetModel"] = [refuse(404, "Not Found", plain=True)]
    with pytest.raises(DataError, match=r"already in use.*another --title or --slug"):
        desk.push(pack)


def test_a_competition_whose_rules_are_not_accepted(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    kaggle.competitions.clear()
    kaggle.competitions.add("another")
    # The client says it and leaves with 0.
    with pytest.raises(DataError, match=r"not valid competition sources.*accept its rules"):
        desk.push(pack)
    kaggle.competitions.add(COMPETITION)
    assert actions(desk.push(pack))["kernel"][0] == "version"


def test_a_model_that_kaggle_leaves_out_is_an_error_though_the_client_says_nothing(
    kaggle: Kaggle, desk: Desk, pack: Layout
) -> None:
    kaggle.after["SaveKernel"] = [lambda: kaggle.kernels[KERNEL][-1].update(modelDataSources=[])]
    with pytest.raises(DataError, match=f"took the notebook without model {JUDGE}/1"):
        desk.push(pack)
    assert actions(desk.push(pack))["kernel"][0] == "version"


def test_internet_that_kaggle_switched_on_is_an_error(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    kaggle.after["SaveKernel"] = [lambda: kaggle.kernels[KERNEL][-1].update(enableInternet=True)]
    with pytest.raises(DataError, match="internet on"):
        desk.push(pack)


def test_another_machine_is_told(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    kaggle.after["SaveKernel"] = [lambda: kaggle.kernels[KERNEL][-1].update(machineShape="NvidiaTeslaP100")]
    desk.push(pack)
    assert "warning: Kaggle runs it on NvidiaTeslaP100 instead of NvidiaTeslaT4" in desk.said


def test_a_notebook_of_that_name_from_elsewhere_gets_a_version(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    desk.push(pack)
    pack.pushed.unlink()
    assert actions(desk.push(pack)) == {
        "wheels": ("version", 2), "model": ("update", 0), "judge": ("version", 2), "kernel": ("version", 2),
    }  # fmt: skip


def test_one_who_is_not_the_owner_is_warned(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    for path in pack.root.rglob("*-metadata.json"):
        path.write_text(path.read_text().replace(USER, "someones-lab"))
    desk.push(pack, only="wheels")
    assert "warning: someone is signed in and the pack is someones-lab's: right for an organisation only" in desk.said


# Runs and submissions


def test_submitting_waits_for_the_run_and_happens_once(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    kaggle.runs = ["QUEUED", "RUNNING", "RUNNING", "COMPLETE"]
    desk.push(pack, submit="first light")
    desk.push(pack, submit="first light")
    desk.push(pack, submit="other words")
    assert [row["submissionDescription"] for row in kaggle.submissions] == ["first light"]
    sent = kaggle.submissions[0]
    assert (sent["kernelOwner"], sent["kernelSlug"], sent["kernelVersion"]) == (*KERNEL.split("/"), 1)
    assert (sent["competitionName"], sent["fileName"]) == (COMPETITION, "submission.csv")
    assert any("was handed in on" in text for text in desk.said)
    desk.push(pack, submit="first light", rerun=True)
    assert [row["kernelVersion"] for row in kaggle.submissions] == [2, 1]


def test_a_run_that_failed_is_not_handed_in(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    kaggle.runs, kaggle.failure = ["RUNNING", "ERROR"], "out of memory"
    with pytest.raises(DataError, match="ended as error: out of memory"):
        desk.push(pack, submit="m")
    assert kaggle.submissions == []


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"log.json": b"{}"}, r"wrote no submission\.csv"),
        ({"submission.csv": b"id,winner\n1,model_a\n"}, "columns id, winner"),
        ({"submission.csv": kaggle_server.SUBMISSION.replace(b"0.5", b"0.9")}, "add up to"),
    ],
)
def test_a_run_without_a_valid_submission_costs_none(
    outputs: dict[str, bytes], words: str, kaggle: Kaggle, desk: Desk, pack: Layout
) -> None:
    kaggle_remote.record_pack(pack, judge=True)
    kaggle.outputs = outputs
    with pytest.raises(DataError, match=words):
        desk.push(pack, submit="m")
    assert kaggle.submissions == []


def test_the_run_before_is_not_taken_for_this_one(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    kaggle.runs = ["COMPLETE", "QUEUED", "ERROR"]
    with pytest.raises(DataError, match="ended as error"):
        desk.push(pack, submit="m", pace=Pace(every=1, version=60, run=60))


def test_a_run_without_end(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    kaggle.runs = ["RUNNING"]
    with pytest.raises(StoppedError, match="is still running"):
        desk.push(pack, submit="m", pace=SHORT)


# Credentials


def test_without_credentials_nothing_is_asked(
    kaggle: Kaggle, desk: Desk, pack: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAGGLE_KEY")
    with pytest.raises(UsageError, match=r"KAGGLE_API_TOKEN.*kaggle\.json.*kaggle auth login"):
        desk.push(pack)
    assert kaggle.requests == []


def test_credentials_are_never_said_or_stored(
    kaggle: Kaggle, desk: Desk, pack: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VERBOSE", "true")
    kaggle.faults["SaveKernel"] = [refuse(400, f"no way, {KEY} of Basic c29tZW9uZTowMTIzNDU2Nzg5")]
    with pytest.raises(DataError) as caught:
        desk.push(pack)
    desk.push(pack, submit="m")
    said = "\n".join([*desk.said, str(caught.value), *map(str, desk.calls)])
    kept = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
    for text in (said, kept):
        assert KEY not in text
        assert "c29tZW9uZTow" not in text
    assert "no way, [hidden] of Basic [hidden]" in str(caught.value)
    # Addresses of uploads let others upload: they are gone when the upload is done.
    assert "upload_id" not in kept


def test_a_push_beside_a_push_is_refused(kaggle: Kaggle, desk: Desk, pack: Layout) -> None:
    client = desk.client()
    with remote.session(pack, client, desk.wishes), pytest.raises(UsageError, match="another push of"):
        desk.push(pack)


# pushed.json


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 1, "key": "x"}'])
def test_a_damaged_record_of_pushes_is_told(text: str, pack: Layout) -> None:
    pack.pushed.write_text(text)
    with pytest.raises(DataError, match=r"pushed\.json.*remove"):
        state.read(pack)
