"""FLAC: facts from its STREAMINFO."""

from __future__ import annotations

from typing import Final

from mgc.audio.probe.found import Found
from mgc.audio.probe.reader import BoundedReader

STREAMINFO_BYTES: Final = 34


def parse_flac(reader: BoundedReader, found: Found) -> None:
    """Collect facts of a bare FLAC file.

    Raises:
        OutOfBytesError: the file ends within its headers.
    """
    found.codec = "flac"
    block = reader.need(found.audio.start + 4, 4)
    if block[0] & 0x7F == 0:
        stream_info(reader.need(found.audio.start + 8, STREAMINFO_BYTES), found)
        found.mean_bit_rate()


def stream_info(block: bytes, found: Found) -> None:
    """Collect facts of a complete STREAMINFO block. A total of 0 samples means that it is unknown."""
    packed = int.from_bytes(block[10:18], "big")
    found.sample_rate_hz, found.channels = packed >> 44, (packed >> 41 & 7) + 1
    found.bit_rate_mode = "variable"
    if samples := packed & (1 << 36) - 1:
        found.samples(samples, "announced")
