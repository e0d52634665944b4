"""combine cascade: who goes on and at which price, judged out of fold, kept, drawn and used again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import polars as pl
import pytest

from conftest import SHARED
from tiebreak import predictions, scoring
from tiebreak.combine import cascade as cascading
from tiebreak.combine import cascade_bundle, cascade_page
from tiebreak.combine import cascade_study as study
from tiebreak.combine.cascade_study import Goal
from tiebreak.combine.evidence import Evidence
from tiebreak.combine.paying import CORRECTED_ROWS, EXPECTED_ROWS, HIGHEST, Fitting, Regression, Terms
from tiebreak.comparisons import LABELS
from tiebreak.errors import DataError, UsageError
from tiebreak.evaluation.report import check
from tiebreak.judges.cascade.judge import Path as Way
from tiebreak.judges.cascade.routing import NAMES, Route
from tiebreak.predictions import softmax

Cli = Callable[..., CompletedProcess[str]]
ROWS = 2000


def made(rows: int = ROWS, seed: int = 0) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
    """A judge that knows the half of each row's logits, one that knows more, and one that knows nearly all."""
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=(3, rows, 3)) * rng.choice([0.2, 1.5], size=(1, rows, 1))
    truth = softmax(parts.sum(axis=0))
    votes = (truth.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    ids = pl.Series("id", [str(i) for i in range(rows)])
    sums = parts.cumsum(axis=0)
    said = {"cheap": softmax(sums[0]), "middle": softmax(sums[1]), "dear": softmax(sums[2])}
    tables = {name: predictions.build(ids, p, swap_gap=0.0) for name, p in said.items()}
    return tables, pl.DataFrame({"id": ids, "label": np.array(LABELS)[votes]})


TABLES, VOTES = made()
COSTS = {"cheap": 1.0, "middle": 3.0, "dear": 6.0}
TERMS = Terms((0.1, 0.3, 0.6), "logits", last_alone=False)
EVIDENCE = Evidence.of(TABLES, VOTES)


def test_a_regression_is_two_ridge_regressions() -> None:
    rng = np.random.default_rng(0)
    columns, w = [rng.normal(2, 3, size=500) for _ in range(3)], rng.random(500)
    expected, rest = rng.normal(size=500) + columns[0], 3 * rng.normal(size=500) - columns[1]
    bias, weights = Regression(columns, w).fit(expected, rest)
    # The same by least squares with rows added that pull each standardised slope to 0.
    x, shares = np.stack(columns, axis=1), w / w.sum()
    centre = shares @ x
    scale = np.sqrt(shares @ (x - centre) ** 2)

    def ridge(y: np.ndarray, rows: int) -> np.ndarray:
        left = np.vstack([(x - centre) / scale * np.sqrt(shares)[:, None], np.sqrt(rows / 500) * np.eye(3)])
        right = np.concatenate([(y - shares @ y) * np.sqrt(shares), np.zeros(3)])
        found: np.ndarray = np.linalg.lstsq(left, right, rcond=None)[0] / scale
        return found

    slopes = ridge(expected, EXPECTED_ROWS) + ridge(rest, CORRECTED_ROWS)
    np.testing.assert_allclose(weights, slopes, rtol=1e-9)
    assert bias == pytest.approx(float(shares @ (expected + rest) - slopes @ centre))


def test_what_is_expected_of_a_calibrated_judge_is_a_divergence() -> None:
    own = Fitting(EVIDENCE, TERMS).own
    first, last = own.said[0], own.said[-1]
    np.testing.assert_allclose(own.expected[0] + own.expected[1], (last * np.log(last / first)).sum(axis=1), rtol=1e-9)
    seen = own.losses[0] - own.losses[2]
    assert own.expected[0].mean() + own.expected[1].mean() == pytest.approx(seen.mean(), rel=0.1)
    assert (own.expected[0] + own.expected[1]).std() < 0.7 * seen.std()


def test_by_one_number_the_more_undecided_always_go_first() -> None:
    rng = np.random.default_rng(0)
    column = rng.normal(size=300)
    _, (slope,) = Regression([column], np.ones(300)).fit(-column, -column)
    assert slope > 0
    fitting = Fitting(EVIDENCE.take(np.arange(ROWS) < 1000), TERMS)
    for by in ("entropy", "margin"):
        routes = fitting.at_price(by, fitting.price_of(by, 0.3))  # type: ignore[arg-type]
        values = fitting.own.features(by, 0)[0]
        on = routes[0].goes_on(fitting.own.worth(routes[0], 0))
        assert 0 < on.sum() < 1000
        assert values[on].min() > values[~on].max()


@pytest.mark.parametrize("by", NAMES)
def test_a_budget_is_kept_and_used(by: Any) -> None:
    fitting = Fitting(EVIDENCE, TERMS)
    costs = []
    for budget in (0.1, 0.25, 0.5, 0.75):
        costs.append(fitting.cost(fitting.at_price(by, fitting.price_of(by, budget))))
        assert budget - 0.01 < costs[-1] <= budget + 1e-9
    assert fitting.price_of(by, 1.0) == 0.0
    assert fitting.price_of(by, 0.1) == HIGHEST
    assert fitting.cost(fitting.at_price(by, HIGHEST)) == pytest.approx(0.1)


def test_the_fit_and_the_judge_send_the_same_rows_the_same_way() -> None:
    fitting = Fitting(EVIDENCE, TERMS)
    for by in NAMES:
        routes = fitting.at_price(by, fitting.price_of(by, 0.5))
        stage, cost = fitting.own.run(routes, TERMS.costs)
        assert len(np.unique(stage)) >= 2
        way = Way(fitting.stages(routes), "logits", ROWS)
        for opinion in EVIDENCE.opinions:
            way.step(opinion[way.open])
        np.testing.assert_array_equal(way.stage, stage)
        np.testing.assert_allclose(cost, np.cumsum(TERMS.costs)[stage])
        said = np.stack(fitting.own.said)[stage, np.arange(ROWS)]
        np.testing.assert_array_equal(way.answers, said)


def test_the_last_stage_decides_first() -> None:
    """Backward induction: what a stage expects counts the option to go further, net of what that will cost."""
    fitting = Fitting(EVIDENCE, TERMS)
    price = 0.2
    first, second = fitting.at_price("gain", price)
    assert (first.price, second.price) == (pytest.approx(price * 0.3), pytest.approx(price * 0.6))
    losses, expected = fitting.own.losses, fitting.own.expected
    value = np.maximum(fitting.own.worth(second, 1) - second.price, 0.0)
    bias, weights = Regression(fitting.own.features("gain", 0), EVIDENCE.weights).fit(
        expected[0] + value, losses[0] - losses[1] - expected[0]
    )
    assert (first.bias, first.weights) == (bias, weights)
    assert value.mean() > 0, "the option to go further is worth something"
    alone = Regression(fitting.own.features("gain", 1), EVIDENCE.weights).fit(
        expected[1], losses[1] - losses[2] - expected[1]
    )
    assert (second.bias, second.weights) == alone


def test_the_last_one_asked_may_answer_alone() -> None:
    fitting = Fitting(EVIDENCE, Terms((0.1, 0.3, 0.6), "logits", last_alone=True))
    for place, said in enumerate(fitting.own.said):
        np.testing.assert_array_equal(said, EVIDENCE.opinions[place])


@pytest.fixture(scope="module")
def cascade() -> cascading.Cascade:
    return cascading.fit(TABLES, VOTES, COSTS, Goal(budget=0.5), space="logits", folds=2)


def test_what_cross_validation_says(cascade: cascading.Cascade) -> None:
    found: Any = cascade.study
    assert found["shares"] == pytest.approx([0.1, 0.3, 0.6])
    chosen, every = found["chosen"], found["everybody"]
    assert chosen["cost"][0] == pytest.approx(0.5, abs=0.02)
    assert chosen["kept"][1] > 0.55, "half the cost keeps more than half of the gain"
    assert chosen["kept"][0] == pytest.approx(chosen["against_first"][0] / every["against_first"][0])
    assert sum(chosen["answered"]) == pytest.approx(1)
    alone = [scoring.log_loss(p, EVIDENCE.targets) for p in EVIDENCE.opinions]
    assert [one[0] for one in found["judges"]] == pytest.approx(alone)
    for points in found["curves"].values():
        assert points[0]["cost"][0] == pytest.approx(0.1)
        assert points[0]["log_loss"][0] == pytest.approx(alone[0])
        costs = [point["cost"][0] for point in points]
        assert costs == sorted(costs)


def test_held_out_labels_do_not_reach_a_fold() -> None:
    """Votes for A and B of one fold exchanged: what is fitted for that fold does not change, what it loses does."""
    evidence = EVIDENCE.take(np.arange(ROWS) < 600)
    goal, bys = Goal(budget=0.5), ("entropy",)
    fold = evidence.folds(3, 0)
    turned = evidence.targets.copy()
    turned[fold == 0] = turned[fold == 0][:, [1, 0, 2]]
    other = Evidence(evidence.names, evidence.opinions, turned, evidence.weights, evidence.groups)
    np.testing.assert_array_equal(other.folds(3, 0), fold)
    one, two = (study.judged(each, TERMS, bys, goal, 3, 0, lambda _: None) for each in (evidence, other))  # type: ignore[arg-type]
    np.testing.assert_array_equal(one.stages[0, fold == 0], two.stages[0, fold == 0])
    assert not np.array_equal(one.losses[0, fold == 0], two.losses[0, fold == 0])


def test_goals_of_quality_are_reached_at_less_cost() -> None:
    tables, votes = {name: TABLES[name].head(1000) for name in ("cheap", "dear")}, VOTES.head(1000)
    costs = {"cheap": 1.0, "dear": 4.0}
    kept = cascading.fit(tables, votes, costs, Goal(keep=0.8), route="gain", space="logits", folds=3)
    found: Any = kept.study
    assert found["chosen"]["kept"][0] == pytest.approx(0.8, abs=0.07)
    assert found["chosen"]["cost"][0] < 0.8
    wanted = found["chosen"]["log_loss"][0]
    target = cascading.fit(tables, votes, costs, Goal(target=wanted), route="gain", space="logits", folds=3)
    again: Any = target.study
    assert again["chosen"]["log_loss"][0] == pytest.approx(wanted, abs=0.03)
    beyond: Any = cascading.fit(tables, votes, costs, Goal(target=0.01), route="margin", space="logits", folds=3)
    assert beyond.study["chosen"]["cost"][0] > 0.95
    assert "not reached" in cascade_page.warnings(beyond)[0]


def test_a_route_learns_where_the_cheap_judge_is_wrong() -> None:
    """The first judge is sure and wrong on some rows: there the second helps, where it looks least undecided."""
    rng = np.random.default_rng(1)
    rows = 1200
    truth = softmax(rng.normal(size=(rows, 3)) * 1.5)
    first = truth.copy()
    fooled = rng.random(rows) < 0.3
    side = np.where(rng.random((fooled.sum(), 1)) < 0.5, [[3.0, 0.0, 0.0]], [[0.0, 3.0, 0.0]])
    first[fooled] = softmax(side + rng.normal(size=(fooled.sum(), 3)) * 0.1)
    votes = (truth.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    ids = pl.Series("id", [str(i) for i in range(rows)])
    tables = {"first": predictions.build(ids, first), "second": predictions.build(ids, truth)}
    labels = pl.DataFrame({"id": ids, "label": np.array(LABELS)[votes]})
    found = cascading.fit(tables, labels, {"first": 1, "second": 1}, Goal(budget=0.7), answer="last", folds=3)
    chosen: Any = found.study
    assert chosen["route"] == "gain"
    assert chosen["chosen"]["kept"][0] > 0.8
    assert chosen["curves"]["entropy"][6]["kept"][0] < 0.3


def test_tables_take_the_way_of_the_judges(cascade: cascading.Cascade) -> None:
    done, stage = cascading.apply(cascade, list(TABLES.values()))
    answered: Any = cascade.study["chosen"]
    shares = np.bincount(stage, minlength=3) / len(stage)
    np.testing.assert_allclose(shares, answered["answered"], atol=0.05)
    np.testing.assert_array_equal(predictions.probabilities(done)[stage == 0], EVIDENCE.opinions[0][stage == 0])
    assert done["swap_gap"].to_list() == [0.0] * ROWS
    backwards = [table.reverse() for table in TABLES.values()]
    again, _ = cascading.apply(cascade, backwards, like=VOTES)
    assert again.equals(done)
    with pytest.raises(DataError, match="2 tables for 3 judges"):
        cascading.apply(cascade, list(TABLES.values())[:2])


def test_what_is_refused() -> None:
    def fit(**changes: Any) -> None:
        given: dict[str, Any] = {"tables": TABLES, "votes": VOTES, "costs": COSTS, "goal": Goal(budget=0.5)}
        cascading.fit(**{**given, **changes})

    for change, words in (
        ({"tables": {"cheap": TABLES["cheap"]}}, "1 judge for a cascade"),
        ({"route": "luck"}, "--route 'luck'"),
        ({"answer": "first"}, "--answer 'first'"),
        ({"space": "ranks"}, "--space 'ranks'"),
        ({"costs": {"cheap": 1}}, "no cost of middle, dear"),
        ({"costs": COSTS | {"dear": -1.0}}, "numbers from 0 up"),
        ({"goal": Goal(budget=0.05)}, "at least what the first judge costs"),
    ):
        with pytest.raises(UsageError, match=words):
            fit(**change)
    for values in ((None, None, None), (0.5, 0.9, None), (0.0, None, None), (1.5, None, None), (None, None, 2.0)):
        with pytest.raises(UsageError, match="goal"):
            Goal(*values)


def test_no_gain_is_said_and_not_divided_by() -> None:
    twice = {"cheap": TABLES["cheap"].head(300), "same": TABLES["cheap"].head(300)}
    found = cascading.fit(twice, VOTES.head(300), {"cheap": 1, "same": 1}, Goal(budget=0.8), folds=3)
    chosen: Any = found.study["chosen"]
    assert chosen["kept"] == [None, None, None]
    assert "do not show" in cascade_page.warnings(found)[0]
    assert "tiebreak" in cascade_page.render(found, "none", "")


def test_the_report_is_a_page_a_picture_and_a_table(cascade: cascading.Cascade, tmp_path: Path) -> None:
    names = ("<script>alert(1)</script>", "x" * 200, "\u202eevil")
    nasty = cascade.model_copy(update={"names": names})
    page = cascade_page.write(nasty, tmp_path / "report", name="<b>", unit="seconds")
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<b>" not in text.split("<h1>")[1].split("</h1>")[0]
    assert "\u202e" not in text
    assert "x" * 200 in text.split("<table>")[1], "whole in the table, cut in the picture"
    assert 'role="img" aria-label="Log-loss against cost' in text
    assert "default-src &#x27;none&#x27;" in text or "default-src 'none'" in text
    assert (tmp_path / "report" / "curve.png").read_bytes().startswith(b"\x89PNG")
    curve = pl.read_csv(tmp_path / "report" / "curve.csv")
    assert curve.height == study.POINTS * 3
    assert {"route", "cost", "log_loss", "kept_low"} <= set(curve.columns)
    cascade_page.write(cascade, tmp_path / "report", name="again")
    (tmp_path / "report" / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="would be lost"):
        check(tmp_path / "report", cascade_page.CONTENT)
    assert cascade_page.picture(cascade) == cascade_page.picture(cascade)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for name, table in TABLES.items():
        table.head(600).write_parquet(folder / f"{name}.parquet")
    VOTES.head(600).write_csv(folder / "votes.csv")
    return folder


def test_the_command(cli: Cli, files: Path) -> None:
    tables = ["cheap.parquet", "middle.parquet", "dear.parquet"]
    costs = [text for name, cost in COSTS.items() for text in ("--cost", f"{name}={cost}")]
    ran = cli("combine", "cascade", *tables, "--labels", "votes.csv", *costs, "--budget", "0.5", "--route", "entropy",
              "--space", "logits", "-o", "made", cwd=files)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "cascade *" in ran.stdout
    assert "came without a judge" in ran.stderr
    assert (files / "made.report" / "index.html").is_file()
    kept = cascade_bundle.read(files / "made")
    want, _ = cascading.apply(kept, [TABLES[name].head(600) for name in kept.names])
    again = cli("combine", "cascade", *reversed(tables), "--apply", "made", "-o", "done.parquet", "--json", cwd=files)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["answered"].keys() == set(kept.names)
    assert pl.read_parquet(files / "done.parquet").drop("label").equals(want.drop("label"))
    asked = cli("compare", "--judge", "made", "--prompt", "x", "--a", "y", "--b", "z", cwd=files)
    assert asked.returncode == 2
    assert "is a table of predictions" in asked.stderr


def test_the_command_refuses_in_words(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tiebreak.cli import run

    tables = [str(files / f"{name}.parquet") for name in ("cheap", "dear")]
    fit = ["combine", "cascade", *tables, "--labels", str(files / "votes.csv"), "-o", str(files / "new")]
    for more, code, words in (
        ([], 2, "0 goals"),
        (["--budget", "0.5", "--keep", "0.9"], 2, "2 goals"),
        (["--budget", "0.5"], 2, "no cost of cheap, dear"),
        (["--budget", "0.5", "--cost", "cheap=1"], 2, "a cost for each"),
        (["--budget", "0.5", "--cost", "x=1"], 2, "no such judge"),
        (["--budget", "0.5", "--cost", "cheap=much"], 2, "NAME=NUMBER"),
        (["--budget", "0.5", "--apply", "x"], 2, "--labels and --apply"),
    ):
        assert run([*fit, *more]) == code
        assert words in capsys.readouterr().err
    alone = ["combine", "cascade", tables[0], "--labels", str(files / "votes.csv"), "--budget", "1"]
    assert run([*alone, "-o", str(files / "new")]) == 2
    assert "1 judge for a cascade" in capsys.readouterr().err
    assert run([*fit[:-1], str(files / "x.csv"), "--budget", "0.5"]) == 2
    assert not (files / "new").exists()


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data are not here")
def test_on_real_votes_a_cascade_beats_rows_drawn_at_random() -> None:
    from tiebreak.ingest import judged

    file = SHARED / "kaggle_lmsys_llm_predictions.parquet"
    frame = judged.read_file(file)
    tables = {
        model: judged.prediction_table(frame, [f"{model}_{c}" for c in ("a", "b", "tie")], where="")[0]
        for model in ("m1", "m2")
    }
    votes = judged.label_table(frame, where="")
    found: Any = cascading.fit(tables, votes, {"m1": 1, "m2": 4}, Goal(budget=0.6), route="gain", space="logits").study
    assert found["rows"] == 14_370
    chosen = found["chosen"]
    assert chosen["cost"][0] == pytest.approx(0.6, abs=0.005)
    assert chosen["kept"][1] > 0.52, "half of the rows go on; drawn at random they would keep half of the gain"
    assert chosen["kept"][0] > 0.6


def test_a_route_says_what_it_is() -> None:
    with pytest.raises(ValueError, match="finite"):
        Route(by="entropy", bias=float("nan"), weights=(1.0,), price=0.0)
