"""Host memory of one process by cause, as arithmetic. Figures: benchmarks/memory."""

from __future__ import annotations

from fractions import Fraction

from longtake.core.media import OutputFormat, VideoInfo
from longtake.core.plan import Encoder, Geometry, HostFootprint, Placement, Recipe, Script

MiB = 1 << 20
GiB = 1 << 30
PROCESS = 64 * MiB  # interpreter, numpy, libav and rich, with their libraries mapped
_MARGIN = 0.98  # of the fit, after the allocator was tamed

# Bytes per luma sample of the picture with x264's borders, at 8 bit; fitted to measured peaks.
# They stand for reconstructed, interpolated and half-size pictures, look-ahead, motion fields.
_X264 = {"ultrafast": 22.5, "superfast": 82, "veryfast": 98, "faster": 130, "fast": 160,
         "medium": 192, "slow": 231}  # fmt: skip
_X264_THREAD = 4.3  # the same, for each thread
_X264_PICTURE = 6.5  # the same, for each picture it can hold; a short segment gives no more
_X264_BORDER = 96  # px, both sides together
# The same for x265 and SVT-AV1, whose pictures have wider borders; of 8 bit 4:2:0.
_X265 = {"ultrafast": 94, "superfast": 114, "veryfast": 172, "faster": 172, "fast": 172,
         "medium": 182, "slow": 194}  # fmt: skip
_X265_THREAD = 15 * MiB
_SVT = {"12": 1.0, "11": 1.0, "10": 1.0, "9": 1.25, "8": 1.85, "6": 2.2, "4": 2.65}
_SVT_SAMPLE, _SVT_LEVEL, _SVT_REST = 48, 53, 24 * MiB  # bytes per sample: once, and for each level
_WIDE_BORDER = 160  # px, both sides together
_DEEP = 1.7  # of 10 bit to 8 bit
_RICH = {"420": 1.0, "422": 1.25, "444": 1.5}
_NVENC = 320 * MiB  # the driver's libraries, estimated: no card with NVENC was at hand
_FFV1 = 45  # bytes per sample: the packet at its largest, contexts of its slices
_WINDOW = 10  # pictures: five source frames, five in and out of the filter
_DECODED = 10  # pictures that a decoder holds: references, reorder, one per thread


def host(
    info: VideoInfo, geometry: Geometry, recipe: Recipe, placement: Placement
) -> HostFootprint:
    """Peak bytes outside the engine while one segment is being made."""
    output, encoder = recipe.output, recipe.encoder
    pictures = min(geometry.frames, recipe.segment_frames)
    given = _rgb(geometry.source, info.bits)
    made = _rgb(geometry.target, output.bits)
    # waiting in the queue, and one in the hands of each of its sides
    clips = placement.queue + 2
    return HostFootprint(
        process=PROCESS,
        decode=0
        if isinstance(recipe.reading, Script)
        else decoder(info) + _reduction(info, recipe) + _woven(info, recipe),
        frames=clips * placement.step * (given + made) + made,
        encode=int(_encode(geometry, output, encoder, pictures) * _MARGIN),
    )


def decoder(info: VideoInfo) -> int:
    """Bytes of the decoder's picture buffers, borders included."""
    return _DECODED * _coded(info.width + 64, info.height + 64, info.chroma, info.bits)


def _woven(info: VideoInfo, recipe: Recipe) -> int:
    """Bytes of the pictures from whose fields others are put together, and of bwdif's own."""
    if recipe.read.deinterlace != "ivtc":
        return 0
    return _WINDOW * _coded(info.width + 64, info.height + 64, info.chroma, info.bits)


def _reduction(info: VideoInfo, recipe: Recipe) -> int:
    """Bytes of one frame at its coded size on its way to a smaller one: as it is read, and as the
    planes that are scaled."""
    return 2 * _rgb((info.width, info.height), info.bits) if recipe.read.size else 0


def _encode(geometry: Geometry, output: OutputFormat, encoder: Encoder, pictures: int) -> float:
    width, height = geometry.target
    deep = 1 if output.bits <= 8 else 2
    if encoder.codec == "x264":
        samples = (width + _X264_BORDER) * (height + _X264_BORDER) * deep
        full = _X264[encoder.preset] + _X264_THREAD * encoder.threads
        return samples * min(full, _X264_PICTURE * (pictures + 1))
    if encoder.codec in ("x265", "av1"):
        bordered = (width + _WIDE_BORDER) * (height + _WIDE_BORDER)
        return _later(
            encoder, bordered * _RICH[output.chroma] * (1 if deep == 1 else _DEEP), pictures
        )
    if encoder.codec.startswith("nvenc"):
        return _NVENC + float(4 * _rgb(geometry.target, output.bits))
    if encoder.codec == "ffv1":
        return float(width * height * deep * _FFV1)
    return float(4 * _rgb(geometry.target, output.bits))


def _later(encoder: Encoder, samples: float, pictures: int) -> float:
    """Bytes of x265 or SVT-AV1 for `samples` that count those of deeper and richer pictures."""
    if encoder.codec == "av1":
        each = _SVT[encoder.preset] * (_SVT_SAMPLE + _SVT_LEVEL * encoder.threads)
        return samples * each + _SVT_REST
    full = min(_X265[encoder.preset], _X264_PICTURE * (pictures + 1))
    return samples * full + _X265_THREAD * encoder.threads


def _rgb(size: tuple[int, int], bits: int) -> int:
    return size[0] * size[1] * 3 * (1 if bits <= 8 else 2)


def _coded(width: int, height: int, chroma: str, bits: int) -> int:
    samples = {"420": Fraction(3, 2), "422": Fraction(2), "gray": Fraction(1)}.get(chroma, 3)
    return int(width * height * samples) * (1 if bits <= 8 else 2)


def output_bytes(geometry: Geometry, output: OutputFormat, encoder: Encoder) -> int:
    """Bytes of the compressed film, for the disk check: the generous side of what is usual."""
    pixels = geometry.target[0] * geometry.target[1] * geometry.frames
    deep = 1 if output.bits <= 8 else 2
    codec, crf = encoder.codec.removeprefix("nvenc-").replace("h26", "x26"), encoder.crf
    bits = {
        "x264": 0.30 * 2 ** ((16 - crf) / 6), "x265": 0.20 * 2 ** ((18 - crf) / 6),
        "av1": 0.20 * 2 ** ((25 - crf) / 12), "ffv1": 7.0 * deep, "png": 14.0 * deep,
        "tiff": 16.0 * deep,
    }  # fmt: skip
    spared = 1.0 if codec == encoder.codec else 1.5  # hardware needs more bits
    return int(pixels * bits[codec] * spared / 8) + MiB
