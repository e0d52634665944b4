"""A GGUF file as a checkpoint: dequantised once, kept in the user's cache, loaded in well under a second after that."""

from __future__ import annotations

import importlib.util
import os
import shutil
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from tiebreak import storage
from tiebreak.errors import DataError, MissingExtraError, ResourceError
from tiebreak.judges.base.identity import digest
from tiebreak.storage import CACHE, cache_folder


def converted(gguf: Path) -> Path:
    """The folder of the checkpoint that a GGUF file becomes: bf16 safetensors, configuration, tokenizer.

    The folder is named by the digest of the file, and appears whole or not at all. The first call converts (about
    20 s for 135 million parameters), later ones find it.

    Raises:
        MissingExtraError: torch, transformers or gguf is not installed.
        DataError: transformers cannot read this file or this architecture.
        ResourceError: The cache cannot be written.
    """
    target = cache_folder() / "converted" / digest([gguf])[:40]
    if (target / "config.json").is_file():
        return target
    for module in ("torch", "transformers", "gguf"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(module, "llm", f"the GGUF file {gguf.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(
            f"the cache {target.parent} cannot be made: {error.strerror or error}",
            mend=f"{CACHE}=FOLDER with a folder that can be written",
        ) from error
    own = target.with_name(f"{target.name}.{os.getpid()}")
    with storage.replacing(own) as aside:
        _convert(gguf, aside)
    try:
        own.rename(target)
    except OSError:  # another process was first; what it wrote may be in use
        shutil.rmtree(own)
    return target


def _convert(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from tiebreak.judges.base.quiet import quiet

    place = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name, "local_files_only": True}
    try:
        with quiet(), redirect_stderr(StringIO()):  # its progress bar obeys no setting of transformers
            tokenizer = AutoTokenizer.from_pretrained(**place)
            config = AutoConfig.from_pretrained(**place)
            read = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    except (ValueError, KeyError, OSError) as error:
        raise DataError(
            f"{gguf}: transformers cannot read it ({error})",
            expected="a GGUF file of a decoder that transformers knows (Llama, Qwen, Gemma, Mistral, ...)",
            mend="take the safetensors checkpoint of the same model",
        ) from error
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # What was read from GGUF refuses save_pretrained; the same weights in a model made from the configuration do not.
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(read.state_dict(), strict=True)
    model.tie_weights()
    with quiet():
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
