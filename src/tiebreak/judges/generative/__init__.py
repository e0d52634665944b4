"""The generative judge: a causal language model is asked which answer is better, and its probabilities are read.

```
verdicts.py   how each verdict is spelled; the tree of tokens that must be asked
settings.py   what judge.json says
judge.py      GenerativeJudge: a classifier whose logits are log-masses of verdicts
making.py     a judge out of a language model; shots.py: examples that stand before each comparison
backend.py    the contract of what runs the model; backends.py picks one
local.py      transformers through the packed engine; head.py: exact log-probabilities of some tokens
vllm/         vLLM, in an environment and a process of its own
served/       a server: retries, limits, a store of answers, bounds for what is not listed
writing.py    the contract of what writes texts; writers.py picks one; local_writing.py and drawing.py: transformers
reading.py    verdicts out of prose; verdict_table.py: what they are worth
```
"""

from tiebreak.judges.generative.judge import GenerativeJudge
from tiebreak.judges.generative.settings import Settings
from tiebreak.judges.generative.verdicts import Verdicts

__all__ = ["GenerativeJudge", "Settings", "Verdicts"]
