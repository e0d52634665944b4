"""The whole way, as a user goes it: real files, killed runs, hostile texts, no network."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import tiebreak as tb
from tiebreak import comparisons, predictions, samples

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared vote sets are not beside this checkout")
KAGGLE_ROWS = 57_477
FUZZED = 10_000


@needs_data
def test_votes_become_predictions_become_a_report(cli, tmp_path) -> None:  # type: ignore[no-untyped-def]
    raw = SHARED / "raw"
    assert cli("data", "import", raw / "kaggle_train_first_1000.csv", "-o", tmp_path / "v.parquet").returncode == 0
    assert pl.read_parquet(tmp_path / "v.parquet").height == 1000
    assert cli("predict", tmp_path / "v.parquet", "-o", tmp_path / "p.parquet").returncode == 0
    report = cli("evaluate", tmp_path / "p.parquet", "--labels", tmp_path / "v.parquet", "-o", tmp_path / "report")
    assert report.returncode == 0, report.stderr
    assert "log-loss" in report.stdout.lower()
    assert (tmp_path / "report" / "index.html").stat().st_size > 10_000
    done = cli("predict", raw / "kaggle_test.csv", "--format", "kaggle", "-o", tmp_path / "submission.csv")
    assert done.returncode == 0, done.stderr
    submission = pl.read_csv(tmp_path / "submission.csv")
    assert submission["id"].to_list() == [136060, 211333, 1233961]
    np.testing.assert_allclose(submission.select(pl.sum_horizontal(pl.exclude("id"))).to_series(), 1, atol=1e-9)


def kaggle_csv(path: Path) -> None:
    """57,477 rows in Kaggle's form; short texts, so that the test is about the engine."""
    rng = random.Random(0)
    words = [word for row in samples.votes()["response_a"].to_list() for turn in row for word in (turn or "").split()]
    with path.open("w", encoding="utf-8") as stream:
        stream.write("id,prompt,response_a,response_b\n")
        for i in range(KAGGLE_ROWS):
            cells = [json.dumps([" ".join(rng.choices(words, k=rng.randint(1, 12)))]) for _ in range(3)]
            stream.write(f"{i}," + ",".join('"' + cell.replace('"', '""') + '"' for cell in cells) + "\n")


