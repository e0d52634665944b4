"""transformers announces what it loads; a library that is used by another keeps still."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR, getLogger


@contextmanager
def quiet() -> Iterator[None]:
    """No messages below an error and no progress bars inside the block, of transformers and of what it imports."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # peft imports bitsandbytes, which regrets on a CPU that it has no kernel from the hub.
    kernels = getLogger("bitsandbytes.backends.cpu.ops")
    kernels_level = kernels.level
    kernels.setLevel(ERROR)
    try:
        with warnings.catch_warnings():
            # peft asks transformers under an old name.
            warnings.filterwarnings(
                "ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning
            )
            yield
    finally:
        kernels.setLevel(kernels_level)
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
