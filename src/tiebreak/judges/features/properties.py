"""What is counted in one text: a table of names and patterns, and nothing else.

Each pattern is run by Polars' regular expressions (linear time on any text, no backtracking). To add a property, add a
line here and, if people should read about it in an explanation, name it in `reasons`.
"""

from __future__ import annotations

from typing import Final

ANSWER: Final[dict[str, str]] = {
    # Structure
    "lines": r"\n",
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
    # Characters
    "capitals": r"[A-Z]",
    "numbers": r"[0-9]+",
    "questions": r"[?？]",
    "exclamations": r"[!！]",
    "commas": r"[,，、]",
    "colons": r":",
    "parentheses": r"\(",
    "quotations": r'["“]',
    # Words
    "refusals": r"(?i)as an ai\b|\blanguage model\b|\bi cannot\b|\bi can['’]t\b|\bunable to\b|\bnot able to\b"
    r"|\bnot appropriate\b|\bi won['’]t\b|\bnot comfortable\b",
    "apologies": r"(?i)\bsorry\b|\bapologi[sz]e\b|\bunfortunately\b",
    "ignorance": r"(?i)\bdo(?:n['’]t| not) have (?:access|enough|any|information|personal|real)|\bcutoff\b"
    r"|\bmy training\b|\breal-time\b|\bup-to-date\b|\bdo(?:n['’]t| not) know\b",
    "hedges": r"(?i)\bperhaps\b|\bmaybe\b|\bmight\b|\bmay\b|\bpossibly\b|\bcould be\b|\bseems?\b|\bdepends\b",
    "contrasts": r"(?i)\bhowever\b|\balthough\b|\bwhile\b|\bon the other hand\b|\bnevertheless\b",
    "examples": r"(?i)\bfor example\b|\bfor instance\b|\be\.g\.|\bsuch as\b",
    "steps": r"(?i)\bfirst(?:ly)?\b|\bsecond(?:ly)?\b|\bfinally\b|\bnext\b|\bstep \d",
    "conclusions": r"(?i)\bin conclusion\b|\boverall\b|\bin summary\b|\bto summari[sz]e\b|\btherefore\b",
    "cautions": r"(?i)\bimportant to\b|\bconsult\b|\bprofessional\b|\bnote that\b|\bplease note\b|\bkeep in mind\b",
    "first_person": r"\bI\b|\bmy\b|\bme\b",
    "second_person": r"(?i)\byou(?:r|rs|rself)?\b",
    "leaked_roles": r"(?m)^(?:Human|User|Assistant|USER|ASSISTANT|###? ?(?:Human|Assistant|Instruction|Response))\b"
    r"|<\|[a-z_]+\|>|</s>",
    # Beginning and end
    "ready_opening": r"(?i)^\s*(?:sure|certainly|of course|absolutely|great|here (?:is|are)|here['’]s)\b",
    "offer_at_end": r"(?i)(?:let me know|feel free|hope (?:this|that) helps|happy to help|anything else"
    r"|(?:any|more|further) (?:other )?questions)[^\n]{0,120}\s*$",
    "question_at_end": r"[?？]\s*$",
    "finished_end": r"[.!?。！？:)\"'”’`\]*|}>~]\s*$",
    "lower_start": r"^\s*[a-z]",
}
"""Counted in every answer, turn by turn."""

PROMPT: Final[dict[str, str]] = {
    "lines": r"\n",
    "questions": r"[?？]",
    "numbers": r"[0-9]+",
    "capitals": r"[A-Z]",
    "fences": r"```",
    "question_words": r"(?i)\b(?:what|who|whom|where|when|why|which|how)\b",
    "yes_no": r"(?i)^\s*(?:is|are|was|were|do|does|did|can|could|should|would|will|has|have)\b",
    "code": r"(?i)\b(?:code|function|python|script|sql|javascript|java|html|css|bug|program|regex|api|linux|bash|rust"
    r"|algorithm|class)\b|c\+\+|c#",
    "maths": r"(?i)\b(?:solve|calculate|equation|probability|integral|derivative|math|sum|how many|percent)\b"
    r"|\d\s*[-+*/^=]\s*\d",
    "creative": r"(?i)\b(?:story|poem|song|essay|jokes?|haiku|lyrics|novel|scene|character|fiction|rap|screenplay)\b",
    "writing": r"(?i)\b(?:write|draft|compose|create|generate|email|letter|article|blog)\b",
    "roleplay": r"(?i)\b(?:act as|you are|you're|pretend|role-?play|imagine|simulate)\b",
    "lists": r"(?i)\b(?:list|give me \d+|top \d+|ideas|examples|suggest(?:ions)?|recommend(?:ations)?)\b",
    "explain": r"(?i)\b(?:explain|describe|difference|compare|meaning|define|tell me about)\b",
    "rewrite": r"(?i)\b(?:summari[sz]e|summary|translate|rewrite|rephrase|paraphrase|correct|edit|extract|classify)\b",
    "brevity": r"(?i)\b(?:short|brief|briefly|concise|one word|one sentence|only|just|no more than|single|yes or no)\b",
    "length": r"(?i)\b(?:\d+ words|words|long|detailed|detail|in depth|paragraphs?|sentences)\b",
    "format": r"(?i)\b(?:json|table|csv|markdown|bullet|format|xml|yaml|steps?)\b",
    "identity": r"(?i)\b(?:who are you|your name|are you|what are you|do you|can you|chatgpt|gpt|openai|llm)\b",
    "recent": r"(?i)\b(?:latest|today|current(?:ly)?|news|weather|recent|now|202\d)\b",
    "opinion": r"(?i)\b(?:think|opinion|best|better|should|favou?rite|moral|ethical|believe|feel)\b",
    "risky": r"(?i)\b(?:sex\w*|kill\w*|racis\w*|hack\w*|bomb\w*|drugs?|illegal|porn\w*|nude|suicide|weapons?|steal"
    r"|fuck\w*|shit|ass|rape\w*|nazi|hitler|murder|jews?|black people|women)\b",
    "puzzle": r"(?i)\b(?:riddle|puzzle|logic|brothers?|sisters?|apples|if .{1,60} then|step by step)\b",
    "reference": r"(?i)\b(?:above|previous|again|continue|more|that|it|instead|another)\b",
    "greeting": r"(?i)^\s*(?:hi|hello|hey|hola|good morning)\b",
}
"""Counted in every prompt, turn by turn: what kind of thing was asked."""

WORD: Final = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]|\w+"
"""A word; in scripts that are written without spaces each sign is one."""
