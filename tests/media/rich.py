"""Sources with all that a film may carry: made once a session, a few frames long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from longtake.core.media import Track, TrackKind

FONT = bytes(range(256)) * 5
CHAPTERS = (("Eins", 0, 900), ("Zwei", 900, 2000))  # title, ms
TEXTS = ((100, 700, "Hällo\nWelt"), (900, 1500, "<i>two</i>"), (1400, 1900, "three"))  # ms
ASS_HEAD = (
    b"[Script Info]\r\nScriptType: v4.00+\r\n\r\n[V4+ Styles]\r\n"
    b"Format: Name, Fontname, Fontsize\r\nStyle: Default,Arial,16\r\n\r\n[Events]\r\n"
    b"Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r\n"
)
PGS = bytes.fromhex("16000b0040003010000000000000000080000000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    codec: str
    rate: int  # Hz
    start: Fraction = Fraction(0)  # s
    length: Fraction = Fraction(2)  # s
    language: str = "eng"
    title: str = ""
    disposition: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a made source holds."""

    container: str = "matroska"
    frames: int = 48
    rate: Fraction = Fraction(24000, 1001)
    start: int = 0  # frames before the first
    sounds: Sequence[Sound] = (
        Sound(codec="aac", rate=48000, language="eng", title="Stereo", disposition=1),
        Sound(codec="ac3", rate=44100, language="ger", title="Kommentar", disposition=8),
    )
    subtitles: Sequence[str] = ("subrip", "ass")
    chapters: bool = True
    attachment: bool = True
    cover: bool = False
    sar: Fraction = Fraction(64, 45)
    words: dict[str, str] = field(default_factory=lambda: {"title": "The Film", "artist": "Nö"})


def make(path: Path, source: Source) -> Path:
    """Write `source` to `path`."""
    out = av.open(str(path), "w", format=source.container)
    out.metadata.update(source.words)
    video: Any = out.add_stream("libx264", rate=source.rate, options={"preset": "ultrafast"})
    video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
    video.time_base = video.codec_context.time_base = 1 / source.rate
    video.codec_context.sample_aspect_ratio = source.sar
    video.metadata.update(language="jpn", title="Pictures")
    sounds = [(s, _sound_stream(out, s)) for s in source.sounds]
    texts = [(c, _text_stream(out, c, i)) for i, c in enumerate(source.subtitles)]
    cover = _cover_stream(out) if source.cover and source.container == "mp4" else None
    if source.attachment:
        out.add_attachment("Some Font.ttf", "font/ttf", FONT)
    if source.cover and cover is None:
        out.add_attachment("cover.png", "image/png", _png())
    if source.chapters:
        out.set_chapters([_chapter(i, *c) for i, c in enumerate(CHAPTERS)])
    packets: list[Any] = []
    for i in range(source.frames):
        picture = np.full((48, 64, 3), (i * 5) % 200 + 20, np.uint8)
        picture[:, (i * 2) % 60 :][:, :4] = 255
        frame = av.VideoFrame.from_ndarray(picture, "rgb24")
        frame.pts, frame.time_base = source.start + i, 1 / source.rate
        packets += video.encode(frame)
    packets += video.encode(None)
    for sound, stream in sounds:
        packets += _sound(sound, stream)
    for codec, text in texts:
        packets += _texts(codec, text)
    if cover is not None:
        packets.append(_packet(cover, _png(), 0, 0))
    out.start_encoding()
    for packet in sorted(packets, key=lambda p: (p.dts or 0) * p.time_base):
        out.mux(packet)
    out.close()
    return path


def _sound_stream(out: OutputContainer, sound: Sound) -> Any:
    stream: Any = out.add_stream(sound.codec, rate=sound.rate)
    stream.codec_context.layout = "stereo"
    stream.metadata.update(language=sound.language, title=sound.title)
    stream.disposition = sound.disposition
    return stream


