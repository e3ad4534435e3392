"""Host memory of one process by cause, as arithmetic. Figures: benchmarks/memory."""

from __future__ import annotations

from fractions import Fraction

from longtake.core.media import OutputFormat, VideoInfo
from longtake.core.plan import Encoder, Geometry, HostFootprint, Placement, Recipe

MiB = 1 << 20
PROCESS = 64 * MiB  # interpreter, numpy, libav and rich, with their libraries mapped
_MARGIN = 0.98  # of the fit, after the allocator was tamed

# Bytes per luma sample of the picture with x264's borders, at 8 bit; fitted to measured peaks.
# They stand for reconstructed, interpolated and half-size pictures, look-ahead, motion fields.
_X264 = {"ultrafast": 22.5, "superfast": 82, "veryfast": 98, "faster": 130, "fast": 160,
         "medium": 192, "slow": 231}  # fmt: skip
_X264_THREAD = 4.3  # the same, for each thread
_X264_PICTURE = 6.5  # the same, for each picture it can hold; a short segment gives no more
_X264_BORDER = 96  # px, both sides together
_FFV1 = 45  # bytes per sample: the packet at its largest, contexts of its slices
_DECODED = 10  # pictures that a decoder holds: references, reorder, one per thread


def host(
    info: VideoInfo, geometry: Geometry, recipe: Recipe, placement: Placement
) -> HostFootprint:
    """Peak bytes outside the engine while one segment is being made."""
    output, encoder = recipe.output, recipe.encoder
    pictures = min(geometry.frames, recipe.segment_frames)
    given = _rgb(geometry.source, info.bits)
    made = _rgb(geometry.target, output.bits)
    # waiting in the queue, in the hands of both its sides, and the one that is being filled
    clips = placement.queue + 3
    return HostFootprint(
        process=PROCESS,
        decode=decoder(info),
        frames=clips * placement.step * (given + made) + made,
        encode=int(_encode(geometry, output, encoder, pictures) * _MARGIN),
    )


def decoder(info: VideoInfo) -> int:
    """Bytes of the decoder's picture buffers, borders included."""
    return _DECODED * _coded(info.width + 64, info.height + 64, info.chroma, info.bits)


def _encode(geometry: Geometry, output: OutputFormat, encoder: Encoder, pictures: int) -> float:
    width, height = geometry.target
    deep = 1 if output.bits <= 8 else 2
    if encoder.codec == "x264":
        samples = (width + _X264_BORDER) * (height + _X264_BORDER) * deep
        full = _X264[encoder.preset] + _X264_THREAD * encoder.threads
        return samples * min(full, _X264_PICTURE * (pictures + 1))
    if encoder.codec == "ffv1":
        return float(width * height * deep * _FFV1)
    return float(4 * _rgb(geometry.target, output.bits))


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
