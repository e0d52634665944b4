"""What a judge with a network reads: comparisons -> token ids. One `Template` for training, prediction and serving.

```
templates.py   Template: instruction, marks, suffix, budget, as data; builtin.py: the six that ship
texts.py       user text -> ids, in batches; no text can yield a special token
frame.py       the template's own ids: what surrounds and separates the texts
truncation.py  which tokens of each text are kept when a row is over its budget
assembly.py    frame + kept texts -> one sequence a row, and the ledger
renderer.py    Renderer, which joins them; canaries.py: the comparisons of the fingerprint
chats.py       chats of several turns under the tokenizer's own template, by the same promise
```

Nothing here needs torch: the tokenizer is passed in.
"""

from tiebreak.render.renderer import Renderer
from tiebreak.render.sequences import Rendered, Sequences
from tiebreak.render.templates import TEMPLATES, Marks, Template, template

__all__ = ["TEMPLATES", "Marks", "Rendered", "Renderer", "Sequences", "Template", "template"]
