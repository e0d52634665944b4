"""Say how it is to be judged.

What `tiebreak predict` is told of the submission, of the judge, of its time and of the devices of this machine.
"""

from __future__ import annotations

from typing import Any

from tiebreak.kaggle.kernel.finding import Found


def attempts(gpus: list[str]) -> list[list[str]]:
    """The devices to try: all GPUs; then the first one alone, should the network not run over several."""
    names = [f"cuda:{number}" for number in range(len(gpus))]
    return [names, names[:1]] if len(names) > 1 else [names]


def column_options(form: dict[str, Any]) -> list[str]:
    """The form of the submission, as options."""
    words = [form["labels"][label] for label in ("a", "b", "tie")]
    named = {"winner": ":" + ",".join(words), "winner_without_tie": ":" + ",".join(words[:2])}
    told = {form["id"]: "id"} | {name: content + named.get(content, "") for name, content in form["columns"].items()}
    return [part for name, content in told.items() for part in ("--column", f"{name}={content}")]


def judge_options(settings: dict[str, Any], found: Found, gpus: list[str], *, seconds: float) -> list[str]:
    """The judge, its time, and how it is to run here, as options."""
    options = ["--judge", str(found.judge), "--within", f"{seconds:.0f}", "--otherwise", settings["otherwise"]]
    if found.base is not None:
        options += ["--base", str(found.base)]
    if gpus:
        options += ["--devices", ",".join(gpus)]
    for name, value in settings["predicting"].items():
        if value is not None and value != "auto":
            options += [f"--{name.replace('_', '-')}", str(value)]
    return options
