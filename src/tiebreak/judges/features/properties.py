r"""What is counted in a text: tables of names and patterns, and nothing else.

Polars runs the patterns in linear time on any text. To add a property, add a line here and name it in `reasons`, where
people read about it. Lower-cased text and ASCII word borders (which `\b` stands for here, see `BORDER`) are many times
faster than `(?i)` and Unicode borders.
"""

from __future__ import annotations

from typing import Final

BORDER: Final = r"(?-u:\b)"
"""What `\\b` in a pattern is read as."""

AS_WRITTEN: Final[dict[str, str]] = {
    "paragraphs": r"\n\s*\n",
    "sentences": r"[.!?。！？](?:\s|$)",
    "headers": r"(?m)^#{1,6} ",
    "bold": r"\*\*[^*\n]+\*\*",
    "bullets": r"(?m)^[ \t]*[-*•+] ",
    "numbered": r"(?m)^[ \t]*\d+[.)] ",
    "tables": r"(?m)^[ \t]*\|",
    "fences": r"```",
    "inline_code": r"`[^`\n]+`",
    "links": r"\]\(",
    "urls": r"https?://",
    "quotes": r"(?m)^> ",
    "latex": r"\$\$|\\\(|\\\[|\\[a-z]+\{",
    "emoji": r"[\x{1F300}-\x{1FAFF}\x{2600}-\x{27BF}]",
    "capitals": r"[A-Z]",
    "numbers": r"[0-9]+",
    "questions": r"[?？]",
    "exclamations": r"[!！]",
    "commas": r"[,，、]",
    "colons": r":",
    "parentheses": r"\(",
    "quotations": r'["“]',
    "first_person": r"\bI\b|\bmy\b|\bme\b",
    "leaked_roles": r"(?m)^(?:Human|User|Assistant|USER|ASSISTANT|###? ?(?:Human|Assistant|Instruction|Response))\b"
    r"|<\|[a-z_]+\|>|</s>",
    "lower_start": r"^\s*[a-z]",
    # Habits of typing, by which one can tell model families apart.
    "space_at_start": r"^ ",
    "space_at_end": r"\s$",
    "space_at_line_end": r"[ \t]\n",
    "curly_quotes": r"[‘’”]",
    "dashes": r"[—–]",
    "dots": r"[•●]",
    "stars": r"(?m)^[ \t]*\* ",
    "bold_items": r"(?m)^[ \t]*(?:\d+\.|[-*]) \*\*",
    "indented": r"(?m)^ {2,}[^ \n]",
    "citations": r"\[\d+\]",
}
"""Counted in every answer."""

LOWERED: Final[dict[str, str]] = {
    "refusals": r"as an ai\b|\blanguage model\b|\bi cannot\b|\bi can['’]t\b|\bunable to\b|\bnot able to\b"
    r"|\bnot appropriate\b|\bi won['’]t\b|\bnot comfortable\b",
    "apologies": r"\bsorry\b|\bapologi[sz]e\b|\bunfortunately\b",
    "ignorance": r"\bdo(?:n['’]t| not) have (?:access|enough|any|information|personal|real)|\bcutoff\b|\bmy training\b"
    r"|\breal-time\b|\bup-to-date\b|\bdo(?:n['’]t| not) know\b",
    "hedges": r"\bperhaps\b|\bmaybe\b|\bmight\b|\bmay\b|\bpossibly\b|\bcould be\b|\bseems?\b|\bdepends\b",
    "contrasts": r"\bhowever\b|\balthough\b|\bwhile\b|\bon the other hand\b|\bnevertheless\b",
    "examples": r"\bfor example\b|\bfor instance\b|\be\.g\.|\bsuch as\b",
    "steps": r"\bfirst(?:ly)?\b|\bsecond(?:ly)?\b|\bfinally\b|\bnext\b|\bstep \d",
    "conclusions": r"\bin conclusion\b|\boverall\b|\bin summary\b|\bto summari[sz]e\b|\btherefore\b",
    "cautions": r"\bimportant to\b|\bconsult\b|\bprofessional\b|\bnote that\b|\bplease note\b|\bkeep in mind\b",
    "second_person": r"\byou(?:r|rs|rself)?\b",
    "ready_opening": r"^\s*(?:sure|certainly|of course|absolutely|great|here (?:is|are)|here['’]s)\b",
}
"""Counted in every answer, lower-cased."""

