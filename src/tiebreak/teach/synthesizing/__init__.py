"""New pairs from prompts alone: answers of chosen models, paired, cleaned of duplicates and leaks.

```
prompts.py    prompts out of votes, pools, lists; duplicates and leaks left out before anything is written
authors.py    models x temperatures, and which of them answers which prompt
planning.py   chunks of work, and what an interrupted run has left
writing.py    the answers, turn by turn
pairing.py    answers -> comparisons; what is dropped, and why
run.py        all of it, resumable
```
"""

from tiebreak.teach.synthesizing.authors import Author, Model
from tiebreak.teach.synthesizing.pairing import Pairing
from tiebreak.teach.synthesizing.planning import Plan, plan
from tiebreak.teach.synthesizing.prompts import Prompts, choose, read
from tiebreak.teach.synthesizing.run import Outcome, synthesize

__all__ = ["Author", "Model", "Outcome", "Pairing", "Plan", "Prompts", "choose", "plan", "read", "synthesize"]
