"""Decode a track's bytes into the windows that a plan asks for.

Two decoders in a cascade: libsndfile (by soundfile) is the quicker one and seeks to the sample; FFmpeg (by PyAV) knows
more formats and reads on behind damage. The second is asked when the first refuses the file or gives less than planned.
Nothing holds a whole long track as samples: the planned windows in mono, and a block of what is being decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol

from mgc.audio import ffmpeg, libsndfile
from mgc.audio.attempt import SLACK_SECONDS, Attempt, DecoderName, Use
from mgc.audio.cuts import Cuts
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.probe import probe
from mgc.audio.source import ByteRange, Held
from mgc.audio.waveform import Waveform
from mgc.errors import AudioError, ErrorKind

MIN_SECONDS: Final = 0.5
"""A track of which less can be heard is refused."""


class Decoder(Protocol):
    """Decodes the planned windows of a file's bytes; never raises for what the bytes are."""

    def __call__(
        self, data: bytes, plan: ListeningPlan, use: Callable[[Waveform], Any], track_id: str = ""
    ) -> Attempt[Any]:
        """What it made of the file."""


CASCADE: Final[tuple[Decoder, ...]] = (libsndfile.listen, ffmpeg.listen)
"""The decoders in the order in which they are asked."""


@dataclass(frozen=True, eq=False)
class Listened(Generic[Use]):
    """What was heard of a track, and what was made of it.

    Attributes:
        windows: what `use` made of each window, in order of time; one at least.
        duration_seconds: length of the whole track; of a truncated one, as much as the file holds.
        seconds: heard in all windows together.
        decoder: which decoder gave the samples.
        damage: in a few words what is wrong with the file although it can be heard, or None.
    """

    windows: tuple[Use, ...]
    duration_seconds: float
    seconds: float
    decoder: DecoderName
    damage: str | None = None


def listen(
    recording: bytes | Cuts,
    plan: ListeningPlan,
    use: Callable[[Waveform], Use],
    track_id: str = "",
    decoders: Sequence[Decoder] = CASCADE,
) -> Listened[Use]:
    """Decode the planned windows of a track, one after the other, and make something of each.

    A damaged file is heard as far as it goes, and `damage` says what is wrong; if a truncated file is shorter than its
    header says, the plan is laid over what is there. Damage outside the windows, or that a decoder passes over in
    silence, goes unnoticed. Samples that are no finite number, or beyond ±1e6, become 0 and count as damage. Where
    libsndfile decodes, windows are the very samples of a full decode (but for the last page of an Ogg file, where they
    may be up to one Vorbis block off); where FFmpeg does, their place in the track is right to about 0.1 s. Cuts of an
    MP3 are its samples to 2e-6, and say themselves how well their places are known.

    Args:
        recording: the whole file (MP3, Ogg with Vorbis or Opus, FLAC, WAV, AIFF, and by FFmpeg M4A/AAC, WMA, WebM and
            others), or the cuts that hold the plan's windows.
        plan: which seconds to hear.
        use: what to make of a window, a waveform mono at the file's own rate: its features, say. The next window is
            decoded when it returns; called anew from the first window if another decoder has to begin again.
        track_id: for a plan with random places.
        decoders: in the order in which they are asked.

    Raises:
        AudioError: `empty` (no bytes), `not_audio`, `unsupported_codec`, `truncated`, `corrupt_stream`, or `too_short`
            (a sound file of less than 0.5 s).
    """
    if isinstance(recording, Cuts):
        attempt = libsndfile.listen_to_cuts(recording, use)
        if attempt.seconds < MIN_SECONDS:
            raise AudioError(attempt.kind, f"{attempt.fault or 'nothing'}; {attempt.seconds:.2f} s can be heard")
        damage = "; ".join(part for part in (recording.damage, attempt.damage) if part) or None
        return _listened(attempt, damage)
    if not recording:
        raise AudioError(ErrorKind.EMPTY, "the file is empty (0 bytes)")
    best = _cascade(recording, plan, use, track_id, decoders)
    if best.seconds < MIN_SECONDS:
        # Tags that a decoder does not expect before this format, or whose size lies, are no reason to lose a track.
        audio = _between_tags(recording)
        if audio.start > 0 or audio.stop < len(recording):
            found = _cascade(recording[audio.start : audio.stop], plan, use, track_id, decoders)
            best = found if found.seconds >= MIN_SECONDS else best
    if best.seconds < MIN_SECONDS:
        raise _refusal(recording, best)
    return _listened(best, best.damage)


def _cascade(
    data: bytes, plan: ListeningPlan, use: Callable[[Waveform], Use], track_id: str, decoders: Sequence[Decoder]
) -> Attempt[Use]:
    """The best that the decoders make of it."""
    best: Attempt[Use] = decoders[0](data, plan, use, track_id)
    for decoder in decoders[1:]:
        if best.fault is None and best.seconds >= MIN_SECONDS:
            break
        best = _better(best, decoder(data, plan, use, track_id), len(data))
    return best


def _between_tags(data: bytes) -> ByteRange:
    try:
        return probe(Held(data)).audio
    except AudioError:
        return ByteRange(0, len(data))


def _listened(attempt: Attempt[Use], damage: str | None) -> Listened[Use]:
    return Listened(tuple(attempt.windows), attempt.duration_seconds, attempt.seconds, attempt.decoder, damage)


def decode(recording: bytes | Cuts, plan: ListeningPlan, track_id: str = "") -> Listened[Waveform]:
    """The planned windows of a track as samples, all at once. See `listen`."""
    return listen(recording, plan, _as_it_is, track_id)


def _as_it_is(window: Waveform) -> Waveform:
    return window


def _better(first: Attempt[Use], second: Attempt[Use], size_bytes: int) -> Attempt[Use]:
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


def _refusal(data: bytes, attempt: Attempt[Use]) -> AudioError:
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
