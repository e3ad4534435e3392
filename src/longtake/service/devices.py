"""The device of a worker process: the CPU, or one GPU, by its UUID and alone.

A process that sees one GPU only calls it cuda:0, whatever else the machine has and however it is
numbered tomorrow; and it holds no memory on another.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from longtake.core.errors import Usage
from longtake.core.machine import Gpu

VISIBLE = "CUDA_VISIBLE_DEVICES"  # read by CUDA when a process first uses it
INSIDE = "cuda:0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """A place for a worker process of `longtake serve`."""

    name: str
    """Of the worker; the same after a restart, so that one that was drained stays so."""
    device: str
    """As the process calls it."""
    uuid: str | None = None
    """Of its GPU."""

    @property
    def environment(self) -> dict[str, str]:
        return {VISIBLE: self.uuid} if self.uuid else {}


def chosen(asked: str, gpus: Sequence[Gpu]) -> Gpu | None:
    """The GPU that is asked for: auto, cuda:N, or the beginning of its UUID; None: the CPU. Raises
    Usage where there is none."""
    if asked == "cpu" or (asked == "auto" and not gpus):
        return None
    for gpu in gpus:
        if asked in ("auto", f"cuda:{gpu.index}") or _is(asked, gpu):
            return gpu
    there = ", ".join(["cpu", *(f"cuda:{gpu.index} ({gpu.uuid})" for gpu in gpus)])
    raise Usage(f"{asked}: there is no such device here, but {there}.")


def _is(asked: str, gpu: Gpu) -> bool:
    return asked.startswith("GPU-") and len(asked) > 8 and gpu.uuid.startswith(asked)


def posts(asked: str, gpus: Sequence[Gpu], installed: Sequence[Gpu], port: int) -> list[Post]:
    """For `--workers`: none; auto: one for each GPU, else one for the CPU; or devices with commas
    between. Raises Usage."""
    if asked == "none":
        return []
    if asked == "auto":
        wanted: list[Gpu | None] = list(gpus) or [None]
    else:
        wanted = [chosen(name.strip(), gpus) for name in asked.split(",")]
    found, times = [], Counter[str]()
    for gpu in wanted:
        place = label(gpu, installed)
        times[place] += 1
        more = f".{times[place]}" if times[place] > 1 else ""
        found.append(
            Post(
                name=f"{socket.gethostname()}/{place}/{port}{more}",
                device=INSIDE if gpu else "cpu", uuid=gpu.uuid if gpu else None,
            )
        )  # fmt: skip
    return found


def label(gpu: Gpu | None, installed: Sequence[Gpu]) -> str:
    """What people call it: by the number that it has for the whole machine."""
    if gpu is None:
        return "cpu"
    here = in_all(gpu, installed)
    return f"cuda:{here.index}"


def in_all(gpu: Gpu, installed: Sequence[Gpu]) -> Gpu:
    """The same with the number that it has among all that are installed."""
    return next((other for other in installed if other.uuid == gpu.uuid), gpu)
