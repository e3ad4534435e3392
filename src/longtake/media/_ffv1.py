"""The checksums that FFV1 carries and libav ignores."""

from __future__ import annotations

import zlib
from typing import Any

from av.error import InvalidDataError
from av.packet import Packet


class Checksums:
    """Watches the packets of a film: does nothing for other codecs and for files without sums."""

    def __init__(self, codec: str) -> None:
        self._carried: bool | None = None if codec == "ffv1" else False  # None: not known yet

    def check(self, packet: Packet[Any] | None) -> None:
        """Raises InvalidDataError where a slice is damaged. None is the end of the film."""
        if self._carried is False or packet is None:
            return
        intact = slices_intact(bytes(packet))
        if self._carried is None:
            self._carried = intact  # the first frame tells
        if self._carried and not intact:
            raise InvalidDataError(0, "a slice with a wrong checksum")


_MIRRORED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


def slices_intact(data: bytes) -> bool:
    """Whether the checksums of an FFV1 frame (version 3) hold.

    libav's decoder hides a damaged slice behind the frame before, and says nothing. Every slice
    ends in its size (3 bytes), a status (1) and a CRC-32 (4). The CRC over a slice with its own is
    0 (RFC 9043, 4.9.3); its bits run the other way than zlib's, so bytes are mirrored.
    """
    end = len(data)
    while end >= 8:
        start = end - 8 - int.from_bytes(data[end - 8 : end - 5])
        if start < 0 or zlib.crc32(data[start:end].translate(_MIRRORED), 0xFFFFFFFF) != 0xFFFFFFFF:
            return False
        end = start
    return end == 0
