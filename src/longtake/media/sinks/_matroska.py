"""The display size of an mkv's pictures, written into its header after the fact.

Matroska states an aspect ratio as DisplayWidth and DisplayHeight. libav writes them from a field
of its stream that PyAV (18.1) cannot set, so an anamorphic film would come out squeezed. The room
is made beforehand: the track gets a name longer than its own by `ROOM`; here the name is shortened
again and the pictures' header takes the bytes, in the same length. Element numbers: RFC 9559.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from longtake.core.media import OutputFormat

ROOM = "~" * 40
_HEAD = 1 << 16  # bytes read first; doubled until the whole header of tracks is in hand
SEGMENT, TRACKS, TRACK, VIDEO, NAME = 0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0x536E
CRC, VOID = 0xBF, 0xEC
WIDTH, HEIGHT, UNIT = 0x54B0, 0x54BA, 0x54B2
IN_PIXELS, AS_RATIO = 0, 3  # DisplayUnit


@dataclass(frozen=True, slots=True)
class Element:
    """One EBML element inside a buffer: its header begins at `at`, its body is [body, end)."""

    number: int
    at: int
    body: int
    end: int


def set_aspect(path: Path, output: OutputFormat, title: str) -> None:
    """State `output.sar` in the track that was named `title` + ROOM; nothing for square pixels."""
    if output.sar == 1:
        return
    with path.open("r+b") as file:
        size = _HEAD
        while True:
            file.seek(0)
            head = bytearray(file.read(size))
            try:
                _patch(head, output, title)
                break
            except IndexError:  # the header reaches beyond what was read
                if len(head) < size:
                    raise ValueError(f"{path}: no header of tracks") from None
                size *= 2
        file.seek(0)
        file.write(head)


def _patch(head: bytearray, output: OutputFormat, title: str) -> None:
    segment = _find(head, 0, len(head), SEGMENT)
    tracks = _find(head, segment.body, len(head), TRACKS)
    if tracks.end > len(head):
        raise IndexError
    for track in _children(head, tracks.body, tracks.end):
        if track.number == TRACK and _named(head, track, title + ROOM):
            head[track.body : track.end] = _rewritten(head, track, output, title)
            break
    else:
        raise ValueError("no track with room for its aspect ratio")
    first = next(_children(head, tracks.body, tracks.end))
    if first.number == CRC:  # over all that follows it in its parent, little-endian
        sum32 = zlib.crc32(head[first.end : tracks.end])
        head[first.body : first.end] = sum32.to_bytes(4, "little")


def _named(head: bytearray, track: Element, name: str) -> bool:
    found = [e for e in _children(head, track.body, track.end) if e.number == NAME]
    return bool(found) and head[found[0].body : found[0].end] == name.encode()


def _rewritten(head: bytearray, track: Element, output: OutputFormat, title: str) -> bytes:
    """The body of a track, as long as before."""
    body = bytearray()
    for element in _children(head, track.body, track.end):
        given = head[element.body : element.end]
        if element.number == NAME:
            body += _made(NAME, title.encode()) if title else b""
        elif element.number == VIDEO:
            kept = b"".join(
                head[e.at : e.end]
                for e in _children(head, element.body, element.end)
                if e.number not in (WIDTH, HEIGHT, UNIT)
            )
            body += _made(VIDEO, kept + _display(output))
        else:
            body += _made(element.number, bytes(given)) if element.number != VOID else b""
    spare = track.end - track.body - len(body)
    return bytes(body) + _void(spare)


def _display(output: OutputFormat) -> bytes:
    width = output.width * output.sar
    if width.denominator == 1:
        return _made(WIDTH, _uint(int(width))) + _made(HEIGHT, _uint(output.height))
    ratio = Fraction(width, output.height)
    sizes = _made(WIDTH, _uint(ratio.numerator)) + _made(HEIGHT, _uint(ratio.denominator))
    return sizes + _made(UNIT, _uint(AS_RATIO))


def _find(head: bytearray, start: int, stop: int, number: int) -> Element:
    for element in _children(head, start, stop):
        if element.number == number:
            return element
    raise IndexError(number)


def _children(head: bytearray, start: int, stop: int) -> Iterator[Element]:
    at = start
    while at < stop:
        number, size_at = _vint(head, at, keep_marker=True)
        size, body = _vint(head, size_at, keep_marker=False)
        yield Element(number, at, body, body + size)
        at = body + size


def _vint(head: bytearray, at: int, *, keep_marker: bool) -> tuple[int, int]:
    """A variable-length integer (RFC 8794, 4) and where it ends."""
    length = 9 - head[at].bit_length()
    raw = int.from_bytes(head[at : at + length])
    if at + length > len(head):
        raise IndexError(at)
    return raw if keep_marker else raw & ~(1 << 7 * length), at + length


def _made(number: int, body: bytes) -> bytes:
    head = number.to_bytes((number.bit_length() + 7) // 8)
    return head + _size(len(body), 1 if len(body) < 127 else 2) + body


def _size(value: int, length: int) -> bytes:
    """A variable-length integer of `length` bytes, or of more where they do not do."""
    while value >= (1 << 7 * length) - 1:
        length += 1
    return (value | 1 << 7 * length).to_bytes(length)


def _void(length: int) -> bytes:
    """Padding of exactly `length` bytes, which is 0 or at least 2."""
    if length == 0:
        return b""
    if not 2 <= length <= 128:
        raise ValueError(f"{length} bytes cannot be padded")
    return bytes([VOID]) + _size(length - 2, 1) + bytes(length - 2)


def _uint(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8))