AT_END: Final[dict[str, str]] = {
    "offer_at_end": r"let me know|feel free|hope (?:this|that) helps|happy to help|anything else"
    r"|(?:any|more|further) (?:other )?questions",
    "question_at_end": r"[?？]\s*$",
    "finished_end": r"[.!?。！？:)\"'”’`\]*|}>~]\s*$",
}
"""Looked for in the end of every answer, lower-cased."""

ASKED: Final[dict[str, str]] = {
    "lines": r"\n",
    "questions": r"[?？]",
    "numbers": r"[0-9]+",
    "fences": r"```",
    "question_words": r"\b(?:what|who|whom|where|when|why|which|how)\b",
    "yes_no": r"^\s*(?:is|are|was|were|do|does|did|can|could|should|would|will|has|have)\b",
    "code": r"\b(?:code|function|python|script|sql|javascript|java|html|css|bug|program|regex|api|linux|bash|rust"
    r"|algorithm|class)\b|c\+\+|c#",
    "maths": r"\b(?:solve|calculate|equation|probability|integral|derivative|math|sum|how many|percent)\b"
    r"|\d\s*[-+*/^=]\s*\d",
    "creative": r"\b(?:story|poem|song|essay|jokes?|haiku|lyrics|novel|scene|character|fiction|rap|screenplay)\b",
    "writing": r"\b(?:write|draft|compose|create|generate|email|letter|article|blog)\b",
    "roleplay": r"\b(?:act as|you are|you're|pretend|role-?play|imagine|simulate)\b",
    "lists": r"\b(?:list|give me \d+|top \d+|ideas|examples|suggest(?:ions)?|recommend(?:ations)?)\b",
    "explain": r"\b(?:explain|describe|difference|compare|meaning|define|tell me about)\b",
    "rewrite": r"\b(?:summari[sz]e|summary|translate|rewrite|rephrase|paraphrase|correct|edit|extract|classify)\b",
    "brevity": r"\b(?:short|brief|briefly|concise|one word|one sentence|only|just|no more than|single|yes or no)\b",
    "length": r"\b(?:\d+ words|words|long|detailed|detail|in depth|paragraphs?|sentences)\b",
    "format": r"\b(?:json|table|csv|markdown|bullet|format|xml|yaml|steps?)\b",
    "identity": r"\b(?:who are you|your name|are you|what are you|do you|can you|chatgpt|gpt|openai|llm)\b",
    "recent": r"\b(?:latest|today|current(?:ly)?|news|weather|recent|now|202\d)\b",
    "opinion": r"\b(?:think|opinion|best|better|should|favou?rite|moral|ethical|believe|feel)\b",
    "risky": r"\b(?:sex\w*|kill\w*|racis\w*|hack\w*|bomb\w*|drugs?|illegal|porn\w*|nude|suicide|weapons?|steal"
    r"|fuck\w*|shit|ass|rape\w*|nazi|hitler|murder|jews?|black people|women)\b",
    "puzzle": r"\b(?:riddle|puzzle|logic|brothers?|sisters?|apples|if .{1,60} then|step by step)\b",
    "reference": r"\b(?:above|previous|again|continue|more|that|it|instead|another)\b",
    "greeting": r"^\s*(?:hi|hello|hey|hola|good morning)\b",
}
"""Counted in every prompt, lower-cased: what kind of thing was asked."""

ANSWER: Final = (*AS_WRITTEN, *LOWERED, *AT_END)
"""Names of all that is counted in answers."""

UNIT: Final = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|\w+|[^\w\s]|\n+"
"""A word, a sign, or line breaks; in scripts that are written without spaces each letter is a word."""

BEGIN: Final = "\x02"
END: Final = "\x03"
"""Tokens that stand for the beginning and the end of a turn: how an answer opens tells much."""
