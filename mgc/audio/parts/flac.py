"""Find out how many samples the frames of a FLAC stream hold, whatever its header says.

Format: RFC 9639. Every frame has a header with its number, checked by eight bits. The last two frames of a stream tell
its length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mgc.audio.source import ByteRange, Source

STREAMINFO_BYTES: Final = 34
HEAD_BYTES: Final = 4 + 4 + STREAMINFO_BYTES
"""Signature, head of the first metadata block, and the block."""

_TAIL_BYTES: Final = 1 << 18
"""Bytes at the end of a stream in which its last frames are looked for. The longest usual frame has some 100 KiB."""

_RATES_HZ: Final = (0, 88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
_BITS: Final = (0, 8, 12, 0, 16, 20, 24, 32)
_LONGEST_HEADER: Final = 16


@dataclass(frozen=True)
class Frame:
    """The header of a frame.

    Attributes:
        number: number of the frame, or of its first sample if the sizes vary.
        varies: whether the sizes vary.
        samples: samples of each channel.
        sample_rate_hz: rate; 0 if only the stream's header says.
        channels: number of channels.
        bits: bits of a sample; 0 if only the stream's header says.
    """

    number: int
    varies: bool
    samples: int
    sample_rate_hz: int
    channels: int
    bits: int


def parse_frame(data: bytes, at: int) -> Frame | None:
    """Parse the header of a frame; None if there is none (RFC 9639, section 9.1)."""
    head = data[at : at + _LONGEST_HEADER]
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return None
    size_code, rate_code, channel_code, bits_code = head[2] >> 4, head[2] & 15, head[3] >> 4, head[3] >> 1 & 7
    if size_code == 0 or rate_code == 15 or channel_code > 10 or bits_code == 3:
        return None
    number, place = _coded_number(head, 4)
    if number is None:
        return None
    if size_code == 1:
        samples = 192
    elif size_code <= 5:
        samples = 144 << size_code
    elif size_code <= 7:
        extra = size_code - 5
        samples = int.from_bytes(head[place : place + extra], "big") + 1
        place += extra
    else:
        samples = 1 << size_code
    rate_hz = _RATES_HZ[rate_code] if rate_code < 12 else 0
    if rate_code >= 12:
        extra = 1 if rate_code == 12 else 2
        rate_hz = int.from_bytes(head[place : place + extra], "big") * {12: 1000, 13: 1, 14: 10}[rate_code]
        place += extra
    if place >= len(head) or _checksum(head[:place]) != head[place]:
        return None
    channels = channel_code + 1 if channel_code < 8 else 2
    return Frame(number, bool(head[1] & 1), samples, rate_hz, channels, _BITS[bits_code])


def _coded_number(head: bytes, at: int) -> tuple[int | None, int]:
    """Return a number coded like UTF-8, with up to seven bytes, and the place behind it."""
    first = head[at]
    if first < 0x80:
        return first, at + 1
    length = next((count for count in range(2, 8) if first >> (7 - count) & 1 == 0), 8)
    if first & 0xC0 == 0x80 or length > 7 or at + length > len(head):
        return None, at
    number = first & (0x7F >> length)
    for byte in head[at + 1 : at + length]:
        if byte & 0xC0 != 0x80:
            return None, at
        number = number << 6 | byte & 0x3F
    return number, at + length


def _make_table() -> bytes:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value << 1 ^ 0x07) & 0xFF if value & 0x80 else value << 1
        table.append(value)
    return bytes(table)


_TABLE: Final = _make_table()


def _checksum(data: bytes) -> int:
    """Return the CRC of eight bits, polynomial x^8 + x^2 + x + 1."""
    value = 0
    for byte in data:
        value = _TABLE[value ^ byte]
    return value


def first_frames(data: bytes, start: int = 0) -> tuple[int, Frame] | None:
    """Return the place and the header of the first frame that another one follows, or None."""
    before: tuple[int, Frame] | None = None
    at = data.find(b"\xff", start)
    while at >= 0:
        frame = parse_frame(data, at)
        if frame is not None:
            if before is not None and _follows(before[1], frame):
                return before
            before = at, frame
        at = data.find(b"\xff", at + 1)
    return None


def last_sample(source: Source, within: ByteRange) -> int | None:
    """Return the number of samples up to the end of the last frame; None if no two frames are found at the end.

    Args:
        source: file.
        within: byte range of the stream.
    """
    start = max(within.start, within.stop - _TAIL_BYTES)
    (tail,) = source.read([ByteRange(start, within.stop)])
    after: Frame | None = None
    at = tail.rfind(b"\xff")
    while at >= 0:
        frame = parse_frame(tail, at)
        if frame is not None:
            if after is not None and _follows(frame, after):
                # All frames but the last have the same size, unless sizes vary.
                begins = after.number if after.varies else after.number * frame.samples
                return begins + after.samples
            after = frame
        at = tail.rfind(b"\xff", 0, at)
    return None


def _follows(first: Frame, second: Frame) -> bool:
    if first.varies != second.varies or first.sample_rate_hz != second.sample_rate_hz:
        return False
    return second.number == first.number + (first.samples if first.varies else 1)


def stated_samples(head: bytes) -> int:
    """Return the number of samples according to the stream's header; 0 if it does not say."""
    return int.from_bytes(head[8 + 13 : 8 + 18], "big") & (1 << 36) - 1


def state_samples(head: bytes, samples: int) -> bytes:
    """Return a stream's first 42 bytes with another number of samples."""
    packed = int.from_bytes(head[8 + 10 : 8 + 18], "big") >> 36 << 36 | samples
    return head[: 8 + 10] + packed.to_bytes(8, "big") + head[8 + 18 :]


def make_head(frame: Frame) -> bytes:
    """Make a header for a stream that lacks one, from its first frame."""
    smallest, largest = (16, 65535) if frame.varies else (frame.samples, frame.samples)
    sizes = smallest.to_bytes(2, "big") + largest.to_bytes(2, "big")
    packed = frame.sample_rate_hz << 44 | (frame.channels - 1) << 41 | (max(1, frame.bits) - 1) << 36
    return b"fLaC\x80\x00\x00\x22" + sizes + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
