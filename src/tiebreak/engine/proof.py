"""Whether a family that no test knows can be packed: it is tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from tiebreak.engine.packed import Packed, pack
from tiebreak.errors import UsageError

LENGTHS: Final = (9, 24, 5)
TOLERANCE: Final = {torch.float32: 1e-4}
COARSE: Final = 0.05
"""Of the largest logit, in 16 bits or fewer."""


def logits_of(out: Any) -> Tensor:
    """What a sequence classifier says of a row: (1, outputs)."""
    logits: Tensor = out.logits
    return logits


def prove(model: Any, pooled: Callable[[Packed], Tensor], read: Callable[[Any], Tensor] = logits_of) -> None:
    """Compare packed logits of three short sequences with those of the model's own forward, one at a time.

    Recurrent layers (Mamba), attention with learned sinks and the like would carry something from one sequence into the
    next, or leave something out. On the meta device nothing can be tried.

    Args:
        model: The sequence classifier or language model, without an adapter's wrapper.
        pooled: The same, packed.
        read: From what the model returns for one row to what `pooled` returns for it.

    Raises:
        UsageError: The two differ, or one of them fails.
    """
    device = next(model.parameters()).device
    if device.type == "meta":
        return
    vocabulary = model.get_input_embeddings().num_embeddings
    rows = [np.random.default_rng(n).integers(vocabulary // 8, vocabulary, size=n) for n in LENGTHS]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()
            own = torch.cat([read(model(input_ids=torch.from_numpy(row)[None].to(device))).float() for row in rows])
            difference = float((pooled(pack(rows, device)) - own).abs().max() / own.abs().max())
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise _refusal(model, f"fails: {error}") from error
    finally:
        model.train(training)
    if not difference <= TOLERANCE.get(next(model.parameters()).dtype, COARSE):
        raise _refusal(model, f"differs by {difference:.1e} of the largest logit")


def _refusal(model: Any, what: str) -> UsageError:
    return UsageError(
        f"the family {model.config.model_type!r} cannot be packed: a packed batch {what}",
        expected="a family whose only link between tokens is attention, such as Llama, Gemma, Qwen, Mistral, BERT",
    )
