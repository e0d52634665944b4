"""What a notebook wrote on Kaggle comes here whole, and its submission is held to its form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import kaggle_remote
import kaggle_server
from kaggle_remote import JUDGE, KERNEL, WHEELS, Desk
from kaggle_server import Kaggle
from tiebreak.errors import DataError
from tiebreak.kaggle import remote
from tiebreak.kaggle.layout import Layout
from tiebreak.kaggle.remote import Pulled, targets
from tiebreak.predict.forms import LMSYS, Submission

HEADER = "id,winner_model_a,winner_model_b,winner_tie\n"
GOOD = HEADER + "1,0.2,0.3,0.5\n2,0.6,0.2,0.2\n"
WSDM = Submission(columns={"winner": "winner_without_tie"})


@pytest.fixture
def kaggle() -> Iterator[Kaggle]:
    with kaggle_server.Running() as server:
        server.outputs = {"submission.csv": GOOD.encode(), "tiebreak.json": b'{"rows": 2}'}
        server.kernels[KERNEL] = [{}]
        yield server


@pytest.fixture
def desk(kaggle: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    kaggle_remote.sign_in(kaggle, tmp_path, monkeypatch)
    return Desk()


def pull(desk: Desk, output: Path, *, form: Submission | None = LMSYS, sample: Path | None = None) -> Pulled:
    return remote.outputs(desk.client(), KERNEL, output, form=form, sample=sample)


def test_outputs_and_log_come_and_nothing_else_is_touched(kaggle: Kaggle, desk: Desk, tmp_path: Path) -> None:
    kaggle.log = json.dumps([
        {"stream_name": "stdout", "time": 1.0, "data": "one\n"},
        {"stream_name": "stderr", "time": 62.54, "data": "two"},
    ])  # fmt: skip
    output = tmp_path / "outputs"
    output.mkdir()
    (output / "mine.txt").write_text("mine")
    (output / "submission.csv").write_text("old")
    pulled = pull(desk, output)
    assert sorted(path.name for path in output.iterdir()) == [
        "log.txt", "mine.txt", "submission.csv", "tiebreak-embedded.log", "tiebreak.json",
    ]  # fmt: skip
    assert (output / "submission.csv").read_text() == GOOD
    assert (output / "log.txt").read_text() == "      1.0 s  one\n     62.5 s  two\n"
    assert (pulled.rows, pulled.checked, pulled.report, pulled.log) == (2, "its form", {"rows": 2}, output / "log.txt")


def test_a_log_in_another_form_is_kept_as_it_is(kaggle: Kaggle, desk: Desk, tmp_path: Path) -> None:
    kaggle.log = "plain words"
    assert pull(desk, tmp_path / "o").log == tmp_path / "o" / "tiebreak-embedded.log"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<Error>no such output</Error>", "columns <Error>"),
        (GOOD.replace("winner_tie", "tie"), "columns id, winner_model_a, winner_model_b, tie"),
        (GOOD.replace("0.5", "0.6"), "add up to 1.1"),
        (GOOD.replace("0.5", "nan"), "not probabilities"),
        (GOOD.replace("0.5", ""), "not probabilities"),
        (GOOD + "2,0.6,0.2,0.2\n", "occur again"),
    ],
)
def test_a_submission_that_is_none_is_an_error_and_is_kept(
    text: str, words: str, kaggle: Kaggle, desk: Desk, tmp_path: Path
) -> None:
    kaggle.outputs["submission.csv"] = text.encode()
    with pytest.raises(DataError, match=words):
        pull(desk, tmp_path / "o")
    assert (tmp_path / "o" / "submission.csv").read_text() == text


def test_the_sample_says_which_ids_there_are(kaggle: Kaggle, desk: Desk, tmp_path: Path) -> None:
    sample = tmp_path / "sample_submission.csv"
    sample.write_text(HEADER + "2,0,0,0\n1,0,0,0\n")
    assert "sample_submission.csv" in pull(desk, tmp_path / "o", form=None, sample=sample).checked
    sample.write_text(HEADER + "1,0,0,0\n3,0,0,0\n")
    with pytest.raises(DataError, match=r"1 ids are missing.*3.*1 ids are not in the test"):
        pull(desk, tmp_path / "o", sample=sample)
    sample.write_text("id,winner\n1,model_a\n")
    with pytest.raises(DataError, match="has columns id, winner"):
        pull(desk, tmp_path / "o", sample=sample)


def test_winners_in_words(kaggle: Kaggle, desk: Desk, tmp_path: Path) -> None:
    kaggle.outputs["submission.csv"] = b"id,winner\n1,model_a\n2,model_b\n"
    assert pull(desk, tmp_path / "o", form=WSDM).rows == 2
    kaggle.outputs["submission.csv"] = b"id,winner\n1,model_a\n2,nobody\n"
    with pytest.raises(DataError, match="nobody"):
        pull(desk, tmp_path / "o", form=WSDM)


def test_without_a_form_nothing_is_claimed(desk: Desk, tmp_path: Path) -> None:
    assert pull(desk, tmp_path / "o", form=None).checked == ""


def test_a_run_that_wrote_nothing(kaggle: Kaggle, desk: Desk, tmp_path: Path) -> None:
    kaggle.outputs, kaggle.runs, kaggle.failure = {}, ["ERROR"], "no disk"
    with pytest.raises(DataError, match="wrote nothing; it is error: no disk"):
        pull(desk, tmp_path / "o")


def test_wheels_and_model_come_back_as_they_were_packed(kaggle: Kaggle, desk: Desk, tmp_path: Path) -> None:
    kaggle.kernels.clear()
    pack = kaggle_remote.make_pack(tmp_path / "out", judge=True)
    desk.push(pack)
    wheels, _, judge, _ = targets.read(pack)
    for target in (wheels, judge):
        files, same = remote.archive(desk.client(), target, 1, tmp_path / target.name)
        assert same
        assert {path.name for path in files} == target.files.keys()
        assert {path.name for path in (tmp_path / target.name).iterdir()} == target.files.keys()
    kaggle.datasets[WHEELS].versions[0]["wheelhouse.json"] = b"{}"
    kaggle.instances[JUDGE].versions[0]["more.json"] = b"{}"
    (tmp_path / "again").mkdir()
    for target in (wheels, judge):
        _, same = remote.archive(desk.client(), target, 1, tmp_path / "again" / target.name)
        assert not same


def test_status_tells_of_everything(kaggle: Kaggle, desk: Desk, tmp_path: Path) -> None:
    pack: Layout = kaggle_remote.make_pack(tmp_path / "out", judge=True)
    kaggle.kernels.clear()
    before = remote.status(pack, desk.client())
    assert [(part.here, part.there, part.state) for part in before.parts] == [
        (None, None, "not there"), (None, None, "not there"), (None, None, "not there"), (None, None, "none"),
    ]  # fmt: skip
    assert before.submissions == []
    desk.push(pack, submit="one")
    (pack.wheels / "wheelhouse.json").write_text("{}")
    after = remote.status(pack, desk.client())
    assert [(part.name, part.here, part.there, part.changed) for part in after.parts] == [
        ("wheels", 1, 1, True), ("model", 0, 0, False), ("judge", 1, 1, False), ("kernel", 1, None, None),
    ]  # fmt: skip
    assert [part.changed for part in before.parts] == [None] * 4
    assert after.run.state == "complete"
    assert [(row["resource"], row["remaining"], row["total"]) for row in after.quota] == [("GPU", "17.50h", "30.00h")]
    assert after.submissions[0]["publicScore"] == "1.04321"
