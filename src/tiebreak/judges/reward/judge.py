"""A reward model that scores one answer at a time, and the tie model that compares two scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl

from tiebreak.errors import UsageError
from tiebreak.judges import finetuned
from tiebreak.judges.finetuned import FinetunedJudge
from tiebreak.judges.judge import Scores
from tiebreak.judges.reward.layer import Layer, lengths
from tiebreak.judges.runtime import Runtime
from tiebreak.judges.siamese.answers import Answers
from tiebreak.judges.siamese.judge import Text, ledger_of, turns_of

if TYPE_CHECKING:
    from tiebreak.judges.reward.network import RewardModel
    from tiebreak.render import Renderer, Sequences


def _silent(count: int) -> None:
    """No one watches the progress."""


class Settings(finetuned.Settings):
    """Settings of a reward judge.

    Attributes:
        layer: The tie model.
        chat: Whether an answer is read as the assistant's turn of the tokenizer's chat template; the template `single`
            then says how long a chat may be, and no more. Otherwise the template says all.
        unread: A token that is not read at the end of a chat, because the model takes it for padding.
    """

    one_answer: ClassVar[bool] = True

    layer: Layer = Layer()
    chat: bool = True
    unread: int | None = None


class RewardJudge(FinetunedJudge):
    """Scores each answer once, however many others it is compared with. Swap-equivariant by construction.

    The score itself is `score_answers`: it ranks any number of answers to one prompt.
    """

    kind: ClassVar[str] = "reward"
    settings_kind: ClassVar[type[finetuned.Settings]] = Settings
    settings: Settings

    def run_with(self, runtime: Runtime) -> None:
        """Say how to run.

        Raises:
            UsageError: A choice does not apply to this kind of judge or to this bundle.
        """
        if runtime.swap is not None:
            raise UsageError(
                f"--swap {runtime.swap}: a reward judge reads each answer by itself, and has no order",
                expected="no --swap with this judge",
            )
        super().run_with(runtime)

    @cached_property
    def network(self) -> RewardModel:  # type: ignore[override]  # all that the engine wants of one is `pooled`
        """The weights, read from the bundle or its base.

        Raises:
            DataError: The base is another one than the judge was made on, or its head is not whole.
            UsageError: The base is not on this machine.
        """
        from tiebreak.judges.reward import network

        return network.restore(self.settings, self.base(), self.runtime)

    def score(self, table: pl.DataFrame) -> Scores:
        """Uncalibrated probabilities for a validated table of comparisons; `report` says how many answers were read."""
        rewards, ledger, truncated = self._read(table)
        probabilities = self.settings.layer.probabilities(rewards, lengths(table))
        return Scores(probabilities, np.zeros(table.height), truncated, ledger)

    def margins(self, table: pl.DataFrame, *, advance: Callable[[int], None] = _silent) -> np.ndarray:
        """The score of A minus that of B of each row, float64 (rows,): what a tie model is fitted to.

        Args:
            table: Comparisons, validated.
            advance: Called with the number of answers just read.
        """
        return self._read(table, advance)[0]

    def score_answers(self, prompts: Sequence[Text], answers: Sequence[Text]) -> np.ndarray:
        """The reward of each answer, float64 (n,), one forward each.

        Args:
            prompts: One a row: a text, or the turns of a conversation.
            answers: One a row, with as many turns.

        Raises:
            UsageError: Prompts and answers differ in number or in turns.
        """
        rendered = self.renderer.render_answers(turns_of(prompts), turns_of(answers))
        return self._rewards(rendered.sequences)

    def _renderer(self, tokenizer: Any) -> Renderer:
        if not self.settings.chat:
            return super()._renderer(tokenizer)
        from tiebreak.judges.reward.reading import ChatRenderer

        return ChatRenderer(self.settings.template, tokenizer, self.settings.unread)

    def _read(
        self, table: pl.DataFrame, advance: Callable[[int], None] = _silent
    ) -> tuple[np.ndarray, pl.DataFrame, np.ndarray]:
        """Of each row the difference of rewards, the ledger and whether a text was cut."""
        answers = Answers.of(table)
        rendered = self.renderer.render_answers(answers.prompts, answers.answers)
        rewards = self._rewards(rendered.sequences, advance)
        self.report = {**self.engine.report, "rows": table.height, "sequences": len(answers.answers)}
        ledger, truncated = ledger_of(rendered, answers.pairs)
        return rewards[answers.pairs[:, 0]] - rewards[answers.pairs[:, 1]], ledger, truncated

    def _rewards(self, sequences: Sequences, advance: Callable[[int], None] = _silent) -> np.ndarray:
        return self.engine.logits(sequences, advance=advance)[:, 0].astype(np.float64)
