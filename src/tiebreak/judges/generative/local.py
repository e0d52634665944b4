"""The backend on this machine: transformers' language model through the packed engine."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tiebreak.judges.generative.backend import Masses, silent
from tiebreak.render.sequences import Sequences

if TYPE_CHECKING:
    from tiebreak.engine import Engine, Options
    from tiebreak.judges.generative.judge import GenerativeJudge
    from tiebreak.judges.generative.settings import Settings
    from tiebreak.judges.generative.verdicts import Tree
    from tiebreak.judges.runtime import Runtime


class LocalBackend:
    """Scores verdicts with a model of transformers.

    Args:
        model: As `AutoModelForCausalLM` makes it. The engine takes it over.
        options: How to run.

    Attributes:
        report: Of the engine, summed over the forwards of one call.
    """

    def __init__(self, model: Any, options: Options) -> None:
        self.model = model
        self.options = options
        self.report: dict[str, Any] = {}
        self._asked: tuple[int, ...] = ()
        self._engine: Engine | None = None

    @classmethod
    def of(cls, settings: Settings, runtime: Runtime, directory: Path, judge: GenerativeJudge) -> Self:
        """The backend for one judge, on its network."""
        from tiebreak.engine import Options

        options = Options(max_tokens=runtime.max_tokens, precision=judge.precision, devices=runtime.devices)
        return cls(judge.network.model, options)

    def engine(self, tokens: tuple[int, ...]) -> Engine:
        """The engine whose outputs are log-probabilities of these tokens."""
        if self._engine is None:
            self._engine, self._asked = self._made(tokens), tokens
        elif tokens != self._asked:
            import torch

            head: Any = self._engine.pooled.head
            head.tokens = torch.tensor(tokens, dtype=torch.int64, device=head.tokens.device)
            self._asked = tokens
        return self._engine

    def masses(
        self, sequences: Sequences, tree: Tree, *, pairs: np.ndarray | None = None,
        advance: Callable[[int], None] = silent,
    ) -> Masses:  # fmt: skip
        """Masses of the verdicts after each sequence.

        Spellings of one token take one forward. Otherwise each node of the tree is asked at the end of the sequence
        with the node's own tokens; two nodes at a time, so that their common tokens are computed once.
        """
        asked = tuple(sorted({token for children in tree.children for token in children}))
        engine = self.engine(asked)
        columns = [[asked.index(token) for token in children] for children in tree.children]
        if tree.single:
            found = [engine.logits(sequences, pairs=pairs, advance=advance)]
            self.report = engine.report
        else:
            found = self._nodes(engine, sequences, tree, advance)
        log_mass = tree.fold([rows.astype(np.float64)[:, own] for rows, own in zip(found, columns, strict=True)])
        return Masses(log_mass, np.zeros_like(log_mass), np.exp(log_mass).sum(axis=1))

    def _nodes(
        self, engine: Engine, sequences: Sequences, tree: Tree, advance: Callable[[int], None]
    ) -> list[np.ndarray]:
        """Log-probabilities (n, tokens) at each node."""
        rows, found, reports = len(sequences), [], []
        for first in range(0, len(tree.nodes), 2):
            nodes = tree.nodes[first : first + 2]
            longer = Sequences.of(np.concatenate([row, node]) for row in sequences for node in nodes)
            beside = np.arange(2 * rows).reshape(-1, 2) if len(nodes) == 2 else None
            logits = engine.logits(longer, pairs=beside)
            found += [logits[place :: len(nodes)] for place in range(len(nodes))]
            reports.append(engine.report)
        advance(rows)
        sums = ("tokens", "tokens_computed", "tokens_shared", "micro_batches", "halvings", "seconds")
        self.report = reports[-1] | {name: sum(report[name] for report in reports) for name in sums}
        return found

    def _made(self, tokens: tuple[int, ...]) -> Engine:
        from tiebreak.engine import Engine, machine
        from tiebreak.judges.generative.head import asking

        pooled, run = asking(self.model, tokens), self.options
        if len(machine.devices(run.devices, machine.expected_bytes(pooled, run.precision))) > 1:
            self._untie(pooled)
        return Engine(pooled, self.options)

    @staticmethod
    def _untie(pooled: Any) -> None:
        """Over several devices, a head that shares its matrix with the embedding needs one of its own."""
        table, head = pooled.backbone.get_input_embeddings(), pooled.head
        if getattr(head.layer, "weight", None) is getattr(table, "weight", table):
            head.layer = deepcopy(head.layer)
