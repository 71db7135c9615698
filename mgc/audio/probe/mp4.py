"""MP4, M4A and QuickTime: facts of the first audio track in the box `moov`, wherever it is."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from mgc.audio.probe.codec_names import four_characters
from mgc.audio.probe.found import Found
from mgc.audio.probe.reader import BoundedReader, OutOfBytesError

MAX_BOXES: Final = 256
"""Most boxes that are read on one level."""

_ENTRY_BYTES: Final = 1024
"""Most bytes of a sample description that are read."""

_OBJECT_TYPES: Final = {
    **dict.fromkeys((0x40, 0x66, 0x67, 0x68), "aac"),
    **dict.fromkeys((0x69, 0x6B), "mp3"),
    0xA5: "ac3",
    0xA6: "eac3",
    0xA9: "dts",
    0xAD: "opus",
    0xDD: "vorbis",
}
_AAC_RATES_HZ: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_AAC_CHANNELS: Final = (0, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 0, 8, 0)
_SPECTRAL_BAND_REPLICATION, _PARAMETRIC_STEREO = 5, 29


class _Box(NamedTuple):
    """Content of a box: its name, start and end."""

    name: bytes
    start: int
    stop: int


def parse_mp4(reader: BoundedReader, found: Found) -> None:
    """Collect facts of the first audio track. In a fragmented file the length is in `mehd` or `sidx`, if anywhere.

    Raises:
        OutOfBytesError: the file ends within its index.
    """
    movie = index = None
    for box in _boxes(reader, *found.audio):
        movie = box if box.name == b"moov" and movie is None else movie
        index = box if box.name == b"sidx" and index is None else index
        # An index of fragments follows directly after the movie box, if there is one.
        if movie is not None and box.name in (b"moof", b"mdat", b"sidx"):
            break
        if movie is not None and _child(reader, movie, b"mvex") is None:
            break
    if movie is None:
        return
    for track in _boxes(reader, movie.start, movie.stop):
        media = _child(reader, track, b"mdia") if track.name == b"trak" else None
        handler = _child(reader, media, b"hdlr") if media else None
        if media and handler and reader.upto(handler.start + 8, 4) == b"soun":
            _track(reader, media, found)
            break
    if found.codec is not None and found.duration_seconds is None:
        _fragmented(reader, movie, index, found)


def _boxes(reader: BoundedReader, start: int, stop: int) -> Iterator[_Box]:
    for _ in range(MAX_BOXES):
        if start + 8 > stop:
            return
        size, name = reader.unpack(">I4s", start)
        body = start + 8
        if size == 1:
            [size] = reader.unpack(">Q", body)
            body += 8
        elif size == 0:
            size = stop - start
        if start + size < body:
            return
        yield _Box(name, body, min(start + size, stop))
        start += size


def _child(reader: BoundedReader, parent: _Box, name: bytes) -> _Box | None:
    return next((box for box in _boxes(reader, parent.start, parent.stop) if box.name == name), None)


def _track(reader: BoundedReader, media: _Box, found: Found) -> None:
    header = _child(reader, media, b"mdhd")
    if header is not None:
        wide = reader.need(header.start, 1) == b"\x01"
        scale, duration = reader.unpack(">IQ" if wide else ">II", header.start + (20 if wide else 12))
        # All ones: unknown. 0: the samples are in fragments.
        if duration not in (0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF):
            found.length(duration, scale, "announced")
    box: _Box | None = media
    for name in (b"minf", b"stbl", b"stsd"):
        box = _child(reader, box, name) if box is not None else None
    if box is None:
        return
    # Version and flags, count of entries; then the first entry as a box.
    entry = next(_boxes(reader, box.start + 8, box.stop), None)
    if entry is not None:
        _sample_entry(reader, entry, found)


def _sample_entry(reader: BoundedReader, entry: _Box, found: Found) -> None:
    """Collect codec, channels and sample rate of an AudioSampleEntry, or of QuickTime's versions 1 and 2 of it."""
    found.codec = four_characters(entry.name)
    version, found.channels, rate = reader.unpack(">8xH6xH6xI", entry.start)
    found.sample_rate_hz = rate / 65536
    if version == 2:
        found.sample_rate_hz, found.channels = reader.unpack(">dI", entry.start + 32)
    parts = entry.start + 28 + {1: 16, 2: 36}.get(version, 0)
    inside = list(_boxes(reader, parts, min(entry.stop, parts + _ENTRY_BYTES)))
    inside += [box for part in inside if part.name == b"wave" for box in _boxes(reader, part.start, part.stop)]
    for box in inside:
        if box.name == b"esds":
            _elementary_stream(reader.upto(box.start + 4, min(_ENTRY_BYTES, box.stop - box.start - 4)), found)
        elif box.name == b"alac" and box.stop - box.start >= 28:
            # FFmpeg writes the bit rate of the bare samples between these two.
            found.channels, found.sample_rate_hz = reader.unpack(">13xB10xI", box.start)
            found.bit_rate_mode = "variable"
        elif box.name == b"dOps":
            found.channels, found.sample_rate_hz = reader.need(box.start + 1, 1)[0], 48000


