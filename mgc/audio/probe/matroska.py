"""Matroska and WebM: facts from Info and the first audio track."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from mgc.audio.probe.codec_names import wave_format
from mgc.audio.probe.found import Found
from mgc.audio.probe.reader import BoundedReader

MAX_ELEMENTS: Final = 256
"""Most elements that are read on one level."""

_SEGMENT, _SEEK_HEAD, _SEEK, _SEEK_ID, _SEEK_POSITION = 0x18538067, 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC
_INFO, _TICK, _DURATION = 0x1549A966, 0x2AD7B1, 0x4489
_TRACKS, _ENTRY, _TYPE, _CODEC, _PRIVATE, _AUDIO = 0x1654AE6B, 0xAE, 0x83, 0x86, 0x63A2, 0xE1
_RATE, _OUTPUT_RATE, _CHANNELS = 0xB5, 0x78B5, 0x9F
_CLUSTER = 0x1F43B675
_AUDIO_TYPE: Final = 2

_CODECS: Final = {
    "A_MPEG/L1": "mp1",
    "A_MPEG/L2": "mp2",
    "A_MPEG/L3": "mp3",
    "A_WAVPACK4": "wavpack",
    "A_TTA1": "tta",
}


class _Element(NamedTuple):
    """Content of an element: its start and end. An element of unknown size ends with its parent."""

    name: int
    start: int
    stop: int


def parse_matroska(reader: BoundedReader, found: Found) -> None:
    """Collect facts of the first audio track. The length is that of the whole segment, if it is stated.

    Raises:
        OutOfBytesError: the file ends within its headers.
    """
    start, stop = found.audio
    segment = next((part for part in _elements(reader, start, stop) if part.name == _SEGMENT), None)
    if segment is None:
        return
    parsers = {_INFO: _info, _TRACKS: _tracks}
    places: dict[int, int] = {}
    for part in _elements(reader, segment.start, segment.stop):
        if part.name == _SEEK_HEAD:
            places |= _places(reader, part, segment.start)
        elif part.name in parsers:
            parsers.pop(part.name)(reader, part, found)
        if part.name == _CLUSTER or not parsers:
            break
    # Elements that do not come before the first cluster are where the seek head says, if anywhere.
    for name in [name for name in parsers if name in places]:
        there = next(_elements(reader, places[name], segment.stop), None)
        if there is not None and there.name == name:
            parsers[name](reader, there, found)


def _elements(reader: BoundedReader, start: int, stop: int) -> Iterator[_Element]:
    for _ in range(MAX_ELEMENTS):
        head = reader.upto(start, min(12, stop - start))
        name_bytes = 9 - head[0].bit_length() if head else 5
        if name_bytes > 4 or len(head) <= name_bytes:
            return
        size_bytes = 9 - head[name_bytes].bit_length()
        body = start + name_bytes + size_bytes
        number = head[name_bytes : name_bytes + size_bytes]
        if size_bytes > 8 or len(number) < size_bytes:
            return
        size = int.from_bytes(number, "big") & (1 << 7 * size_bytes) - 1
        unknown = size == (1 << 7 * size_bytes) - 1
        yield _Element(int.from_bytes(head[:name_bytes], "big"), body, stop if unknown else min(stop, body + size))
        start = stop if unknown else body + size


def _number(reader: BoundedReader, part: _Element) -> int:
    return int.from_bytes(reader.need(part.start, min(8, part.stop - part.start)), "big")


def _real(reader: BoundedReader, part: _Element) -> float | None:
    data = reader.need(part.start, min(9, part.stop - part.start))
    form = {4: ">f", 8: ">d"}.get(len(data))
    return float(struct.unpack(form, data)[0]) if form else None


def _places(reader: BoundedReader, seek_head: _Element, origin: int) -> dict[int, int]:
    """Return the offsets of elements, by name, as the seek head states them."""
    places = {}
    for seek in _elements(reader, seek_head.start, seek_head.stop):
        if seek.name == _SEEK:
            fields = {part.name: _number(reader, part) for part in _elements(reader, seek.start, seek.stop)}
            if _SEEK_ID in fields and _SEEK_POSITION in fields:
                places[fields[_SEEK_ID]] = origin + fields[_SEEK_POSITION]
    return places


def _info(reader: BoundedReader, info: _Element, found: Found) -> None:
    tick_nanoseconds, duration = 1_000_000, None
    for part in _elements(reader, info.start, info.stop):
        if part.name == _TICK:
            tick_nanoseconds = _number(reader, part)
        elif part.name == _DURATION:
            duration = _real(reader, part)
    if duration is not None:
        found.length(duration * tick_nanoseconds, 1e9, "announced")


def _tracks(reader: BoundedReader, tracks: _Element, found: Found) -> None:
    for entry in _elements(reader, tracks.start, tracks.stop):
        if entry.name != _ENTRY:
            continue
        fields = {part.name: part for part in _elements(reader, entry.start, entry.stop)}
        if _TYPE in fields and _number(reader, fields[_TYPE]) == _AUDIO_TYPE:
            _audio_track(reader, fields, found)
            return


def _audio_track(reader: BoundedReader, fields: dict[int, _Element], found: Found) -> None:
    found.sample_rate_hz, found.channels = 8000, 1  # Defaults of the specification.
    if _AUDIO in fields:
        for part in _elements(reader, fields[_AUDIO].start, fields[_AUDIO].stop):
            if part.name in (_RATE, _OUTPUT_RATE):
                found.sample_rate_hz = _real(reader, part)
            elif part.name == _CHANNELS:
                found.channels = _number(reader, part)
    if _CODEC in fields:
        part = fields[_CODEC]
        text = reader.need(part.start, min(64, part.stop - part.start)).rstrip(b"\0").decode("ascii", "replace")
        private = fields.get(_PRIVATE)
        wave = wave_format(reader.upto(private.start, min(40, private.stop - private.start))) if private else None
        found.codec = wave.codec if wave and text == "A_MS/ACM" else _codec(text)


def _codec(text: str) -> str | None:
    """Return the name of a codec by its Matroska codec id: `A_AAC/MPEG4/LC` is `aac`."""
    if text in _CODECS:
        return _CODECS[text]
    name = text.removeprefix("A_").split("/")[0].lower()
    return name if name.isascii() and name.isprintable() else None
