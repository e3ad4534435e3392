"""What `doctor` says of an NVIDIA driver, of the way to each GPU and of what slows it down."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from longtake.core.machine import Gpu, Machine
from longtake.planner.host import read
from longtake.planner.survey import nvml
from longtake.runtime import sight
from longtake.runtime.check import Check

_LANE: Final = {1: 0.25, 2: 0.5, 3: 0.985, 4: 1.97, 5: 3.94, 6: 7.56}  # GB/s, by generation
# the least driver for each major version of CUDA, on Linux:
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
_DRIVERS: Final = {11: "450.80.02", 12: "525.60.13", 13: "580"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The PCI Express link of a GPU."""

    width: int  # lanes now
    most_width: int
    generation: int  # at best: an idle card slows down

    @property
    def rate(self) -> float:
        """GB/s in one direction, at best."""
        return self.width * _LANE.get(self.generation, _LANE[max(_LANE)])


def checks(machine: Machine) -> Iterator[Check]:
    if machine.gpus:
        yield _driver(machine)
    for gpu in machine.gpus:
        yield from _link(gpu)
        card = sight.card(gpu.uuid)
        if card is not None and card.slowed:
            heat = "" if card.celsius is None else f" at {card.celsius} °C"
            says = (
                f"clocks are down{heat}: {', '.join(card.slowed)}. Look after its fans and its "
                f"power supply."
            )
            yield Check(name=f"clocks of GPU {gpu.index}", state="note", says=says)
    if machine.gpus and sight.shares_memory():
        says = (
            "this system's driver lets a full GPU go on in the host's memory, many times slower, "
            "instead of saying so: plans leave room, and a job that is slowed by it moves. In the "
            "NVIDIA control panel: CUDA - Sysmem Fallback Policy: Prefer No Sysmem Fallback"
        )
        yield Check(name="shared memory", state="note", says=says)


def _driver(machine: Machine) -> Check:
    driver, reached, built = machine.gpus[0].driver, _cuda_of_driver(), torch_cuda()
    knows = "" if reached is None else f" (CUDA up to {reached[0]}.{reached[1]})"
    says = f"{driver}{knows}"
    if built is None:
        return Check(name="driver", state="good", says=f"{says}; the installed torch has no CUDA")
    says += f"; torch is built for CUDA {built}"
    major = int(built.split(".")[0])
    if reached is not None and reached[0] < major:
        least = _DRIVERS.get(major, "a newer one")
        says += (
            f": it cannot use this GPU. Install driver {least} or later, or torch for CUDA "
            f"{reached[0]} (https://pytorch.org/get-started/locally)"
        )
        return Check(name="driver", state="bad", says=says)
    return Check(name="driver", state="good", says=f"{says}: they fit")


def _link(gpu: Gpu) -> Iterator[Check]:
    found, name = link(gpu.uuid), f"bus of GPU {gpu.index}"
    if found is None:
        yield Check(name=name, state="note", says="NVML does not say how it is connected")
        return
    says = f"PCIe {found.generation}.0 x{found.width}, {found.rate:.0f} GB/s at best"
    if found.width >= found.most_width:
        yield Check(name=name, state="good", says=says)
        return
    says += (
        f", of x{found.most_width} that the card has: weights that come block by block come "
        f"{found.most_width / found.width:g} times slower. Another slot, or no other card beside it"
    )
    yield Check(name=name, state="note", says=says)


def link(uuid: str) -> Link | None:
    with nvml() as ask:
        if ask is None:
            return None
        try:
            handle = ask.nvmlDeviceGetHandleByUUID(uuid)
            return Link(
                width=int(ask.nvmlDeviceGetCurrPcieLinkWidth(handle)),
                most_width=int(ask.nvmlDeviceGetMaxPcieLinkWidth(handle)),
                generation=int(ask.nvmlDeviceGetMaxPcieLinkGeneration(handle)),
            )
        except (ask.NVMLError, AttributeError):
            return None


def _cuda_of_driver() -> tuple[int, int] | None:
    """The newest CUDA that the driver knows: (12, 8)."""
    with nvml() as ask:
        if ask is None:
            return None
        with contextlib.suppress(ask.NVMLError, AttributeError):
            version = int(ask.nvmlSystemGetCudaDriverVersion_v2())
            return version // 1000, version % 1000 // 10
    return None


def torch_cuda() -> str | None:
    """The CUDA that the installed torch is built for, "12.8", without loading it."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    text = read(Path(spec.origin).with_name("version.py"))
    found = re.search(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return None if found is None else found[1]
