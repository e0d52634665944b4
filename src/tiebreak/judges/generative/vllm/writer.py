"""Writing with vLLM, in a process beside this one."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from tiebreak.errors import DataError, UsageError
from tiebreak.judges.base import Base, resolve
from tiebreak.judges.base.loading import checkpoint, read_tokenizer
from tiebreak.judges.generative.backend import silent
from tiebreak.judges.generative.vllm import choices
from tiebreak.judges.generative.vllm.process import Worker
from tiebreak.judges.generative.vllm.starting import start
from tiebreak.judges.generative.writing import Conversation, Sampling, Written
from tiebreak.judges.runtime import Runtime
from tiebreak.listening import SILENT, Listener
from tiebreak.render.chats import Chats

_STEP: Final = 512
"""Room for sequences grows by so many tokens, so that one a little longer does not start vLLM anew."""


class VllmWriter:
    """Writes with a causal language model in vLLM, which starts with the first conversation.

    The random numbers of a text depend on the seed, its number and its conversation. Its logits depend in their last
    bits on what vLLM computes beside it, so that a text may differ from run to run where two tokens are about equally
    likely.

    Args:
        folder: The checkpoint, with a tokenizer that has a chat template.
        runtime: How to run; `max_length` is that of a conversation.
        listener: Told when an environment has to be made.

    Attributes:
        report: Of the last call.
    """

    def __init__(self, folder: Path, runtime: Runtime, listener: Listener = SILENT) -> None:
        self.report: dict[str, Any] = {}
        self._folder, self._runtime, self._listener = folder, runtime, listener
        self._tokenizer: Any = read_tokenizer(folder)
        self._chats = Chats(self._tokenizer)
        self._ends = ends(folder, self._tokenizer.eos_token_id)
        self._worker: Worker | None = None
        self._room = 0

    @classmethod
    def load(cls, base: Base, runtime: Runtime | None = None) -> VllmWriter:
        """The writer of a model on this machine.

        Raises:
            UsageError: It is not there or has no chat template.
            DataError: Nothing says which token ends a text.
        """
        return cls(checkpoint(resolve(base)), runtime or Runtime())

    def write(
        self, conversations: Sequence[Conversation], sampling: Sampling, *, advance: Callable[[int], None] = silent
    ) -> list[list[Written]]:
        """The next turn of each conversation; see `tiebreak.judges.generative.writing.Writer`.

        A conversation that leaves no room for `max_tokens` in the model's window gives up the middle of its longest
        texts; the report counts these.
        """
        started = time.perf_counter()
        chatted = self._chats.render(conversations, max_length=self._longest(sampling.max_tokens))
        if not len(chatted.sequences):
            return []
        worker = self._running(int(chatted.sequences.lengths.max()) + sampling.max_tokens)
        rows = np.repeat(np.arange(len(conversations)), sampling.samples)
        asked = chatted.sequences.pick(rows)
        seeds = [seed(sampling.seed, i, words) for words in conversations for i in range(sampling.samples)]
        done = _Whole(sampling.samples, advance)
        header = {"request": "write", "sampling": self._sampling(sampling), "seeds": seeds}
        _, found = worker.ask(header, {"ids": asked.ids, "offsets": asked.offsets}, done)
        texts = [
            self._written(found["ids"][start:end].tolist(), bool(ended), sampling.stop)
            for (start, end), ended in zip(pairwise(found["offsets"].tolist()), found["ended"], strict=True)
        ]
        self.report = {
            "backend": "vllm", "device": worker.about["platform"], "precision": worker.about["dtype"],
            "versions": worker.about["versions"], "truncated": int(chatted.truncated.sum()),
            "prompt_tokens": int(asked.offsets[-1]), "tokens": sum(text.tokens for text in texts),
            "seconds": time.perf_counter() - started,
        }  # fmt: skip
        return [texts[first : first + sampling.samples] for first in range(0, len(texts), sampling.samples)]

    def close(self) -> None:
        """End the process; the next conversation starts another."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _sampling(self, sampling: Sampling) -> dict[str, Any]:
        return {
            "max_tokens": sampling.max_tokens, "temperature": sampling.temperature, "top_p": sampling.top_p,
            "stop_token_ids": self._ends, "stop": list(sampling.stop), "detokenize": bool(sampling.stop),
        }  # fmt: skip

    def _longest(self, max_tokens: int) -> int | None:
        window = choices.window(self._folder)
        if window is None:
            return self._runtime.max_length
        if window <= max_tokens:
            raise UsageError(
                f"texts of {max_tokens} tokens, and the model's window is {window}",
                expected="a window with room for the prompt",
                mend=f"--max-tokens {window // 2}",
            )
        return min(window - max_tokens, self._runtime.max_length or window)

    def _running(self, tokens: int) -> Worker:
        """The process, with room for sequences of so many tokens."""
        if self._worker is None or tokens > self._room or not self._worker.alive:
            self.close()
            room, window = -(-tokens // _STEP) * _STEP, choices.window(self._folder)
            self._room = room if window is None else min(room, window)
            self._worker = start(self._folder, self._runtime, self._listener, max_length=self._room, writes=True)
        return self._worker

    def _written(self, tokens: list[int], ended: bool, stops: Sequence[str]) -> Written:
        end = next((number for number, token in enumerate(tokens) if token in self._ends), None)
        text: str = self._tokenizer.decode(
            tokens[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )  # fmt: skip
        found = [at for stop in stops if (at := text.find(stop)) >= 0]
        return Written(text[: min(found)] if found else text, ended or bool(found), len(tokens))


class _Whole:
    """From texts that are finished to conversations of which all are."""

    def __init__(self, samples: int, advance: Callable[[int], None]) -> None:
        self._samples, self._advance, self._texts = samples, advance, 0

    def __call__(self, texts: int) -> None:
        before = self._texts // self._samples
        self._texts += texts
        if (more := self._texts // self._samples - before) > 0:
            self._advance(more)


def seed(of_all: int, sample: int, words: Conversation) -> int:
    """The seed of one text: of the seed of all, its number and its conversation."""
    document = json.dumps([of_all, sample, [list(turn) for turn in words]])
    return int.from_bytes(hashlib.sha256(document.encode("utf-8", "surrogatepass")).digest()[:7], "big")


def ends(folder: Path, own: int | None) -> list[int]:
    """The tokens that end a turn: those of the model's generation settings, and the tokenizer's own.

    Raises:
        DataError: There are none.
    """
    file = folder / "generation_config.json"
    named = choices.read(file if file.is_file() else folder / "config.json").get("eos_token_id")
    listed = named if isinstance(named, list) else [named]
    found = sorted({token for token in (*listed, own) if isinstance(token, int)})
    if not found:
        raise DataError(
            f"{folder}: neither model nor tokenizer says which token ends a text",
            expected="eos_token_id in generation_config.json",
        )
    return found
