"""A shared encoder that reads each answer by itself, and a head that compares two of them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import polars as pl

from tiebreak import predictions
from tiebreak.errors import UsageError
from tiebreak.judges import finetuned
from tiebreak.judges.finetuned import FinetunedJudge
from tiebreak.judges.judge import Scores
from tiebreak.judges.runtime import Runtime
from tiebreak.judges.siamese.answers import Answers
from tiebreak.render import Rendered

if TYPE_CHECKING:
    import torch

    from tiebreak.judges.siamese.head import PairHead

Text = str | Sequence[str | None]


class Settings(finetuned.Settings):
    """Settings of a siamese judge: those that every judge with a network has."""

    one_answer: ClassVar[bool] = True


class SiameseJudge(FinetunedJudge):
    """Reads each answer once, however many others it is compared with. Swap-equivariant by construction, in one pass.

    Its A-B logit is a difference of scores, so `score_answers` ranks any number of answers to one prompt.
    """

    kind: ClassVar[str] = "siamese"
    settings_kind: ClassVar[type[finetuned.Settings]] = Settings

    def run_with(self, runtime: Runtime) -> None:
        """Say how to run.

        Raises:
            UsageError: A choice does not apply to this kind of judge or to this bundle.
        """
        if runtime.swap is not None:
            raise UsageError(
                f"--swap {runtime.swap}: a siamese judge reads each answer by itself, and has no order",
                expected="no --swap with this judge",
            )
        super().run_with(runtime)
        self.__dict__.pop("head", None)

    def score(self, table: pl.DataFrame) -> Scores:
        """Uncalibrated probabilities for a validated table of comparisons; `report` says how many answers were read."""
        answers = Answers.of(table)
        rendered = self.renderer.render_answers(answers.prompts, answers.answers)
        logits = self._compare(self._states(rendered), answers.pairs)
        self.report = {**self.engine.report, "rows": table.height, "sequences": len(answers.answers)}
        ledger, truncated = ledger_of(rendered, answers.pairs)
        return Scores(predictions.softmax(logits), np.zeros(table.height), truncated, ledger)

    def score_answers(self, prompts: Sequence[Text], answers: Sequence[Text]) -> np.ndarray:
        """What each answer is worth, for ranking any number of answers to one prompt in one forward each.

        Args:
            prompts: One a row: a text, or the turns of a conversation.
            answers: One a row, with as many turns.

        Returns:
            float64 (n,). The difference of two answers to one prompt is the log-odds of the first against the second
            before calibration; scores of answers to different prompts say nothing about each other.

        Raises:
            UsageError: Prompts and answers differ in number or in turns.
        """
        import torch

        states = torch.from_numpy(self.embed(prompts, answers))
        with torch.inference_mode():
            scores: np.ndarray = self.head.scores(self.head.project(states)).double().numpy()
        return scores

    def embed(self, prompts: Sequence[Text], answers: Sequence[Text]) -> np.ndarray:
        """The pooled state of each answer, float32 (n, hidden): for search, clustering, or a head of one's own.

        Raises:
            UsageError: Prompts and answers differ in number or in turns.
        """
        return self._states(self.renderer.render_answers(turns_of(prompts), turns_of(answers)))

    @cached_property
    def head(self) -> PairHead:
        """The head, in fp32 on the CPU: it is small, and there its arithmetic is the same on every machine."""
        import torch

        return deepcopy(self.network.pair_head).to("cpu", torch.float32).eval()

    def _states(self, rendered: Rendered) -> np.ndarray:
        if not len(rendered.sequences):
            return np.zeros((0, self.head.hidden), dtype=np.float32)
        return self.engine.embeddings(rendered.sequences)

    def _compare(self, states: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """float64 (rows, 3) from the states of the answers (n, hidden)."""
        import torch

        with torch.inference_mode():
            projected: torch.Tensor = self.head.project(torch.from_numpy(states))
            logits: np.ndarray = self.head.compare(projected[pairs[:, 0]], projected[pairs[:, 1]]).double().numpy()
        return logits


def turns_of(texts: Sequence[Text]) -> list[list[str | None]]:
    """Each text as a conversation of one turn, each conversation as it is."""
    return [[text] if isinstance(text, str) else list(text) for text in texts]


def ledger_of(rendered: Rendered, pairs: np.ndarray) -> tuple[pl.DataFrame, np.ndarray]:
    """The ledger of the rows from that of their answers; of the prompt, what the reading that kept less of it kept."""
    a, b = (rendered.ledger[side] for side in (pairs[:, 0], pairs[:, 1]))
    ledger = pl.DataFrame(
        {
            "tokens_prompt": a["tokens_prompt"],
            "kept_prompt": np.minimum(a["kept_prompt"].to_numpy(), b["kept_prompt"].to_numpy()),
            "tokens_a": a["tokens_answer"],
            "kept_a": a["kept_answer"],
            "tokens_b": b["tokens_answer"],
            "kept_b": b["kept_answer"],
        }
    )
    return ledger, rendered.truncated[pairs].any(axis=1)
