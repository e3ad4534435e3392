"""Host memory of one process by cause, as arithmetic. Figures: benchmarks/memory."""

from __future__ import annotations

from fractions import Fraction

from longtake.core.media import VideoInfo
from longtake.core.plan import Encoder, Geometry, HostFootprint, OutputFormat, Placement

MiB = 1 << 20
PROCESS = 66 * MiB  # interpreter, numpy, libav and rich, idle
DECODER_THREADS = 2

# x264 keeps this many frames besides one per thread: lookahead, B-frames, references
_X264_FRAMES = {
    "ultrafast": 4, "superfast": 8, "veryfast": 18, "faster": 28, "fast": 38, "medium": 50,
    "slow": 62,
}  # fmt: skip


def host(
    info: VideoInfo,
    geometry: Geometry,
    output: OutputFormat,
    encoder: Encoder,
    placement: Placement,
) -> HostFootprint:
    """Peak bytes outside the engine while one segment is being made."""
    given = _rgb(geometry.source, info.bits)
    made = _rgb(geometry.target, output.bits)
    # waiting in the queue, one in each neighbour's hands; read frames and written frames alike
    clips = placement.queue + 2
    return HostFootprint(
        process=PROCESS,
        decode=decoder(info),
        frames=clips * placement.step * (given + made),
        encode=_encode(geometry, output, encoder),
    )


def decoder(info: VideoInfo) -> int:
    """Bytes of the decoder's picture buffers: references, reorder, one per thread."""
    picture = _coded(info.width, info.height, info.chroma, info.bits)
    return (16 + DECODER_THREADS) * picture + 4 * MiB


def _encode(geometry: Geometry, output: OutputFormat, encoder: Encoder) -> int:
    width, height = geometry.target
    picture = _coded(width, height, output.chroma, output.bits)
    if encoder.codec != "x264":
        return 4 * picture
    return (_X264_FRAMES[encoder.preset] + 2 * encoder.threads) * picture * 5 // 4 + 8 * MiB


def _rgb(size: tuple[int, int], bits: int) -> int:
    return size[0] * size[1] * 3 * (1 if bits <= 8 else 2)


def _coded(width: int, height: int, chroma: str, bits: int) -> int:
    samples = {"420": Fraction(3, 2), "422": Fraction(2), "gray": Fraction(1)}.get(chroma, 3)
    return int(width * height * samples) * (1 if bits <= 8 else 2)


def output_bytes(geometry: Geometry, output: OutputFormat, encoder: Encoder) -> int:
    """Bytes of the compressed film, for the disk check: the generous side of what is usual."""
    pixels = geometry.target[0] * geometry.target[1] * geometry.frames
    deep = 1 if output.bits <= 8 else 2
    bits = {"x264": 0.30 * 2 ** ((16 - encoder.crf) / 6), "ffv1": 7.0 * deep, "png": 14.0 * deep}
    return int(pixels * bits[encoder.codec] / 8) + MiB
