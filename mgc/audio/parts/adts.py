"""Walk the frames of AAC in ADTS: where they are, and where their rate or channels change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from mgc.audio.probe.adts import find_header, parse_frame
from mgc.audio.source import ByteRange, Scanner, Source

IN_A_ROW: Final = 5
"""Frames that must follow one another behind something that is no frame; fewer occur by chance in pictures."""

LONGEST_FRAME: Final = 8192


@dataclass
class AacFrames:
    """The frames of AAC in a file.

    Attributes:
        runs: byte ranges of frames that follow one another, of one rate and one number of channels.
        cut_at: place of the last frame if the file ends within it, or None.
    """

    runs: list[ByteRange] = field(default_factory=list)
    cut_at: int | None = None


def walk_adts(source: Source, within: ByteRange) -> AacFrames:
    """Find all frames of AAC in a byte range."""
    found, scanner = AacFrames(), Scanner(source)
    place, kind = within.start, -1
    while place + 7 <= within.stop:
        data, at = scanner.ahead(place, (IN_A_ROW + 1) * LONGEST_FRAME)
        frame = parse_frame(data, at)
        if frame is None or (frame.kind != kind and not _begins(data, at, within.stop - place + at)):
            following = find_adts(data, at + 1, len(data))
            reached = following if following is not None else max(at + 1, len(data) - IN_A_ROW * LONGEST_FRAME)
            if following is None and place - at + len(data) >= within.stop:
                break
            place, kind = place - at + reached, -1
            continue
        stop = place + frame.frame_bytes
        if stop > within.stop:
            found.cut_at = place
            break
        if frame.kind == kind:
            found.runs[-1] = ByteRange(found.runs[-1].start, stop)
        else:
            found.runs.append(ByteRange(place, stop))
            kind = frame.kind
        place = stop
    return found


def find_adts(data: bytes, at: int, limit: int) -> int | None:
    """Return the first place, before a limit, at which frames of AAC follow one another."""
    place = find_header(data, at, limit)
    while place is not None:
        if _begins(data, place, len(data)):
            return place
        place = find_header(data, place + 1, limit)
    return None


def _begins(data: bytes, at: int, stop: int) -> bool:
    """Return whether frames of one kind follow one another here: five, or fewer up to the end."""
    kind, count = None, 0
    while count < IN_A_ROW:
        frame = parse_frame(data, at)
        if frame is None or (kind is not None and frame.kind != kind):
            # The file may end after a frame or two.
            return count > 1 and at >= min(stop, len(data))
        kind, count, at = frame.kind, count + 1, at + frame.frame_bytes
    return True
