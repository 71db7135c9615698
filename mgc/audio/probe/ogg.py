"""Ogg: Vorbis, Opus, FLAC and Speex. The granule position of the last page gives the length."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from mgc.audio.probe.flac import STREAMINFO_BYTES, stream_info
from mgc.audio.probe.found import Found
from mgc.audio.probe.reader import BLOCK_BYTES, TAIL_BYTES, BoundedReader
from mgc.audio.source import ByteRange

MAX_STREAMS: Final = 32
"""Most first pages of streams that are read; they come together at the front."""

MAX_PAGES: Final = 256
"""Most pages at the front that are searched for the first ones with sound."""

TAIL_BLOCKS: Final = 3
"""Blocks of 64 KiB that are searched backwards for the last page of the stream, if the tail that was read does not hold
it. One block is enough unless streams are multiplexed."""

_PAGE: Final = struct.Struct("<4sBBqIIIB")
_PAGE_HEAD_BYTES: Final = _PAGE.size + 255
_FIRST_PAGE: Final = 0x02
_PAGE_SAMPLES: Final = 255 * 8192
"""Most samples in a page. A stream whose first page ends later was cut out of a longer one."""


class _Page(NamedTuple):
    """A page: whether it is the first of its stream, the sample at which it ends (negative: none), and its place."""

    first: bool
    granule: int
    serial: int
    start: int
    body: int
    stop: int


class _Span(NamedTuple):
    """Part of a stream at the front of a file: samples up to its first and last page, and the bytes between."""

    first_granule: int
    last_granule: int
    span_bytes: int


def parse_ogg(reader: BoundedReader, found: Found) -> None:
    """Collect facts of the first audio stream in an Ogg file.

    If no page at the end of the file belongs to that stream (several streams in a chain, or a repaired file), the
    length is estimated from the bytes and samples at the front.

    Raises:
        OutOfBytesError: the file ends within its headers.
    """
    start, stop = found.audio
    serial = pre_skip = None
    serials: set[int] = set()
    at = start
    for _ in range(MAX_STREAMS):
        page = _page(reader, at)
        if page is None or not page.first:
            break
        serials.add(page.serial)
        if serial is None:
            pre_skip = _identify(reader.upto(page.body, page.stop - page.body), found)
            serial = page.serial if pre_skip is not None else None
        at = page.stop
    if serial is None or pre_skip is None:
        return
    span = _walk(reader, at, min(stop, start + BLOCK_BYTES), serial)
    begin = span.first_granule if span is not None and span.first_granule > _PAGE_SAMPLES else pre_skip
    last = _last_granule(reader, found.audio, serial, serials)
    if last is not None:
        found.samples(max(0, last - begin), "counted")
    elif span is not None and span.last_granule > span.first_granule:
        samples = (span.last_granule - span.first_granule) * (stop - at) // max(1, span.span_bytes)
        found.samples(samples, "estimated")
    if len(serials) == 1:
        found.mean_bit_rate()


def _page(reader: BoundedReader, at: int) -> _Page | None:
    """Return the page at an offset, or None if none begins there."""
    head = reader.upto(at, _PAGE_HEAD_BYTES)
    return _read_page(head, 0, at)


def _read_page(data: bytes, at: int, data_start: int) -> _Page | None:
    if len(data) < at + _PAGE.size:
        return None
    magic, version, flags, granule, serial, _, _, segments = _PAGE.unpack_from(data, at)
    body = at + _PAGE.size + segments
    if magic != b"OggS" or version or len(data) < body:
        return None
    stop = body + sum(data[at + _PAGE.size : body])
    return _Page(bool(flags & _FIRST_PAGE), granule, serial, data_start + at, data_start + body, data_start + stop)


def _identify(packet: bytes, found: Found) -> int | None:
    """Collect facts from the first packet of a stream; return how many first samples to skip, None if not audio."""
    if packet.startswith(b"\x01vorbis") and len(packet) >= 16:
        found.codec, found.bit_rate_mode = "vorbis", "variable"
        found.channels, found.sample_rate_hz = struct.unpack_from("<BI", packet, 11)
        return 0
    if packet.startswith(b"OpusHead") and len(packet) >= 12:
        found.codec, found.channels, found.sample_rate_hz = "opus", packet[9], 48000
        return int.from_bytes(packet[10:12], "little")
    if packet.startswith(b"\x7fFLAC") and len(packet) >= 17 + STREAMINFO_BYTES:
        found.codec = "flac"
        stream_info(packet[17 : 17 + STREAMINFO_BYTES], found)
        return 0
    if packet.startswith(b"Speex   ") and len(packet) >= 52:
        found.codec = "speex"
        [found.sample_rate_hz] = struct.unpack_from("<I", packet, 36)
        [found.channels] = struct.unpack_from("<I", packet, 48)
        return 0
    return None


def _walk(reader: BoundedReader, at: int, stop: int, serial: int) -> _Span | None:
    """Walk the pages at the front that were read already."""
    first: _Page | None = None
    last: _Page | None = None
    for _ in range(MAX_PAGES):
        page = _page(reader, at) if at + _PAGE_HEAD_BYTES <= stop else None
        if page is None:
            break
        if page.serial == serial and page.granule > 0:
            first, last = first or page, page
        at = page.stop
    if first is None or last is None:
        return None
    return _Span(first.granule, last.granule, last.stop - first.stop)


def _last_granule(reader: BoundedReader, audio: ByteRange, serial: int, serials: set[int]) -> int | None:
    """Return the sample at which the last whole page of a stream ends; None if the file ends with another stream."""
    start, stop = audio
    end = stop
    tail_bytes = max(0, TAIL_BYTES - (reader.size_bytes - stop))
    for span_bytes in (tail_bytes, *[BLOCK_BYTES] * TAIL_BLOCKS):
        begin = max(start, end - span_bytes)
        data = reader.upto(begin, end - begin)
        at = data.rfind(b"OggS")
        while at >= 0:
            page = _read_page(data, at, begin)
            if page is not None and page.serial not in serials:
                return None
            if page is not None and page.serial == serial and page.granule >= 0 and page.stop <= stop:
                return page.granule
            at = data.rfind(b"OggS", 0, at)
        if begin == start:
            return None
        # The head of a page may span two blocks.
        end = min(stop, begin + _PAGE_HEAD_BYTES)
    return None
