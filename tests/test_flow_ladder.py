"""The ladder: figures against closed forms, rungs that lack rows, names that would be HTML."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from conftest import tiebreak
from tiebreak import predictions
from tiebreak.errors import DataError, UsageError
from tiebreak.flow.ladder import ladder

IDS = [str(i) for i in range(8)]
LABELS = ["a", "a", "a", "a", "b", "b", "tie", "tie"]
VOTES = pl.DataFrame({"id": IDS, "label": LABELS, "group": [f"g{i // 2}" for i in range(8)]})


def said(p: float, ids: list[str] = IDS) -> pl.DataFrame:
    """Gives the vote p, and the others half of the rest each."""
    rest = (1 - p) / 2
    order = {"a": (p, rest, rest), "b": (rest, p, rest), "tie": (rest, rest, p)}
    table = np.array([order[LABELS[int(i)]] for i in ids])
    return predictions.build(pl.Series(ids), table)


def test_figures_are_those_of_the_closed_form() -> None:
    found = ladder({"first": said(0.5), "second": said(0.8)}, VOTES)
    prior, first, second = found.rungs
    entropy = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))
    assert found.prior == (0.5, 0.25, 0.25)
    assert prior.log_loss.value == pytest.approx(entropy)
    assert prior.change is None
    assert first.log_loss.value == pytest.approx(math.log(2))
    assert first.change is not None
    assert first.change.value == pytest.approx(math.log(2) - entropy)
    assert second.change is not None
    # Every row changes by the same: so does every resample.
    assert (second.change.low, second.change.high) == pytest.approx((math.log(0.5 / 0.8),) * 2)
    assert second.gain is not None
    assert second.gain.value == pytest.approx(-math.log(0.8) - entropy)
    assert second.accuracy.value == 1
    assert second.ece == pytest.approx(0.2)


def test_the_prior_may_be_that_of_the_votes_that_were_trained_on() -> None:
    trained = pl.DataFrame({"id": ["x", "y"], "label": ["a", "b"], "weight": [3.0, 1.0]})
    found = ladder({}, VOTES.filter(pl.col("label") != "tie"), prior=trained)
    assert found.prior == (0.75, 0.25, 0.0)
    assert found.rungs[0].log_loss.value == pytest.approx(-(4 * math.log(0.75) + 2 * math.log(0.25)) / 6)


def test_rows_meet_by_id_and_a_rung_must_have_them_all() -> None:
    shuffled = said(0.7).sample(fraction=1, shuffle=True, seed=1)
    more = pl.concat([shuffled, predictions.build(pl.Series(["other"]), np.full((1, 3), 1 / 3))])
    assert ladder({"x": more}, VOTES).rungs[1].log_loss.value == pytest.approx(-math.log(0.7))
    with pytest.raises(DataError, match="half: 4 comparisons have no prediction"):
        ladder({"half": said(0.7, IDS[:4])}, VOTES)
    with pytest.raises(DataError, match="an id occurs more than once"):
        ladder({}, pl.concat([VOTES, VOTES]))
    with pytest.raises(DataError, match="no vote has a label"):
        ladder({}, VOTES.with_columns(pl.lit(None, pl.String).alias("label")))


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not any(name.startswith("on") for name, _ in attributes)


def test_names_are_text_on_the_page_and_in_the_picture(tmp_path: Path) -> None:
    name = '</text></svg><script>alert(1)</script>\x00"$x^2$ ' + "long" * 30
    found = ladder({name: said(0.6)}, VOTES)
    page = found.write(tmp_path / "ladder")
    tags = Tags()
    tags.feed(page.read_text())
    assert "script" not in tags.seen
    assert {"svg", "table"} <= tags.seen
    picture = (tmp_path / "ladder" / "ladder.svg").read_text()
    assert "<script" not in picture
    assert "\x00" not in picture
    assert json.loads((tmp_path / "ladder" / "ladder.json").read_text())["rungs"][1]["name"] == name
    assert pl.read_csv(tmp_path / "ladder" / "ladder.csv").height == 2
    first = {file.name: file.read_bytes() for file in (tmp_path / "ladder").iterdir()}
    found.write(tmp_path / "ladder")
    assert first == {file.name: file.read_bytes() for file in (tmp_path / "ladder").iterdir()}
    (tmp_path / "ladder" / "mine.txt").write_text("")
    with pytest.raises(UsageError, match="is no ladder"):
        found.write(tmp_path / "ladder")


def test_the_command_line_takes_tables_patterns_and_names_with_spaces(tmp_path: Path) -> None:
    VOTES.write_csv(tmp_path / "votes.csv")
    said(0.5).write_parquet(tmp_path / "one.parquet")
    said(0.8, IDS[:3]).write_parquet(tmp_path / "two.shard-1-of-2.parquet")
    said(0.8, IDS[3:]).write_parquet(tmp_path / "two.shard-2-of-2.parquet")
    rungs = ("first=one.parquet", "second step=two.shard-*.parquet")
    ran = tiebreak("flow", "ladder", *rungs, "--labels", "votes.csv", "-o", "ladder", "--json", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert [rung["name"] for rung in found["rungs"]] == ["prior", "first", "second step"]
    assert found["rungs"][2]["log_loss"]["value"] == pytest.approx(-math.log(0.8), abs=1e-6)
    assert (tmp_path / "ladder" / "index.html").is_file()
    twice = tiebreak("flow", "ladder", "a=one.parquet", "a=one.parquet", "--labels", "votes.csv", cwd=tmp_path)
    assert twice.returncode == 2
    assert "each name once" in twice.stderr
