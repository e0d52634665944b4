"""A group of commands with one that is meant when none is named."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, ClassVar

from typer.core import TyperGroup


class Defaulting(TyperGroup):
    """A group in which a first word that is no command belongs to the command called `default`."""

    default: ClassVar[str]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command and its arguments."""
        word = args[0] if args else "-"
        if word.startswith("-") or (word in self.commands and word != self.default):
            return super().resolve_command(ctx, args)
        if get_close_matches(word, [name for name in self.commands if name != self.default], cutoff=0.8):
            return super().resolve_command(ctx, args)
        return None, self.commands[self.default], args
