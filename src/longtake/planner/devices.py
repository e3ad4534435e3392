"""Which devices do the work, and what that means for the numbers."""

from __future__ import annotations

from importlib.metadata import version

from longtake.core.errors import Usage
from longtake.core.machine import Machine
from longtake.core.media import Knobs
from longtake.core.plan import Numerics
from longtake.core.ports import Works


def choose(asked: str, machine: Machine, engine: Works) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The devices, one worker each, and what the user should know about the choice.

    `asked` is auto (the first usable GPU, else the CPU), all (every GPU), cpu, cpu:0,1 (two
    processes) or cuda:0,1; 0-2 stands for 0,1,2. Raises Usage for what is not there.
    """
    name, _, which = asked.partition(":")
    usable = _usable(machine, engine)
    if asked in ("auto", "all"):
        found = tuple(f"cuda:{g.index}" for g in machine.gpus) if usable is None else ()
        notes = (usable,) if usable and machine.gpus and "cuda" in engine.devices else ()
        return (found[: None if asked == "all" else 1] or ("cpu",)), notes
    numbers = [n for part in (which or "0").split(",") for n in _numbers(part)]
    if name not in ("cpu", "cuda") or not all(numbers) or not numbers:
        raise Usage(f"--devices {asked}: give auto, cpu, cuda:0,1, cuda:0-2 or all.")
    if len(set(numbers)) != len(numbers):
        raise Usage(f"--devices {asked}: a device is named twice.")
    if name == "cpu":
        return tuple(f"cpu:{n}" for n in numbers) if which else ("cpu",), ()
    if usable is not None:
        raise Usage(f"--devices {asked}: {usable}")
    missing = [n for n in numbers if int(n) not in {g.index for g in machine.gpus}]
    if missing:
        raise Usage(f"--devices {asked}: there is no GPU {', '.join(missing)}.")
    return tuple(f"cuda:{n}" for n in numbers), ()


def _numbers(part: str) -> list[str]:
    """Of "1" or "0-2"; none where it is neither."""
    first, dash, last = part.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()):
        return [""]
    return [str(n) for n in range(int(first), int(last or first) + 1)]


def _usable(machine: Machine, engine: Works) -> str | None:
    """None where a GPU can be used, else the reason why not."""
    if "cuda" not in engine.devices:
        return "this engine runs on the CPU only."
    if not machine.gpus:
        return "no NVIDIA GPU was found (`longtake doctor` says more)."
    if machine.torch is None or machine.torch.endswith("+cpu"):
        return f"the installed torch ({machine.torch}) has no CUDA: the GPU is left idle."
    return None


def numerics(devices: tuple[str, ...], machine: Machine, engine: Works, knobs: Knobs) -> Numerics:
    """What decides the bits of this engine's arithmetic there."""
    gpu = next((g for g in machine.gpus if f"cuda:{g.index}" == devices[0]), None)
    dtype = engine.dtype(machine, devices[0], knobs)
    return Numerics(
        device="cuda" if gpu else "cpu",
        capability=gpu.capability if gpu else None,
        dtype=dtype,  # type: ignore[arg-type]
        libav=version("av"),
        torch=None if dtype == "uint8" else machine.torch,
    )
