"""What the four metadata files have in common: closed models that read and write themselves and know their rules."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from tiebreak import storage
from tiebreak.kaggle.metadata import reading
from tiebreak.kaggle.metadata.problem import Client, Found, MetadataError, Problem, Rule


class Metadata(BaseModel):
    """A metadata file of Kaggle. Closed: a key that Kaggle does not read is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    file: ClassVar[str]
    former: ClassVar[str] = ""
    """The name that the file once had: Kaggle's client still reads it."""
    elsewhere: ClassVar[dict[str, str]] = {}
    """Keys that people write here, and where what they mean belongs."""
    rules: ClassVar[list[Rule]]

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls.rules = []

    @classmethod
    def rule(
        cls, *keys: str, expected: str, client: Client, beside: bool = False
    ) -> Callable[[Callable[..., Iterator[Found]]], Callable[..., Iterator[Found]]]:
        """Make a rule of this file from a function that yields what breaks it."""

        def register(find: Callable[..., Iterator[Found]]) -> Callable[..., Iterator[Found]]:
            cls.rules.append(Rule(find.__name__.strip("_"), keys, expected, client, find, beside))
            return find

        return register

    @classmethod
    def told(cls, problem: Problem, values: dict[str, Any]) -> Problem:
        """A problem as it is told, where what the client does with it depends on the other keys of the file."""
        return problem

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file, or the file of this kind in a folder.

        Raises:
            MetadataError: It breaks rules; all that the file itself can break are told.
        """
        path = path / cls.file if path.is_dir() else path
        values, problems = reading.given(cls, path)
        problems += reading.broken(cls, values, path.name, None)
        if problems:
            raise MetadataError([cls.told(problem, values) for problem in problems], path)
        return cls.model_validate(values)

    @classmethod
    def problems(cls, folder: Path) -> list[Problem]:
        """Every rule that the file of this kind in a folder breaks, and every rule about what lies beside it."""
        values, problems = reading.given(cls, folder / cls.file)
        problems += reading.broken(cls, values, cls.file, folder)
        return [cls.told(problem, values) for problem in problems]

    def text(self) -> str:
        """The JSON: keys in the order of the schema, ASCII alone (the client reads some files in the locale's code)."""
        return json.dumps(self.model_dump(mode="json", by_alias=True, exclude_none=True), indent=2) + "\n"

    def write(self, folder: Path) -> Path:
        """Write the file into a folder, whole or not at all.

        Returns:
            The path of the file.
        """
        path = folder / self.file
        storage.write_text(path, self.text())
        return path
