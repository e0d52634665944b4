"""What a card says of the votes that a judge was made of."""

from __future__ import annotations

from tiebreak.bundle import Manifest


def sources(manifest: Manifest) -> str:
    """The data of a judge as a table in Markdown."""
    rows = [
        f"| {source.name} | {source.rows:,} | {source.licence or 'not stated'} | `{source.fingerprint[:16]}` |"
        for source in manifest.training
    ]
    return "\n".join(["| source | votes | licence | fingerprint |", "|---|--:|---|---|", *rows])
