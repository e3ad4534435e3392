"""From a task to an estimated plan: looks up the crafts, opens the header, asks the planner."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from longtake.core.errors import TracksRefused, Usage
from longtake.core.machine import Machine
from longtake.core.media import VideoInfo
from longtake.core.plain import differences, to_plain
from longtake.core.plan import Plan, weights_identity
from longtake.core.plugins import find, names
from longtake.core.ports import Sink
from longtake.core.task import Generate, Limits, Task, Upscale
from longtake.media import color, encoders
from longtake.media.interlace import advice, examined
from longtake.media.probe import probe, refuse
from longtake.planner import generating
from longtake.planner.calibration import Calibration
from longtake.planner.choices import Crafts
from longtake.planner.fit import fitted
from longtake.planner.planner import estimate, numerics_here, timed
from longtake.runtime import filenames, workfolder
from longtake.weights import manifest


def sink_for(target: Path, codec: str = "auto") -> Sink:
    """The sink that the target's suffix names; no suffix is a folder of PNG files, or of the
    pictures that `codec` names."""
    suffix = target.suffix[1:].lower()
    if not suffix:
        suffix = codec if codec in names("media.sinks") else "png"
    elif suffix == "tif":
        suffix = "tiff"
    if suffix not in names("media.sinks"):
        known = ", ".join(f".{n}" for n in names("media.sinks"))
        raise Usage(f"{target.name}: no sink writes .{suffix}; there are {known}, or a folder.")
    sink: Sink = find("media.sinks", suffix)
    return sink


def crafts_for(task: Task) -> Crafts:
    works = find("generators" if isinstance(task, Generate) else "engines", task.engine)
    sink = sink_for(task.target, task.codec)
    return Crafts(works=works, sink=sink, sha256=manifest.sha256, lacking=encoders.lacking)


def draft(
    task: Upscale,
    limits: Limits,
    machine: Machine,
    known: Calibration,
    *,
    makes_folder: bool = False,
    only_plan: bool = False,
) -> tuple[Plan, Crafts]:
    """The estimated plan of `task`. Raises BadInput, Usage, TracksRefused or DoesNotFit.

    `makes_folder`: the target's folder need not be there, because the caller will make it;
    `only_plan`: neither need weights, because nothing will be made.
    """
    _paths(task, makes_folder)
    return draft_of(task, _source(task), limits, machine, known, only_plan=only_plan)


def draft_of(
    task: Upscale,
    info: VideoInfo,
    limits: Limits,
    machine: Machine,
    known: Calibration,
    *,
    only_plan: bool = False,
) -> tuple[Plan, Crafts]:
    """The same of a source that was looked at already: nothing is opened."""
    crafts = replace(crafts_for(task), only_plan=only_plan)
    told = _losses(task, info, crafts.sink)
    matrix, full, guess = color.reading_of(info, task.assume_color)
    plan = timed(estimate(task, info, (matrix, full), crafts, machine, limits), machine, known)
    notes = [*plan.notes, *([guess] if guess else []), *_interlaced(task, info), *told]
    return replace(plan, notes=tuple(dict.fromkeys(notes))), crafts


def draft_generated(
    task: Generate,
    limits: Limits,
    machine: Machine,
    known: Calibration,
    *,
    only_plan: bool = False,
) -> tuple[Plan, Crafts]:
    """The estimated plan of a film that is generated. Raises as `draft` does.

    `only_plan`: weights need not be there, because nothing will be made.
    """
    _paths(task)
    image = None if task.image is None else upright(probe(task.image))
    return draft_seen(task, image, limits, machine, known, only_plan=only_plan)


def draft_seen(
    task: Generate,
    image: tuple[int, int] | None,
    limits: Limits,
    machine: Machine,
    known: Calibration,
    *,
    only_plan: bool = False,
) -> tuple[Plan, Crafts]:
    """The same where the picture was looked at already: nothing is opened. `image`: px of it."""
    crafts = replace(crafts_for(task), only_plan=only_plan)
    return generating.estimate(task, image, crafts, machine, limits, known), crafts


def upright(info: VideoInfo) -> tuple[int, int]:
    """Px of a picture as it is looked at."""
    size = round(info.width * info.sar), info.height
    return size if round(info.rotation / 90) % 2 == 0 else size[::-1]


def replay(plan: Plan, limits: Limits, machine: Machine) -> tuple[Plan, Crafts]:
    """A stored plan, placed on this machine, and its crafts.

    Raises Usage where the source is another one or this machine would give other bytes, DoesNotFit
    where it does not fit here.
    """
    _paths(plan.task)
    crafts = crafts_for(plan.task)
    if isinstance(plan.task, Upscale):
        info = _source(plan.task)
        _losses(plan.task, info, crafts.sink)
        if plan.stage == "estimate":  # of a frozen plan the hash of the input speaks
            _unchanged("The source is not the one that was planned", plan.info, info, "source")
    here = numerics_here(plan, machine, crafts.works)
    _unchanged("The plan was made for another machine", plan.recipe.numerics, here, "numerics")
    weights = weights_identity([crafts.sha256(p) for p in crafts.works.weights(plan.recipe.knobs)])
    why = encoders.lacking(plan.recipe.encoder.codec)
    if why:
        raise Usage(
            f"The plan was made with {plan.recipe.encoder.codec}, and here {why}. Plan it again."
        )
    if weights != plan.recipe.weights:
        raise Usage("The plan was made with other weights. Plan it again.")
    return fitted(plan, crafts.works, machine, limits), crafts


def _source(task: Upscale) -> VideoInfo:
    """The header's word. Only where it speaks of fields, or the user does, frames are looked at."""
    info = probe(task.source, task.rate)
    refuse(info, task.drop)
    laced = info.fields in ("tff", "bff")
    return examined(info) if laced or task.deinterlace == "ivtc" else info


