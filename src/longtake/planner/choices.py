"""What is chosen in the same way for every kind of job: weights, codec, encoder, room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from longtake.core.codecs import CODECS
from longtake.core.errors import Usage, WeightsMissing
from longtake.core.machine import Machine
from longtake.core.media import Knobs
from longtake.core.plan import Disk, Encoder, Geometry, Recipe, weights_identity
from longtake.core.ports import Author, Engine, Sink
from longtake.core.task import Task
from longtake.planner import footprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Crafts:
    """The sockets a plan is made against, looked up by whoever may see them."""

    works: Engine | Author
    sink: Sink
    sha256: Callable[[Path], str]  # of a file of weights
    lacking: Callable[[str], str | None] = lambda _: None  # why it cannot be written here
    only_plan: bool = False  # nothing will be made: weights may be missing

    @property
    def engine(self) -> Engine:
        """Of a job that makes a film larger."""
        return cast(Engine, self.works)

    @property
    def author(self) -> Author:
        """Of a job that generates a film."""
        return cast(Author, self.works)


def weights(crafts: Crafts, knobs: Knobs) -> tuple[str | None, list[str]]:
    """Their identity; where they are missing and nothing will be made, a sentence instead."""
    try:
        return weights_identity([crafts.sha256(p) for p in crafts.works.weights(knobs)]), []
    except WeightsMissing as error:
        if not crafts.only_plan:
            raise
        return None, [f"Planned with the sizes of the published weights. {error.detail}"]


def codec(task: Task, crafts: Crafts) -> tuple[str, list[str]]:
    """The codec, and a sentence where it is not the one that was asked for."""
    held = crafts.sink.codecs
    if task.codec == "auto":
        return held[0], []
    if task.codec not in held:
        raise Usage(
            f"--codec {task.codec} does not go into {task.target.name}; there: {', '.join(held)}."
        )
    why = crafts.lacking(task.codec)
    software = CODECS[task.codec].software
    if why is None:
        return task.codec, []
    if not software:
        raise Usage(f"--codec {task.codec}: {why}.")
    return software, [f"--codec {task.codec}: {why}; {software} writes the film instead."]


def encoder(
    task: Task, codec: str, geometry: Geometry, workers: tuple[str, ...], machine: Machine
) -> Encoder:
    """The encoder's settings. Raises Usage for a quality or a size that it does not take."""
    about = CODECS[codec]
    crf = task.crf if task.crf is not None else about.crf
    if about.crf is not None and crf is not None and not 0 <= crf <= about.worst:
        raise Usage(f"--crf {crf}: outside 0 .. {about.worst}.")
    (width, height), (widest, tallest) = geometry.target, about.most
    if min(width, height) < about.least or width > widest or height > tallest:
        raise Usage(
            f"{width}x{height} px: {codec} takes sides from {about.least} px on, and at most "
            f"{widest}x{tallest} px; take another size or another --codec."
        )
    effort = task.effort
    if effort == "auto":
        effort = "veryfast" if workers[0].startswith("cpu") else "faster"
    threads = 4 if width * height <= 1 << 20 else 6 if width * height <= 1 << 22 else 8
    asm = "avx2" if "avx2" in machine.flags else "sse2"
    if about.software:
        asm = machine.gpus[0].name if machine.gpus else ""
    return Encoder(
        codec=codec,  # type: ignore[arg-type]
        crf=crf or 0 if about.crf is not None else 0,
        preset=about.efforts.get(effort, ""),
        threads=threads // 2 if codec == "av1" else threads,  # its memory grows with them
        asm=asm,
    )


def disk(geometry: Geometry, recipe: Recipe, carried: int) -> Disk:
    """`carried`: bytes of the source's other tracks, at most."""
    film = footprint.output_bytes(geometry, recipe.output, recipe.encoder)
    pictures = recipe.encoder.codec in ("png", "tiff")  # moved into place, not copied
    return Disk(parts=film, target=0 if pictures else film + carried)
