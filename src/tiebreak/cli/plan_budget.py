"""`tiebreak plan-budget`: will it fit, and how long will it take?"""

from __future__ import annotations

from tiebreak.errors import UsageError

EPILOG = """
Examples:

    tiebreak plan-budget --rows 25000 --model gemma2-9b --hardware 2xt4 --hours 9
"""


def command() -> None:
    """Say what time and memory a judge takes on given hardware, and what length fits."""
    raise UsageError("not there yet", expected="a later version")
