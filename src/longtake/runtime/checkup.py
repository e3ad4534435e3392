"""What `longtake doctor` looks at: every check answers with a reason, not with yes or no."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

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
from longtake.planner import host
from longtake.planner.calibration import Calibration
from longtake.planner.explain import bytes_
from longtake.runtime import checkgpu, sight
from longtake.runtime.check import Check
from longtake.runtime.prepare import draft
from longtake.runtime.run import Job, run

_LITTLE_RAM: Final = 2 << 30  # bytes
FRAMES, SIZE = 48, (320, 180)  # of the film that the speed is measured on


def checks(machine: Machine, folder: Path) -> Iterator[Check]:
    """Everything that needs neither torch nor a measurement."""
    yield Check(
        name="longtake", state="good", says=f"{__version__}, Python {platform.python_version()}"
    )
    flags = ", ".join(machine.flags) or "none of those that matter"
    yield Check(
        name="processor", state="good", says=f"{machine.cpu}, {machine.cores} cores: {flags}"
    )
    yield _ram()
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
    yield from checkgpu.checks(machine)
    yield from _kernels(machine)
    yield _locked(machine)
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
    yield Check(name="operators", state="good", says=_OPERATORS)
    yield _allocator(machine)


_OPERATORS: Final = (
    "attention of wan: torch's own, flash where the GPU has it; 8-bit matrices are made as wide as "
    "what they are multiplied with. Sage, q8, sgl and vllm are not used: each is built for one "
    "version of torch, and gives other bytes"
)


def _allocator(machine: Machine) -> Check:
    """Whether torch's memory on a GPU grows in place, as plans take it to."""
    wanted, name = "expandable_segments:True", "allocator"
    given = os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "")
    if not machine.gpus:
        return Check(name=name, state="good", says=f"{wanted}: not needed without a GPU")
    if sys.platform == "win32":
        says = f"{wanted}: torch has it on Linux only; leave a tenth of the GPU free (--vram)"
        return Check(name=name, state="note", says=says)
    if wanted in given:
        return Check(name=name, state="good", says=f"{wanted}: set before torch is loaded")
    says = (
        f"PYTORCH_ALLOC_CONF or PYTORCH_CUDA_ALLOC_CONF is set to {given!r}, without {wanted}: "
        f"memory frays and plans are too low. Unset it, or add that"
    )
    return Check(name=name, state="note", says=says)


def _ram() -> Check:
    """What is free, of the machine or of the control group, and whether it is short."""
    now = host.look()
    limited = now.ram < host.physical()
    says = f"{bytes_(now.free)} free of {bytes_(now.ram)}"
    says += ", the limit of the control group" if limited else ""
    if now.pressure >= sight.PRESSED:
        says += (
            f"; tasks wait for memory {now.pressure:.0f} % of the time (PSI): close other programs"
        )
    elif now.free <= _LITTLE_RAM:
        says += f"; under {bytes_(_LITTLE_RAM)} large films and models do not fit: close others"
    else:
        return Check(name="RAM", state="good", says=says)
    return Check(name="RAM", state="note", says=says)


def _locked(machine: Machine) -> Check:
    """How much memory may be page-locked: weights that wait for a GPU are."""
    limit = host.lockable()
    if not machine.gpus or limit is None:
        why = "no GPU copies from it" if not machine.gpus else "no limit"
        return Check(name="locked memory", state="good", says=why)
    says = f"{bytes_(limit)} (ulimit -l)"
    if limit >= machine.ram // 2:
        return Check(name="locked memory", state="good", says=says)
    says += (
        "; NVIDIA's driver for Linux locks beyond it. Where a job says that the system would not "
        "lock memory: ulimit -l unlimited, or docker run --ulimit memlock=-1"
    )
    return Check(name="locked memory", state="good" if not sight.shares_memory() else "note",
                 says=says)  # fmt: skip


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
