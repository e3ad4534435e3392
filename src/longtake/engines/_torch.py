"""What engines that use torch have in common; torch itself is not imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from longtake.core.machine import Machine
from longtake.core.media import Knobs

if TYPE_CHECKING:
    from torch import nn

_MiB: Final = 1 << 20
TORCH_ON_HOST: Final = 290 * _MiB  # `import torch` and its thread pool; benchmarks/memory
CUDA_ON_HOST: Final = 1130 * _MiB  # torch with CUDA's libraries, in host memory
CUDA_CONTEXT: Final = 630 * _MiB  # context and library modules; benchmarks/memory
VALUE_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}


def auto_dtype(machine: Machine, device: str, knobs: Knobs) -> str:
    """The knob `dtype`, where "auto" is bfloat16 if the processor has it, else float16 on a GPU
    that is made for it, else float32."""
    if knobs["dtype"] != "auto":
        return str(knobs["dtype"])
    if device.startswith("cpu"):
        fast = {"avx512_bf16", "amx_bf16"} & set(machine.flags)
        return "bfloat16" if fast else "float32"
    gpu = machine.gpu(device)
    if gpu is None or gpu.capability < (7, 0):
        return "float32"
    return "bfloat16" if gpu.capability >= (8, 0) else "float16"


def closed(net: nn.Module, device: str) -> None:
    """Give back what a net held, and what torch keeps for later: on the GPU, and page-locked."""
    import torch

    net.to("meta")  # whoever still has the net has no weights
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        private = getattr(torch._C, "_host_emptyCache", None)  # before there was a public one
        empty = getattr(torch.accelerator, "empty_host_cache", private)
        if empty is not None:
            empty()
