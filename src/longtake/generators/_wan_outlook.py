"""What each stage of a film of Wan 2.1 is expected to take, and where the transformer's blocks are.

text     umT5 reads the prompt
image    CLIP sees the picture, the VAE makes latents of it      only models that take one
denoise  conditioner and transformer
decode   the VAE
"""

from __future__ import annotations

from typing import Final

from longtake.core.plan import BlocksOutlook, Outlook, StageOutlook
from longtake.generators import _wan_memory as memory
from longtake.generators import _wan_time as times
from longtake.generators._wan_job import Job, Stage, Where, parts, stages
from longtake.offload._partition import pass_seconds

_TOLD: Final[dict[str, tuple[Stage, ...]]] = {
    "text": ("text",), "image": ("image", "encode"), "denoise": ("denoise",), "decode": ("decode",)
}  # fmt: skip
"""Stages as a run tells of them, and what belongs to each."""


def outlook(job: Job, where: Where, rates: times.Rates | None, host: int) -> Outlook:
    """`host`: bytes of the process beside the engine. Raises Usage for films there are not."""
    took = None if rates is None else times.time_of(job, where, rates)
    seconds = {} if took is None else {name: getattr(took, name) for name in stages(job)}
    found = []
    for name, inside in _TOLD.items():
        there = [stage for stage in inside if stage in stages(job)]
        needs = [memory.of_stage(job, where, stage) for stage in there]
        if not there:
            continue
        found.append(
            StageOutlook(
                name=name,
                seconds=sum(seconds[stage] for stage in there) if seconds else None,
                vram=max(need.total for need in needs) if where.on_gpu else 0,
                ram=host + max(need.outside if where.on_gpu else need.total for need in needs),
            )
        )
    return Outlook(stages=tuple(found), blocks=_blocks(job, where, rates))


def _blocks(job: Job, where: Where, rates: times.Rates | None) -> BlocksOutlook:
    part = parts(job)["transformer"]
    there = where.partition_of(part)
    at = None if rates is None else times.pace(job, where, rates)
    return BlocksOutlook(
        blocks=there.blocks, device=len(there.device), host=len(there.host), disk=len(there.disk),
        block=part.slab,
        compute=None if at is None else at.compute,
        copy=None if at is None else at.copy,
        read=None if at is None or where.offload != "disk" else at.read,
        seconds=None if at is None else pass_seconds(there, at),
    )  # fmt: skip
