"""Machines that are not here, described in a few lines, so that a job can be planned for them.

    gpu = "NVIDIA GeForce RTX 4060"     # left out: no GPU
    vram = 8                            # GiB
    capability = "8.9"                  # CUDA compute capability
    ram = 32                            # GiB
    cores = 8

An idle machine is meant: what its system and its desktop hold is taken off.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from longtake.core.errors import BadInput, Usage
from longtake.core.machine import Gpu, Machine
from longtake.planner import survey

GiB = 1 << 30
HELD_VRAM = GiB // 2  # by driver and desktop
HELD_RAM = 3 * GiB  # by the system
FLAGS = ("sse4_2", "avx2")
_TORCH = "2.11.0"  # where none is installed here
_FIELDS = {"gpu", "vram", "capability", "ram", "cores"}
_SHIPPED = Path(__file__).with_suffix(".toml")


@cache
def _shipped() -> dict[str, dict[str, Any]]:
    return tomllib.loads(_SHIPPED.read_text(encoding="utf-8"))


def names() -> tuple[str, ...]:
    return tuple(_shipped())


def described(which: str) -> Machine:
    """The machine of that name, or of a TOML file. Raises Usage or BadInput."""
    if which in _shipped():
        return machine(which, _shipped()[which])
    path = Path(which)
    if path.suffix != ".toml" and not path.exists():
        raise Usage(f"--machine {which}: give a TOML file, or one of {', '.join(names())}.")
    try:
        return machine(which, tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"{which}: {error}") from None


def machine(name: str, fields: dict[str, Any]) -> Machine:
    """Raises BadInput for fields that are missing, unknown or no numbers."""
    unknown = set(fields) - _FIELDS
    if unknown:
        known = ", ".join(sorted(_FIELDS))
        raise BadInput(f"{name}: there is no {', '.join(sorted(unknown))}; there are {known}.")
    try:
        ram, cores = int(fields["ram"] * GiB), int(fields["cores"])
        gpus = (_gpu(fields),) if "gpu" in fields else ()
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{name}: a machine has ram and cores, a GPU vram and capability: {error!r}."
        ) from None
    if min(ram, cores, *(g.vram for g in gpus)) <= 0:
        raise BadInput(f"{name}: ram, cores and vram must be above 0.")
    return Machine(
        cores=cores, ram=ram, free_ram=max(ram - HELD_RAM, 0), cpu=name, flags=FLAGS, gpus=gpus,
        torch=(survey.torch() or _TORCH).partition("+")[0], here=False,
    )  # fmt: skip


def _gpu(fields: dict[str, Any]) -> Gpu:
    vram = int(fields["vram"] * GiB)
    major, minor = str(fields["capability"]).split(".")
    return Gpu(
        index=0, uuid="", name=str(fields["gpu"]), vram=vram, free=max(vram - HELD_VRAM, 0),
        capability=(int(major), int(minor)),
    )  # fmt: skip
