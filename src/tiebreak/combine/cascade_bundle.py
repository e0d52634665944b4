"""A cascade with its judges, as a bundle; and a bundle's cascade without them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tiebreak import bundle
from tiebreak.combine import composite
from tiebreak.combine.asking import Opinion
from tiebreak.combine.cascade import Cascade
from tiebreak.errors import DataError, UsageError
from tiebreak.judges.cascade import Settings

METRICS: Final = "cascade"
"""Where a bundle keeps the study, among its metrics."""


def check(opinions: Sequence[Path]) -> None:
    """See that judges give a row the same answer whichever rows stand beside it.

    Raises:
        UsageError: One judges the other order for a share of the rows that it is asked about.
    """
    for path in opinions:
        swap = bundle.read(path).settings.get("swap")
        if isinstance(swap, str) and swap.startswith("uncertain"):
            raise UsageError(
                f"{path} judges in both orders the share of the rows that is nearest to a toss-up ({swap}): in a "
                "cascade it would see other rows, and answer otherwise",
                expected="judges that swap both or none",
            )


def write(
    cascade: Cascade, opinions: Sequence[Opinion], directory: Path, *, name: str, refer: bool = False
) -> None:  # fmt: skip
    """Write the bundle of a cascade whole or not at all.

    Args:
        cascade: As fitted.
        opinions: Of its judges, in order.
        directory: Where the bundle will be.
        name: Of the judge.
        refer: Name where the judges lie instead of copying them.
    """
    costs = dict(zip(cascade.names, cascade.costs, strict=True))
    settings = Settings(
        members=composite.members(opinions, costs, refer=refer), stages=cascade.stages, space=cascade.space
    )
    composite.write(
        directory, "cascade", settings, opinions, name=name, metrics={METRICS: cascade.study}, card=_card(cascade)
    )


def read(directory: Path) -> Cascade:
    """The cascade of a bundle.

    Raises:
        DataError: It is another kind of judge.
    """
    manifest = bundle.read(directory)
    if manifest.kind != "cascade":
        raise DataError(
            f"{directory} is a {manifest.kind} judge, not a cascade", expected="a bundle of combine cascade"
        )
    settings, study = Settings.of(manifest), manifest.metrics.get(METRICS)
    return Cascade(
        names=tuple(settings.names), costs=tuple(member.cost or 0.0 for member in settings.members),
        space=settings.space, stages=settings.stages, study=study if isinstance(study, dict) else {},
    )  # fmt: skip


def _card(cascade: Cascade) -> str:
    study: dict[str, Any] = cascade.study
    chosen, names = study["chosen"], cascade.names
    answered = ", ".join(f"{name} {100 * share:.1f} %" for name, share in zip(names, chosen["answered"], strict=True))
    every, first = study["everybody"]["log_loss"][0], study["judges"][0][0]
    return "\n".join([
        f"Judges are asked in this order. A row goes on where the next judge is expected (route {study['route']}) to "
        "save more log-loss than it costs at the price that was chosen.", "",
        f"Out of fold on {study['rows']:,} votes, nested cross-validation: cost {100 * chosen['cost'][0]:.1f} % of "
        f"asking everybody, log-loss {chosen['log_loss'][0]:.4f} (asking everybody {every:.4f}, {names[0]} alone "
        f"{first:.4f}). The last judge asked: {answered}.",
    ])  # fmt: skip