def test_kill_9_in_the_middle_then_resume_gives_the_same_bytes(cli, tmp_path) -> None:  # type: ignore[no-untyped-def]
    source, whole, output = tmp_path / "test.csv", tmp_path / "whole.parquet", tmp_path / "p.parquet"
    kaggle_csv(source)
    assert cli("predict", source, "-o", whole).returncode == 0
    running = subprocess.Popen(
        [sys.executable, "-m", "tiebreak", "predict", str(source), "-o", str(output)], stderr=subprocess.PIPE
    )
    parts = output.with_name("p.parquet.parts")
    while len(list(parts.glob("*.parquet"))) < 4:
        assert running.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert not output.exists()
    refused = cli("predict", source, "-o", output)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    resumed = cli("predict", source, "-o", output, "--resume", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert 4 * 4096 <= json.loads(resumed.stdout)["reused"] < KAGGLE_ROWS
    assert output.read_bytes() == whole.read_bytes()
    assert pl.read_parquet(output)["id"].to_list() == [str(i) for i in range(KAGGLE_ROWS)]
    assert not parts.exists()


NASTY = [
    *(
        "",
        " ",
        "\n\n",
        "\r\n",
        "\x00",
        "a\x00b",
        "\u202eright to left\u202c",
        "\u200b\u200c\u200d",
        "\u0301" * 50,
        "\ufffd",
    ),
    *(
        "🎉👩‍👩‍👧‍👦",
        "שלום",
        "مرحبا",
        "日本語テスト",
        "ﬀ",
        "İ",
        "ß",
        "I'm sorry",
        "1e309",
        "NaN",
        "null",
        '{"a": 1}',
        "\\ud83d",
    ),
    *("=SUM(A1:A9)", "+1", "-1", "@cmd", "\t=1", "[[A]]", "{{x}}", "{0}", "%s", "%(x)s", "$(rm)"),
    *("<script>alert(1)</script>", "<b>", "&amp;", "</td></table>", "]]>", "<!--", '" onload="x'),
    *("`code`", "```python\nx", "| a | b |\n|---|---|", "# head", "* " * 40),
]


def fuzzed(rows: int) -> pl.DataFrame:
    """Comparisons of hostile and random texts, some with null turns, and three of a megabyte."""
    rng = random.Random(1)

    def text() -> str | None:
        kind = rng.random()
        if kind < 0.03:
            return None
        if kind < 0.6:
            return "".join(rng.choices(NASTY, k=rng.randint(1, 3)))
        return "".join(
            chr(rng.choice((rng.randint(0, 0xD7FF), rng.randint(32, 126)))) for _ in range(rng.randint(0, 60))
        )

    table = {name: [] for name in comparisons.TEXTS}  # type: ignore[var-annotated]
    for row in range(rows):
        turns = rng.choice((1, 1, 1, 2, 5))
        for name in comparisons.TEXTS:
            table[name].append([text() for _ in range(turns)])
        if row in (10, 20, 30):
            table["response_a"][row][0] = rng.choice(("<i>x</i> ", "a", "é= ")) * 400_000
    return comparisons.validate(
        pl.DataFrame(
            {"id": [rng.choice(NASTY) for _ in range(rows)], **table, "label": rng.choices(comparisons.LABELS, k=rows)},
            schema_overrides=dict.fromkeys(comparisons.TEXTS, comparisons.TURNS),
        )
    )


class Tags(HTMLParser):
    """Collects the tags of a page and the attributes that could run something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def test_ten_thousand_hostile_comparisons(tmp_path: Path) -> None:
    votes = fuzzed(FUZZED)
    judge = tb.load_judge()
    table = judge.predict(votes)
    p = predictions.probabilities(table)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-9)
    assert table["id"].equals(votes["id"])
    np.testing.assert_array_equal(predictions.probabilities(judge.predict(comparisons.swap(votes))), p[:, [1, 0, 2]])
    tb.evaluate(table, votes, resamples=50).write(tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert not tags.tags & {"script", "i", "iframe", "object", "embed"}
    assert not tags.handlers
    assert len(page) < 5_000_000
    for sheet in (tmp_path / "report").rglob("*.csv"):
        for row in pl.read_csv(sheet, infer_schema=False, truncate_ragged_lines=False).iter_rows():
            for cell in row:
                if cell and cell[0] in "=+-@\t\r\x00":
                    float(cell)  # numbers may be negative; text may not look like a formula


GUARD = """
import sys
def guard(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "pickle.find_class", "os.system", "os.exec", "os.posix_spawn"):
        sys.stderr.write(f"forbidden: {event} {arguments}")
        sys.stderr.flush()
        import os
        os._exit(99)
sys.addaudithook(guard)
from tiebreak.cli import run
sys.exit(run(sys.argv[1:]))
"""


def test_the_demo_needs_no_network_no_pickle_and_no_other_program(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", GUARD, "demo", "-o", str(tmp_path / "demo")],
        env={**os.environ, "MPLCONFIGDIR": str(tmp_path / "matplotlib")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "demo" / "report" / "index.html").is_file()


def test_quiet_is_quiet_and_a_pipe_carries_data_alone(cli, tmp_path) -> None:  # type: ignore[no-untyped-def]
    samples.votes().head(5).write_parquet(tmp_path / "v.parquet")
    piped = cli("predict", tmp_path / "v.parquet", "-o", "-")
    rows = [json.loads(line) for line in piped.stdout.splitlines()]
    assert [row["id"] for row in rows] == samples.votes()["id"].head(5).to_list()
    assert "5 rows" in piped.stderr
    assert cli("-q", "predict", tmp_path / "v.parquet", "-o", tmp_path / "p.csv").stderr == ""


def test_compare_reads_files_and_stdin_and_explains(cli, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "b.md").write_text("I cannot help with that.")
    asked = ("compare", "--prompt", "Name three primes.", "--a", "-", "--b", f"@{tmp_path / 'b.md'}")
    answer = cli(*asked, "--explain", "--json", stdin="2, 3 and 5 are prime numbers.")
    assert answer.returncode == 0, answer.stderr
    document = json.loads(answer.stdout)
    assert document["json_version"] == 1
    assert sum(document[name] for name in ("p_a", "p_b", "p_tie")) == pytest.approx(1)
    assert document["p_a"] > document["p_b"]
    assert all(reason["text"] for reason in document["reasons"])
    assert "P(A)" in cli(*asked, stdin="2, 3 and 5").stdout
    assert cli("compare", "--prompt", "x", "--a", "-", "--b", "-").returncode == 2
    assert cli("compare", "--prompt", "x", "--a", "@nowhere", "--b", "y").returncode == 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["predict"], 2, "Missing argument"),
        (["predict", "x", "--outptu", "y"], 2, "No such option"),
        (["nonsense"], 2, "No such command"),
        (["predict", "nowhere.csv", "-o", "p.parquet"], 3, "nowhere.csv"),
        (["predict", "nowhere.csv", "-o", "p.xlsx"], 2, "suffix"),
        (["predict", "v.parquet", "-o", "no/such/place/p.parquet"], 2, "mkdir -p"),
        (["predict", "v.parquet", "-o", "p.csv", "--sample", "s.csv"], 2, "--format kaggle"),
        (["predict", "v.parquet", "-o", "p.csv", "--judge", "."], 3, "not a judge bundle"),
        (["predict", "v.parquet", "-o", "-", "--resume"], 2, "cannot be resumed"),
        (["predict", "v.parquet", "-o", "p.csv", "--map", "prompt"], 2, "OURS=THEIRS"),
        (["evaluate", "v.parquet", "--labels", "v.parquet", "-o", "r"], 3, "three columns of probab"),
    ],
)
def test_mistakes_give_one_line_and_a_documented_code(arguments, code, words, cli, tmp_path) -> None:  # type: ignore[no-untyped-def]
    samples.votes().drop("p_a", "p_b", "p_tie").head(5).write_parquet(tmp_path / "v.parquet")
    result = cli(*arguments, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr
