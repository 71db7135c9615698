"""Walk the pages of an Ogg file: the links of a chain, and whether the granule positions fit the packets.

Pages follow RFC 3533. A link begins with the first pages of its streams. Programs that record a radio station chain one
link for each song, with other rates and channels.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from mgc.audio.source import ByteRange, Scanner, Source

_PAGE: Final = struct.Struct("<4sBBqIIIB")
_LONGEST_PAGE: Final = _PAGE.size + 255 + 255 * 255
_BEGINS, _ENDS = 0x02, 0x04

_OPUS_PACKET: Final = 5760
_FLAC_PACKET: Final = 65535
"""Most samples of a packet of Opus (120 ms at 48 kHz), and of FLAC where the stream's header does not say."""


@dataclass
class Link:
    """Pages of a chain that belong together.

    Attributes:
        start: first byte.
        stop: end of its last page.
        ended: whether a page ends its audio stream.
        truthful: whether each page ends at a sample that its packets can reach.
    """

    start: int
    stop: int = 0
    ended: bool = False
    truthful: bool = True
    serial: int | None = None
    longest_packet: int = 0
    granule: int | None = None
    begun: bool = False
    packets: int = 0

    def begin(self, serial: int, packet: bytes) -> None:
        """Note the first packet of a stream."""
        if self.serial is not None:
            return
        if packet.startswith(b"\x01vorbis") and len(packet) > 28:
            self.longest_packet = 1 << (packet[28] >> 4)
        elif packet.startswith(b"OpusHead"):
            self.longest_packet = _OPUS_PACKET
        elif packet.startswith(b"\x7fFLAC"):
            self.longest_packet = int.from_bytes(packet[19:21], "big") or _FLAC_PACKET
        elif not packet.startswith(b"Speex   "):
            return
        self.serial = serial

    def add(self, granule: int, packets: int, flags: int) -> None:
        """Note a page of the audio stream: the sample at which it ends, and how many packets end in it."""
        self.packets += packets
        if granule >= 0 and self.packets:
            before, self.granule = self.granule, granule
            # A recording may begin at any sample.
            if before is not None and self.longest_packet:
                reached = 0 <= granule - before <= self.packets * self.longest_packet
                self.truthful = self.truthful and (reached or before == 0)
            self.packets = 0
        self.ended = self.ended or bool(flags & _ENDS)


@dataclass
class Pages:
    """What the pages of a file tell.

    Attributes:
        links: links of the chain, in order of place.
        gaps: byte ranges between pages that hold no page.
        cut_at: place of the last page if the file ends within it, or None.
    """

    links: list[Link] = field(default_factory=list)
    gaps: list[ByteRange] = field(default_factory=list)
    cut_at: int | None = None


def walk_pages(source: Source, within: ByteRange) -> Pages:
    """Walk all pages of an Ogg file.

    Args:
        source: file.
        within: byte range to walk, from the first page on.
    """
    found, scanner = Pages(), Scanner(source)
    place, link = within.start, None
    while place + _PAGE.size <= within.stop:
        data, at = scanner.ahead(place, _LONGEST_PAGE)
        head = _page(data, at)
        if head is None:
            following = data.find(b"OggS", at + 1)
            following = following if following >= 0 else max(at + 1, len(data) - 3)
            stop = min(within.stop, place + following - at)
            if found.gaps and found.gaps[-1].stop == place:
                found.gaps[-1] = ByteRange(found.gaps[-1].start, stop)
            else:
                found.gaps.append(ByteRange(place, stop))
            place = stop
            continue
        flags, granule, serial, body, stop = head
        if place + stop - at > within.stop:
            found.cut_at = place
            break
        if flags & _BEGINS and (link is None or link.begun):
            link = Link(place)
            found.links.append(link)
        if link is not None:
            if flags & _BEGINS:
                link.begin(serial, data[body : body + 64])
            else:
                link.begun = True
                if serial == link.serial:
                    lacing = data[at + _PAGE.size : body]
                    link.add(granule, len(lacing) - lacing.count(255), flags)
            link.stop = place + stop - at
        place += stop - at
    return found


def _page(data: bytes, at: int) -> tuple[int, int, int, int, int] | None:
    """Return flags, granule position and serial number of a page, and the places of its body and its end."""
    if data[at : at + 5] != b"OggS\0" or at + _PAGE.size > len(data):
        return None
    _, _, flags, granule, serial, _, _, segments = _PAGE.unpack_from(data, at)
    body = at + _PAGE.size + segments
    return flags, granule, serial, body, body + sum(data[at + _PAGE.size : body])
