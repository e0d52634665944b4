"""Who answers: models at temperatures, dealt to prompts by a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tiebreak.errors import UsageError
from tiebreak.judges.generative.writers import Spec


@dataclass(frozen=True)
class Model:
    """A model under the name by which its answers are known."""

    name: str
    spec: Spec

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `NAME=PLACE`, where PLACE is as of `Spec.parse`.

        Raises:
            UsageError: It is no such thing.
        """
        name, equals, place = text.partition("=")
        if not equals or not name.strip() or set(name) & set("@#/"):
            raise UsageError(
                f"--model {text!r}",
                expected="NAME=PLACE, for example qwen=Qwen/Qwen2.5-7B-Instruct or big=served:http://127.0.0.1:8000/v1#big",
            )
        return cls(name, Spec.parse(place))


@dataclass(frozen=True)
class Author:
    """A model at a temperature."""

    model: Model
    temperature: float

    @property
    def name(self) -> str:
        """Such as `qwen@T=0.7`."""
        return f"{self.model.name}@T={self.temperature:g}"


def authors(models: Sequence[Model], temperatures: Sequence[float]) -> list[Author]:
    """Every model at every temperature.

    Raises:
        UsageError: None is given, one twice, or a temperature is negative.
    """
    names = [model.name for model in models]
    if not models or len(set(names)) < len(names):
        raise UsageError(f"models {', '.join(names) or 'none'}", expected="at least one, each under a name of its own")
    if not temperatures or min(temperatures) < 0 or len(set(temperatures)) < len(temperatures):
        raise UsageError(f"temperatures {list(temperatures)}", expected="numbers from 0 up, each once")
    return [Author(model, temperature) for model in models for temperature in temperatures]


def deal(prompt: str, writers: Sequence[Author], answers: int, seed: int) -> dict[Author, int]:
    """How many answers of each author a prompt gets: all authors in turn, in an order drawn for this prompt.

    At temperature 0 an author has one answer to give.

    Args:
        prompt: The prompt's name.
        writers: All authors.
        answers: How many in all.
        seed: Of the draw; it depends on nothing but this, the prompt and the authors' names.

    Raises:
        UsageError: There are not so many answers to be had.
    """
    order = sorted(writers, key=lambda one: hashlib.sha256(f"{seed}\n{prompt}\n{one.name}".encode()).digest())
    dealt = dict.fromkeys(writers, 0)
    while answers:
        able = [one for one in order if one.temperature > 0 or not dealt[one]]
        if not able:
            raise UsageError(
                f"{sum(dealt.values()) + answers} answers a prompt of {len(writers)} models at temperature 0",
                expected="one answer of each at most: they would be the same",
                mend="--temperature 0.7, or more models",
            )
        for one in able[:answers]:
            dealt[one] += 1
        answers -= min(answers, len(able))
    return {one: count for one, count in dealt.items() if count}
