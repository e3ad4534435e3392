"""What engines that use torch have in common; torch itself is not imported here."""

from __future__ import annotations

from typing import Final

from longtake.core.machine import Machine
from longtake.core.media import Knobs

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