def _sound(sound: Sound, stream: Any) -> list[Any]:
    context = stream.codec_context
    size = context.frame_size or 1024
    if not context.is_open:
        context.open()
        size = context.frame_size or 1024
    packets: list[Any] = []
    total = int(sound.length * sound.rate) // size * size
    for at in range(0, total, size):
        times = (at + np.arange(size)) / sound.rate
        wave = np.sin(2 * np.pi * 440 * times) * 0.5
        name = context.format.name
        kind: Any = {"flt": np.float32, "s16": np.int16, "s32": np.int32}[name[:3]]
        top = 1 if kind is np.float32 else np.iinfo(kind).max
        data: Any = np.repeat((wave * top).astype(kind), 2)[None]
        if name.endswith("p"):
            data = np.ascontiguousarray(data.reshape(-1, 2).T)
        frame = av.AudioFrame.from_ndarray(data, format=name, layout="stereo")
        frame.sample_rate = sound.rate
        frame.time_base = Fraction(1, sound.rate)
        frame.pts = at + int(sound.start * sound.rate)
        packets += stream.encode(frame)
    return packets + list(stream.encode(None))


def _text_stream(out: OutputContainer, codec: str, index: int) -> Stream:
    stream: Any
    if codec in ("ass", "mov_text"):
        stream = out.add_stream(codec)
        stream.codec_context.subtitle_header = ASS_HEAD
        stream.codec_context.time_base = Fraction(1, 1000)
    else:
        stream = out.add_mux_stream(codec)
    stream.time_base = Fraction(1, 1000)
    stream.metadata.update(language=("fre", "spa", "ita")[index % 3], title=f"Text {index}")
    stream.disposition = 64 if index == 1 else 0  # forced
    return stream  # type: ignore[no-any-return]


def _texts(codec: str, stream: Stream) -> list[Any]:
    made = []
    for number, (start, stop, text) in enumerate(TEXTS):
        if codec == "ass":
            line = text.replace("\n", "\\N").replace("<i>", "{\\i1}").replace("</i>", "{\\i0}")
            raw = f"{number},0,Default,,0,0,0,,{{\\an8}}{line}".encode()
        elif codec == "mov_text":
            words = text.replace("<i>", "").replace("</i>", "").encode()
            raw = len(words).to_bytes(2, "big") + words
        elif codec == "hdmv_pgs_subtitle":
            raw = PGS
        else:
            raw = text.encode()
        if codec == "mov_text" and number == 2:  # one at a time
            start = TEXTS[1][1]
        made.append(_packet(stream, raw, start, stop - start))
    return made


def _packet(stream: Stream, raw: bytes, start: int, length: int) -> Any:
    packet: Any = Packet(raw)
    packet.stream = stream
    packet.time_base = Fraction(1, 1000)
    packet.pts = packet.dts = start
    packet.duration = length
    packet.is_keyframe = True
    return packet


def _cover_stream(out: OutputContainer) -> Stream:
    stream: Any = out.add_stream("png", rate=1)
    stream.width, stream.height, stream.pix_fmt = 8, 8, "rgb24"
    stream.disposition = 1024  # attached picture
    return stream  # type: ignore[no-any-return]


def _png() -> bytes:
    context: Any = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt = 8, 8, "rgb24"
    context.time_base = Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.full((8, 8, 3), 99, np.uint8), "rgb24")
    return b"".join(map(bytes, [*context.encode(frame), *context.encode(None)]))


def _chapter(number: int, title: str, start: int, end: int) -> Any:
    return {
        "id": number + 1,
        "start": start,
        "end": end,
        "time_base": Fraction(1, 1000),
        "metadata": {"title": title},
    }


def tracks(path: Path) -> tuple[Track, ...]:
    """The tracks beside the first stream of pictures, as a probe would list them."""
    kinds: dict[str, TrackKind] = {
        "video": "video", "audio": "audio", "subtitle": "subtitle", "attachment": "attachment",
    }  # fmt: skip
    with av.open(str(path)) as file:
        film = file.streams.video[0].index
        return tuple(
            Track(
                index=s.index,
                kind=kinds.get(s.type, "data"),
                codec=s.codec_context.name if s.codec_context else (s.name or ""),
                language=s.metadata.get("language", ""),
                title=s.metadata.get("title", ""),
                sample_rate=getattr(s.codec_context, "sample_rate", 0) or 0,
            )
            for s in file.streams
            if s.index != film
        )
