"""Apple's AIFF, AIFC and CAF."""

from __future__ import annotations

import math
from typing import Final

from mgc.audio.probe.chunks import Chunk, Layout, chunks
from mgc.audio.probe.codec_names import four_characters
from mgc.audio.probe.found import Found
from mgc.audio.probe.reader import BoundedReader

_BITS: Final = {
    **dict.fromkeys((b"fl64", b"FL64"), 64),
    **dict.fromkeys((b"fl32", b"FL32", b"in32", b"23ni"), 32),
    **dict.fromkeys((b"in24", b"42ni"), 24),
    **dict.fromkeys((b"alaw", b"ALAW", b"ulaw", b"ULAW"), 8),
}
"""Bits per sample, for codes that imply it. For others a field of the header states it."""

_IMA4_SAMPLES, _IMA4_BYTES = 64, 34
"""Samples and bytes in one packet of one channel."""

_UNKNOWN: Final = 0xFFFFFFFF


def parse_aiff(reader: BoundedReader, found: Found) -> None:
    """Collect facts of an AIFF or AIFC file from its chunks COMM and SSND, in either order.

    Raises:
        OutOfBytesError: the file ends within its headers.
    """
    start, stop = found.audio
    compressed = reader.need(start + 8, 4) == b"AIFC"
    common: tuple[int, int, int] | None = None
    code, sound = b"NONE", None
    for chunk in chunks(reader, start + 12, stop, Layout(">4sI", 2)):
        if chunk.name == b"COMM":
            common = reader.unpack(">HIH", chunk.start)
            found.channels, found.sample_rate_hz = common[0], _extended(reader.need(chunk.start + 8, 10))
            if compressed:
                code = reader.need(chunk.start + 18, 4)
            found.codec = four_characters(code)
        elif chunk.name == b"SSND":
            sound = chunk
        if common is not None and sound is not None:
            break
    if common is None:
        return
    channels, frames, bits = common
    frame_bytes = channels * ((_BITS.get(code, bits) + 7) // 8)
    if code == b"ima4":
        # Some programs count frames in the header, others packets.
        packet_bytes = channels * _IMA4_BYTES
        if sound is not None and packet_bytes:
            found.samples(_sound_bytes(sound, stop) // packet_bytes * _IMA4_SAMPLES, "counted")
    elif found.codec not in ("pcm", "alaw", "mulaw"):
        found.samples(frames, "announced")
    elif frame_bytes:
        if found.sample_rate_hz:
            found.bit_rate_mode, found.bit_rate_bps = "constant", 8 * frame_bytes * found.sample_rate_hz
        if sound is not None:
            there = _sound_bytes(sound, stop) // frame_bytes
            found.samples(min(there, frames or there), "counted")


def _sound_bytes(sound: Chunk, stop: int) -> int:
    """Return the bytes of sound that are there: the chunk without its eight bytes of offset and block size."""
    end = stop if sound.announced_bytes in (0, _UNKNOWN) else sound.stop
    return max(0, end - sound.start - 8)


def _extended(data: bytes) -> float | None:
    """Return an IEEE 754 extended number of 80 bits; None if it cannot be a sample rate."""
    exponent = int.from_bytes(data[:2], "big") - 16383
    if not 0 <= exponent <= 32:
        return None
    return math.ldexp(int.from_bytes(data[2:], "big"), exponent - 63)


def parse_caf(reader: BoundedReader, found: Found) -> None:
    """Collect facts of a Core Audio file from its chunks `desc`, `data` and, for compressed sound, `pakt`.

    Raises:
        OutOfBytesError: the file ends within its headers.
    """
    start, stop = found.audio
    packet_bytes = packet_frames = 0
    for chunk in chunks(reader, start + 8, stop, Layout(">4sq", 1)):
        if chunk.name == b"desc":
            rate, code, _, packet_bytes, packet_frames, found.channels = reader.unpack(">d4sIIII", chunk.start)
            found.sample_rate_hz, found.codec = rate, four_characters(code)
            if packet_bytes and packet_frames and math.isfinite(rate):
                found.bit_rate_mode, found.bit_rate_bps = "constant", 8 * rate * packet_bytes / packet_frames
        elif chunk.name == b"data" and packet_bytes and packet_frames:
            # The chunk begins with a count of edits, of four bytes.
            there = max(0, chunk.stop - chunk.start - 4) // packet_bytes
            found.samples(there * packet_frames, "counted")
            return
        elif chunk.name == b"pakt":
            _, frames = reader.unpack(">qq", chunk.start)
            found.samples(frames, "announced")
            return
