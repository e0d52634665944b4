"""A template: everything that decides how a comparison becomes tokens, apart from the tokenizer."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tiebreak.errors import UsageError
from tiebreak.render.builtin import BUILTIN

Name = Literal["pab", "papb", "blackpearl", "plain", "rounds", "single"]
Policy = Literal["right", "left", "middle", "fair", "rounds", "proportional"]
Layout = Literal["interleaved", "conversations", "fields"]

TEMPLATES: Final[tuple[str, ...]] = tuple(BUILTIN)
"""Names of the built-in templates."""

SNIPS: Final[Mapping[str, str]] = {"middle": " (snip {count}) ", "rounds": " ..."}
"""What marks a cut, by policy, where the template does not say; other policies leave no mark."""

Share = Annotated[float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Marks(_Part):
    """The template's own words around the texts. `{turn}` stands for the number of the turn, from 1.

    A mark may name special tokens of the tokenizer (`<|reserved_special_token_0|>`), and they come out special: such
    a mark cannot be imitated by any text.

    Attributes:
        opening: Before the first turn.
        prompt: Before what the person wrote.
        answer_a: Before an answer of A; in `single`, before the answer.
        answer_b: Before an answer of B.
        end: After every text.
        second: In the layout `conversations`, before the conversation with B.
        closing: After the last turn.
        missing: Instead of a text that is null. An empty text is rendered as it is: as nothing.
        joint: In the layout `fields`, between the turns of one field.
        snip: Where a text was cut; `{count}` is the number of tokens that are not shown. Empty: no mark.
    """

    opening: str = ""
    prompt: str = ""
    answer_a: str = ""
    answer_b: str = ""
    end: str = ""
    second: str = ""
    closing: str = ""
    missing: str = ""
    joint: str = "\n\n"
    snip: str = ""


class Limits(_Part):
    """The figures of the truncation policies.

    Attributes:
        prompt_share: `fair`: share of the budget that the prompt keeps although the answers want more.
        round_shares: `rounds`: how the last round is cut: prompt, A, B; relative to each other.
        least_round: `rounds`: a round for which fewer tokens remain is dropped.
        least_text: `proportional`: tokens that each text keeps before shares are taken.
    """

    prompt_share: Share = 0.25
    round_shares: tuple[Whole, Whole, Whole] = (20, 40, 40)
    least_round: Whole = 80
    least_text: Annotated[int, Field(ge=0)] = 100


class Template(_Part):
    """How a comparison becomes tokens. Saved whole in the bundle, so that an old judge reads what it was trained on.

    Every field but `name` has a default by name, so `Template(name="pab")` is the built-in one, and
    `Template(name="pab", marks={"snip": " [cut] "})` differs from it in one mark.

    Which parts two presentation orders share: all that stands before the first answer. In the layout `fields` that is
    the instruction and every prompt, whatever the number of turns; in `interleaved` and `conversations` the
    instruction and the first prompt, which is all of the prompt in a comparison of one turn. Every policy keeps the
    same tokens of a prompt in both orders, so the engine can compute that prefix once.

    Attributes:
        name: What it was derived from.
        version: Of the built-in texts.
        max_length: Tokens of the whole sequence at most: special tokens, instruction and suffix included.
        truncation: Which tokens go when a row is over the budget; see `tiebreak.render.truncation`.
        chat: Whether the tokenizer's chat template wraps it. A tokenizer without one adds its own special tokens.
        layout: interleaved: turn by turn, question, A, B. conversations: A's whole conversation, then B's. fields: all
            questions, all answers of A, all answers of B.
        instruction: What the judge is asked; the system message of a chat where the chat template has one.
        suffix: The last words, after which a verdict would be written.
        marks: The words around the texts.
        limits: The figures of the truncation policies.
    """

    name: Name
    version: Whole = 1
    max_length: Whole = 1024
    truncation: Policy
    chat: bool
    layout: Layout
    instruction: str
    suffix: str
    marks: Marks
    limits: Limits = Limits()

    @model_validator(mode="before")
    @classmethod
    def _defaults_by_name(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or given.get("name") not in BUILTIN:
            return given
        own = BUILTIN[given["name"]]
        filled = {**own, **given}
        marks = filled["marks"]
        if isinstance(marks, Mapping):
            snip = {"snip": SNIPS.get(str(filled["truncation"]), "")}
            filled["marks"] = {**snip, **own["marks"], **marks}
        return filled


def template(name: str, **changes: Any) -> Template:
    """A built-in template, with changes.

    Args:
        name: One of `TEMPLATES`.
        changes: Fields of `Template`; `marks` and `limits` may name only what differs.

    Raises:
        UsageError: There is no such template, or a change is not one of its fields.
    """
    if name not in BUILTIN:
        near = difflib.get_close_matches(name, TEMPLATES, n=1)
        raise UsageError(
            f"there is no template {name!r}",
            expected=f"one of {', '.join(TEMPLATES)}",
            mend=f"template {near[0]}" if near else "",
        )
    try:
        return Template(name=name, **changes)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"template {name}: {where}: {first['msg']}",
            expected=f"a field of {', '.join(Template.model_fields)} with a value of its kind",
        ) from error
