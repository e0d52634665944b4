"""Teachers' soft labels: each row is labelled by those teachers that were not trained on it.

```
teachers.py    bundles -> the fold teachers of one call, which must have seen comparisons alike
routing.py     which teacher labels which row, and whether it was trained on it
planning.py    shards, chunks, and what an interrupted run has left
run.py         judges what is missing, then joins everything into one table
```
"""

from tiebreak.teach.labelling.planning import Plan, Shard, Task, plan
from tiebreak.teach.labelling.routing import Routes, routes
from tiebreak.teach.labelling.run import Outcome, label
from tiebreak.teach.labelling.teachers import Teacher, Team, read

__all__ = ["Outcome", "Plan", "Routes", "Shard", "Task", "Teacher", "Team", "label", "plan", "read", "routes"]
