"""Choices of a pack: closed, told all at once with their places; competitions, titles and slugs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import slugify as official
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tiebreak.errors import DataError, UsageError
from tiebreak.kaggle.metadata import slugs
from tiebreak.kaggle.packing import competitions, names, reading, template
from tiebreak.kaggle.packing.choices import Choices
from tiebreak.kaggle.settings import Predicting

LMSYS = "llm-classification-finetuning"
WHO: dict[str, Any] = {"competition": LMSYS, "user": "someone"}


def test_the_file_that_init_writes_holds_every_choice_at_its_default() -> None:
    written = yaml.safe_load(template.text(user="someone"))
    assert written.keys() == Choices.model_fields.keys()
    assert Choices.model_validate(written) == Choices(**WHO)


def test_init_writes_the_file_once_and_says_what_is_to_be_filled_in(tmp_path: Path) -> None:
    path = template.write(tmp_path / "new")
    with pytest.raises(UsageError, match=rf"{re.escape(str(path))}:13: user is 'NAME'; expected the name of a Kaggle"):
        reading.read(tmp_path / "new", {})
    with pytest.raises(UsageError, match="is there already; to mend: --force"):
        template.write(tmp_path / "new")
    template.write(tmp_path / "new", force=True, user="someone", competition="lmsys-chatbot-arena", judge="../a b")
    found = reading.read(path, {})
    assert (found.user, found.competition) == ("someone", "lmsys-chatbot-arena")
    assert found.judge == tmp_path / "new" / ".." / "a b"
    with pytest.raises(UsageError, match="is not a directory; to mend: mkdir -p"):
        template.write(tmp_path / "no" / "where")


def test_options_go_before_the_file_and_all_faults_are_told_at_their_places(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("competition: LMSYS\nuser: someone\nhours: 0\nmachin: cpu\nprecision: fp64\nhours: 3\n")
    with pytest.raises(UsageError) as caught:
        reading.read(path, {"machine": "NvidiaTeslaP100", "user": "some/one", "base_model": "a/b/c/d", "python": "3"})
    said = str(caught.value)
    wrong = [
        f"{path}:1: competition is 'LMSYS'; expected lower case letters",
        f"{path}:3: hours is 0; expected greater than 0",
        f"{path}:4: unknown key 'machin'; to mend: write machine",
        f"{path}:5: precision is 'fp64'; expected 'auto', 'fp32', 'bf16', 'fp16' or 'int8'",
        f"{path}:6: key 'hours' again",
        "--machine: machine is 'NvidiaTeslaP100'; expected a machine that is there still: cpu, t4x2",
        "--user: user is 'some/one'; expected the name of a Kaggle account",
        "--base-model: base_model is 'a/b/c/d'; expected OWNER/MODEL/FRAMEWORK/VARIATION/VERSION",
        "--python: python is '3'; expected a minor version such as 3.12",
    ]
    assert f"{len(wrong)} choices are wrong" in said
    for line in wrong:
        assert line in said
    path.write_text("competition: LMSYS\nuser: someone\n")
    assert reading.read(path, {"competition": LMSYS}).competition == LMSYS


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"swap": "all"}, "--swap: swap is 'all'; expected both, none, or uncertain=SHARE"),
        ({"licence": "MTI"}, "--licence: licence is 'MTI'; expected a licence that Kaggle has for models"),
        ({"platform": "linux_x86_64"}, "--platform: platform is 'linux_x86_64'; expected manylinux_2_MINOR_MACHINE"),
        ({"max_length": 512}, "--max-length: max_length: the embedded judge has no such choice"),
        ({"bases": ("/x",)}, "--base: bases: the embedded judge has no such choice"),
        ({"hours": 25.0}, "--hours: hours is 25.0; expected less than or equal to 24"),
        ({"user": "UPPER"}, "--user: user is 'UPPER'; expected the name of a Kaggle account"),
        ({"machine": "t4"}, "--machine: machine is 't4'; expected cpu or t4x2, or a GPU as Kaggle spells it"),
    ],
)
def test_a_wrong_choice_is_told_as_its_option(choice: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        reading.read(None, WHO | choice)


def test_what_is_missing_can_be_given_in_two_ways() -> None:
    with pytest.raises(UsageError, match=r"user is missing; to mend: --user, or user: in pack\.yaml"):
        reading.read(None, {"competition": LMSYS})


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"pack\.yaml cannot be read: No such file.*tiebreak kaggle init"):
        reading.read(tmp_path, {})
    (tmp_path / "pack.yaml").write_bytes(b"user: \xff\n")
    with pytest.raises(UsageError, match="it is not UTF-8"):
        reading.read(tmp_path, {})


def test_places_in_a_file_count_from_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "pack.yaml").write_text(
        f"competition: {LMSYS}\nuser: someone\njudge: mine\nsample: s.csv\nbases: [base, google/gemma-2-9b]\n"
    )
    found = reading.read(tmp_path, {})
    assert (found.judge, found.sample) == (tmp_path / "mine", tmp_path / "s.csv")
    assert found.bases == (str(tmp_path / "base"), "google/gemma-2-9b")


def test_the_embedded_judge_can_be_named_too(tmp_path: Path) -> None:
    assert reading.read(None, WHO | {"judge": Path("embedded")}).judge is None
    (tmp_path / "pack.yaml").write_text(f"competition: {LMSYS}\nuser: someone\njudge: embedded\n")
    assert reading.read(tmp_path, {}).judge is None
    (tmp_path / "embedded").mkdir()
    assert reading.read(tmp_path, {}).judge == tmp_path / "embedded"


def test_hours_keep_a_reserve_and_predicting_is_passed_on() -> None:
    assert Choices(**WHO).working_hours == 8.5
    assert Choices(**WHO, hours=1.0).working_hours == 0.75
    assert Choices(**WHO).predicting == Predicting()
    made = Choices(**WHO, judge="j", max_length=512, swap="uncertain=0.4", precision="fp16", backend="vllm")
    assert made.predicting == Predicting(max_length=512, swap="uncertain=0.4", precision="fp16", backend="vllm")
    assert Choices(**WHO).target.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert Choices(**WHO, python="3.12").target.python == "3.12"
    assert Choices(**WHO, licence="apache-2.0").licence == "Apache 2.0"


def test_competitions_that_are_known() -> None:
    found = competitions.find(LMSYS)
    assert (found.test, found.sample) == ("test.csv", "sample_submission.csv")
    assert found.submission.header == ["id", "winner_model_a", "winner_model_b", "winner_tie"]
    wsdm = competitions.find("wsdm-cup-multilingual-chatbot-arena")
    assert (wsdm.test, wsdm.submission.columns) == ("test.parquet", {"winner": "winner_without_tie"})
    assert competitions.find(LMSYS, test="hidden.csv").test == "hidden.csv"
    with pytest.raises(UsageError, match=f"to mend: --competition {LMSYS}"):
        competitions.find("llm-classification-finetunning")
    with pytest.raises(UsageError, match=r"to mend: --sample sample_submission\.csv"):
        competitions.find("titanic")


def test_any_other_competition_goes_by_its_sample(tmp_path: Path) -> None:
    sample = tmp_path / "given.csv"
    sample.write_text("row_id,left,right,draw\n1,0.3,0.3,0.4\n")
    found = competitions.find("another", sample)
    assert (found.test, found.sample, found.submission.id) == ("test.csv", "given.csv", "row_id")
    assert found.submission.columns == {"left": "p_a", "right": "p_b", "draw": "p_tie"}
    sample.write_text("id,x,y\n1,0.5,0.5\n")
    with pytest.raises(DataError, match="--column"):
        competitions.find("another", sample)
    told = {"x": "p_b_without_tie", "y": "p_a_without_tie"}
    assert competitions.find("another", sample, told).submission.columns == told
    assert competitions.find("another", None, told, "rows.csv").submission.columns == told
    with pytest.raises(DataError, match="there is no such file"):
        competitions.find("another", tmp_path / "absent.csv")


def test_a_title_and_its_slug_belong_together() -> None:
    assert names.notebook("tiebreak-features-1", LMSYS) == (
        "tiebreak features 1 llm classification finetuning", "tiebreak-features-1-llm-classification-finetuning",
    )  # fmt: skip
    assert names.notebook("x", LMSYS, slug="my-own") == ("my own", "my-own")
    assert names.notebook("x", LMSYS, title="My  Own, 1st!") == ("My  Own, 1st!", "my-own-1st")
    with pytest.raises(UsageError, match=r"slug 'other' is not that of the title 'My Own'.*expected slug 'my-own'"):
        names.notebook("x", LMSYS, title="My Own", slug="other")
    with pytest.raises(UsageError, match="expected 6 to 50 characters"):
        names.notebook("x", LMSYS, title="abc")
    with pytest.raises(UsageError, match=r"has 60 characters.*to mend: --title '(long ?){10}'"):
        names.notebook("x", LMSYS, title="long " * 12)
    with pytest.raises(UsageError, match=r"what slug Kaggle makes of it is not certain.*--title 'Urteil uber'"):
        names.notebook("x", LMSYS, title="Urteil über")


@given(judge=st.text(max_size=80), competition=st.from_regex(r"[a-z0-9]{1,9}(-[a-z0-9]{1,9}){0,8}", fullmatch=True))
def test_whatever_the_judge_is_called_its_names_are_ones_that_kaggle_takes(judge: str, competition: str) -> None:
    title, slug = names.notebook(judge, competition)
    assert official.slugify(title) == slug
    for made in (slug, names.wheels(slug), names.model(judge)):
        assert slugs.is_slug(made)
        assert 6 <= len(made) <= 50
        assert official.slugify(names.titled(made)) == made


def test_two_long_names_do_not_become_one() -> None:
    long = "tiebreak-a-judge-with-a-very-long-name-indeed-for-fold"
    assert names.model(f"{long}-1") != names.model(f"{long}-2")
    assert names.wheels(f"{long[:44]}-a") != names.wheels(f"{long[:44]}-b")
