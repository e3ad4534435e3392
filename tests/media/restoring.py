"""Films analysed for ivtc, for the tests of what comes of them."""

from __future__ import annotations

from pathlib import Path

from longtake.core.media import OutputFormat
from longtake.core.plan import Reading
from longtake.media import color, exact, index
from longtake.media.probe import probe
from longtake.media.source import FileFilm
from tests.media import films, pulldown
from tests.media.test_source import film as plain
from tests.media.test_source import pixels

MPEG2 = {"codec": "mpeg2video", "options": {"flags": "+ildct+ilme", "qmin": "4", "qmax": "4"}}
EXACT = {"codec": "ffv1", "pixel_format": "yuv444p"}


def restored(path: Path, folder: Path, *, first: int = 0, frames: int | None = None) -> FileFilm:
    """A film analysed for ivtc."""
    info = probe(path)
    for _ in index.build(info, folder, deinterlace="ivtc"):
        pass
    found = index.FilmIndex.open(info, folder, "ivtc")
    info = exact.exact_info(info, found)
    timing = found.timing(info)
    matrix, full, _ = color.reading_of(info, None)
    reading = Reading(first=first, deinterlace="ivtc", matrix=matrix, full_range=full, drop=())
    output = OutputFormat(
        width=info.width, height=info.height, rate=timing.rate, time_base=timing.time_base,
        variable=timing.variable, bits=info.bits, chroma=info.chroma, color=info.color,
        matrix=matrix, full_range=full, sar=info.sar, rotation=info.rotation,
    )  # fmt: skip
    return FileFilm(info, found, reading, output, frames)


def counters(film: FileFilm) -> list[int]:
    return [films.read_counter(p) for p in pixels(film, 0, film.frames)]


def pattern(film: FileFilm) -> str:
    assert film.info.telecine is not None
    return film.info.telecine.pattern


def as_it_is(path: Path) -> FileFilm:
    """A film analysed for no deinterlacing."""
    return plain(path, path.with_suffix(".i"))


def mixed(path: Path, order: str) -> Path:
    """Film, then true fields, then film again in another phase: weaves, repairs, repeats."""
    film = pulldown.fields(24)
    laced = [*range(100, 130)]
    return pulldown.make(
        path, shown=[*film, *laced, *(k + 200 for k in pulldown.fields(20, skip=2))], order=order,
        b_frames=2,
    )  # fmt: skip
