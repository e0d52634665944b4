"""`python -m tiebreak` is the same as `tiebreak`."""

from tiebreak.cli import main

main()
