"""What would tell of this machine: paths in JSON and in cards, shortened to their last part before anything leaves."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, Final

Content = bytes | Path
"""Of a file that leaves: bytes, or a file to copy."""

_NAMES: Final = ("base_model_name_or_path", "_name_or_path", "name_or_path")
"""Keys under which peft and transformers write where they read a model from."""

_DOCUMENTS: Final = ("adapter_config.json", "config.json", "tokenizer_config.json")
_CARD: Final = "README.md"


def size(content: Content) -> int:
    """Bytes of a file."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


@dataclass
class Paths:
    """Shortens paths.

    Attributes:
        seen: Each that was met, and what it was shortened to.
    """

    seen: dict[str, str] = field(default_factory=dict)

    def shortened(self, value: Any) -> Any:
        """A JSON value whose texts that are paths are their last part alone."""
        if isinstance(value, dict):
            return {key: self.shortened(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.shortened(inner) for inner in value]
        if not isinstance(value, str) or not is_place(value):
            return value
        return self.seen.setdefault(value, re.split(r"[\\/]", value.rstrip("\\/"))[-1])

    def files(self, files: Mapping[str, Content]) -> dict[str, Content]:
        """Those of some files that name paths, without them; the card last, for it repeats what the others say."""
        found: dict[str, Content] = {}
        for name in _DOCUMENTS:
            if isinstance(content := files.get(name), Path):
                document = json.loads(content.read_text(encoding="utf-8"))
                changed = document | {key: self.shortened(document[key]) for key in _NAMES if key in document}
                if changed != document:
                    found[name] = (json.dumps(changed, indent=1, sort_keys=True) + "\n").encode()
        if isinstance(content := files.get(_CARD), Path):
            text = shorter = content.read_text(encoding="utf-8")
            for place in sorted(self.seen, key=len, reverse=True):
                shorter = shorter.replace(place, self.seen[place])
            if shorter != text:
                found[_CARD] = shorter.encode()
        return found


def is_place(text: str) -> bool:
    """Whether a text is a path of some machine and not words that begin with a stroke."""
    if "\n" in text or len(text) > 1024 or not re.search(r"\w", text):
        return False
    rooted = text.startswith(("/", "~/", "\\\\")) or bool(PureWindowsPath(text).drive)
    return rooted and len(re.split(r"[\\/]", text.strip("\\/"))) > 1
