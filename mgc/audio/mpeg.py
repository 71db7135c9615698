"""MPEG audio frames: their headers, and the seek tables in front of them.

Headers follow ISO/IEC 11172-3 (MPEG-1), 13818-3 (MPEG-2) and the unofficial MPEG-2.5. Encoders write a seek table into
an otherwise silent first frame: Xing or Info (with LAME's extension), or Fraunhofer's VBRI.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_BIT_RATES_KBPS: Final = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates of the header's indices 1 to 14, by version (1 for MPEG-1, 2 for the lower sample rates) and layer."""

_RATES_HZ: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""Sample rates by the header's two version bits: MPEG-1, MPEG-2, MPEG-2.5."""

_MAY_BE_HEADER: Final = re.compile(
    b"\xff[%b][%b][%b]"
    % (
        re.escape(bytes(byte for byte in range(0xE0, 0x100) if byte >> 3 & 3 != 1 and byte >> 1 & 3)),
        re.escape(bytes(byte for byte in range(0x100) if byte >> 2 & 3 != 3 and byte >> 4 not in (0, 15))),
        re.escape(bytes(byte for byte in range(0x100) if byte & 3 != 2)),
    )
)
"""Four bytes in which no byte by itself is refused by `parse_header`. Sound without compression is full of 0xFF."""

LONGEST_FRAME: Final = 2880
"""Upper limit of the length of a frame in bytes (the longest of layer II has 1,728)."""

