"""Out of memory: how to tell, and how to take a smaller step."""

from __future__ import annotations

import gc

import torch

from tiebreak.errors import ResourceError


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short: of a GPU, of torch's CPU allocator, of Python."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        sign in str(error) for sign in ("can't allocate memory", "not enough memory", "CUDA out of memory")
    )


def release() -> None:
    """Give back what a failed step still held."""
    gc.collect(1)  # what a failed step left is young; a full sweep of a process with torch in it takes long
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def too_small(tokens: int, device: str) -> ResourceError:
    """The error for a single sequence that does not fit."""
    return ResourceError(
        f"memory of {device} is not enough for one sequence of {tokens} tokens",
        expected="room for the model and at least one sequence",
        mend="--max-length with fewer tokens, --precision int8 or bf16, or --devices with more devices",
    )


def no_room(size: int, device: str) -> ResourceError:
    """The error for weights that do not fit."""
    return ResourceError(
        f"memory of {device} is not enough for the model's weights ({size / 2**30:.1f} GiB)",
        expected="room for the weights and one sequence",
        mend="--devices with more devices (cuda:0,cuda:1), --precision bf16, or a judge whose base is in 4 bits",
    )
