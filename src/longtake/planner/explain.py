"""A plan in words and numbers: titled rows, for whoever draws them."""

from __future__ import annotations

from fractions import Fraction

from longtake.core.plan import Plan, Script
from longtake.core.task import Generate

Rows = list[tuple[str, str]]


def explain(plan: Plan) -> dict[str, Rows]:
    """Sections of (name, value), in the order in which a person wants them."""
    return {
        "film": _film(plan),
        "recipe (decides the bytes)": _recipe(plan),
        "placement (free to change)": _placement(plan),
        "memory": _memory(plan),
        "disk and time": _cost(plan),
    }


def _film(plan: Plan) -> Rows:
    if isinstance(plan.recipe.reading, Script):
        return _script(plan, plan.recipe.reading)
    info, geometry = plan.info, plan.geometry
    output = plan.recipe.output
    length = geometry.frames / output.rate
    about = "" if info.exact else "about "
    kind = "variable" if output.variable else "constant"
    return [
        ("source", f"{info.path} ({info.container}, {info.codec})"),
        ("size", f"{_given(plan)} -> {_size(geometry.target)} px "
                 f"(x{float(geometry.scale):g})"),
        ("frames", f"{about}{geometry.frames:,} at {rate(output.rate)} fps ({kind}), "
                   f"{clock(length)}{_telecined(plan)}"),
        ("segments", f"{len(plan.segments)} of at most {plan.recipe.segment_frames} frames"
                     + ("" if plan.stage == "frozen" else "; shots are found when work begins")),
    ]  # fmt: skip


def _script(plan: Plan, script: Script) -> Rows:
    geometry, output = plan.geometry, plan.recipe.output
    rows = [("prompt", script.prompt)]
    if script.negative:
        rows.append(("not", script.negative))
    if isinstance(plan.task, Generate) and plan.task.image is not None:
        rows.append(("begins with", str(plan.task.image)))
    return [
        *rows,
        ("size", f"{_size(geometry.target)} px"),
        ("frames", f"{geometry.frames:,} at {rate(output.rate)} fps, "
                   f"{clock(geometry.frames / output.rate)}"),
    ]  # fmt: skip


def _telecined(plan: Plan) -> str:
    if plan.recipe.read.deinterlace != "ivtc":
        return ""
    return f"; by ivtc of {plan.info.frames:,} at {rate(plan.info.rate)} fps"


def _given(plan: Plan) -> str:
    coded = _size((plan.info.width, plan.info.height))
    reduced = plan.recipe.read.size
    return f"{coded} reduced to {_size(reduced)}" if reduced else coded


def _recipe(plan: Plan) -> Rows:
    recipe = plan.recipe
    encoder, output = recipe.encoder, recipe.output
    effort = f"preset {encoder.preset}" if encoder.preset.isdigit() else encoder.preset
    how = f" crf {encoder.crf} {effort}" if effort else ""
    numerics = recipe.numerics
    where = numerics.device + (
        f" {numerics.capability[0]}.{numerics.capability[1]}" if numerics.capability else ""
    )
    rows = [
        ("engine", recipe.engine + "".join(f" {k}={v}" for k, v in recipe.knobs.items())),
        ("numerics", f"{numerics.dtype} on {where}, torch {numerics.torch or 'not used'}"),
        ("encoder", f"{encoder.codec}{how}, {output.bits} bit {output.chroma}, "
                    f"{encoder.threads} threads"),
    ]  # fmt: skip
    if recipe.weights:
        rows.insert(1, ("weights", f"sha256 {recipe.weights[:16]}"))
    return rows


def _placement(plan: Plan) -> Rows:
    placement = plan.placement
    return [
        ("devices", ", ".join(placement.devices)),
        ("frames per pass", f"{placement.step}; clips that wait between stages: {placement.queue}"),
        ("offload", _offload(plan)),
    ]


def _offload(plan: Plan) -> str:
    placement = plan.placement
    words = [placement.offload]
    blocks = plan.outlook.blocks if plan.outlook else None
    if placement.offload in ("ring", "disk"):
        words.append(
            f"{placement.resident_blocks} blocks of each net stay on the device"
            if blocks is None
            else f"of {blocks.blocks} blocks {blocks.device} on the device, {blocks.host} on the "
            f"host, {blocks.disk} on the disk"
        )
    if placement.state == "host":
        words.append("state on the host")
    return "; ".join(words)


def _memory(plan: Plan) -> Rows:
    memory, host = plan.memory, plan.memory.host
    engine = memory.engine
    outside = [("  libraries", engine.beside), ("  page-locked", engine.parked)]
    beside = [(name, bytes_(size)) for name, size in outside if memory.on_gpu and size]
    rows = [
        ("RAM", f"{bytes_(memory.ram)} per worker"),
        ("  process", bytes_(host.process)),
        ("  decoder", bytes_(host.decode)),
        ("  frames in hand", bytes_(host.frames)),
        ("  encoder", bytes_(host.encode)),
        *beside,
    ]
    causes = [
        ("  context", engine.context),
        ("  weights", engine.weights),
        ("  state", engine.state),
        ("  activations", engine.activations),
        ("  workspace", engine.workspace),
    ]
    if memory.on_gpu:
        rows.append(("VRAM", f"{bytes_(memory.vram)} on each GPU"))
    return rows + [(name, bytes_(size)) for name, size in causes if size]


def _cost(plan: Plan) -> Rows:
    disk = plan.disk
    rows = [
        ("disk", f"about {bytes_(disk.total)} ({bytes_(disk.parts)} of parts, "
                 f"{bytes_(disk.target)} while joining)"),
    ]  # fmt: skip
    if plan.time is None:
        return [*rows, ("time", "not calibrated: `longtake doctor` measures this machine")]
    time = plan.time
    if isinstance(plan.task, Generate):
        return [*rows, ("time", f"about {clock(time.total)}")]
    return [
        *rows,
        ("time", f"about {clock(time.total)} (decode {clock(time.decode)}, compute "
                 f"{clock(time.compute)}, encode {clock(time.encode)} overlap)"),
    ]  # fmt: skip


def rate(value: Fraction) -> str:
    """24 fps, or 24000/1001 (23.976) fps."""
    if value.denominator == 1:
        return str(value.numerator)
    return f"{value.numerator}/{value.denominator} ({float(value):.3f})"


def clock(seconds: float | Fraction) -> str:
    """0.8 s, 12 s, 3:05, 1:02:03."""
    if seconds < 10:
        return f"{float(seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    shown = f"{rest // 60:02d}:{rest % 60:02d}"
    return f"{hours}:{shown}" if hours else shown.lstrip("0") if rest >= 60 else shown


def bytes_(size: int) -> str:
    """Bytes in the binary unit that suits."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024  # type: ignore[assignment]
    return f"{size:.2f} GiB"


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
