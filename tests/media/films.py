"""Small films for tests, every property of which is known.

    path = films.make(tmp_path / "a.mkv", frames=50, codec="libx264", b_frames=2, sound=True)

Each frame carries its number as a row of black and white blocks (`counter`, `read_counter`), which
survives encoding and scaling, over a texture that moves. Pass `picture` for other content: a
function from the frame's number to [H, W, 3] uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from longtake.core.media import Color
from longtake.media import encoders

RGB = NDArray[np.uint8]
Picture = Callable[[int], RGB]
BITS = 12  # of the burnt-in counter

QUICK = {
    "libx264": {"preset": "ultrafast", "x264-params": "asm=sse2:scenecut=0", "threads": "1"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=none"},
    "libsvtav1": {"preset": "12"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}


def make(
    path: Path,
    *,
    frames: int = 25,
    size: tuple[int, int] = (96, 64),
    rate: Fraction | int = 25,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    picture: Picture | None = None,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    start: int = 0,
    gop: int = 10,
    b_frames: int = 0,
    open_gop: bool = False,
    interlaced: str | None = None,
    color: Color | None = None,
    sar: Fraction | None = None,
    rotation: int = 0,
    sound: bool = False,
    cover: bool = False,
    chapters: int = 0,
    format: str | None = None,
) -> Path:
    """Write a film of `frames` frames and return its path.

    `size` is (width, height) px. `pts` are the timestamps in ticks of `time_base` (default
    1 / rate, from `start` on). `interlaced` is "tff" or "bff": the two fields then show the moments
    2i and 2i + 1. `sound` adds a tone as long as the film, `cover` a still picture.
    """
    rate = Fraction(rate)
    time_base = time_base or 1 / rate
    draw = picture or texture(size)
    fields = _fields(interlaced, size, pixel_format) if interlaced else None
    if interlaced:
        draw = woven(draw, interlaced)
    with av.open(str(path), "w", format=format, options=dict(container_options or {})) as out:
        film: Any = out.add_stream(
            codec, rate=rate, options=_options(codec, options, open_gop, interlaced)
        )
        film.width, film.height = size
        film.pix_fmt = pixel_format
        film.time_base = film.codec_context.time_base = time_base
        film.codec_context.gop_size = gop
        if b_frames:
            film.codec_context.max_b_frames = b_frames
        elif codec in ("libx264", "mpeg2video", "mpeg4"):
            film.codec_context.max_b_frames = 0
        _describe(film, sar, rotation, color)
        tone: Any = out.add_stream(*_tone_codec(path)) if sound else None
        art = _add_cover(out, path) if cover else None
        out.set_chapters(_chapters(chapters, frames / rate))
        with encoders.ordinary_priority():
            out.start_encoding()
        if art is not None:
            out.mux(art)
        for i in range(frames):
            frame = _frame(draw(i), pixel_format, color)
            if fields is not None:
                fields.push(frame)
                frame = fields.pull()
            frame.pts = start + i if pts is None else pts[i]
            frame.time_base = time_base
            out.mux(film.encode(frame))
        out.mux(film.encode(None))
        if tone is not None:
            _add_tone(out, tone, frames / rate)
    return path


def _describe(film: Any, sar: Fraction | None, rotation: int, color: Color | None) -> None:
    if sar is not None:
        film.codec_context.sample_aspect_ratio = sar
    if rotation:
        film.set_display_rotation(rotation)
    if color is not None:
        _tag(film.codec_context, color)


def folder(path: Path, numbers: Sequence[int], name: str = "{:04d}.png", **how: Any) -> Path:
    """A folder of PNG files, one for each of `numbers`; `how` goes to `png`."""
    path.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        png(path / name.format(number), number, **how)
    return path


def png(
    path: Path,
    number: int = 0,
    *,
    size: tuple[int, int] = (96, 64),
    pixel_format: str = "rgb24",
    picture: Picture | None = None,
    codec: str = "png",
) -> Path:
    """One PNG file, or one of another `codec` of libav's. `pixel_format` is libav's as well:
    rgb24, rgb48be, gray, gray16be, rgba, pal8 ..."""
    encoder: Any = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height = size
    encoder.pix_fmt = pixel_format
    encoder.time_base = Fraction(1, 25)
    frame = _frame((picture or texture(size))(number), pixel_format, None)
    path.write_bytes(b"".join(bytes(p) for p in [*encoder.encode(frame), *encoder.encode(None)]))
    return path


def texture(size: tuple[int, int]) -> Picture:
    """A picture that moves smoothly, with the frame's number along its top."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)

    def draw(number: int) -> RGB:
        waves = [
            np.sin((x * a + y * b) / 17 + number * 0.21 + a) for a, b in ((1, 2), (3, 1), (2, 2))
        ]
        rgb = np.stack([128 + 90 * w for w in waves], axis=-1).astype(np.uint8)
        return counter(rgb, number)

    return draw


