"""What `longtake doctor` looks at: every check answers with a reason, not with yes or no."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from longtake import __version__
from longtake.core.codecs import CODECS
from longtake.core.errors import LongtakeError, WeightsMissing
from longtake.core.events import Finished
from longtake.core.machine import Machine
from longtake.core.media import Clip, Color, OutputFormat
from longtake.core.plan import Encoder
from longtake.core.plugins import find, names
from longtake.core.ports import Sink
from longtake.core.task import Limits, Upscale
from longtake.media import encoders
from longtake.nets.flashvsr.needs import flex_lacks
from longtake.planner.calibration import Calibration
from longtake.planner.explain import bytes_
from longtake.runtime.prepare import draft
from longtake.runtime.run import Job, run

FRAMES, SIZE = 48, (320, 180)  # of the film that the speed is measured on


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    name: str
    state: Literal["good", "note", "bad"]
    says: str  # what was found and, unless good, what it costs and what to do


def checks(machine: Machine, folder: Path) -> Iterator[Check]:
    """Everything that needs neither torch nor a measurement."""
    yield Check(
        name="longtake", state="good", says=f"{__version__}, Python {platform.python_version()}"
    )
    flags = ", ".join(machine.flags) or "none of those that matter"
    yield Check(
        name="processor", state="good", says=f"{machine.cpu}, {machine.cores} cores: {flags}"
    )
    state: Literal["good", "note"] = "good" if machine.free_ram > 2 << 30 else "note"
    yield Check(
        name="RAM", state=state, says=f"{bytes_(machine.free_ram)} free of {bytes_(machine.ram)}"
    )
    free = shutil.disk_usage(folder).free
    yield Check(name="disk", state="good", says=f"{bytes_(free)} free in {folder}")
    for gpu in machine.gpus:
        yield Check(
            name=f"GPU {gpu.index}",
            state="good",
            says=f"{gpu.name}, {bytes_(gpu.free)} free of {bytes_(gpu.vram)}, compute capability "
            f"{gpu.capability[0]}.{gpu.capability[1]}, driver {gpu.driver}",
        )
    if not machine.gpus:
        yield Check(
            name="GPU", state="note", says="no NVIDIA GPU found: everything runs on the CPU"
        )
    yield _torch(machine)
    yield from _kernels(machine)
    lacking = encoders.missing()
    yield Check(
        name="libav",
        state="bad" if lacking else "good",
        says=f"lacks {', '.join(lacking)}: install PyAV from its wheel" if lacking
        else "all decoders, encoders and filters that are used are there",
    )  # fmt: skip
    yield from _codecs()


def _codecs() -> Iterator[Check]:
    """What can be read and written here; of the GPU's encoders, why not."""
    yield Check(name="reads", state="good", says=", ".join(encoders.decoders()))
    why = {name: encoders.lacking(name) for name in CODECS}
    there = [name for name, reason in why.items() if reason is None]
    yield Check(name="writes", state="good", says=", ".join(there))
    gone = {n: r for n, r in why.items() if r is not None and CODECS[n].software}
    if gone:
        says = "; ".join(f"{n}: {r}, {CODECS[n].software} instead" for n, r in gone.items())
        yield Check(name="NVENC", state="note", says=says)


def _torch(machine: Machine) -> Check:
    if machine.torch is None:
        return Check(name="torch", state="bad", says="not installed: only engine resize runs")
    if machine.gpus and machine.torch.endswith("+cpu"):
        says = f"{machine.torch} has no CUDA: the GPU is left idle; install torch from its index"
        return Check(name="torch", state="note", says=says)
    return Check(name="torch", state="good", says=machine.torch)


def _kernels(machine: Machine) -> Iterator[Check]:
    """What makes GPUs fast, and what of it is used on each."""
    for gpu in machine.gpus:
        major, minor = gpu.capability
        why = flex_lacks(gpu.capability)
        says = "used by flashvsr" if why is None else f"{why}; flashvsr is several times slower"
        yield Check(
            name=f"flex on GPU {gpu.index}", state="good" if why is None else "note", says=says
        )
        half = "bfloat16" if major >= 8 else "float16" if major >= 7 else "float32"
        says = (
            f"{half} is used"
            if major >= 8
            else f"{half} is used: bfloat16 needs 8.0, not {major}.{minor}"
        )
        yield Check(name=f"numbers on GPU {gpu.index}", state="good", says=says)
    given = os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "")
    if machine.gpus and "expandable_segments:True" not in given:
        says = (
            f"PYTORCH_CUDA_ALLOC_CONF={given}: without expandable_segments:True plans are too low"
        )
        yield Check(name="allocator", state="note", says=says)


def torch_check(machine: Machine) -> Check:
    """Import torch and let every GPU add two numbers."""
    try:
        torch = importlib.import_module("torch")
        if machine.gpus and torch.cuda.is_available():
            for gpu in range(torch.cuda.device_count()):
                torch.ones(2, device=f"cuda:{gpu}").sum().item()
    except (ImportError, RuntimeError, OSError) as error:
        return Check(name="torch runs", state="bad", says=f"{type(error).__name__}: {error}")
    cuda = f"CUDA {torch.version.cuda}" if torch.cuda.is_available() else "CPU only"
    return Check(name="torch runs", state="good", says=cuda)


def measure(machine: Machine, known: Calibration) -> Iterator[Check]:
    """Upscale a small film with every engine; the figures go into the calibration file."""
    with tempfile.TemporaryDirectory(prefix="longtake-doctor-") as scratch:
        film = Path(scratch) / "film.mp4"
        _make_film(film)
        for name in names("engines"):
            if find("engines", name).devices[0] == "cuda" and not machine.gpus:
                says = "made for a GPU, and there is none: not measured"
                yield Check(name=f"engine {name}", state="note", says=says)
                continue
            task = Upscale(source=film, target=Path(scratch) / f"{name}.mp4", engine=name)
            began = time.monotonic()
            try:
                plan, crafts = draft(task, Limits(), machine, known)
                job = Job(plan=plan, crafts=crafts, machine=machine, known=known)
                *_, done = (e for e in run(job) if isinstance(e, Finished))
            except LongtakeError as error:
                lacks = isinstance(error, WeightsMissing)  # which is nobody's fault
                yield Check(
                    name=f"engine {name}", state="note" if lacks else "bad", says=str(error)
                )
                continue
            width, height = plan.geometry.target
            yield Check(
                name=f"engine {name}",
                state="good",
                says=f"{done.fps:.1f} fps to {width}x{height} on {plan.placement.devices[0]} "
                f"({plan.recipe.numerics.dtype}), {time.monotonic() - began:.1f} s in all",
            )


def _make_film(path: Path) -> None:
    """A moving pattern, encoded by the sink itself."""
    width, height = SIZE
    sink: Sink = find("media.sinks", "mp4")
    output = OutputFormat(
        width=width, height=height, rate=Fraction(24), time_base=Fraction(1, 24), variable=False,
        bits=8, chroma="420", color=Color(), matrix=1, full_range=False, sar=Fraction(1),
        rotation=0,
    )  # fmt: skip
    encoder = Encoder(codec="x264", crf=16, preset="veryfast", threads=1, asm="sse2")
    y, x = np.mgrid[0:height, 0:width]
    with sink.open(path, output, encoder, 0) as writer:
        for i in range(FRAMES):
            waves = [
                127 + 120 * np.sin((x * a + y * b + 3 * i) / 17)
                for a, b in ((1, 2), (3, 1), (2, 5))
            ]
            pixels = np.stack(waves, axis=-1).astype(np.uint8)[None]
            writer.write(Clip(pixels=pixels, start=i), [i])
