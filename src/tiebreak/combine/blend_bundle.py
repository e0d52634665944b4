"""A blend with its judges, as a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiebreak.combine import composite
from tiebreak.combine.asking import Opinion
from tiebreak.combine.blend import METRICS, Blend
from tiebreak.judges.blend import Settings
from tiebreak.judges.blend.mixing import Mix


def write(blend: Blend, opinions: Sequence[Opinion], directory: Path, *, name: str, refer: bool = False) -> list[str]:
    """Write the bundle of a blend whole or not at all.

    Args:
        blend: As fitted.
        opinions: Of its judges, in order.
        directory: Where the bundle will be.
        name: Of the judge.
        refer: Name where the judges lie instead of copying them.

    Returns:
        The judges that no answer needs, which are not in the bundle.
    """
    heard = blend.mix.heard
    kept = [opinions[place] for place in heard]
    mix = _of(blend.mix, heard)
    settings = Settings(members=composite.members(kept, refer=refer), mix=mix, rule=blend.rule)
    composite.write(
        directory, "blend", settings, kept, name=name, metrics={METRICS: blend.study}, card=_card(blend)
    )  # fmt: skip
    return [one.name for place, one in enumerate(opinions) if place not in heard]


def _of(mix: Mix, heard: Sequence[int]) -> Mix:
    """The same arithmetic for the members that are heard."""
    slices = mix.slices
    if slices is not None:
        rows = tuple(tuple(row[place] for place in heard) for row in slices.weights)
        slices = slices.model_copy(update={"weights": rows})
    return Mix(weights=tuple(mix.weights[place] for place in heard), space=mix.space, slices=slices)


def _card(blend: Blend) -> str:
    shares = ", ".join(f"{name} {weight:.3f}" for name, weight in zip(blend.names, blend.weights, strict=True))
    lines = [f"Answers are the mean of {blend.space}, by the rule {blend.rule}: {shares}.", ""]
    study: dict[str, Any] = dict(blend.study)
    if study:
        lines += [f"Log-loss out of fold on {study['rows']} votes, nested cross-validation, 95 % intervals:", ""]
        for rule, figures in study["rules"].items():
            value, low, high = figures["log_loss"]
            interval = "" if low is None else f" [{low:.4f}, {high:.4f}]"
            lines.append(f"- {rule}: {value:.4f}{interval}")
    return "\n".join(lines)
