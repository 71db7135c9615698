"""Decode a track's bytes into the windows that a plan asks for.

Two decoders in a cascade: libsndfile (by soundfile) is the quicker one and seeks to the sample; FFmpeg (by PyAV) knows
more formats and reads on behind damage. The second is asked when the first refuses the file or gives less than planned.
Nothing holds a whole long track as samples: the planned windows in mono, and a block of what is being decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mgc.audio import ffmpeg, libsndfile
from mgc.audio.attempt import SLACK_SECONDS, Attempt, DecoderName
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.waveform import Waveform
from mgc.errors import AudioError, ErrorKind

MIN_SECONDS: Final = 0.5
"""A track of which less can be heard is refused."""


@dataclass(frozen=True, eq=False)
class Heard:
    """What was heard of a track.

    Attributes:
        waveforms: the windows in order of time, mono (mean of the channels) at the file's own rate; one at least.
        duration_seconds: length of the whole track; of a truncated one, as much as the file holds.
        decoder: which decoder gave the samples.
        damage: in a few words what is wrong with the file although it can be heard, or None.
    """

    waveforms: tuple[Waveform, ...]
    duration_seconds: float
    decoder: DecoderName
    damage: str | None = None

    @property
    def seconds_listened(self) -> float:
        """Seconds in all windows together."""
        return sum(waveform.duration_seconds for waveform in self.waveforms)


def decode(data: bytes, plan: ListeningPlan) -> Heard:
    """Decode the planned windows of a track.

    A damaged file is heard as far as it goes, and `Heard.damage` says what is wrong; if a truncated file is shorter
    than its header says, the plan is laid over what is there. Damage outside the windows, or that a decoder passes over
    in silence, goes unnoticed. Samples that are no finite number, or beyond ±1e6, become 0 and count as damage. Where
    libsndfile decodes, windows are the very samples of a full decode (but for the last page of an Ogg file, where they
    may be up to one Vorbis block off); where FFmpeg does, their place in the track is right to about 0.1 s.

    Args:
        data: the whole file: MP3, Ogg (Vorbis, Opus), FLAC, WAV, AIFF, and by FFmpeg M4A/AAC, WMA, WebM and others.
        plan: which seconds to hear.

    Raises:
        AudioError: `empty` (no bytes), `not_audio`, `unsupported_codec`, `truncated`, `corrupt_stream`, or `too_short`
            (a sound file of less than 0.5 s).
    """
    if not data:
        raise AudioError(ErrorKind.EMPTY, "the file is empty (0 bytes)")
    best = libsndfile.listen(data, plan)
    if best.fault is not None or best.seconds < MIN_SECONDS:
        best = _better(best, ffmpeg.listen(data, plan), len(data))
    if best.seconds < MIN_SECONDS:
        raise _refusal(data, best)
    waveforms = tuple(waveform for waveform in best.waveforms if len(waveform.samples))
    return Heard(waveforms, best.duration_seconds, best.decoder, best.damage)


def _better(first: Attempt, second: Attempt, size_bytes: int) -> Attempt:
    """The attempt that heard more, with what both know about the file's damage."""
    if first.seconds > second.seconds:
        return first
    announced_seconds = first.announced_seconds or second.announced_seconds or 0.0
    missing_seconds = announced_seconds - second.duration_seconds
    if second.opened and missing_seconds > max(SLACK_SECONDS, announced_seconds / 100):
        lengths = f"header announces {announced_seconds:.1f} s, {second.duration_seconds:.1f} s are there"
        if second.fault is not None and second.kind is not ErrorKind.TRUNCATED:
            return second.faulty(second.kind, f"{second.fault}; {lengths}", second.offset_bytes)
        return second.faulty(ErrorKind.TRUNCATED, f"truncated: {lengths}", size_bytes)
    if second.fault is None and first.opened and first.fault is not None:
        return second.faulty(first.kind, first.fault)
    return second


def _refusal(data: bytes, attempt: Attempt) -> AudioError:
    """The error for a file of which too little can be heard."""
    fault, kind, looks_like = attempt.fault, attempt.kind, _looks_like(data)
    if fault is None:
        message = f"{attempt.seconds:.2f} s of audio; at least {MIN_SECONDS} s are needed"
    elif kind is ErrorKind.NOT_AUDIO and looks_like is not None and not attempt.opened:
        cut = looks_like == "MP4" and b"moov" not in data
        kind = ErrorKind.TRUNCATED if cut else ErrorKind.CORRUPT_STREAM
        index = " (its index, the box moov, is missing)" if cut else ""
        message = f"begins like {looks_like}, but no decoder finds audio in it{index}"
    elif kind is ErrorKind.NOT_AUDIO and not attempt.opened:
        message = "no decoder finds audio in it"
    elif kind in (ErrorKind.NOT_AUDIO, ErrorKind.UNSUPPORTED_CODEC):
        message = fault
    else:
        message = f"{fault}; {attempt.seconds:.2f} s can be heard, at least {MIN_SECONDS} s are needed"
    return AudioError(kind, message, attempt.offset_bytes)


_SIGNATURES: Final = {
    b"ID3": "MP3",
    b"fLaC": "FLAC",
    b"OggS": "Ogg",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "WMA",
    b"\x1a\x45\xdf\xa3": "Matroska",
}


def _looks_like(data: bytes) -> str | None:
    """What the first bytes promise, or None if they are no audio container's."""
    for signature, name in _SIGNATURES.items():
        if data.startswith(signature):
            return name
    if data[4:8] == b"ftyp":
        return "MP4"
    if data[:4] in (b"RIFF", b"RF64", b"FORM") and data[8:12] in (b"WAVE", b"AIFF", b"AIFC"):
        return "WAV" if data[8:12] == b"WAVE" else "AIFF"
    # MPEG audio: eleven sync bits, then a version and a bit rate that exist. Layer 0 is AAC's ADTS.
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0 or data[1] & 0x18 == 0x08 or data[2] & 0xF0 == 0xF0:
        return None
    return "AAC" if data[1] & 0x06 == 0 else "MP3"
