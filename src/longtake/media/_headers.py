"""What the first bytes of a picture file say, before a decoder sees it.

Kinds are told by content: a name may lie. Layouts: PNG (W3C, 2003), JPEG (ITU-T T.81, annex B),
TIFF 6.0 (Adobe, 1992), WebP (RFC 9649), BMP (wingdi.h).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import error as ShortOfBytes
from struct import unpack_from

Decided = tuple[int, int, bool | None]


class Refused(Exception):
    """A picture that is not decoded; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    name: str
    codec: str  # libav's decoder
    suffixes: tuple[str, ...]
    signature: Callable[[bytes], bool]
    size: Callable[[bytes], Decided]  # (width, height) px; alpha, None: as the decoder says
    strict: bool  # whether the decoder may take every complaint for an error


def _png(data: bytes) -> Decided:
    if b"IEND" not in data[-64:]:
        raise Refused("the file is incomplete: its end (IEND) is missing")
    return *unpack_from(">II", data, 16), None


def _jpeg(data: bytes) -> Decided:
    """Walks the segments up to the frame header (SOF)."""
    at = 2
    while True:
        marker, length = unpack_from(">HH", data, at)
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            _, height, width, components = unpack_from(">BHHB", data, at + 4)
            break
        if marker < 0xFF01 or length < 2:
            raise Refused("the picture is damaged: its segments do not follow each other")
        at += 2 + length
    if components == 4:
        raise Refused("its colours are CMYK, for print; save it as RGB")
    if b"\xff\xd9" not in data[-4096:]:
        raise Refused("the file is incomplete: its end (EOI) is missing")
    return width, height, None


def _tiff(data: bytes) -> Decided:
    """Reads the one directory (IFD)."""
    order = "<" if data[:2] == b"II" else ">"
    at = unpack_from(order + "I", data, 4)[0]
    count = unpack_from(order + "H", data, at)[0]
    found: dict[int, int] = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = unpack_from(order + "HH", data, entry)
        form = {1: "B", 3: "H", 4: "I"}.get(kind)
        if form:
            found[tag] = unpack_from(order + form, data, entry + 8)[0]
    if unpack_from(order + "I", data, at + 2 + 12 * count)[0]:
        raise Refused("it holds several pictures; save each in a file of its own")
    if found.get(262) == 5:
        raise Refused("its colours are CMYK, for print; save it as RGB")
    return found.get(256, 0), found.get(257, 0), None


def _webp(data: bytes) -> Decided:
    if unpack_from("<I", data, 4)[0] + 8 > len(data):
        raise Refused("the file is incomplete")
    first = data[12:16]
    if first == b"VP8X":
        if data[20] & 2:
            raise Refused("it is animated; save each picture in a file of its own")
        width, height = (1 + int.from_bytes(data[i : i + 3], "little") for i in (24, 27))
        return width, height, bool(data[20] & 16)
    if first == b"VP8L":  # its decoder gives alpha even where there is none
        packed = unpack_from("<I", data, 21)[0]
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF), bool(packed >> 28 & 1)
    width, height = unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF, False


def _bmp(data: bytes) -> Decided:
    if unpack_from("<I", data, 14)[0] == 12:  # OS/2
        return *unpack_from("<HH", data, 18), None
    width, height = unpack_from("<ii", data, 18)
    return width, abs(height), None  # negative: from the top down


KINDS: Mapping[str, Kind] = {
    kind.codec: kind
    for kind in (
        Kind(
            name="PNG", codec="png", suffixes=(".png",), size=_png, strict=False,
            signature=lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"),
        ),
        Kind(
            name="TIFF", codec="tiff", suffixes=(".tiff", ".tif"), size=_tiff, strict=False,
            signature=lambda data: data.startswith((b"II*\0", b"MM\0*")),
        ),
        Kind(
            name="JPEG", codec="mjpeg", suffixes=(".jpg", ".jpeg"), size=_jpeg, strict=True,
            signature=lambda data: data.startswith(b"\xff\xd8\xff"),
        ),
        Kind(
            name="WebP", codec="webp", suffixes=(".webp",), size=_webp, strict=True,
            signature=lambda data: data.startswith(b"RIFF") and data[8:12] == b"WEBP",
        ),
        Kind(
            name="BMP", codec="bmp", suffixes=(".bmp",), size=_bmp, strict=True,
            signature=lambda data: data.startswith(b"BM") and data[6:10] == b"\0\0\0\0",
        ),
    )
}  # fmt: skip
"""By libav's decoder."""

SIGNED = 16  # bytes that tell the kind


def kind_of(data: bytes) -> Kind | None:
    """By the first `SIGNED` bytes."""
    return next((k for k in KINDS.values() if k.signature(data)), None)


def named(suffix: str) -> Kind | None:
    """By the end of a file's name, with its dot."""
    return next((k for k in KINDS.values() if suffix.lower() in k.suffixes), None)


def size(kind: Kind, data: bytes) -> Decided:
    """(width, height) px, and whether it has alpha (None: ask the decoder). Raises Refused."""
    try:
        return kind.size(data)
    except (ShortOfBytes, IndexError):
        raise Refused("the file is incomplete") from None
