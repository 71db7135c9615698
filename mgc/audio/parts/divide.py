"""Divide a recording into its streams: one, or several glued together."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mgc.audio.decoders.counted import Frames, Run, find_frames
from mgc.audio.decoders.stream import SLACK_SECONDS, Fault
from mgc.audio.parts import flac, ogg, riff
from mgc.audio.parts.adts import walk_adts
from mgc.audio.probe import Probe
from mgc.audio.source import ByteRange, Held, Scanner, Source, take
from mgc.errors import ErrorKind

RUBBISH_BYTES: Final = 128
"""Fewer bytes behind the audio are not worth a word: padding, or a tag that mgc does not know."""

_FEWEST_FRAMES: Final = 4
"""A shorter run of frames beside longer ones is rubbish that looks like frames."""

_FEWEST_RUNS: Final = 4
_STEADY_FRAMES: Final = 40
"""More runs than this that are shorter than a second are one stream whose rate or channels change within."""

_FLAC_BEGINS: Final = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_FLAC_SEARCHED: Final = 8
_MOST_BOXES: Final = 1 << 17
_BOXES: Final = frozenset(
    b"ftyp moov mdat free skip wide moof mfra sidx ssix styp uuid meta pnot udta prft emsg pdin bloc PICT".split()
)
_MOST_CHUNKS: Final = 512
_UNKNOWN: Final = 0xFFFFFFFF


@dataclass(frozen=True)
class Part:
    """One stream of a recording.

    Attributes:
        source: its bytes, as a file of its own.
        run: its frames, if it is MPEG audio of layer III.
        believable: whether its counts fit its bytes, so that a decoder may believe them.
        announced_seconds: wrong length that its header states; None if it states the right one or none.
    """

    source: Source
    run: Run | None = None
    believable: bool = True
    announced_seconds: float | None = None


@dataclass(frozen=True)
class Division:
    """The streams of a recording in order of time, and what is wrong around them."""

    parts: Sequence[Part]
    faults: Sequence[Fault] = ()


def divide(source: Source, facts: Probe) -> Division:
    """Divide a recording into its streams.

    Args:
        source: file.
        facts: what a probe found out about it.
    """
    audio = facts.audio
    if facts.container == "mp3":
        return _divide_mpeg(source, audio)
    if facts.container == "ogg":
        return _divide_ogg(source, audio)
    if facts.container == "flac":
        return _divide_flac(source, audio)
    if facts.container in ("wav", "aiff"):
        return _divide_forms(source, audio, facts.bit_rate_bps)
    if facts.container == "aac":
        return _divide_adts(source, audio)
    if facts.container == "au":
        return _divide_au(source, audio, facts.bit_rate_bps)
    faults = []
    if facts.container == "mp4":
        faults = _judge_boxes(source, audio)
    elif facts.container == "caf":
        faults = _judge_caf(source, audio, facts.bit_rate_bps)
    announced_seconds = facts.duration_seconds if facts.duration_is == "announced" else None
    return Division([Part(_whole(source, audio), announced_seconds=announced_seconds)], faults)


def _whole(source: Source, audio: ByteRange) -> Source:
    return source if audio == ByteRange(0, source.size_bytes) else take(source, audio)


def _divide_mpeg(source: Source, audio: ByteRange) -> Division:
    found = find_frames(source, audio)
    runs = [run for run in found.runs if len(run.offsets) >= _FEWEST_FRAMES] or found.runs
    frames = sum(len(run.offsets) for run in found.runs)
    if not runs or (len(found.runs) > _FEWEST_RUNS and frames < len(found.runs) * _STEADY_FRAMES):
        # Frames of two kinds in turn depend on each other.
        return Division([Part(_whole(source, audio))])
    # The decoder counts the frames of layers I and II itself.
    parts = [
        Part(take(source, ByteRange(run.offsets[0], run.stop)), run if run.header.layer == 3 else None) for run in runs
    ]
    if len(parts) == 1 and parts[0].run is not None:
        parts = [Part(source, parts[0].run)]
    else:
        parts = [Part(part.source, None if part.run is None else _moved(part.run)) for part in parts]
    return Division(parts, list(_judge_frames(source, found, audio)))


def _moved(run: Run) -> Run:
    """Return a run with places counted from its own first byte."""
    first = run.offsets[0]
    moved = Run(run.header, headers=run.headers)
    moved.offsets.extend(offset - first for offset in run.offsets)
    return moved


def _judge_frames(source: Source, found: Frames, audio: ByteRange) -> Iterator[Fault]:
    # A file that was glued to another brings its tags.
    gaps = [gap for gap in found.gaps if not _begins_tag(source, gap)]
    lost_bytes = sum(gap.size_bytes for gap in gaps)
    if lost_bytes:
        first = gaps[0].start
        text = f"damaged: {lost_bytes} bytes between frames are no audio, the first at byte {first}"
        yield Fault(ErrorKind.CORRUPT_STREAM, text, first)
    end = found.runs[-1].stop
    if found.cut_at is not None:
        text = f"truncated: the file ends inside the frame at byte {found.cut_at}"
        yield Fault(ErrorKind.TRUNCATED, text, found.cut_at)
    elif audio.stop - end > RUBBISH_BYTES:
        yield _rubbish(end, audio.stop)


def _begins_tag(source: Source, gap: ByteRange) -> bool:
    (head,) = source.read([ByteRange(gap.start, min(gap.stop, gap.start + 8))])
    return head.startswith((b"ID3", b"TAG", b"APETAGEX"))


def _rubbish(start: int, stop: int) -> Fault:
    text = f"rubbish: the {stop - start} bytes behind the audio, from byte {start} on, are none"
    return Fault(ErrorKind.CORRUPT_STREAM, text, start)


def _divide_adts(source: Source, audio: ByteRange) -> Division:
    found = walk_adts(source, audio)
    if not found.runs:
        return Division([Part(_whole(source, audio))])
    parts = [Part(_whole(source, run)) for run in found.runs]
    end = found.runs[-1].stop
    if found.cut_at is not None:
        text = f"truncated: the file ends inside the frame at byte {found.cut_at}"
        return Division(parts, [Fault(ErrorKind.TRUNCATED, text, found.cut_at)])
    return Division(parts, [_rubbish(end, audio.stop)] if audio.stop - end > RUBBISH_BYTES else [])


def _divide_au(source: Source, audio: ByteRange, bit_rate_bps: int | None) -> Division:
    """Return the sound of an AU file up to its end, whatever its header says of its length."""
    (head,) = source.read([ByteRange(audio.start, min(audio.stop, audio.start + 24))])
    if len(head) < 24:
        return Division([Part(_whole(source, audio))])
    order = "<" if head.startswith(b"dns.") else ">"
    offset, size = struct.unpack_from(order + "II", head, 4)
    there = audio.stop - audio.start - offset
    if size in (_UNKNOWN, there) or there <= 0:
        return Division([Part(_whole(source, audio))])
    open_end = take(
        source, ByteRange(audio.start, audio.start + 8), b"\xff" * 4, ByteRange(audio.start + 12, audio.stop)
    )
    return Division([Part(open_end)], [_differing(size, there, bit_rate_bps, audio.stop)])


def _differing(announced_bytes: int, there_bytes: int, bit_rate_bps: int | None, stop: int) -> Fault:
    """Return a fault for a header that announces more or less sound than there is."""
    text = f"header announces {announced_bytes} bytes of sound, {there_bytes} are there"
    if bit_rate_bps:
        seconds = [8 * count / bit_rate_bps for count in (announced_bytes, there_bytes)]
        text = f"header announces {seconds[0]:.1f} s, {seconds[1]:.1f} s are there"
    if announced_bytes > there_bytes:
        return Fault(ErrorKind.TRUNCATED, f"truncated: {text}", stop)
    return Fault(ErrorKind.CORRUPT_STREAM, text)


def _judge_caf(source: Source, audio: ByteRange, bit_rate_bps: int | None) -> list[Fault]:
    """Return a fault if the sound of a CAF file reaches beyond its end."""
    place = audio.start + 8
    for _ in range(_MOST_CHUNKS):
        if place + 12 > audio.stop:
            break
        (head,) = source.read([ByteRange(place, place + 12)])
        name, size = struct.unpack(">4sq", head)
        if name == b"data" and size > audio.stop - place - 12:
            return [_differing(size, audio.stop - place - 12, bit_rate_bps, audio.stop)]
        if size < 0:
            break
        place += 12 + size
    return []


def _divide_ogg(source: Source, audio: ByteRange) -> Division:
    found = ogg.walk_pages(source, audio)
    links = [link for link in found.links if link.serial is not None]
    if not links:
        return Division([Part(_whole(source, audio))])
    if len(links) == 1 and not found.gaps and links[0].start == 0:
        parts = [Part(source, believable=links[0].truthful)]
    else:
        parts = [Part(take(source, ByteRange(link.start, link.stop)), believable=link.truthful) for link in links]
    faults = []
    if found.cut_at is not None:
        text = f"truncated: the file ends inside the page at byte {found.cut_at}"
        faults.append(Fault(ErrorKind.TRUNCATED, text, found.cut_at))
    elif not links[-1].ended:
        faults.append(Fault(ErrorKind.TRUNCATED, "truncated: no page ends the stream", links[-1].stop))
    within = [gap for gap in found.gaps if gap.stop < links[-1].stop]
    if within:
        lost_bytes = sum(gap.size_bytes for gap in within)
        text = f"damaged: {lost_bytes} bytes between pages are none, the first at byte {within[0].start}"
        faults.append(Fault(ErrorKind.CORRUPT_STREAM, text, within[0].start))
    if found.cut_at is None and audio.stop - links[-1].stop > RUBBISH_BYTES:
        faults.append(_rubbish(links[-1].stop, audio.stop))
    if not all(link.truthful for link in links):
        faults.append(Fault(ErrorKind.CORRUPT_STREAM, "damaged: its positions do not fit its packets"))
    return Division(parts, faults)


def _divide_flac(source: Source, audio: ByteRange) -> Division:
    parts = [_flac_part(source, piece) for piece in _flac_pieces(source, audio)]
    return Division(parts)


def _flac_pieces(source: Source, audio: ByteRange) -> list[ByteRange]:
    """Return the byte ranges of the FLAC streams in a file."""
    if not isinstance(source, Held):
        # Only a file whose end contradicts its head is read to find out why.
        part = _flac_part(source, audio)
        if part.believable and part.announced_seconds is None:
            return [audio]
    starts, scanner, place = [audio.start], Scanner(source), audio.start + 4
    while place < audio.stop:
        data, at = scanner.ahead(place, _FLAC_SEARCHED)
        for found in _FLAC_BEGINS.finditer(data, at):
            start = place + found.start() - at
            if start + flac.HEAD_BYTES < audio.stop:
                starts.append(start)
        place += max(1, len(data) - at - _FLAC_SEARCHED + 1)
    # Blocks overlap by less than a beginning, but pictures may hold one at any place: it begins no frames.
    return [ByteRange(start, stop) for start, stop in zip(starts, [*starts[1:], audio.stop], strict=True)]


def _flac_part(source: Source, piece: ByteRange) -> Part:
    """Return a FLAC stream, with the count of its samples put right."""
    alone = _whole(source, piece)
    (head,) = source.read([ByteRange(piece.start, min(piece.stop, piece.start + flac.HEAD_BYTES))])
    if len(head) < flac.HEAD_BYTES or head[4] & 0x7F != 0:
        return Part(alone)
    stated, true = flac.stated_samples(head), flac.last_sample(source, piece)
    if true is None or true == stated:
        return Part(alone)
    rate_hz = int.from_bytes(head[18:21], "big") >> 4
    wrong = stated and rate_hz and abs(stated - true) > SLACK_SECONDS * rate_hz
    counted = take(source, flac.state_samples(head, true), ByteRange(piece.start + flac.HEAD_BYTES, piece.stop))
    return Part(counted, announced_seconds=stated / rate_hz if wrong else None)


def head_flac(source: Source, start: int) -> Source | None:
    """Return bare frames of FLAC with a header in front; None if none begins at a byte."""
    (data,) = source.read([ByteRange(start, min(source.size_bytes, start + 64))])
    frame = flac.parse_frame(data, 0)
    if frame is None or not frame.sample_rate_hz or not frame.bits:
        return None
    return take(source, flac.make_head(frame), ByteRange(start, source.size_bytes))


def _divide_forms(source: Source, audio: ByteRange, bit_rate_bps: int | None) -> Division:
    forms: list[riff.Form] = []
    place = audio.start
    while (form := riff.walk_form(source, ByteRange(place, audio.stop))) is not None:
        forms.append(form)
        place = form.stop
        if not riff.begins_form(source, place):
            break
    if not forms:
        return Division([Part(_whole(source, audio))])
    parts = [Part(_closed(source, form, alone=len(forms) == 1)) for form in forms]
    last = forms[-1]
    there_bytes, announced_bytes = last.sound.size_bytes, last.announced_bytes
    faults = []
    if announced_bytes is not None and announced_bytes > there_bytes:
        faults.append(_differing(announced_bytes, there_bytes, bit_rate_bps, audio.stop))
    elif audio.stop - last.stop > RUBBISH_BYTES:
        faults.append(_rubbish(last.stop, audio.stop))
    return Division(parts, faults)


def _closed(source: Source, form: riff.Form, alone: bool) -> Source:
    """Return a WAV or AIFF file whose header states the size of its sound."""
    if (form.is_wrapped or form.announced_bytes is None) and form.order == "<":
        return take(source, *riff.with_size(form))
    return source if alone and form.start == 0 else take(source, ByteRange(form.start, form.stop))


def _judge_boxes(source: Source, audio: ByteRange) -> list[Fault]:
    """Return a fault if the last box of an MP4 file reaches beyond its end."""
    place = audio.start
    for _ in range(_MOST_BOXES):
        if place + 16 > audio.stop:
            break
        (head,) = source.read([ByteRange(place, place + 16)])
        size, name, wide = struct.unpack(">I4sQ", head)
        size = wide if size == 1 else size
        if size < 8:
            break
        if name not in _BOXES:
            return [_rubbish(place, audio.stop)] if place else []
        if place + size > audio.stop:
            text = f"truncated: {place + size - audio.stop} bytes are missing at the end"
            return [Fault(ErrorKind.TRUNCATED, text, audio.stop)]
        place += size
    return []
