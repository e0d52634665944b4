"""A plugin for vLLM: 8-bit weight-only layers (W8A16) on a CPU.

vLLM has kernels for them on GPUs (Marlin, Machete, ...), but on a CPU only for 4 bits (0.32: `CPUWNA16 ... supported
types are: uint4, uint4b8`), and refuses to load a GPTQ-8 judge. This one unpacks the weights when they are loaded, so
that the very checkpoint of the GPUs runs on a CPU, with the memory of plain weights. vLLM finds it by itself where
tiebreak is installed beside it (entry point `vllm.general_plugins`). It imports nothing else of tiebreak.
"""

from __future__ import annotations

from typing import Any


def register() -> None:
    """Add the kernel to those that vLLM considers on a CPU. Called by vLLM in each of its processes, perhaps twice."""
    from vllm.model_executor.kernels import linear
    from vllm.platforms import PlatformEnum

    known = linear._POSSIBLE_KERNELS.get(PlatformEnum.CPU, [])
    if not any(kernel.__name__ == _NAME for kernel in known):
        linear.register_linear_kernel(_kernel(), PlatformEnum.CPU, "mp")


_NAME = "TiebreakW8A16LinearKernel"


def _kernel() -> Any:
    """The class; made here, since its parent exists only where vLLM does."""
    import torch
    from vllm.model_executor.kernels.linear import MPLinearKernel
    from vllm.model_executor.layers.quantization.utils import replace_parameter
    from vllm.model_executor.layers.quantization.utils.quant_utils import unpack_quantized_values_into_int32
    from vllm.platforms import current_platform
    from vllm.scalar_type import scalar_types

    class Kernel(MPLinearKernel):  # type: ignore[misc]
        """Weights of 8 bits with a scale for a group of inputs, unpacked at load."""

        @classmethod
        def get_min_capability(cls) -> int:
            return -1

        @classmethod
        def can_implement(cls, c: Any) -> tuple[bool, str | None]:
            if not current_platform.is_cpu():
                return False, "for CPUs"
            if c.weight_type not in (scalar_types.uint8b128, scalar_types.uint8):
                return False, f"for 8 bits, not {c.weight_type}"
            return True, None

        def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
            packed, scale, zero = self._get_weight_params(layer)
            kind = self.config.weight_type
            # As compressed-tensors stores them: weights (outputs, inputs / 4), scales (outputs, groups), zero points
            # packed along the outputs.
            whole = unpack_quantized_values_into_int32(packed.data, kind, 1).float()
            if zero is not None and self.config.zero_points:
                offset = unpack_quantized_values_into_int32(zero.data, kind, 0).float()
            else:
                offset = torch.full_like(scale.data, float(kind.bias), dtype=torch.float32)
            size = whole.shape[1] // scale.shape[1]
            outputs = whole.shape[0]
            grouped = whole.view(outputs, -1, size) - offset[:outputs, :, None]
            weight = (grouped * scale.data.float()[:, :, None]).view(outputs, -1).to(self.config.act_type)
            replace_parameter(layer, self.w_q_name, torch.nn.Parameter(weight, requires_grad=False))

        def apply_weights(
            self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
        ) -> torch.Tensor:
            return torch.nn.functional.linear(x, self._get_weight_params(layer)[0], bias)

    Kernel.__name__ = _NAME
    return Kernel
