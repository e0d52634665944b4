"""The embedded judge as it ships: exact mirror, independence of the batch, explanations that add up, hostile texts."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiebreak import bundle, comparisons, ingest, judges, predictions
from tiebreak.errors import BundleError
from tiebreak.judges.features import FeaturesJudge
from tiebreak.judges.judge import Reason, one

SHARED = Path(__file__).parents[2] / "shared" / "data"
SETS = sorted(SHARED.glob("*.parquet")) if SHARED.is_dir() else []
MIRROR = [1, 0, 2]

PIECES = st.sampled_from(
    [
        "the answer",
        "I cannot",
        "As an AI",
        "```",
        "\n",
        "\n\n",
        "- ",
        "1. ",
        "**b**",
        "$$",
        "?",
        " ",
        "=SUM(A1)",
        "<script>",
    ]
) | st.sampled_from(
    ["\x00", "\x02", "\x03", "\U0001f600", "\u202eabc", "\u4f60\u597d", "\u0645\u0631", "\ufffd", "e\u0301"]
)
TEXT = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=40)
TURN = st.none() | TEXT
ROW = st.integers(1, 3).flatmap(lambda n: st.tuples(*[st.lists(TURN, min_size=n, max_size=n)] * 3))


@cache
def embedded() -> FeaturesJudge:
    loaded = judges.load()
    assert isinstance(loaded, FeaturesJudge)
    return loaded


@pytest.fixture
def judge() -> FeaturesJudge:
    return embedded()


def table(rows: Iterable[tuple[list[str | None], ...]]) -> pl.DataFrame:
    named = [dict(zip(comparisons.TEXTS, row, strict=True), id=str(n)) for n, row in enumerate(rows)]
    schema = {"id": pl.String, **dict.fromkeys(comparisons.TEXTS, comparisons.TURNS)}
    return comparisons.validate(pl.DataFrame(named, schema=schema))


@pytest.mark.skipif(not SETS, reason="the shared data is not here")
@pytest.mark.parametrize("path", [path for path in SETS if "predictions" not in path.name], ids=lambda p: p.stem)
def test_real_votes_swapped_give_the_mirrored_answer_to_the_bit(judge: FeaturesJudge, path: Path) -> None:
    votes = ingest.read(path)
    given_order = predictions.probabilities(judge.predict(votes))
    swapped = predictions.probabilities(judge.predict(comparisons.swap(votes)))
    assert (given_order[:, MIRROR] == swapped).all()
    assert np.isfinite(given_order).all()
    alone = predictions.probabilities(judge.predict(votes[7:8]))
    assert (alone == given_order[7]).all()


@settings(deadline=None, max_examples=80)
@given(st.lists(ROW, min_size=1, max_size=8))
def test_any_text_gives_probabilities_that_mirror_and_stand_alone(rows: list[tuple[list[str | None], ...]]) -> None:
    judge = embedded()
    votes = table(rows)
    p = predictions.probabilities(judge.predict(votes))
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-12
    assert (p > 0).all()
    assert (predictions.probabilities(judge.predict(comparisons.swap(votes))) == p[:, MIRROR]).all()
    assert (predictions.probabilities(judge.predict(votes.reverse()))[::-1] == p).all()


@settings(deadline=None, max_examples=60)
@given(ROW)
def test_reasons_add_up_and_mirror(row: tuple[list[str | None], ...]) -> None:
    judge = embedded()
    votes = table([row])
    found, mirrored = judge.explain(votes)[0], judge.explain(comparisons.swap(votes))[0]
    a, b, tie = np.log(judge.score(votes).probabilities[0])
    assert abs(sum(reason.toward_a for reason in found) - (a - b)) < 1e-9
    assert abs(sum(reason.toward_tie for reason in found) - (tie - (a + b) / 2)) < 1e-9
    assert sorted(-reason.toward_a for reason in found) == sorted(reason.toward_a for reason in mirrored)
    assert sorted(reason.toward_tie for reason in found) == sorted(reason.toward_tie for reason in mirrored)


def by_text(reasons: list[Reason], part: str) -> Reason:
    return next(reason for reason in reasons if part in reason.text)


def test_reasons_in_plain_words(judge: FeaturesJudge) -> None:
    a = (
        "Use a loop:\n\n```python\nfor x in y:\n    print(x)\n```\n\nThen **run** it. "
        + "More words follow here. " * 10
    )
    found = judge.explain(one("How do I print a list in python?", a, "I'm sorry, but I cannot help with that."))[0]
    assert by_text(found, "A is 7.9 times as long").toward_a > 0
    assert by_text(found, "only B refuses").toward_a > 0
    assert by_text(found, "A has 2 signs of code, B none")
    assert by_text(found, "the wording, most of all \u201c").toward_tie == 0
    assert by_text(found, "base rate").toward_a == 0
    sizes = [max(abs(reason.toward_a), abs(reason.toward_tie)) for reason in found]
    assert sizes == sorted(sizes, reverse=True)


def test_equal_answers_speak_for_a_tie(judge: FeaturesJudge) -> None:
    same = judge.compare("Name a colour.", "Blue is a colour.", "Blue is a colour.")
    assert same.p_a == same.p_b
    other = judge.compare("Name a colour.", "Blue is a colour.", "I will not name one for you today, sorry.")
    assert same.p_tie > other.p_tie
    reasons = judge.explain(one("Name a colour.", "Blue is a colour.", "Blue is a colour."))[0]
    assert all(reason.toward_a == 0 for reason in reasons)
    assert by_text(reasons, "the answers are the same text").toward_tie > 0


def test_verdicts_follow_common_sense(judge: FeaturesJudge) -> None:
    prompt = "Explain how rainbows form."
    full = "Rainbows form when sunlight is bent and reflected inside drops of rain, each colour at its own angle."
    assert judge.compare(prompt, full, "").label == "a"
    assert judge.compare(prompt, "I cannot help with that.", full).label == "b"


def test_a_megabyte_is_judged_and_nothing_is_cut(judge: FeaturesJudge) -> None:
    answer = judge.compare("Write much.", "word and sign! " * 70_000, "\u4f60" * 400_000)
    assert answer.truncated is False
    assert answer.swap_gap == 0
    assert np.isfinite([answer.p_a, answer.p_b, answer.p_tie]).all()


def test_an_empty_table(judge: FeaturesJudge) -> None:
    assert judge.predict(comparisons.validate(pl.DataFrame(schema=comparisons.SCHEMA))).height == 0
    assert judge.explain(comparisons.validate(pl.DataFrame(schema=comparisons.SCHEMA))) == []


def test_saving_and_loading_changes_nothing(judge: FeaturesJudge, tmp_path: Path) -> None:
    judge.save(tmp_path / "copy")
    assert {p.name: p.read_bytes() for p in (tmp_path / "copy").iterdir()} == {
        p.name: p.read_bytes() for p in judges.EMBEDDED.iterdir() if p.is_file()
    }
    again = judges.load(tmp_path / "copy")
    assert again.compare("q", "a b c", "d") == judge.compare("q", "a b c", "d")


def test_the_shipped_bundle_is_small_and_names_its_data(judge: FeaturesJudge) -> None:
    assert sum(path.stat().st_size for path in judges.EMBEDDED.iterdir()) <= 3_000_000
    assert all(source.licence for source in judge.manifest.training)
    assert "auto_j_pairwise" not in {source.name for source in judge.manifest.training}
    card = (judges.EMBEDDED / "README.md").read_text(encoding="utf-8")
    for source in judge.manifest.training:
        assert source.name in card
        assert source.fingerprint[:16] in card
    assert "tiebreak train features" in card


@pytest.mark.parametrize("name", ["linear.safetensors", "terms.json", "versus.txt", "tie.txt"])
@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe damaged"])
def test_damaged_weights_are_refused(judge: FeaturesJudge, tmp_path: Path, name: str, content: bytes) -> None:
    files = {**judge.weights(), name: content}
    bundle.write(tmp_path / "bad", judge.manifest, files)
    with pytest.raises(BundleError):
        judges.load(tmp_path / "bad")


@pytest.mark.parametrize("missing", ["linear.safetensors", "terms.json", "versus.txt"])
def test_missing_weights_are_refused(judge: FeaturesJudge, tmp_path: Path, missing: str) -> None:
    files = {name: content for name, content in judge.weights().items() if name != missing}
    bundle.write(tmp_path / "bad", judge.manifest, files)
    with pytest.raises(BundleError, match=missing):
        judges.load(tmp_path / "bad")


@pytest.mark.parametrize("settings_", [{}, {"signed": ["words"], "symmetric": ["turns"]}, {"signed": 3}])
def test_features_that_do_not_fit_the_weights_are_refused(
    judge: FeaturesJudge, tmp_path: Path, settings_: dict[str, object]
) -> None:
    manifest = judge.manifest.model_copy(update={"settings": settings_})
    bundle.write(tmp_path / "bad", manifest, judge.weights())
    with pytest.raises(BundleError):
        judges.load(tmp_path / "bad")


def test_features_of_another_version_are_refused_on_loading(judge: FeaturesJudge, tmp_path: Path) -> None:
    signed = judge.manifest.settings["signed"]
    assert isinstance(signed, list)
    manifest = judge.manifest.model_copy(
        update={"settings": {**judge.manifest.settings, "signed": ["charm", *signed[1:]]}}
    )
    bundle.write(tmp_path / "bad", manifest, judge.weights())
    with pytest.raises(BundleError, match="charm"):
        judges.load(tmp_path / "bad")
