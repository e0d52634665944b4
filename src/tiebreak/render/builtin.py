"""The templates that ship, by name: their words are our own, their shapes are those of published systems."""

from __future__ import annotations

from typing import Any, Final

_CHAT_ANSWERS: Final = {
    "prompt": "\n\n[Question {turn}]\n",
    "answer_a": "\n\n[Answer {turn} of assistant A]\n",
    "answer_b": "\n\n[Answer {turn} of assistant B]\n",
    "missing": "(no text)",
}

_JUDGE: Final = (
    "You compare two assistants, A and B, that answered the same person. Decide whose answers that person would "
    "prefer. Weigh whether the answers are right, whether they do what was asked, how clear, complete and well written "
    "they are, and how they read as a whole. The order in which the assistants are shown means nothing, and a longer "
    "answer is not better for its length. Give one verdict: [[A]] if assistant A would be preferred, [[B]] if "
    "assistant B would be, [[C]] if the person would call it a tie."
)

BUILTIN: Final[dict[str, dict[str, Any]]] = {
    # tascj/kaggle-lmsys-chatbot-arena (LMSYS, 2nd place): turns interleaved, right truncation of the conversation only.
    "pab": {
        "truncation": "right",
        "chat": True,
        "layout": "interleaved",
        "instruction": _JUDGE,
        "suffix": "After weighing both assistants, the verdict is: [[",
        "marks": {
            "opening": "----- the conversations begin -----",
            **_CHAT_ANSWERS,
            "closing": "\n\n----- the conversations end -----",
        },
    },
    # The same team's second template: one conversation after the other.
    "papb": {
        "truncation": "right",
        "chat": True,
        "layout": "conversations",
        "instruction": _JUDGE,
        "suffix": "After weighing both assistants, the verdict is: [[",
        "marks": {
            "opening": "----- a conversation begins -----",
            "prompt": "\n\n[Question {turn}]\n",
            "answer_a": "\n\n[Answer {turn} of assistant A]\n",
            "answer_b": "\n\n[Answer {turn} of assistant B]\n",
            "second": "\n\n----- it ends; the conversation with the other assistant begins -----",
            "closing": "\n\n----- it ends -----",
            "missing": "(no text)",
        },
    },
    # shyoulala/LMSYS_BlackPearl (LMSYS, 1st place). One template for training and test: theirs were indented apart.
    "blackpearl": {
        "truncation": "fair",
        "chat": False,
        "layout": "fields",
        "instruction": (
            "A user asked a question, and two assistants answered it. Say which answer the user would prefer: A, B, or "
            "tie where they are equally good."
        ),
        "suffix": "The preferred answer is",
        "marks": {
            "prompt": 'User question:\n"""\n',
            "answer_a": '\n\nAnswer A:\n"""\n',
            "answer_b": '\n\nAnswer B:\n"""\n',
            "end": '\n"""',
            "missing": "(no text)",
        },
    },
    # emiz6413's public notebook, on which S1 builds: three fields, no instruction, cut at the right.
    "plain": {
        "truncation": "right",
        "chat": False,
        "layout": "fields",
        "instruction": "",
        "suffix": "",
        "marks": {
            "prompt": "<prompt>: ",
            "answer_a": "\n\n<response_a>: ",
            "answer_b": "\n\n<response_b>: ",
            "joint": " ",
        },
    },
    # DaoyuanLi2816 (LMSYS, 4th place): whole rounds, the last one cut 20 / 40 / 40.
    "rounds": {
        "truncation": "rounds",
        "chat": True,
        "layout": "interleaved",
        "instruction": (
            "Below are the rounds of one user's conversations with two assistants. In every round both answered the "
            "same question. Decide which assistant the user would prefer over all rounds, or whether it is a tie."
        ),
        "suffix": "The user prefers:",
        "marks": {
            "opening": "Conversations:",
            "prompt": "\n\nRound {turn}, user:\n",
            "answer_a": "\n\nRound {turn}, assistant A:\n",
            "answer_b": "\n\nRound {turn}, assistant B:\n",
            "closing": "\n\nEnd of the conversations.",
            "missing": "(no text)",
        },
    },
    # For judges that read one answer at a time with a shared encoder.
    "single": {
        "truncation": "fair",
        "chat": False,
        "layout": "interleaved",
        "instruction": "",
        "suffix": "",
        "marks": {"prompt": "Question: ", "answer_a": "\nAnswer: ", "end": "\n", "missing": "(no text)"},
    },
}