def _elementary_stream(data: bytes, found: Found) -> None:
    """Walk an ES descriptor (ISO/IEC 14496-1): object type, bit rate, and for AAC its own configuration."""
    at = 0
    for _ in range(16):
        if at >= len(data):
            return
        tag, at = data[at], at + 1
        size = 0
        for _ in range(4):
            byte = data[at] if at < len(data) else 0
            size, at = size << 7 | byte & 0x7F, at + 1
            if not byte & 0x80:
                break
        body = data[at:]
        if tag == 3 and len(body) >= 3:
            # Its contents follow: the number and flags, which may add fields.
            flags = body[2]
            url = body[5 if flags & 0x80 else 3 :][:1] if flags & 0x40 else b""
            at += 3 + 2 * bool(flags & 0x80) + (1 + url[0] if url else 0) + 2 * bool(flags & 0x20)
        elif tag == 4 and len(body) >= 13:
            found.codec = _OBJECT_TYPES.get(body[0], f"mp4a.{body[0]:02x}")
            found.bit_rate_bps = int.from_bytes(body[9:13], "big") or None
            at += 13
        elif tag == 5:
            if found.codec == "aac":
                _aac_configuration(body[: min(size, 16)], found)
            return
        else:
            at += size


def _aac_configuration(data: bytes, found: Found) -> None:
    """Collect sample rate and channels from an AudioSpecificConfig (ISO/IEC 14496-3). It overrides the container."""
    bits, left = int.from_bytes(data.ljust(16, b"\0"), "big"), 128

    def take(count: int) -> int:
        nonlocal left
        left -= count
        return bits >> left & (1 << count) - 1

    def take_rate() -> int:
        number = take(4)
        if number == 15:
            return take(24)
        return _AAC_RATES_HZ[number] if number < len(_AAC_RATES_HZ) else 0

    if len(data) < 2:
        return
    kind = take(5)
    kind = 32 + take(6) if kind == 31 else kind
    rate, channels = take_rate(), _AAC_CHANNELS[take(4)]
    if kind in (_SPECTRAL_BAND_REPLICATION, _PARAMETRIC_STEREO):
        rate = take_rate()
        channels = 2 if kind == _PARAMETRIC_STEREO and channels == 1 else channels
    found.sample_rate_hz = rate or found.sample_rate_hz
    found.channels = channels or found.channels


def _fragmented(reader: BoundedReader, movie: _Box, index: _Box | None, found: Found) -> None:
    """Set the length of a file whose samples are in fragments."""
    extends = _child(reader, movie, b"mvex")
    total = _child(reader, extends, b"mehd") if extends else None
    header = _child(reader, movie, b"mvhd")
    if total is not None and header is not None:
        wide = reader.need(header.start, 1) == b"\x01"
        [scale] = reader.unpack(">I", header.start + (20 if wide else 12))
        wide = reader.need(total.start, 1) == b"\x01"
        [duration] = reader.unpack(">Q" if wide else ">I", total.start + 4)
        found.length(duration, scale, "announced")
    elif index is not None:
        wide = reader.need(index.start, 1) == b"\x01"
        [scale] = reader.unpack(">I", index.start + 8)
        first = index.start + (28 if wide else 20)
        [count] = reader.unpack(">H", first + 2)
        entries = reader.upto(first + 4, 12 * count)
        if len(entries) < 12 * count:
            raise OutOfBytesError
        [gap] = reader.unpack(">Q" if wide else ">I", first - (8 if wide else 4))
        size = sum(struct.unpack_from(">I", entries, at)[0] & 0x7FFFFFFF for at in range(0, len(entries), 12))
        # A file may have an index before each fragment, for that fragment only.
        if reader.upto(index.stop + gap + size + 4, 4) in (b"styp", b"sidx", b"moof"):
            return
        ticks = sum(struct.unpack_from(">I", entries, at + 4)[0] for at in range(0, len(entries), 12))
        found.length(ticks, scale, "announced")
