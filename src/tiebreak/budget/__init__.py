"""What a judge takes on given hardware: time, memory, the longest input that fits.

```
gpus.py       what GPUs can do at most; hardware.py: several of them, or the processor of this machine
networks.py   the size of a network from its configuration; models.py: what judging with it costs
lengths.py    how long the comparisons are
estimate.py   time and memory of a run; longest.py: the longest input that fits hours and memory
points.py     runs that others measured, which the shares of peak rate were taken from
trial.py      a small run on this machine, beside its prediction
```
"""

from tiebreak.budget.estimate import ENGINES, Estimate, Run, estimate
from tiebreak.budget.hardware import Hardware
from tiebreak.budget.lengths import Lengths
from tiebreak.budget.longest import LENGTHS, LONGEST, Fit, curve, longest
from tiebreak.budget.models import PRECISIONS, Model

__all__ = [
    "ENGINES", "LENGTHS", "LONGEST", "PRECISIONS", "Estimate", "Fit", "Hardware", "Lengths", "Model", "Run", "curve",
    "estimate", "longest",
]  # fmt: skip
