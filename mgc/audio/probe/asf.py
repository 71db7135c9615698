"""ASF, the container of WMA: properties of the file and of its first audio stream."""

from __future__ import annotations

import uuid
from typing import Final

from mgc.audio.probe.codec_names import wave_format
from mgc.audio.probe.found import Found
from mgc.audio.probe.reader import BoundedReader


def _identifier(text: str) -> bytes:
    return uuid.UUID(text).bytes_le


HEADER: Final = _identifier("75B22630-668E-11CF-A6D9-00AA0062CE6C")
"""The first 16 bytes of every ASF file."""

_FILE_PROPERTIES: Final = _identifier("8CABDCA1-A947-11CF-8EE4-00C00C205365")
_STREAM_PROPERTIES: Final = _identifier("B7DC0791-A9B7-11CF-8EE6-00C00C205365")
_AUDIO: Final = _identifier("F8699E40-5B4D-11CF-A8FD-00805F5C442B")

MAX_OBJECTS: Final = 256
"""Most objects of the header that are read."""

_BROADCAST: Final = 0x01
_TICKS_A_SECOND: Final = 10_000_000
_TICKS_A_MILLISECOND: Final = 10_000


def parse_asf(reader: BoundedReader, found: Found) -> None:
    """Collect facts of an ASF file. A file that was written to a pipe ("broadcast") does not state its length.

    Raises:
        OutOfBytesError: the file ends within its header.
    """
    start, stop = found.audio
    [header_bytes] = reader.unpack("<Q", start + 16)
    stop = min(stop, start + header_bytes)
    at = start + 30
    for _ in range(MAX_OBJECTS):
        if at + 24 > stop:
            return
        name, size = reader.unpack("<16sQ", at)
        if name == _FILE_PROPERTIES:
            play, _, preroll, flags = reader.unpack("<QQQI", at + 64)
            if not flags & _BROADCAST:
                found.length(max(0, play - preroll * _TICKS_A_MILLISECOND), _TICKS_A_SECOND, "announced")
        elif name == _STREAM_PROPERTIES and found.codec is None and reader.need(at + 24, 16) == _AUDIO:
            [specific_bytes] = reader.unpack("<I", at + 64)
            wave = wave_format(reader.upto(at + 78, min(specific_bytes, 40)))
            if wave is not None:
                found.codec, found.channels, found.sample_rate_hz = wave.codec, wave.channels, wave.sample_rate_hz
                found.bit_rate_bps = 8 * wave.bytes_a_second
        if size < 24:
            return
        at += size
