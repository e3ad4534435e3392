"""What a source is, from its header and its first frame; nothing else is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.codeccontext import AudioCodecContext
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideData
from av.stream import Stream
from av.video.stream import VideoStream

from longtake.core.errors import BadInput
from longtake.core.media import Track, TrackKind, VideoInfo
from longtake.media import _clock, _decode, _facts, _structure, color, guard, images

_PATIENCE = 2000  # packets among which there must be one frame that can be decoded
_KINDS: dict[str, TrackKind] = {
    "video": "video",
    "audio": "audio",
    "subtitle": "subtitle",
    "attachment": "attachment",
}
_DYNAMIC = {
    SideData.DOVI_METADATA: "Dolby Vision",
    SideData.DOVI_RPU_BUFFER: "Dolby Vision",
    SideData.DYNAMIC_HDR_PLUS: "HDR10+",
    SideData.MASTERING_DISPLAY_METADATA: "mastering display metadata",
}


def probe(path: Path, rate: Fraction | None = None) -> VideoInfo:
    """Describe a film, a folder of pictures, or one picture (container "images").

    `rate` is the rate of images (default 24 frames/s); a film states its own. `frames`, `rate`,
    `variable` and `duration` are the header's word until `index.exact_info` has counted.
    `rotation` is `VideoFrame.rotation`: degrees counter-clockwise, -180 .. 180, by which a player
    turns the picture; `VideoStream.set_display_rotation(rotation)` writes the same. Raises BadInput
    for what cannot be opened or has no film in it.
    """
    if images.is_images(path):
        return images.probe(path, rate)
    container = guard.open_film(path)
    with container:
        film = guard.film_stream(container, path)
        guard.prepare(film, threads=1)
        whole = Fraction(max(0, container.duration or 0), 1_000_000)
        duration = _facts.duration(film) or whole  # before decoding: libav then changes it
        with closing(_decode.frames(container, film, _decode.Tally(), path, _PATIENCE)) as found:
            first = next(found, None)
        if first is None:
            missing = _structure.overhang(path)
            why = f"{missing} bytes are missing at its end" if missing else film.codec.name
            raise BadInput(f"{path}: not one frame of it can be decoded ({why}).")
        return _describe(path, container, film, first, duration)


def refuse(info: VideoInfo, drop: Sequence[str] = ()) -> None:
    """Raises BadInput for what must not be started on, whatever the target.

    HDR would be written as SDR, alpha would be lost (unless "alpha" is in `drop`), and a matrix
    that cannot be read faithfully would change every colour.
    """
    if info.color.hdr:
        curve = {16: "PQ", 18: "HLG"}[info.color.transfer]
        raise BadInput(
            f"{info.path}: HDR input ({curve}) is not supported yet: it would be written as SDR "
            "with wrong brightness and colours. Convert it to SDR first."
        )
    if any(note.startswith("Dolby Vision") for note in info.notes):
        raise BadInput(
            f"{info.path}: Dolby Vision is not supported: its colours need metadata that would be "
            "lost. Convert it to SDR first."
        )
    if info.alpha and "alpha" not in drop:
        raise BadInput(
            f"{info.path}: it has an alpha channel, which would be lost. Use --drop alpha to go on "
            "without it."
        )
    color.reading_of(info, None)


def _describe(
    path: Path,
    container: InputContainer,
    film: VideoStream,
    first: av.VideoFrame,
    duration: Fraction,
) -> VideoInfo:
    context = film.codec_context
    guard.bound(first.width, first.height, path)
    bits, chroma, alpha = _facts.pixels(first.format)
    rate = _rate(film)
    notes = [f"{_DYNAMIC[t]} is stated." for t in _side_data(first)]
    return VideoInfo(
        path=path,
        container=container.format.name,
        codec=film.codec.canonical_name,
        width=first.width,
        height=first.height,
        frames=film.frames or round(duration * rate),
        rate=rate,
        time_base=film.time_base or Fraction(1, 1000),
        start=film.start_time or 0,
        duration=duration,
        bits=bits,
        chroma=chroma,
        alpha=alpha or film.metadata.get("alpha_mode") == "1",
        color=_facts.color(first, context),
        sar=_facts.ratio(film.sample_aspect_ratio),
        rotation=first.rotation,
        fields=_facts.fields(first, context),
        stream=film.index,
        tracks=tuple(_track(s) for s in container.streams if s.index != film.index),
        chapters=len(container.chapters()),
        size=container.size,
        notes=tuple(dict.fromkeys(notes)),
    )


def _rate(film: VideoStream) -> Fraction:
    """The rate a header states: a standard one that agrees with its average, else the average."""
    average, base, guessed = film.average_rate, film.base_rate, film.guessed_rate
    best = average or guessed or base
    if not best or best <= 0:
        return Fraction(25)
    for rate in (guessed, base, *_clock.STANDARD):
        if rate in _clock.STANDARD and abs(rate / best - 1) < Fraction(1, 5000):
            return rate
    return best


def _side_data(frame: av.VideoFrame) -> list[SideData]:
    held: Any = frame.side_data  # PyAV's stub calls it a single SideData
    return [item.type for item in held if item.type in _DYNAMIC]


def _track(stream: Stream) -> Track:
    context = stream.codec_context
    sound = context if isinstance(context, AudioCodecContext) else None
    return Track(
        index=stream.index,
        kind=_KINDS.get(stream.type, "data"),
        codec=context.codec.canonical_name if context is not None else "",
        language=stream.language or "",
        title=stream.metadata.get("title", ""),
        channels=sound.channels if sound is not None else 0,
        sample_rate=sound.sample_rate if sound is not None else 0,
    )
