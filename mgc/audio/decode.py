"""Decode a track's bytes into the windows that a plan asks for.

There are two decoders. libsndfile (through soundfile) is faster and seeks to the exact sample. FFmpeg (through PyAV)
knows more formats and continues after damage. It is tried if libsndfile refuses the file or decodes less than planned.
A long track is never in memory as a whole: only the planned windows in mono, and the block that is being decoded.
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
"""A track with less decodable audio than this is refused."""


class Decoder(Protocol):
    """Decodes the planned windows of a file. Never raises an error because of what the bytes hold."""

    def __call__(
        self, data: bytes, plan: ListeningPlan, use: Callable[[Waveform], Any], track_id: str = ""
    ) -> Attempt[Any]:
        """Return the result."""


CASCADE: Final[tuple[Decoder, ...]] = (libsndfile.listen, ffmpeg.listen)
"""The decoders, in the order in which they are tried."""


@dataclass(frozen=True, eq=False)
class Listened(Generic[Use]):
    """The windows of a track that were decoded, and their results.

    Attributes:
        windows: result of `use` for each window, in order of time; at least one.
        duration_seconds: length of the whole track, or of the part that a truncated file holds.
        seconds: total length of the windows.
        decoder: name of the decoder that gave the samples.
        damage: fault of the file in a few words, or None.
        bandwidth_hz: largest of the windows' bandwidths, see `mgc.audio.bandwidth`; None if it was not measured.
    """

    windows: tuple[Use, ...]
    duration_seconds: float
    seconds: float
    decoder: DecoderName
    damage: str | None = None
    bandwidth_hz: float | None = None


def listen(
    recording: bytes | Cuts,
    plan: ListeningPlan,
    use: Callable[[Waveform], Use],
    track_id: str = "",
    decoders: Sequence[Decoder] = CASCADE,
    min_seconds: float = MIN_SECONDS,
) -> Listened[Use]:
    """Decode the planned windows of a track, one after the other, and use each of them.

    A damaged file is decoded as far as possible, and `damage` says what is wrong. If a truncated file is shorter than
    its header says, the plan applies to the part that is there. Damage outside the windows goes unnoticed, and so does
    damage that a decoder silently skips. Samples that are not finite or lie beyond ±1e6 become 0 and count as damage.

    Windows decoded by libsndfile equal the samples of a full decode, except on the last page of an Ogg file, where they
    may be off by up to one Vorbis block. The place of windows decoded by FFmpeg is exact to about 0.1 s. Cuts of an MP3
    equal its samples to 2e-6, and state how exact their places are.

    Args:
        recording: whole file (MP3, Ogg with Vorbis or Opus, FLAC, WAV, AIFF, and through FFmpeg M4A/AAC, WMA, WebM and
            others), or the cuts that hold the plan's windows.
        plan: windows to listen to.
        use: function of a window, which is mono at the file's own sample rate; computes its features, for example. The
            next window is decoded when it returns. It is called again from the first window on if another decoder
            starts over.
        track_id: seed of a plan with random windows.
        decoders: decoders in the order in which they are tried.
        min_seconds: length of the shortest track to accept, at least 0.5 s. As much must be decoded, or one window if
            that is shorter.

    Raises:
        AudioError: `empty` (no bytes), `not_audio`, `unsupported_codec`, `truncated`, `corrupt_stream`, or `too_short`
            (less than 0.5 s of audio, or less than `min_seconds`).
    """
    if isinstance(recording, Cuts):
        attempt = libsndfile.listen_to_cuts(recording, use)
        if attempt.seconds < MIN_SECONDS:
            raise AudioError(attempt.kind, f"{attempt.fault or 'nothing'}; {attempt.seconds:.2f} s can be decoded")
        _require(attempt, plan, min_seconds)
        damage = "; ".join(part for part in (recording.damage, attempt.damage) if part) or None
        return _listened(attempt, damage)
    if not recording:
        raise AudioError(ErrorKind.EMPTY, "the file is empty (0 bytes)")
    best = _cascade(recording, plan, use, track_id, decoders)
    if best.seconds < MIN_SECONDS:
        # A decoder may stumble over tags that it does not expect, or whose size is wrong. Try without them.
        audio = _between_tags(recording)
        if audio.start > 0 or audio.stop < len(recording):
            found = _cascade(recording[audio.start : audio.stop], plan, use, track_id, decoders)
            best = found if found.seconds >= MIN_SECONDS else best
    if best.seconds < MIN_SECONDS:
        raise _make_error(recording, best)
    _require(best, plan, min_seconds)
    return _listened(best, best.damage)


def _require(attempt: Attempt[Use], plan: ListeningPlan, min_seconds: float) -> None:
    """Raise AudioError if a track is shorter than `min_seconds`, or too little of it could be decoded.

    Lengths are compared as the message shows them, so that it does not matter how samples are rounded.
    """
    length_seconds = max(attempt.duration_seconds, attempt.seconds)
    if round(attempt.seconds, 2) < min(min_seconds, plan.window_seconds):
        length_seconds = attempt.seconds
    if round(length_seconds, 2) >= min_seconds:
        return
    needed = f"at least {min_seconds:g} s are needed"
    if attempt.fault is None or max(attempt.announced_seconds or 0.0, attempt.duration_seconds) < min_seconds:
        raise AudioError(ErrorKind.TOO_SHORT, f"{length_seconds:.2f} s of audio; {needed}")
    raise AudioError(
        attempt.kind, f"{attempt.fault}; {length_seconds:.2f} s can be decoded, {needed}", attempt.offset_bytes
    )


def _cascade(
    data: bytes, plan: ListeningPlan, use: Callable[[Waveform], Use], track_id: str, decoders: Sequence[Decoder]
) -> Attempt[Use]:
    """Return the best result of the decoders."""
    best: Attempt[Use] = decoders[0](data, plan, use, track_id)
    for decoder in decoders[1:]:
        if best.fault is None and best.seconds >= MIN_SECONDS:
            break
        best = _choose_better(best, decoder(data, plan, use, track_id), len(data))
    return best


def _between_tags(data: bytes) -> ByteRange:
    try:
        return probe(Held(data)).audio
    except AudioError:
        return ByteRange(0, len(data))


def _listened(attempt: Attempt[Use], damage: str | None) -> Listened[Use]:
    return Listened(tuple(attempt.windows), attempt.duration_seconds, attempt.seconds, attempt.decoder, damage)


def decode(recording: bytes | Cuts, plan: ListeningPlan, track_id: str = "") -> Listened[Waveform]:
    """Return the planned windows of a track as samples, all at once. See `listen`."""
    return listen(recording, plan, _keep, track_id)


def _keep(window: Waveform) -> Waveform:
    return window


def _choose_better(first: Attempt[Use], second: Attempt[Use], size_bytes: int) -> Attempt[Use]:
    """Return the attempt that decoded more, with what both attempts know about the damage."""
    if first.seconds > second.seconds:
        return first
    announced_seconds = first.announced_seconds or second.announced_seconds or 0.0
    missing_seconds = announced_seconds - second.duration_seconds
    if second.opened and missing_seconds > max(SLACK_SECONDS, announced_seconds / 100):
        lengths = f"header announces {announced_seconds:.1f} s, {second.duration_seconds:.1f} s are there"
        if second.fault is not None and second.kind is not ErrorKind.TRUNCATED:
            return second.fail(second.kind, f"{second.fault}; {lengths}", second.offset_bytes)
        return second.fail(ErrorKind.TRUNCATED, f"truncated: {lengths}", size_bytes)
    if second.fault is None and first.opened and first.fault is not None:
        return second.fail(first.kind, first.fault)
    return second


def _make_error(data: bytes, attempt: Attempt[Use]) -> AudioError:
    """Return the error for a file with too little decodable audio."""
    fault, kind, looks_like = attempt.fault, attempt.kind, _guess_container(data)
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
        message = f"{fault}; {attempt.seconds:.2f} s can be decoded, at least {MIN_SECONDS} s are needed"
    return AudioError(kind, message, attempt.offset_bytes)


_SIGNATURES: Final = {
    b"ID3": "MP3",
    b"fLaC": "FLAC",
    b"OggS": "Ogg",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "WMA",
    b"\x1a\x45\xdf\xa3": "Matroska",
}


def _guess_container(data: bytes) -> str | None:
    """Return the container that the first bytes announce, or None if it is not one of audio."""
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