def _unchanged(words: str, planned: object, found: object, name: str) -> None:
    changed = differences(to_plain(planned), to_plain(found), name)
    if changed:
        raise Usage(f"{words}: {'; '.join(changed)}. Plan it again.")


def _losses(task: Upscale, info: VideoInfo, sink: Sink) -> tuple[str, ...]:
    losses = sink.losses(info, task.drop)
    if losses.refused:
        raise TracksRefused(" ".join(losses.refused))
    return losses.noted


def _interlaced(task: Upscale, info: VideoInfo) -> list[str]:
    telecine = info.telecine
    if task.deinterlace == "ivtc":
        if telecine is None or telecine.found or not telecine.cycles:
            return []
        return [
            f"No telecine was seen in {telecine.cycles} cycles of five frames; if the whole film "
            "has none, ivtc is refused."
        ]
    if telecine is not None and telecine.found:
        return advice(info)
    if info.fields not in ("tff", "bff") or task.deinterlace != "no":
        return []
    first = {"tff": "top", "bff": "bottom"}[info.fields]
    return [
        f"The source is interlaced ({first} field first) and is kept as it is; "
        f"--deinterlace bwdif makes whole frames of it."
    ]


def _paths(task: Task, makes_folder: bool = False) -> None:
    target = task.target
    source = task.image if isinstance(task, Generate) else task.source
    if source is not None:
        if not source.exists():
            raise Usage(f"{source}: no such file or folder.")
        if _same(source, target):
            raise Usage(f"{target}: source and target are the same.")
        if source.is_dir() and source.resolve() in target.resolve().parents:
            raise Usage(f"{target} lies inside the source folder {source}.")
    if not makes_folder and not target.resolve().parent.is_dir():
        raise Usage(f"{target}: the folder {target.resolve().parent} does not exist.")
    wrong = filenames.fault(target, workfolder.longest_path(target))
    if wrong:
        raise Usage(f"{target.name}: {wrong}.")


def _same(a: Path, b: Path) -> bool:
    if b.exists():
        return os.path.samefile(a, b)
    return a.resolve() == b.resolve()
