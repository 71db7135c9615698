"""MPEG audio frames: their headers, and the tables in front of them that say where in the file a time lies.

Headers: ISO/IEC 11172-3 (MPEG-1), 13818-3 (MPEG-2) and the unofficial MPEG-2.5. The tables are what encoders put into a
first frame that is otherwise silent: Xing or Info (with LAME's extension), and Fraunhofer's VBRI.
"""

from __future__ import annotations

import functools
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
"""By (1 for MPEG-1, 2 for the lower rates; layer), for the header's indices 1 to 14."""

_RATES_HZ: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""By the header's two version bits: MPEG-1, MPEG-2, MPEG-2.5."""

LONGEST_FRAME: Final = 2880
"""Bytes that no frame exceeds (layer II's longest has 1,728)."""

RESERVOIR: Final = {1: 511, 2: 255}
"""Most bytes by which a layer III frame may reach back into the frames before it, by MPEG-1 and the lower rates."""


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The four bytes in front of each frame.

    Attributes:
        version: 1 for MPEG-1, 2 for MPEG-2 and MPEG-2.5.
        layer: 1, 2 or 3.
        bit_rate_bps: of this frame.
        sample_rate_hz: samples a second.
        channels: 1 or 2.
        mode: `stereo`, `joint`, `dual` or `mono`.
        size_bytes: of the frame, header included.
        samples: per channel.
        side_bytes: header, checksum and side information; what follows is layer III's main data.
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
        """What the frames of one stream have in common; one that differs is of another stream, or no frame."""
        return self.version, self.layer, self.sample_rate_hz, self.mode == "mono"

    @property
    def mean_size_bytes(self) -> float:
        """Mean size of frames of this bit rate: they are a byte longer or shorter where it is no whole number."""
        return self.samples * self.bit_rate_bps / (8 * self.sample_rate_hz)


@functools.lru_cache(maxsize=4096)
def parse_header(word: bytes) -> FrameHeader | None:
    """A frame's header, or None where the four bytes are none (or of a free bit rate, whose size they do not tell)."""
    if len(word) != 4 or word[0] != 0xFF or word[1] & 0xE0 != 0xE0:
        return None
    version_bits, layer_bits = word[1] >> 3 & 3, word[1] >> 1 & 3
    rate_index, bit_rate_index = word[2] >> 2 & 3, word[2] >> 4
    # Reserved values, and emphasis 2, which does not exist and is common in noise.
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
    """Frames one behind the other from `start` on, each with its offset, as long as they are of one stream.

    Args:
        data: bytes of the file.
        start: where the first header is expected.
        like: a header of the stream; by default the first found is.
    """
    while (header := parse_header(data[start : start + 4])) is not None:
        like = like or header
        if header.stream != like.stream:
            return
        yield start, header
        start += header.size_bytes


def synchronize(data: bytes, start: int = 0, like: FrameHeader | None = None, in_a_row: int = 3) -> int | None:
    """The first offset from `start` on where frames follow one another.

    Four bytes of random data look like a header by chance now and then; three that fit, at the distances that they
    themselves state, do not. At the end of `data` fewer are enough, if the last reaches it.

    Args:
        data: bytes of the file.
        start: where to begin.
        like: a header of the stream that is looked for; by default any will do.
        in_a_row: how many headers must follow one another.
    """
    place = data.find(b"\xff", start)
    while place >= 0:
        count, end = 0, place
        for offset, header in frames(data, place, like):
            count, end = count + 1, offset + header.size_bytes
            if count == in_a_row:
                return place
        if count > 1 and end + 4 > len(data):
            return place
        place = data.find(b"\xff", place + 1)
    return None


@dataclass(frozen=True)
class SeekTable:
    """What a Xing, Info or VBRI frame tells of the frames behind it.

    Attributes:
        name: `Xing` (variable rate), `Info` (constant rate) or `VBRI` (variable).
        frames: how many follow, this one not counted, or None.
        stream_bytes: from the beginning of this frame to the end of the last, or None.
        points: (share of the time, share of the bytes) at which the table knows both, both rising from 0 to 1; empty
            where there is no table.
        delay_samples: silence that the encoder put in front (LAME's extension), or None.
        padding_samples: and behind, or None.
    """

    name: str
    frames: int | None
    stream_bytes: int | None
    points: tuple[tuple[float, float], ...] = ()
    delay_samples: int | None = None
    padding_samples: int | None = None


def seek_table(frame: bytes, header: FrameHeader) -> SeekTable | None:
    """The table in a stream's first frame, or None if it is a frame of music.

    Args:
        frame: the frame's bytes, possibly more.
        header: its header.
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
        # A table that runs backwards, or stands still, is none.
        if shares == sorted(shares) and shares[-1] > shares[0]:
            points = (*((index / 100, share) for index, share in enumerate(shares)), (1.0, 1.0))
        place += 100
    place += 4 if flags & 8 else 0
    delay = padding = None
    # LAME's extension: libavformat writes it too, and a tag without it has zeros there.
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
        # The last entry must reach about the end, or its unit is another than the standard one.
        if 0.9 < place / stream_bytes < 1.1:
            points = (*shares[:-1], (1.0, 1.0))
    return SeekTable("VBRI", count or None, stream_bytes or None, points)
