"""Search a file for the beginning of audio, whatever stands in front of it."""

from __future__ import annotations

import re
from typing import Final

from mgc.audio.mpeg import LONGEST_FRAME, synchronize
from mgc.audio.parts.adts import find_adts
from mgc.audio.parts.flac import first_frames
from mgc.audio.source import ByteRange, Scanner, Source

_BEGINNINGS: Final = re.compile(
    rb"OggS\0[\x02\x06]|fLaC[\x00\x80]\x00\x00\x22|RIFF....WAVE|RIFX....WAVE|FORM....AIF[FC]|....ftyp|"
    rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11|\x1a\x45\xdf\xa3",
    re.DOTALL,
)
"""First bytes of a container. Each is long enough not to occur by chance."""

_IN_A_ROW: Final = 5
"""Frames of MPEG audio that must follow one another; fewer occur by chance in pictures."""

_OVERLAP_BYTES: Final = (_IN_A_ROW + 1) * 8192
"""Bytes that two searched blocks share, so that frames on their border are found."""


def find_audio(source: Source, start: int = 0) -> int | None:
    """Return the first byte from `start` on at which a container or a row of frames begins; None if there is none."""
    scanner, place = Scanner(source), start
    while place < source.size_bytes:
        data, at = scanner.ahead(place, _OVERLAP_BYTES)
        begin = _find_in(data, at)
        if begin is not None:
            return place + begin - at
        if place - at + len(data) >= source.size_bytes:
            return None
        place += max(1, len(data) - at - _OVERLAP_BYTES)
    return None


def _find_in(data: bytes, at: int) -> int | None:
    container = _BEGINNINGS.search(data, at)
    limit = len(data) if container is None else container.start()
    places = [
        synchronize(data[: limit + _IN_A_ROW * LONGEST_FRAME], at, in_a_row=_IN_A_ROW),
        find_adts(data, at, limit),
        None if container is None else container.start(),
    ]
    return min((place for place in places if place is not None), default=None)


def find_bare_flac(source: Source) -> int | None:
    """Return where the frames of FLAC begin in a file that lacks the stream's header; None if there are none."""
    (head,) = source.read([ByteRange(0, min(source.size_bytes, 1 << 20))])
    found = first_frames(head)
    return None if found is None else found[0]
