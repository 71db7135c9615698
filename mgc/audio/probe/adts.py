"""AAC in ADTS: bare frames, each with a header of seven bytes."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from mgc.audio.probe.found import Found

SEARCHED_BYTES: Final = 1 << 16
"""Bytes that are searched for a first frame: a block of the search for frames."""

SURE_FRAMES: Final = 3
"""This many similar frames in a row are no accident. Fewer are enough if the file ends after them."""

_RATES_HZ: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_CHANNELS: Final = (None, 1, 2, 3, 4, 5, 6, 8)
_BLOCK_SAMPLES: Final = 1024

_MAY_BE_HEADER: Final = re.compile(
    b"\xff[\xf0\xf1\xf8\xf9][%b]" % re.escape(bytes(byte for byte in range(0x100) if byte >> 2 & 15 < len(_RATES_HZ))),
)
"""The first three bytes of a header, in which no byte by itself is refused by `parse_frame`."""


class AdtsFrame(NamedTuple):
    """Content of one header. All frames of a stream have the same `kind`: version, profile, rate and channels."""

    kind: int
    rate_number: int
    channel_number: int
    frame_bytes: int
    samples: int


def parse_adts(head: bytes, found: Found) -> bool:
    """Collect facts from the frames in the head of a file, and return whether there are any.

    The length is counted if the head is the whole file, else estimated from the mean frame size. Sample rate and
    channels are those of the AAC core; a decoder may double the rate (SBR) and turn mono into stereo (PS).

    Args:
        head: first bytes of `found.audio`.
        found: facts to fill in; unchanged if there is no ADTS.
    """
    whole = len(head) >= found.audio.size_bytes
    at = find_header(head, 0, SEARCHED_BYTES)
    while at is not None:
        first = parse_frame(head, at)
        if first is not None and _is_stream(head, at, first, whole):
            _measure(head, at, first, whole, found)
            return True
        at = find_header(head, at + 1, SEARCHED_BYTES)
    return False


def find_header(data: bytes, at: int, limit: int) -> int | None:
    """Return the first place from an offset on, and before a limit, at which a frame may begin."""
    found = _MAY_BE_HEADER.search(data, at, limit + 2)
    return None if found is None else found.start()


def parse_frame(data: bytes, at: int) -> AdtsFrame | None:
    """Parse the header of the frame at an offset; None if there is none."""
    if len(data) < at + 7 or data[at] != 0xFF or data[at + 1] & 0xF6 != 0xF0:
        return None
    bits = int.from_bytes(data[at + 1 : at + 7], "big")
    rate, channels, size = bits >> 34 & 15, bits >> 30 & 7, bits >> 13 & 0x1FFF
    if rate >= len(_RATES_HZ) or size < 7:
        return None
    # Version, layer, protection; profile, rate, channels.
    return AdtsFrame(bits >> 40 << 10 | bits >> 30 & 0x3F7, rate, channels, size, ((bits & 3) + 1) * _BLOCK_SAMPLES)


def _is_stream(data: bytes, at: int, first: AdtsFrame, whole: bool) -> bool:
    for number in range(SURE_FRAMES):
        if whole and number and at == len(data):
            return True
        frame = parse_frame(data, at)
        if frame is None or frame.kind != first.kind:
            return False
        at += frame.frame_bytes
    return True


def _measure(data: bytes, at: int, first: AdtsFrame, whole: bool, found: Found) -> None:
    start = at
    samples = 0
    frame: AdtsFrame | None = first
    while frame is not None and frame.kind == first.kind and at + frame.frame_bytes <= len(data):
        samples += frame.samples
        at += frame.frame_bytes
        frame = parse_frame(data, at)
    rate_hz = _RATES_HZ[first.rate_number]
    found.codec, found.sample_rate_hz, found.channels = "aac", rate_hz, _CHANNELS[first.channel_number]
    found.audio = found.audio._replace(start=found.audio.start + start)
    if whole and at >= len(data):
        found.samples(samples, "counted")
    else:
        found.samples(samples * found.audio.size_bytes // max(1, at - start), "estimated")
    found.mean_bit_rate()
