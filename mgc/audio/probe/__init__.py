"""Probe a file: find out its format, length and sample rate from a few short reads, without decoding.

Everything here is plain Python on short reads (`reader` has the limits). A file that was made to crash a decoder cannot
crash a probe, and threads can probe many files at once. The content decides what a file is, never its name.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from mgc.audio.mpeg import parse_header
from mgc.audio.probe.adts import parse_adts, parse_frame
from mgc.audio.probe.aiff import parse_aiff, parse_caf
from mgc.audio.probe.asf import HEADER, parse_asf
from mgc.audio.probe.facts import Probe
from mgc.audio.probe.flac import parse_flac
from mgc.audio.probe.found import Found
from mgc.audio.probe.matroska import parse_matroska
from mgc.audio.probe.mp4 import parse_mp4
from mgc.audio.probe.mpeg import probe_mpeg
from mgc.audio.probe.ogg import parse_ogg
from mgc.audio.probe.others import SIGNATURES, is_ac3, parse_ac3, parse_other
from mgc.audio.probe.reader import BLOCK_BYTES, BoundedReader, OutOfBytesError
from mgc.audio.probe.riff import parse_w64, parse_wav
from mgc.audio.probe.tags import ID3V2_HEAD_BYTES, strip_tags
from mgc.audio.source import ByteRange, Source
from mgc.errors import AudioError, ErrorKind

__all__ = ["Probe", "probe", "signature"]

HEAD_BYTES: Final = 1 << 14
"""If less than this of the first block remains after the tags, another block is read."""

SEARCHED_BLOCKS: Final = 4
"""Blocks of 64 KiB that are searched for frames of MPEG audio or AAC if no container begins."""

_OVERLAP_BYTES: Final = 1 << 13
"""Overlap of two searched blocks, so that frames on their border are found. No frame is longer."""

_FRAME_HEAD_BYTES: Final = 7
"""Longest header of a frame: that of AAC."""

_MP4_BOXES: Final = (b"ftyp", b"moov", b"mdat", b"styp", b"moof", b"pnot")
_SMALL_BOXES: Final = (b"free", b"skip", b"wide")
"""These are English words too. They begin an MP4 file only if the size in front of them is small."""
_W64: Final = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_FORMS: Final = {b"WAVE": "wav", b"AVI ": "avi", b"AIFF": "aiff", b"AIFC": "aiff", b"8SVX": "svx", b"16SV": "svx"}

_PARSERS: Final[dict[str, Callable[[BoundedReader, Found], None]]] = {
    "wav": parse_wav,
    "w64": parse_w64,
    "aiff": parse_aiff,
    "caf": parse_caf,
    "flac": parse_flac,
    "ogg": parse_ogg,
    "mp4": parse_mp4,
    "asf": parse_asf,
    "matroska": parse_matroska,
    "ac3": parse_ac3,
}


def probe(source: Source) -> Probe:
    """Find out what a file is, from a few short reads.

    If the headers are truncated or wrong, the `Probe` has what could be read, at worst only the container. Whether the
    file holds audio is for a decoder to say.

    Args:
        source: file. At most 24 ranges of at most 64 KiB are read.

    Returns:
        Facts about the file. `container` is one that `Probe` lists, or another format that a decoder may know.

    Raises:
        AudioError: `empty` (no bytes), or `not_audio` (neither a known container nor frames of MPEG audio or AAC).
    """
    if source.size_bytes <= 0:
        raise AudioError(ErrorKind.EMPTY, "the file is empty (0 bytes)")
    reader = BoundedReader(source)
    audio, tags = strip_tags(reader)
    head = reader.stretch(audio.start, HEAD_BYTES)[: audio.size_bytes]
    container = signature(head)
    if container is not None:
        found = Found(container, audio, tags)
        # If the bytes end early, the facts found so far remain.
        with suppress(OutOfBytesError):
            _PARSERS.get(container, parse_other)(reader, found)
        return found.probe()
    facts = _search_frames(source, reader, head, audio, tags)
    # A tag may end where a frame begins by chance. To look costs a read unless the first block holds it.
    doubtful = facts is not None and (facts.audio.start > audio.start or audio.start < BLOCK_BYTES)
    if facts is not None and audio.start > 0 and doubtful and _is_preceded(reader, facts):
        # A tag claims some of the sound that follows it.
        audio = audio._replace(start=ID3V2_HEAD_BYTES)
        head = reader.stretch(audio.start, HEAD_BYTES)[: audio.size_bytes]
        facts = _search_frames(source, reader, head, audio, tags)
    if facts is None:
        raise AudioError(
            ErrorKind.NOT_AUDIO,
            f"no known audio container or frame begins at byte {audio.start}: {head[:8].hex(' ') or 'only tags'}",
        )
    return facts


def signature(head: bytes) -> str | None:
    """Return the container that the first bytes after leading tags announce, or None.

    Bare frames of MPEG audio and AAC have no signature. `probe` recognises them by several frames in a row.
    """
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM"):
        return _FORMS.get(head[8:12])
    if head[4:8] in _MP4_BOXES or (head[4:8] in _SMALL_BOXES and head[0] == 0):
        return "mp4"
    for magic, name in ((b"fLaC", "flac"), (b"OggS", "ogg"), (b"caff", "caf"), (_W64, "w64"), (HEADER, "asf")):
        if head.startswith(magic):
            return name
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if is_ac3(head):
        return "ac3"
    return next((name for magic, name, _ in SIGNATURES if head.startswith(magic)), None)


def _is_preceded(reader: BoundedReader, facts: Probe) -> bool:
    """Return whether another frame of the stream ends where the first one that was found begins."""
    begin = max(0, facts.audio.start - _OVERLAP_BYTES)
    at = facts.audio.start - begin
    data = reader.upto(begin, at + _FRAME_HEAD_BYTES)
    read = _read_adts if facts.container == "aac" else _read_mpeg
    first = read(data, at)
    place = data.rfind(b"\xff", 0, at)
    while first is not None and place >= 0:
        frame = read(data, place)
        if frame is not None and frame.stream == first.stream and place + frame.size_bytes == at:
            return True
        place = data.rfind(b"\xff", 0, place)
    return False


class _Frame(NamedTuple):
    """What two frames of one stream share, and the length of one."""

    stream: object
    size_bytes: int


def _read_mpeg(data: bytes, at: int) -> _Frame | None:
    header = parse_header(data[at : at + 4])
    return None if header is None else _Frame(header.stream, header.size_bytes)


def _read_adts(data: bytes, at: int) -> _Frame | None:
    frame = parse_frame(data, at)
    return None if frame is None else _Frame(frame.kind, frame.frame_bytes)


def _search_frames(
    source: Source, reader: BoundedReader, head: bytes, audio: ByteRange, tags: tuple[str, ...]
) -> Probe | None:
    """Search the first blocks for frames of MPEG audio or AAC, whatever comes before them."""
    for _ in range(SEARCHED_BLOCKS):
        found = Found("aac", audio, tags)
        if parse_adts(head, found):
            return found.probe()
        facts = probe_mpeg(source, head, audio, tags)
        if facts is not None:
            return facts
        if len(head) >= audio.size_bytes:
            return None
        audio = audio._replace(start=audio.start + max(1, len(head) - _OVERLAP_BYTES))
        head = reader.stretch(audio.start, BLOCK_BYTES)[: audio.size_bytes]
    return None
