"""Opening files that nobody vouches for.

A film is opened by path, never by file object (libav lets a file object reach the network), with
allow-lists of demuxers, protocols and decoders. libav's own `codec_whitelist` guards only what it
decodes while it looks at the header, so the decoder's name is checked here once more before the
first packet is decoded. What is refused ends as BadInput: what file, what is wrong, what to do.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from longtake.core.errors import BadInput
from longtake.media import _structure

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mxf,"  # what cameras and people use
    "flv,ivf,ogg,yuv4mpegpipe"
)
"""Demuxers that read nothing but the file they are given (mov: as long as enable_drefs is 0)."""

_NAMES = (
    "h264 hevc vvc libdav1d av1 libvpx libvpx-vp9 vp8 vp9 vp3 vp6 vp6a vp6f theora "
    "mpeg1video mpeg2video mpegvideo mpeg4 msmpeg4 msmpeg4v1 msmpeg4v2 "
    "h261 h263 h263i h263p flv wmv1 wmv2 wmv3 vc1 svq1 svq3 rpza cinepak "
    "mjpeg mjpegb jpeg2000 png bmp tiff rawvideo v210 v308 v408 v410 r210 r10k "
    "prores dnxhd cfhd dvvideo ffv1 huffyuv ffvhuff utvideo qtrle dirac "
)
CODECS = frozenset(_NAMES.split())
"""Decoders that may run. Left out on purpose: formats of games and screens that nobody fuzzes."""

MAX_SIDE = 16384  # px
MAX_PIXELS = 1 << 28  # px of one frame
MAX_STREAMS = 64
MAX_RATE = 1000  # frames / s
MAX_FRAMES = 24 * 3600 * 240
OPEN_SECONDS = 30.0  # for the header, and for every single read
THREADS = 2  # of one decoder

_OTHERS = (
    "aac aac_latm ac3 eac3 alac amrnb amrwb dca flac mlp truehd mp1 mp1float mp2 mp2float mp3 "
    "mp3float opus libopus vorbis speex wavpack tta s302m wmav1 wmav2 wmapro adpcm_ms "
    "adpcm_ima_wav adpcm_ima_qt pcm_alaw pcm_mulaw pcm_u8 pcm_s8 pcm_s16le pcm_s16be pcm_s24le "
    "pcm_s24be pcm_s32le pcm_s32be pcm_f32le pcm_f32be pcm_f64le pcm_bluray pcm_dvd dvaudio "
    "ass ssa srt subrip mov_text webvtt text dvdsub dvbsub pgssub xsub"
)
"""Decoders that libav may run while it looks at the header: without them it gets the sample rate of
some tracks wrong. No packet of those tracks is decoded later."""
_LIMITS = {"max_pixels": str(MAX_PIXELS)}
_FILM_OPTIONS = {"codec_whitelist": ",".join(sorted(CODECS)), **_LIMITS}
_STRICT = {"err_detect": "+explode"}
_HEADER_OPTIONS = {"codec_whitelist": ",".join(sorted({*CODECS, *_OTHERS.split()})), **_LIMITS}


def open_film(path: Path, *, timeout: float = OPEN_SECONDS) -> InputContainer:
    """An open container. Raises BadInput for whatever is not a film that may be read."""
    regular(path)
    _structure.refuse(path)
    options = {
        "format_whitelist": FORMATS,
        "protocol_whitelist": "file",
        **_HEADER_OPTIONS,
    }
    try:
        # An absolute path cannot be taken for a protocol ("concat:a.mp4" is a legal file name).
        container = av.open(
            os.path.abspath(path), "r", options=options, timeout=timeout, metadata_errors="replace"
        )
    except (FFmpegError, OSError, ValueError, MemoryError) as error:
        raise BadInput(f"{path}: {_structure.reason(path, error)}") from None
    if len(container.streams) > MAX_STREAMS:
        count = len(container.streams)
        container.close()
        raise BadInput(f"{path}: {count} streams; at most {MAX_STREAMS} are accepted.")
    return container


def regular(path: Path) -> os.stat_result:
    """The stat of a readable, regular file that is not empty. Raises BadInput."""
    try:
        about = path.stat()
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"{path}: {what}.") from None
    if not stat.S_ISREG(about.st_mode):
        raise BadInput(f"{path}: not a regular file.")
    if about.st_size == 0:
        raise BadInput(f"{path}: the file is empty (0 bytes).")
    if not os.access(path, os.R_OK):
        raise BadInput(f"{path}: no permission to read it.")
    return about


def film_stream(container: InputContainer, path: Path) -> VideoStream:
    """The stream that a player would show: the default one, else the largest; never cover art.

    The rule is that of ffmpeg's command line (fftools/ffmpeg_mux_init.c, map_auto_video).
    """
    films = [s for s in container.streams.video if not is_cover(s)]
    if not films:
        held = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        cover = " (the picture in it is cover art)" if container.streams.video else ""
        raise BadInput(f"{path}: there is no film in it; it holds {held}{cover}.")

    def score(stream: VideoStream) -> tuple[int, int]:
        context = stream.codec_context
        area = context.width * context.height if context else 0
        return area + 5_000_000 * bool(stream.disposition & Disposition.default), -stream.index

    return check(max(films, key=score), path)


def is_cover(stream: VideoStream) -> bool:
    """True for a still picture that decorates a file."""
    still = Disposition.attached_pic | Disposition.timed_thumbnails
    return bool(stream.disposition & still)


def check(stream: VideoStream, path: Path) -> VideoStream:
    """The stream, if it may be decoded here. Raises BadInput."""
    context = stream.codec_context
    if context is None:
        raise BadInput(f"{path}: its video codec is not known here.")
    if context.name not in CODECS:
        raise BadInput(f"{path}: video codec {context.name} is not accepted.")
    if "enc_key_id" in stream.metadata:
        raise BadInput(f"{path}: the film is encrypted.")
    bound(context.width, context.height, path)
    if not stream.time_base or stream.time_base <= 0:
        raise BadInput(f"{path}: its header states no unit of time.")
    rate = stream.average_rate
    if rate is not None and rate > MAX_RATE:
        raise BadInput(f"{path}: {float(rate):g} frames/s; at most {MAX_RATE} are accepted.")
    if stream.frames > MAX_FRAMES:
        raise BadInput(f"{path}: {stream.frames} frames; at most {MAX_FRAMES} are accepted.")
    return stream


def bound(width: int, height: int, path: Path) -> None:
    """Raises BadInput for frames too large, or of no size at all."""
    if width < 1 or height < 1:
        raise BadInput(f"{path}: its header states no frame size ({width}x{height}).")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise BadInput(
            f"{path}: frames of {width}x{height} px; at most {MAX_SIDE} px a side and "
            f"{MAX_PIXELS} px in all are accepted."
        )


def prepare(
    stream: VideoStream, threads: int = THREADS, *, strict: bool = False
) -> VideoCodecContext:
    """The decoder of a checked stream, set up but not yet open.

    `strict`: what it would conceal becomes an error.
    """
    context = stream.codec_context
    context.options = _FILM_OPTIONS | (_STRICT if strict else {})
    context.thread_count = threads
    context.thread_type = ThreadType.AUTO
    return context


def picture_decoder(codec: str, threads: int = 1, *, strict: bool = False) -> VideoCodecContext:
    """A decoder of single pictures, under the same bounds; `strict` as for `prepare`."""
    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, VideoCodecContext)
    allowed = ",".join(sorted({*CODECS, codec}))
    context.options = _LIMITS | {"codec_whitelist": allowed} | (_STRICT if strict else {})
    context.thread_count = threads
    return context
