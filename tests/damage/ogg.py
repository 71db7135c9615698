"""Pages of Ogg (RFC 3533)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
"""Each byte with its bits in reverse."""


def checksum(page: bytes) -> int:
    """Return the CRC-32 of polynomial 0x04c11db7 without reflection, start 0."""
    # zlib's has the same polynomial, reflected, and inverts its start and its end.
    reflected = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)


def pages(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each page of a good file."""
    place = 0
    while data[place : place + 4] == b"OggS":
        segments = data[place + 26]
        end = place + 27 + segments + sum(data[place + 27 : place + 27 + segments])
        yield place, end
        place = end


def last_page(data: bytes) -> tuple[int, int]:
    """Return the place and the granule position of the last page."""
    *_, (place, _) = pages(data)
    return place, int.from_bytes(data[place + 6 : place + 14], "little")


def with_granule(data: bytes, place: int, granule: int) -> bytes:
    """Return a file whose page at a place has another granule position, and a checksum that fits."""
    end = next(stop for start, stop in pages(data) if start == place)
    page = bytearray(data[place:end])
    page[6:14] = granule.to_bytes(8, "little")
    page[22:26] = bytes(4)
    page[22:26] = checksum(bytes(page)).to_bytes(4, "little")
    return data[:place] + page + data[end:]


def with_serial(data: bytes, serial: int) -> bytes:
    """Return a file whose stream has another serial number. The links of a chain have different ones."""
    parts = []
    for start, stop in pages(data):
        page = bytearray(data[start:stop])
        page[14:18] = serial.to_bytes(4, "little")
        page[22:26] = bytes(4)
        page[22:26] = checksum(bytes(page)).to_bytes(4, "little")
        parts.append(bytes(page))
    return b"".join(parts)
