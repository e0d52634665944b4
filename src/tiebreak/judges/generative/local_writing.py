"""Writing with transformers on this machine: batches with a KV cache, and the same text whatever the batch.

The next token is chosen here and not by `generate`, which draws from one stream of random numbers for a whole batch:
each text has its own random numbers, and a draw that rounding could change is made again from the logits that its row
has when it is computed alone (`drawing`). In fp32 a text therefore depends on its conversation, its sample's number and
the seed, to the letter. In 16 bits logits differ by far more from batch to batch, so that texts may differ; each is
still drawn from the model's own distribution.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from tiebreak.engine import machine, memory
from tiebreak.errors import DataError, ResourceError, UsageError
from tiebreak.judges.base import locate
from tiebreak.judges.base.loading import checkpoint, config, language_model, read_tokenizer
from tiebreak.judges.base.names import Base
from tiebreak.judges.base.quiet import quiet
from tiebreak.judges.generative.backend import silent
from tiebreak.judges.generative.drawing import draw, uniforms
from tiebreak.judges.generative.writing import Conversation, Sampling, Written
from tiebreak.judges.runtime import Runtime
from tiebreak.render.chats import Chats

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

ROWS: Final = {"cpu": 16, "cuda": 64}
"""Texts written side by side."""

_TAIL: Final = 8
"""Tokens beyond the characters of a stop text that are decoded to look for it."""


@dataclass(frozen=True)
class _Row:
    """One text to write: of which conversation, which sample, from which token ids."""

    chat: int
    sample: int
    ids: np.ndarray


class LocalWriter:
    """Writes with a causal language model of transformers.

    Attributes:
        exact: Whether a text is the same whatever the batch.

    Args:
        model: In evaluation mode, on its device.
        tokenizer: Its own, with a chat template.
        rows: Texts written side by side at most; None suits the device.
        max_length: Tokens of a conversation at most; None: what the model's window leaves.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        *,
        rows: int | None = None,
        max_length: int | None = None,
    ) -> None:
        self.report: dict[str, Any] = {}
        self._model: Any = model
        self._tokenizer: Any = tokenizer
        self._chats = Chats(tokenizer)
        self._rows = rows or ROWS["cuda" if model.device.type == "cuda" else "cpu"]
        self._longest = max_length
        self.exact = model.dtype == torch.float32 and not machine.is_quantised(model)
        self._ends = _ends(model, tokenizer)
        pad = tokenizer.pad_token_id
        self._pad = int(self._ends[0] if pad is None else pad)

    @classmethod
    def load(cls, base: Base, runtime: Runtime | None = None) -> LocalWriter:
        """The writer of a checkpoint.

        Args:
            base: The model.
            runtime: Devices, precision and the longest conversation (`max_length`).

        Raises:
            UsageError: It is not there, has no chat template, or cannot be run so.
            DataError: It is no causal language model that transformers can read.
        """
        runtime = runtime or Runtime()
        model = _load(base, runtime)
        return cls(model, read_tokenizer(checkpoint(locate.resolve(base))), max_length=runtime.max_length)

    def write(
        self, conversations: Sequence[Conversation], sampling: Sampling, *, advance: Callable[[int], None] = silent
    ) -> list[list[Written]]:
        """The next turn of each conversation; see `tiebreak.judges.generative.writing.Writer`.

        A conversation that leaves no room for `max_tokens` in the model's window gives up the middle of its longest
        texts; the report counts these.
        """
        started = time.perf_counter()
        if not conversations:
            return []
        chatted = self._chats.render(conversations, max_length=self._window(sampling.max_tokens))
        rows = [_Row(i, sample, ids) for i, ids in enumerate(chatted.sequences) for sample in range(sampling.samples)]
        rows.sort(key=lambda row: -len(row.ids))
        written: list[dict[int, Written]] = [{} for _ in conversations]
        self.report = {
            "backend": "transformers", "device": str(self._model.device), "precision": self._precision,
            "exact": self.exact, "truncated": int(chatted.truncated.sum()), "prompt_tokens": 0, "tokens": 0,
            "alone": 0,
        }  # fmt: skip
        for batch, texts in self._batches(rows, conversations, sampling):
            for row, text in zip(batch, texts, strict=True):
                written[row.chat][row.sample] = text
                self.report["prompt_tokens"] += len(row.ids)
                self.report["tokens"] += text.tokens
                if len(written[row.chat]) == sampling.samples:
                    advance(1)
        self.report["seconds"] = time.perf_counter() - started
        return [[texts[sample] for sample in range(sampling.samples)] for texts in written]

    @property
    def _precision(self) -> str:
        return next((name for name, dtype in machine.DTYPES.items() if dtype == self._model.dtype), "quantised")

    def _window(self, max_tokens: int) -> int | None:
        window: int | None = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        if window is None:
            return self._longest
        if window <= max_tokens:
            raise UsageError(
                f"texts of {max_tokens} tokens, and the model's window is {window}",
                expected="a window with room for the prompt",
                mend=f"texts of at most {window // 2} tokens",
            )
        return min(window - max_tokens, self._longest or window)

    def _batches(
        self, rows: list[_Row], conversations: Sequence[Conversation], sampling: Sampling
    ) -> Iterator[tuple[list[_Row], list[Written]]]:
        """Batches of about equal length; one that does not fit into memory is halved, and so are those after it."""
        first = 0
        while first < len(rows):
            batch = rows[first : first + self._rows]
            try:
                texts = self._generate(batch, conversations, sampling)
            except (RuntimeError, MemoryError) as error:
                if not memory.is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise memory.too_small(len(batch[0].ids), str(self._model.device)) from error
                texts = None
            if texts is None:
                memory.release()
                self._rows = max(1, len(batch) // 2)
                continue
            yield batch, texts
            first += len(batch)

    def _generate(self, batch: list[_Row], conversations: Sequence[Conversation], sampling: Sampling) -> list[Written]:
        chances = np.stack(
            [uniforms(sampling.seed, row.sample, conversations[row.chat], sampling.max_tokens) for row in batch]
        )
        longest = max(len(row.ids) for row in batch)
        chooser = _Chooser(self, [row.ids for row in batch], chances, sampling, longest)
        ids = torch.full((len(batch), longest), self._pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(batch):
            ids[place, longest - len(row.ids) :] = torch.from_numpy(row.ids.astype(np.int64))
            mask[place, longest - len(row.ids) :] = 1
        stops = [_Stops(self._tokenizer, sampling.stop, longest)] if sampling.stop else []
        settings = GenerationConfig(
            do_sample=False, max_new_tokens=sampling.max_tokens, eos_token_id=self._ends, pad_token_id=self._pad,
        )  # fmt: skip
        with torch.inference_mode(), quiet():
            output = self._model.generate(
                ids.to(self._model.device), attention_mask=mask.to(self._model.device), generation_config=settings,
                logits_processor=LogitsProcessorList([chooser]), stopping_criteria=StoppingCriteriaList(stops),
            )  # fmt: skip
        self.report["alone"] += chooser.alone
        return [self._written(tokens, sampling) for tokens in output[:, longest:].cpu().tolist()]

    def _written(self, tokens: list[int], sampling: Sampling) -> Written:
        end = next((place for place, token in enumerate(tokens) if token in self._ends), None)
        text = self._decode(tokens[:end])
        found = [place for stop in sampling.stop if (place := text.find(stop)) >= 0]
        if not found:
            return Written(text, end is not None, len(tokens) if end is None else end + 1)
        # What a batch writes after a row has ended is padding, which ends no text: count up to the stop.
        count = next(size for size in range(1, len(tokens) + 1) if _holds(self._decode(tokens[:size]), sampling.stop))
        return Written(text[: min(found)], True, count)

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def logits_alone(self, ids: torch.Tensor) -> torch.Tensor:
        """The next token's logits after these ids (1, tokens), computed without padding, batch or cache."""
        logits: torch.Tensor = self._model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[:, -1]
        return logits


class _Chooser:
    """Leaves to `generate` one possible token a row."""

    def __init__(
        self, writer: LocalWriter, prompts: list[np.ndarray], chances: np.ndarray, sampling: Sampling, longest: int
    ) -> None:
        self.alone = 0
        self._writer = writer
        self._starts = [longest - len(ids) for ids in prompts]
        self._chances = torch.from_numpy(chances)
        self._sampling = sampling
        self._longest = longest
        self._ended = torch.zeros(len(prompts), dtype=torch.bool)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        how, step = self._sampling, input_ids.shape[1] - self._longest
        chances = self._chances[:, step].to(scores.device)
        tokens, sure = draw(scores, chances, how.temperature, how.top_p)
        if self._writer.exact:
            if step:
                self._ended |= torch.isin(input_ids[:, -1].cpu(), torch.tensor(self._writer._ends))
            for row in (~sure.cpu() & ~self._ended).nonzero()[:, 0].tolist():
                logits = self._writer.logits_alone(input_ids[row : row + 1, self._starts[row] :])
                tokens[row] = draw(logits, chances[row : row + 1], how.temperature, how.top_p, alone=True)[0][0]
                self.alone += 1
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens[:, None], 0.0)


class _Stops:
    """Ends a row whose text holds one of the stop texts."""

    def __init__(self, tokenizer: Any, stops: Sequence[str], longest: int) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._longest = longest
        self._tail = max(len(stop.encode("utf-8", "replace")) for stop in stops) + _TAIL

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        written = input_ids[:, self._longest :][:, -self._tail :].tolist()
        texts = [self._tokenizer.decode(tokens, clean_up_tokenization_spaces=False) for tokens in written]
        return torch.tensor([_holds(text, self._stops) for text in texts], device=input_ids.device)


def _holds(text: str, stops: Sequence[str]) -> bool:
    return any(stop in text for stop in stops)


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The tokens that end a turn: those of the model's generation settings, and the tokenizer's own."""
    named: Any = getattr(model.generation_config, "eos_token_id", None)
    found = [] if named is None else [named] if isinstance(named, int) else list(named)
    own = tokenizer.eos_token_id
    ends = sorted({*found, *([own] if isinstance(own, int) else [])})
    if not ends:
        raise DataError(
            "neither model nor tokenizer says which token ends a text",
            expected="eos_token_id in generation_config.json",
        )
    # The rest of a model's own settings (temperatures, penalties) would change what the caller asked for.
    model.generation_config = GenerationConfig(eos_token_id=ends)
    return ends


def _load(base: Base, runtime: Runtime) -> PreTrainedModel:
    devices = machine.devices(runtime.devices, 0)
    precision = machine.precision(runtime.precision, devices)
    if precision not in machine.DTYPES:
        raise UsageError(f"precision {precision} for writing", expected=f"one of {', '.join(machine.DTYPES)}")
    if len(devices) > 1:
        raise UsageError(
            f"devices {runtime.devices} for writing", expected="one device", mend="--backend vllm, which splits a model"
        )
    # Soft caps on attention scores (Gemma 2) are beyond torch's fused attention.
    capped = getattr(config(base), "attn_logit_softcapping", None) is not None
    try:
        return language_model(
            base, dtype=machine.DTYPES[precision], attention="eager" if capped else "sdpa", device=devices[0]
        ).eval()
    except RuntimeError as error:
        if not memory.is_out_of_memory(error):
            raise
        raise ResourceError(
            f"memory of {devices[0]} is not enough for {base.name}",
            mend="--backend vllm on several devices, or --precision bf16",
        ) from error
