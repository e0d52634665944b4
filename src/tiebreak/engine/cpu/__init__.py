"""Decoders on a CPU: transformers' modules with their inner loops replaced, for inference alone."""

from tiebreak.engine.cpu.allocator import settle_allocator
from tiebreak.engine.cpu.matrices import Precision
from tiebreak.engine.cpu.native import load_kernels
from tiebreak.engine.cpu.rate import matrix_rate
from tiebreak.engine.cpu.speed import has_int8, speed_up

__all__ = ["Precision", "has_int8", "load_kernels", "matrix_rate", "settle_allocator", "speed_up"]
