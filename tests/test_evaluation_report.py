"""The report: whole, self-contained, and deaf to what the data say."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiebreak as tb
from evaluation_rows import judged, votes
from tiebreak import predictions
from tiebreak.errors import UsageError
from tiebreak.evaluation import markup, page, report, surprises

HOSTILE = [
    "<script>alert(1)</script>",
    "</td></table><img src=x onerror=alert(1)>",
    "'\"><svg onload=alert(1)>",
    "<!-- --><style>*{display:none}</style>",
    '=HYPERLINK("http://x")',
    "+1+1",
    "-2",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\x00=1",
    "\u202eright to left\u202c",
    "مرحبا",
    "&lt;b&gt;&amp;",
    "{0} %s $x^2$ {{7*7}}",
    "\x1b[31m",
    "]]>",
    "javascript:alert(1)",
]
OURS = """
html head meta title style body main header nav section h1 h2 h3 p ul li a b div span table thead tbody tr th td small
figure figcaption code bdi svg g path text use defs clippath rect
"""
TAGS = frozenset(OURS.split())


class Reader(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.depth = 0
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"comment in the page: {data!r}")


def hostile(texts: list[str], rows: int = 40) -> pl.DataFrame:
    """Votes in which every cell of text is one of these."""

    def pick(step: int) -> pl.Series:
        return pl.Series([texts[(k * step + step) % len(texts)] for k in range(rows)], dtype=pl.String)

    names = {"id": 1, "model_a": 2, "model_b": 11, "source": 13, "group": 17}
    turns = {"prompt": 3, "response_a": 5, "response_b": 7}
    columns = [pick(step).alias(name) for name, step in names.items()]
    columns += [pl.Series(name, [[text] for text in pick(step)]) for name, step in turns.items()]
    return votes(rows).with_columns(columns)


def check_page(text: str) -> Reader:
    reader = Reader(text)
    assert set(reader.tags) <= TAGS
    for tag, name, value in reader.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in {"src", "srcdoc", "action", "formaction", "data", "background", "ping"}, (tag, name)
        if name == "href" or name.endswith(":href"):
            assert value.startswith("#") or value == "metrics.json" or value.startswith("csv/"), value
        assert "url(" not in value.replace("url(#", ""), value
    ids = [value for _, name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    return reader


def write(table: pl.DataFrame, place: Path, **options: object) -> str:
    frame = judged(table).with_columns(id=table["id"])
    found = tb.evaluate(frame, table, against=frame, resamples=20, **options)  # type: ignore[arg-type]
    return found.write(place).read_text(encoding="utf-8")


def test_the_report_is_whole(tmp_path: Path) -> None:
    table = votes(200)
    found = tb.evaluate(judged(table), table, against=judged(table, seed=1), resamples=50)
    written = found.write(tmp_path / "report")
    assert written == tmp_path / "report" / "index.html"
    reader = check_page(written.read_text(encoding="utf-8"))
    assert (
        "meta",
        "content",
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    ) in (reader.attributes)
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["counts"]["scored"] == 200
    linked = {value for _, name, value in reader.attributes if name == "href" and value.startswith("csv/")}
    assert len(linked) >= 8
    assert {f"csv/{path.name}" for path in (tmp_path / "report" / "csv").iterdir()} >= linked
    pictures = [value for tag, name, value in reader.attributes if tag == "div" and name == "aria-label"]
    assert len(pictures) == reader.tags.count("svg") == 7
    assert all(len(alt) > 20 for alt in pictures)
    assert f"{found.metrics['log_loss'].value:.4f}" in "".join(reader.words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report"]


def test_the_numbers_beside_a_picture_are_those_of_the_votes(tmp_path: Path) -> None:
    table = votes(150)
    frame = judged(table)
    tb.evaluate(frame, table, resamples=20).write(tmp_path / "r")
    cells = pl.read_csv(tmp_path / "r" / "csv" / "confusion.csv")
    joined = pl.DataFrame({"vote": table["label"].cast(pl.String), "verdict": frame["label"].cast(pl.String)})
    for vote, verdict, count, _ in cells.iter_rows():
        assert count == joined.filter((pl.col("vote") == vote) & (pl.col("verdict") == verdict)).height
    for name in ("reliability", "tie_calibration", "length", "histogram"):
        curve = pl.read_csv(tmp_path / "r" / "csv" / f"{name}.csv")
        per_class = curve.group_by("class").agg(pl.col("count").sum()) if "class" in curve.columns else curve.sum()
        assert set(per_class["count"]) == {150}, name
    coverage = pl.read_csv(tmp_path / "r" / "csv" / "risk_coverage.csv")
    p = predictions.probabilities(frame).max(axis=1)
    for row in coverage.iter_rows(named=True):
        kept = p >= row["threshold"]
        assert kept.sum() == row["count"]
        hits = (joined["vote"] == joined["verdict"]).to_numpy()[kept].mean()
        assert row["accuracy"] == pytest.approx(hits)
    assert coverage["answered"][-1] == 1


def test_no_text_of_the_data_becomes_a_tag(tmp_path: Path) -> None:
    names = {"name": HOSTILE[0], "against_name": HOSTILE[1], "remarks": [HOSTILE[2]]}
    made = write(hostile(HOSTILE), tmp_path / "r", **names)
    reader = check_page(made)
    harmless = write(hostile(["plain words"] * 7), tmp_path / "s")
    assert reader.tags.count("style") == Reader(harmless).tags.count("style") == 1
    text = "".join(reader.words)
    assert HOSTILE[0] in text
    assert HOSTILE[1] in text
    assert HOSTILE[2] in text
    for control in "\x00\x1b\u202e\r":
        assert control not in made


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=60), min_size=3, max_size=12))
def test_any_text_is_escaped(tmp_path: Path, texts: list[str]) -> None:
    usable = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        # Pictures hold no text of the data, and they take nearly all the time.
        patch.setattr(page.plots, "draw", lambda _: [])
        check_page(write(hostile(usable), tmp_path / "r"))


@given(st.text(), st.text())
def test_markup_escapes_all_but_itself(text: str, attribute: str) -> None:
    made = markup.tag("td", text, markup.tag("b", text), title=attribute)
    reader = Reader(made)
    assert reader.tags == ["td", "b"]
    shown = "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    assert "".join(reader.words) == shown * 2


def test_cells_of_a_megabyte_leave_the_page_small(tmp_path: Path) -> None:
    table = hostile(["<b>" * 350_000, "x" * 1_000_000, "\n" * 1_000_000], rows=6)
    made = write(table, tmp_path / "r")
    assert len(made) < 300_000
    assert (tmp_path / "r" / "csv" / "surprises.csv").stat().st_size < 20_000
    check_page(made)


def test_spreadsheets_get_no_formula(tmp_path: Path) -> None:
    write(hostile(HOSTILE), tmp_path / "r")
    seen = 0
    for path in (tmp_path / "r" / "csv").iterdir():
        for cells in pl.read_csv(path, infer_schema=False).iter_rows():
            for cell in cells:
                number = cell is None or cell in {"nan", "NaN"} or _is_number(cell)
                assert number or not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\x00")), (path.name, cell)
                seen += cell is not None and cell.startswith("'=")
    assert seen


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def test_without_excerpts_no_text_leaves_the_votes(tmp_path: Path) -> None:
    table = votes(30).with_columns(
        prompt=pl.lit(["PRIVATE-PROMPT"]), response_a=pl.lit(["PRIVATE-A"]), response_b=pl.lit(["PRIVATE-B"])
    )
    assert "PRIVATE-PROMPT" in write(table, tmp_path / "open")
    write(table, tmp_path / "closed", excerpts=False)
    assert "PRIVATE" not in (tmp_path / "open" / "metrics.json").read_text()
    for path in (tmp_path / "closed").rglob("*.*"):
        assert "PRIVATE" not in path.read_text(encoding="utf-8"), path.name


def test_surprises_are_the_largest_losses_one_a_group() -> None:
    table = votes(100).with_columns(group=(pl.int_range(pl.len()) % 12).cast(pl.String))
    frame = judged(table)
    found = tb.evaluate(frame, table, resamples=20).surprises
    rows = zip(frame.iter_rows(named=True), table["label"], strict=True)
    p_vote = {row["id"]: row[f"p_{vote}"] for row, vote in rows}
    assert found["id"][0] == min(p_vote, key=lambda key: p_vote[key])
    assert found["log_loss"].is_sorted(descending=True)
    assert found.height == surprises.SHOWN
    assert len({table["group"][row - 1] for row in found["row"]}) == surprises.SHOWN
    assert [table["id"][row - 1] for row in found["row"]] == found["id"].to_list()


def test_excerpts_are_one_line_of_at_most_200_characters() -> None:
    assert surprises.excerpt("a\nb\t c") == "a b c"
    assert len(surprises.excerpt("x" * 5000)) == 200
    assert surprises.excerpt("\x00\u202eabc") == "\N{REPLACEMENT CHARACTER}abc"


def test_an_older_report_is_replaced_and_anything_else_is_kept(tmp_path: Path) -> None:
    table = votes(20)
    found = tb.evaluate(judged(table), table, resamples=20)
    place = tmp_path / "r"
    found.write(place)
    (place / "csv" / "gone.csv").write_text("old")
    found.write(place)
    assert not (place / "csv" / "gone.csv").exists()
    (place / "thesis.tex").write_text("the work of years")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        found.write(place)
    assert (place / "thesis.tex").read_text() == "the work of years"
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(UsageError, match="file"):
        found.write(file)
    with pytest.raises(UsageError, match="not a directory"):
        found.write(tmp_path / "no" / "where")


def test_a_failure_while_writing_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = votes(20)
    found = tb.evaluate(judged(table), table, resamples=20)
    written = found.write(tmp_path / "r")
    before = written.read_bytes()

    def fail(_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report.page, "render", fail)
    with pytest.raises(tb.TiebreakError, match="No space left"):
        found.write(tmp_path / "r")
    assert written.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_same_inputs_same_page(tmp_path: Path) -> None:
    assert write(votes(40), tmp_path / "one") == write(votes(40), tmp_path / "two")


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_few_votes_make_a_page_too(tmp_path: Path, rows: int) -> None:
    check_page(write(votes(rows), tmp_path / "r"))
    table = votes(rows).select("id", "label")
    tb.evaluate(judged(votes(rows)), table, resamples=20).write(tmp_path / "bare")