def shots(size: tuple[int, int], lengths: Sequence[int], seed: int = 0) -> Picture:
    """Different still textures one after the other: a hard cut after each of `lengths` frames."""
    width, height = size
    ends = np.cumsum(lengths)
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (len(lengths), 5, 7, 3), dtype=np.uint8)

    def draw(number: int) -> RGB:
        shot = int(np.searchsorted(ends, number, side="right"))
        tall, wide = -(-height // 5), -(-width // 7)
        return np.kron(coarse[shot], np.ones((tall, wide, 1), np.uint8))[:height, :width]

    return draw


def woven(draw: Picture, order: str) -> Picture:
    """Two moments in one frame, line by line; the field named by `order` is the earlier one."""

    def weave(number: int) -> RGB:
        early, late = draw(2 * number), draw(2 * number + 1)
        frame = early.copy()
        frame[(1 if order == "tff" else 0) :: 2] = late[(1 if order == "tff" else 0) :: 2]
        return frame

    return weave


def counter(rgb: RGB, number: int) -> RGB:
    """Burn `number` into the top eighth of the picture: white blocks are ones, low bit left."""
    height, width = rgb.shape[:2]
    bits = (number >> np.arange(BITS)) & 1
    columns = bits[np.minimum(np.arange(width) * BITS // width, BITS - 1)]
    rgb[: max(1, height // 8)] = np.where(columns, 235, 20)[None, :, None]
    return rgb


def read_counter(rgb: NDArray[Any]) -> int:
    """The number burnt into a picture [H, W, 3], uint8 or uint16."""
    height, width = rgb.shape[:2]
    peak = 255 if rgb.dtype == np.uint8 else 65535
    strip = rgb[: max(1, height // 8)].mean(axis=(0, 2)) / peak
    centres = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    return int(((strip[centres] > 0.5) << np.arange(BITS)).sum())


def _options(
    codec: str, given: Mapping[str, str] | None, open_gop: bool, interlaced: str | None
) -> dict[str, str]:
    options = dict(QUICK.get(codec, {}))
    own = {"libx264": "x264-params", "libx265": "x265-params"}.get(codec)
    if own and open_gop:
        options[own] += ":open-gop=1"
    if own == "x264-params" and interlaced:
        options[own] += f":{interlaced}=1"
    return options | dict(given or {})


def _frame(rgb: RGB, pixel_format: str, color: Color | None) -> av.VideoFrame:
    name = "rgb24" if rgb.dtype == np.uint8 else "rgb48le"
    given = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), name)
    how: dict[str, Any] = {}
    if color is not None and color.matrix in (1, 5, 6, 9):
        how["dst_colorspace"] = color.matrix
    if color is not None and color.full_range is not None:
        how["dst_color_range"] = 2 if color.full_range else 1
    frame = given.reformat(format=pixel_format, **how)
    if color is not None:
        _tag(frame, color)
    return frame


def _fields(order: str, size: tuple[int, int], pixel_format: str) -> Any:
    """A filter that marks frames as interlaced, which PyAV cannot."""
    graph: Any = av.filter.Graph()
    chain = [
        graph.add_buffer(
            width=size[0], height=size[1], format=av.VideoFormat(pixel_format),
            time_base=Fraction(1, 1000),
        ),
        graph.add("setfield", order),
        graph.add("buffersink"),
    ]  # fmt: skip
    for a, b in pairwise(chain):
        a.link_to(b)
    graph.configure()
    return graph


def _tag(target: Any, color: Color) -> None:
    target.colorspace = color.matrix
    target.color_primaries = color.primaries
    target.color_trc = color.transfer
    target.color_range = {None: 0, False: 1, True: 2}[color.full_range]


def _tone_codec(path: Path) -> tuple[str, int]:
    codecs = {
        ".webm": "libopus",
        ".avi": "pcm_s16le",
        ".ts": "mp2",
        ".mpg": "mp2",
        ".mxf": "pcm_s16le",
    }
    return codecs.get(path.suffix, "aac"), 48000


def _add_tone(out: Any, stream: Any, seconds: Fraction) -> None:
    context = stream.codec_context
    form, layout = context.format.name, context.layout.name
    resampler = av.AudioResampler(form, layout, 48000)
    size, total = 1024, int(seconds * 48000)
    for at in range(0, total, size):
        wave = np.sin(np.arange(at, min(at + size, total)) * 2 * np.pi * 440 / 48000)
        frame = av.AudioFrame.from_ndarray((wave * 8000).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, at, Fraction(1, 48000)
        for ready in resampler.resample(frame):
            out.mux(stream.encode(ready))
    out.mux(stream.encode(None))


def _add_cover(out: Any, path: Path) -> Any:
    """mp4 keeps a cover as a stream of its own, Matroska as an attachment named cover.jpg."""
    if path.suffix != ".mp4":
        picture: Any = av.CodecContext.create("mjpeg", "w")
        picture.width, picture.height, picture.pix_fmt = 320, 320, "yuvj420p"
        picture.time_base = Fraction(1, 25)
        frame = _frame(texture((320, 320))(0), "yuvj420p", None)
        out.add_attachment("cover.jpg", "image/jpeg", bytes(picture.encode(frame)[0]))
        return None
    art = out.add_stream("mjpeg", rate=1)
    art.width, art.height = 320, 320
    art.pix_fmt = "yuvj420p"
    art.disposition = Disposition.attached_pic
    frame = _frame(texture((320, 320))(0), "yuvj420p", None)
    frame.pts = 0
    return art.encode(frame)[0]


def _chapters(count: int, seconds: Fraction) -> list[Any]:
    edges = [int(seconds * 1000 * i / max(1, count)) for i in range(count + 1)]
    return [
        {
            "id": i,
            "start": a,
            "end": b,
            "time_base": Fraction(1, 1000),
            "metadata": {"title": f"chapter {i}"},
        }
        for i, (a, b) in enumerate(pairwise(edges))
    ]