RESERVOIR: Final = {1: 511, 2: 255}
"""Most bytes of earlier frames that a layer III frame may use: MPEG-1, and the lower sample rates."""


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The header of a frame, its first four bytes.

    Attributes:
        version: 1 for MPEG-1, 2 for MPEG-2 and MPEG-2.5.
        layer: 1, 2 or 3.
        bit_rate_bps: bit rate of this frame.
        sample_rate_hz: samples per second.
        channels: 1 or 2.
        mode: `stereo`, `joint`, `dual` or `mono`.
        size_bytes: length of the frame, with its header.
        samples: samples per channel.
        side_bytes: length of header, checksum and side information; the main data of layer III follows.
    """

    version: int
    layer: int
    bit_rate_bps: int
    sample_rate_hz: int
    channels: int
    mode: str
    size_bytes: int
    samples: int
    side_bytes: int

    @property
    def stream(self) -> tuple[int, int, int, bool]:
        """What all frames of one stream have in common. A frame that differs is of another stream, or not a frame."""
        return self.version, self.layer, self.sample_rate_hz, self.mode == "mono"

    @property
    def mean_size_bytes(self) -> float:
        """Mean length of frames of this bit rate. If it is not a whole number, single frames are padded by a byte."""
        return self.samples * self.bit_rate_bps / (8 * self.sample_rate_hz)


@functools.lru_cache(maxsize=4096)
def parse_header(word: bytes) -> FrameHeader | None:
    """Parse a frame's header; None if the four bytes are none, or of a free bit rate, which does not tell the size."""
    if len(word) != 4 or word[0] != 0xFF or word[1] & 0xE0 != 0xE0:
        return None
    version_bits, layer_bits = word[1] >> 3 & 3, word[1] >> 1 & 3
    rate_index, bit_rate_index = word[2] >> 2 & 3, word[2] >> 4
    # Refuse reserved values. Emphasis 2 does not exist, but is common in noise.
    if version_bits == 1 or layer_bits == 0 or rate_index == 3 or bit_rate_index in (0, 15) or word[3] & 3 == 2:
        return None
    version, layer = (1 if version_bits == 3 else 2), 4 - layer_bits
    bit_rate_bps = 1000 * _BIT_RATES_KBPS[version, layer][bit_rate_index - 1]
    sample_rate_hz = _RATES_HZ[version_bits][rate_index]
    padding, mode = word[2] >> 1 & 1, ("stereo", "joint", "dual", "mono")[word[3] >> 6]
    if layer == 1:
        samples, size_bytes = 384, (12 * bit_rate_bps // sample_rate_hz + padding) * 4
    else:
        samples = 576 if layer == 3 and version == 2 else 1152
        size_bytes = samples // 8 * bit_rate_bps // sample_rate_hz + padding
    mono = mode == "mono"
    side = {(1, False): 32, (1, True): 17, (2, False): 17, (2, True): 9}[version, mono] if layer == 3 else 0
    side_bytes = 4 + (0 if word[1] & 1 else 2) + side
    if size_bytes < side_bytes:
        return None
    return FrameHeader(
        version, layer, bit_rate_bps, sample_rate_hz, 1 if mono else 2, mode, size_bytes, samples, side_bytes
    )


def frames(data: bytes, start: int = 0, like: FrameHeader | None = None) -> Iterator[tuple[int, FrameHeader]]:
    """Yield consecutive frames of one stream with their offsets.

    Args:
        data: bytes of the file.
        start: offset of the first header.
        like: header of the stream; the first one by default.
    """
    while (header := parse_header(data[start : start + 4])) is not None:
        like = like or header
        if header.stream != like.stream:
            return
        yield start, header
        start += header.size_bytes


def synchronize(data: bytes, start: int = 0, like: FrameHeader | None = None, in_a_row: int = 3) -> int | None:
    """Return the first offset from `start` on at which frames follow one another, or None.

    Four random bytes sometimes look like a header, but not several times in a row at the distances that the headers
    state. Near the end of `data` fewer frames are enough, if the last one reaches the end.

    Args:
        data: bytes of the file.
        start: offset at which to begin.
        like: header of the stream to find; any by default.
        in_a_row: number of consecutive headers that must be found.
    """
    found = _MAY_BE_HEADER.search(data, start)
    while found is not None:
        place = found.start()
        count, end = 0, place
        for offset, header in frames(data, place, like):
            count, end = count + 1, offset + header.size_bytes
            if count == in_a_row:
                return place
        if count > 1 and end + 4 > len(data):
            return place
        found = _MAY_BE_HEADER.search(data, place + 1)
    return None


@dataclass(frozen=True)
class SeekTable:
    """What a Xing, Info or VBRI frame states about the frames after it.

    Attributes:
        name: `Xing` (variable rate), `Info` (constant rate) or `VBRI` (variable rate).
        frames: number of frames after this one, or None.
        stream_bytes: length from the start of this frame to the end of the last one, or None.
        points: pairs (share of the time, share of the bytes), both rising from 0 to 1; empty if there is no table.
        delay_samples: silence that the encoder added at the start (LAME's extension), or None.
        padding_samples: silence that it added at the end, or None.
    """

    name: str
    frames: int | None
    stream_bytes: int | None
    points: tuple[tuple[float, float], ...] = ()
    delay_samples: int | None = None
    padding_samples: int | None = None


def parse_seek_table(frame: bytes, header: FrameHeader) -> SeekTable | None:
    """Parse the seek table in the first frame of a stream; None if it is a frame of music.

    Args:
        frame: bytes of the frame, possibly more.
        header: header of the frame.
    """
    if header.layer != 3:
        return None
    if frame[36:40] == b"VBRI":
        return _vbri(frame)
    # Encoders disagree on whether a checksum moves the table.
    for place in (header.side_bytes, header.side_bytes - 2):
        if frame[place : place + 4] in (b"Xing", b"Info"):
            return _xing(frame[place:])
    return None


def _xing(tag: bytes) -> SeekTable:
    name, flags = tag[:4].decode(), int.from_bytes(tag[4:8], "big")
    place = 8
    numbers: list[int | None] = []
    for bit in (1, 2):
        known = flags & bit and len(tag) >= place + 4
        numbers.append(int.from_bytes(tag[place : place + 4], "big") or None if known else None)
        place += 4 if flags & bit else 0
    points: tuple[tuple[float, float], ...] = ()
    if flags & 4 and len(tag) >= place + 100:
        shares = [byte / 256 for byte in tag[place : place + 100]]
        # A table that falls, or does not rise, is useless.
        if shares == sorted(shares) and shares[-1] > shares[0]:
            points = (*((index / 100, share) for index, share in enumerate(shares)), (1.0, 1.0))
        place += 100
    place += 4 if flags & 8 else 0
    delay = padding = None
    # LAME's extension. libavformat writes it too; a tag without it has zeros there.
    if len(tag) >= place + 24:
        bits = int.from_bytes(tag[place + 21 : place + 24], "big")
        delay, padding = bits >> 12, bits & 0xFFF
    return SeekTable(name, numbers[0], numbers[1], points, delay, padding)


def _vbri(frame: bytes) -> SeekTable:
    if len(frame) < 62:
        return SeekTable("VBRI", None, None)
    stream_bytes, count, entries, scale, size, _ = struct.unpack(">IIHHHH", frame[46:62])
    table = frame[62 : 62 + entries * size]
    points: tuple[tuple[float, float], ...] = ()
    if size in (1, 2, 3, 4) and entries and scale and len(table) == entries * size and stream_bytes:
        steps = [scale * int.from_bytes(table[at : at + size], "big") for at in range(0, len(table), size)]
        shares, place = [(0.0, 0.0)], 0
        for index, step in enumerate(steps, 1):
            place += step
            shares.append((index / entries, min(1.0, place / stream_bytes)))
        # The last entry must reach about the end, else the table uses another unit than the standard one.
        if 0.9 < place / stream_bytes < 1.1:
            points = (*shares[:-1], (1.0, 1.0))
    return SeekTable("VBRI", count or None, stream_bytes or None, points)
