"""What a machine is: data, so that a job can be planned for one that is not here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    index: int
    uuid: str
    name: str
    vram: int  # bytes
    free: int  # bytes
    capability: tuple[int, int]  # CUDA compute capability
    driver: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    cores: int  # that this process may use
    ram: int  # bytes, physical or the cgroup's limit
    free_ram: int  # bytes that can be had now without swapping
    cpu: str = ""
    flags: tuple[str, ...] = ()  # of the flags in `CPU_FLAGS` those that the processor has
    gpus: tuple[Gpu, ...] = ()
    torch: str | None = None  # version of the installed torch, without importing it
    here: bool = True  # this process runs on it; else it was described

    def gpu(self, device: str) -> Gpu | None:
        """The GPU of the device "cuda:0"; None for one that is not there, and for "cpu"."""
        return next((g for g in self.gpus if f"cuda:{g.index}" == device), None)


CPU_FLAGS = ("sse4_2", "avx2", "avx512f", "avx512_bf16", "amx_bf16")
