"""What the card of a compressed judge says of the compression."""

from __future__ import annotations

from typing import Any, Final

HEADING: Final = "## Compressed"


def with_compression(text: str, document: dict[str, Any]) -> str:
    """The card of the judge it was made of, with a section more.

    Args:
        text: That card.
        document: `metrics["compression"]`.
    """
    sizes, speeds = document["bytes"], document["speed"]
    change = document["log_loss_change"]
    loss = "no votes to measure it on" if change is None else interval(change)
    rows = [
        ("bytes of the weights", f"{sizes['original']:,} → {sizes['compressed']:,}"),
        ("log-loss, compressed minus original", loss),
        ("KL(original ‖ compressed)", interval(document["kl"], sign=False)),
        ("rows with another verdict", f"{document['verdict_changes']:,} of {document['rows']:,}"),
        ("largest change of a probability", f"{document['largest_change']:.4f}"),
        ("tokens/s", f"{speed(speeds['original'])} → {speed(speeds['compressed'])}"),
        ("vLLM", document["vllm"]),
    ]
    forced = f"\n\nWritten by force: the gate is a change of {document['limit']}." if document["forced"] else ""
    table = "\n".join(["| | |", "|---|--:|", *(f"| {name} | {value} |" for name, value in rows)])
    return f"{text.rstrip()}\n\n{HEADING}\n\n{words(document)}\n\n{table}{forced}\n"


def words(document: dict[str, Any]) -> str:
    """The method in a sentence."""
    group = "a scale an output" if document["group"] is None else f"groups of {document['group']}"
    held = "4-bit NormalFloat, groups of 64" if document["method"] == "nf4" else f"{document['bits']} bits, {group}"
    inputs = ", inputs rounded to 8 bits" if document["activation_bits"] == 8 else ""
    rows = document["calibration_rows"]
    seen = f", calibrated on {rows:,} rows" if rows else ""
    return f"Linear layers by {document['method']} ({held}{inputs}){seen}; head and embeddings as they were."


def interval(bounds: list[float | None], *, sign: bool = True) -> str:
    """[value, low, high] for people."""
    form = "+.5f" if sign else ".5f"
    value, low, high = ("-" if bound is None else format(bound, form) for bound in bounds)
    return f"{value} [{low}, {high}]"


def speed(measured: dict[str, Any]) -> str:
    """Tokens a second, and the precision they were computed in."""
    return f"{measured['tokens_per_second']:,.0f} ({measured['precision']})"
