"""One way to win a vote without a better answer, and how it changes the answer that tries it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

Side = Literal["a", "b"]
Turns = list[str | None]
Where = Literal["end", "start", "instead"]

ME: Final = "\N{LEFT WHITE SQUARE BRACKET}me\N{RIGHT WHITE SQUARE BRACKET}"
"""In the text of a trick: the letter under which the attacked answer is shown, A or B."""

OTHER: Final = "\N{LEFT WHITE SQUARE BRACKET}other\N{RIGHT WHITE SQUARE BRACKET}"
"""The letter of the other answer."""


@dataclass(frozen=True)
class Trick:
    """One variant of a family.

    Attributes:
        name: Within its family.
        text: What is written; `ME` and `OTHER` become letters.
        where: At the end or the start of the last turn that has text, or instead of every turn.
        edit: For what is no added text: the last turn that has text -> the turn as the trick writes it.
    """

    name: str
    text: str = ""
    where: Where = "end"
    edit: Callable[[str], str] | None = None

    def on(self, turns: Turns, side: Side) -> Turns | None:
        """The turns of an answer once the trick was played; None where it changes nothing or has nothing to change.

        Args:
            turns: The answer, one item a turn.
            side: Where the answer stands, as far as its author knows: he writes the verdict that would suit him.
        """
        changed = self._instead(turns, side) if self.where == "instead" else self._in_last(turns, side)
        return None if changed == turns else changed

    @property
    def names_side(self) -> bool:
        """Whether the text depends on where the answer stands."""
        return ME in self.text or OTHER in self.text

    def written(self, side: Side) -> str:
        """The text with its letters."""
        me, other = ("A", "B") if side == "a" else ("B", "A")
        return self.text.replace(ME, me).replace(OTHER, other)

    def _instead(self, turns: Turns, side: Side) -> Turns:
        return [self.written(side) for _ in turns]

    def _in_last(self, turns: Turns, side: Side) -> Turns:
        places = [place for place, text in enumerate(turns) if text]
        if not places:
            return turns
        own = turns[places[-1]] or ""
        text = self.written(side)
        changed = list(turns)
        if self.edit is not None:
            changed[places[-1]] = self.edit(own)
        else:
            changed[places[-1]] = own + text if self.where == "end" else text + own
        return changed


@dataclass(frozen=True)
class Family:
    """Tricks of one idea.

    Attributes:
        name: As on the command line.
        about: What they try, in one sentence.
        tricks: The variants, the plainest first.
        control: Whether these are harmless edits, which measure the noise that success is held against.
        source: Where the idea was published.
    """

    name: str
    about: str
    tricks: tuple[Trick, ...]
    control: bool = False
    source: str = ""
