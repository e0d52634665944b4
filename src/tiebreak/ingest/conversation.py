"""Messages of a conversation into turns: one prompt and one answer a turn."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from tiebreak.ingest.rows import BadRow, Marks, Turns, shown

Message = tuple[str, str | None]

SYSTEM: Final = "system message put before the first prompt"
JOINED: Final = "neighbouring messages of one role joined"
PARTS: Final = "parts that are no text (images, files) left out"

_ROLES: Final = {
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
_MARKER: Final = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")  # linear: nothing repeats within the text


def messages(value: Any, column: str, marks: Marks) -> list[Message]:
    """The messages in a cell: a list of `{"role", "content"}`, itself or as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadRow(f"{column} is not a list of messages but {shown(value)}") from error
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise BadRow(f"{column} is not a list of messages but {shown(value)}")
    return [_message(message, column, marks) for message in value]


def _message(message: dict[str, Any], column: str, marks: Marks) -> Message:
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    if not isinstance(role, str) or role.lower() not in _ROLES:
        raise BadRow(f"{column} has a message with role {shown(role)}; accepted are {', '.join(_ROLES)}")
    if isinstance(content, list):
        content = _text_parts(content, column, marks)
    if content is not None and not isinstance(content, str):
        raise BadRow(f"{column} has a message whose content is {shown(content)}")
    return _ROLES[role.lower()], content


def _text_parts(parts: list[Any], column: str, marks: Marks) -> str:
    texts: list[str] = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            texts.append(text)
        elif isinstance(part, dict):
            marks.append(PARTS)
        else:
            raise BadRow(f"{column} has a message with a part that is {shown(part)}")
    return "\n".join(texts)


def transcript(text: str) -> list[Message] | None:
    r"""The messages of a text such as "\n\nHuman: ...\n\nAssistant: ..."; None when it is no such text.

    One space after the colon and white space at the end of a message belong to the transcript, not to the message.
    """
    pieces = _MARKER.split(text)
    if len(pieces) == 1 or pieces[0].strip():
        return None
    roles = ("user" if name == "Human" else "assistant" for name in pieces[1::2])
    return [(role, content.removeprefix(" ").rstrip()) for role, content in zip(roles, pieces[2::2], strict=True)]


def turns(conversation: list[Message], marks: Marks) -> tuple[Turns, Turns]:
    """Prompts and answers of a conversation, in equal numbers; null where one of them did not come."""
    prompts: Turns = []
    answers: Turns = []
    before: list[str] = []
    last = ""
    for role, text in conversation:
        if role == "system":
            before += [text] if text else []
            continue
        if role == last:
            marks.append(JOINED)
            column = prompts if role == "user" else answers
            column[-1] = "\n\n".join(filter(None, (column[-1], text)))
        elif role == "user":
            prompts.append(text)
            answers.append(None)
        elif last == "user":
            answers[-1] = text
        else:
            prompts.append(None)
            answers.append(text)
        last = role
    if before and prompts:
        marks.append(SYSTEM)
        prompts[0] = "\n\n".join(filter(None, (*before, prompts[0])))
    return prompts, answers


def common(first: Turns, second: Turns) -> Turns:
    """The prompts of two conversations that must be the same; one of them may have ended early."""
    shorter, longer = sorted((first, second), key=len)
    if longer[: len(shorter)] != shorter:
        turn = next(i for i, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
        raise BadRow(f"the two conversations have different prompts in turn {turn + 1}")
    return longer
