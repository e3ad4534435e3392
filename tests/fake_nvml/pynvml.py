"""NVML of a machine that is not here; tests put this folder on PYTHONPATH.

`FAKE_NVML` is JSON: facts of the one GPU, over those below. A fact that is null is one that this
card does not tell.
"""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    pass


_FACTS: dict[str, Any] = {
    "name": "NVIDIA GeForce RTX 4090", "uuid": "GPU-0", "driver": "550.54.14", "cuda": 12040,
    "total": 24 << 30, "free": 23 << 30, "capability": [8, 9], "width": 16, "most_width": 16,
    "generation": 4, "reasons": 0, "celsius": 55, **json.loads(os.environ.get("FAKE_NVML", "{}")),
}  # fmt: skip


def _fact(name: str) -> Any:
    if _FACTS[name] is None:
        raise NVMLError(f"{name} is not supported")
    return _FACTS[name]


def nvmlInit() -> None: ...
def nvmlShutdown() -> None: ...
def nvmlDeviceGetCount() -> int:
    return 1


def nvmlSystemGetDriverVersion() -> str:
    return str(_fact("driver"))


def nvmlSystemGetCudaDriverVersion_v2() -> int:
    return int(_fact("cuda"))


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetHandleByUUID(uuid: str) -> int:
    return 0


def nvmlDeviceGetMemoryInfo(handle: int) -> Any:
    return SimpleNamespace(total=_fact("total"), free=_fact("free"))


def nvmlDeviceGetUUID(handle: int) -> str:
    return str(_fact("uuid"))


def nvmlDeviceGetName(handle: int) -> str:
    return str(_fact("name"))


def nvmlDeviceGetCudaComputeCapability(handle: int) -> list[int]:
    return list(_fact("capability"))


def nvmlDeviceGetCurrPcieLinkWidth(handle: int) -> int:
    return int(_fact("width"))


def nvmlDeviceGetMaxPcieLinkWidth(handle: int) -> int:
    return int(_fact("most_width"))


def nvmlDeviceGetMaxPcieLinkGeneration(handle: int) -> int:
    return int(_fact("generation"))


def nvmlDeviceGetCurrentClocksThrottleReasons(handle: int) -> int:
    return int(_fact("reasons"))


def nvmlDeviceGetTemperature(handle: int, sensor: int) -> int:
    return int(_fact("celsius"))


def nvmlDeviceGetComputeRunningProcesses(handle: int) -> list[Any]:
    return []
