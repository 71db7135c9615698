"""Decode a track's bytes into the windows that a plan asks for.

There are two decoders. libsndfile (through soundfile) is faster and seeks to the exact sample. FFmpeg (through PyAV)
knows more formats and continues after damage. It is tried if libsndfile refuses the file or decodes less than planned.

What a header says is a hint. What the decoder gives is the truth, and what differs is said. A recording may consist of
several streams glued together; `mgc.audio.parts` finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Final, Generic

from mgc.audio.attempt import Attempt, Use, compare_lengths, listen_to
from mgc.audio.bandwidth import measure_bandwidth_hz
from mgc.audio.cuts import Cuts
from mgc.audio.decoders import ffmpeg, libsndfile
from mgc.audio.decoders.counted import CountedMp3
from mgc.audio.decoders.samples import SamplesStream
from mgc.audio.decoders.stream import Decoder, DecoderName, Fault, Stream
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.parts.divide import Division, Part, divide, head_flac
from mgc.audio.parts.search import find_audio, find_bare_flac
from mgc.audio.probe import Probe, probe
from mgc.audio.recording import CutsStream, Recording
from mgc.audio.source import ByteRange, Held, Source, take
from mgc.audio.steadiness import is_steady
from mgc.audio.waveform import Waveform
from mgc.errors import AudioError, ErrorKind

MIN_SECONDS: Final = 0.5
"""A track with less decodable audio than this is refused."""

CASCADE: Final[tuple[Decoder, ...]] = (libsndfile.open_stream, ffmpeg.open_stream)
"""The decoders, in the order in which they are tried."""


@dataclass(frozen=True, eq=False)
class Listened(Generic[Use]):
    """The windows of a track that were decoded, and their results.

    Attributes:
        windows: result of `use` for each window, in order of time; at least one.
        duration_seconds: length of the whole track, or of the part that a truncated file holds.
        tolerance_seconds: largest error of that length and of the windows' places; 0 if they are exact to 0.1 s.
        seconds: total length of the windows.
        bandwidth_hz: frequency above which there is nothing in any of the windows.
        decoder: name of the decoder that gave the first samples.
        damage: faults of the file in a few words, or None.
        steady: whether nothing changes in any of the windows, as in a test tone (`mgc.audio.steadiness`).
    """

    windows: tuple[Use, ...]
    duration_seconds: float
    tolerance_seconds: float
    seconds: float
    bandwidth_hz: float
    decoder: DecoderName
    damage: str | None = None
    steady: bool = False

    def require_change(self) -> None:
        """Refuse a recording in which nothing changes.

        Raises:
            AudioError: `not_music`.
        """
        if self.steady:
            text = f"nothing changes in {self.seconds:.1f} s, spread over the recording: a tone, a hum or noise"
            raise AudioError(ErrorKind.NOT_MUSIC, text)


def listen(
    recording: Recording | Waveform,
    plan: ListeningPlan,
    use: Callable[[Waveform], Use],
    track_id: str = "",
    decoders: Sequence[Decoder] = CASCADE,
    min_seconds: float = MIN_SECONDS,
) -> Listened[Use]:
    """Decode the planned windows of a track, one after the other, and use each of them.

    The whole recording counts: streams that were glued together are heard as one, at the highest of their rates. What
    stands in front of the audio is skipped. A damaged file is decoded as far as possible, and `damage` says what is
    wrong, and where the file contradicts its header. If a truncated file is shorter than its header says, the plan
    applies to the part that is there. Damage outside the windows may go unnoticed, and so may damage that a decoder
    silently skips. Samples that are not finite or lie beyond ±1e6 become 0 and count as damage.

    Each window is mono (`mgc.audio.decoders.mixing`). Silent windows are left out, and others are heard in their place.

    Windows decoded by libsndfile equal the samples of a full decode, except on the last page of an Ogg file, where they
    may be off by up to one Vorbis block. The place of windows decoded by FFmpeg is exact to about 0.1 s. Cuts of an MP3
    equal its samples to 2e-6.

    Args:
        recording: whole file (MP3, Ogg with Vorbis or Opus, FLAC, WAV, AIFF, and through FFmpeg M4A/AAC, WMA, WebM and
            others), as bytes or as a source that is read by ranges, the cuts that hold the plan's windows, or samples.
        plan: windows to listen to.
        use: function of a window, which is mono at the file's own sample rate; computes its features, for example. The
            next window is decoded when it returns. It is called again from the first window on if another decoder
            starts over.
        track_id: seed of a plan with random windows.
        decoders: decoders in the order in which they are tried.
        min_seconds: length of the shortest track to accept, at least 0.5 s. As much must be decoded, or one window if
            that is shorter.

    Raises:
        AudioError: `empty` (no bytes), `not_audio`, `unsupported_codec`, `truncated`, `corrupt_stream`, `silent`, or
            `too_short` (less than `min_seconds` of audio).
    """
    hearing = _Hearing(plan, use, track_id, decoders)
    if isinstance(recording, Cuts):
        best = hearing.listen_to_streams([CutsStream(recording)])
        faults = [] if recording.damage is None else [Fault(ErrorKind.TRUNCATED, recording.damage)]
        return _finish(best, faults, Held(b""), plan, min_seconds)
    if isinstance(recording, Waveform):
        return _finish(hearing.listen_to_streams([SamplesStream(recording)]), [], Held(b""), plan, min_seconds)
    source = Held(recording) if isinstance(recording, bytes) else recording
    if source.size_bytes == 0:
        raise AudioError(ErrorKind.EMPTY, "the file is empty (0 bytes)")
    tried: list[tuple[Attempt[_Heard[Use]], Division]] = []
    for division in _divisions(source):
        tried.append((hearing.listen_to_division(division), division))
        if tried[-1][0].decoded_seconds >= MIN_SECONDS:
            break
    best, division = max(tried, key=lambda found: (found[0].decoded_seconds, found[0].opened))
    return _finish(best, division.faults, source, plan, min_seconds)


@dataclass(frozen=True)
class _Heard(Generic[Use]):
    """Result of a window, its bandwidth, and whether nothing changes in it."""

    result: Use
    bandwidth_hz: float
    steady: bool


class _Hearing(Generic[Use]):
    """How to listen to one track."""

    def __init__(
        self, plan: ListeningPlan, use: Callable[[Waveform], Use], track_id: str, decoders: Sequence[Decoder]
    ) -> None:
        self._plan, self._use, self._track_id, self._decoders = plan, use, track_id, decoders

    def hear(self, window: Waveform) -> _Heard[Use]:
        """Use a window. It is measured first, because its samples may be overwritten."""
        bandwidth_hz = measure_bandwidth_hz(window.samples, window.sample_rate_hz)
        steady = is_steady(window.samples, window.sample_rate_hz)
        return _Heard(self._use(window), bandwidth_hz, steady)

    def listen_to_streams(self, streams: Sequence[Stream]) -> Attempt[_Heard[Use]]:
        """Listen to streams, and close them."""
        with ExitStack() as stack:
            for stream in streams:
                stack.enter_context(closing(stream))
            return listen_to(streams, self._plan, self._track_id, Attempt(self.hear))

    def listen_to_division(self, division: Division) -> Attempt[_Heard[Use]]:
        """Return the best result of the decoders, each of which opens every stream that it can."""
        best: Attempt[_Heard[Use]] | None = None
        used: list[list[int]] = []
        for first in range(len(self._decoders)):
            opened, faults = self._open(division.parts, first)
            choice = [number for _, _, number in opened]
            if best is not None and choice in used:
                continue
            used.append(choice)
            found = Attempt(self.hear)
            if opened:
                found = self.listen_to_streams([stream for _, stream, _ in opened])
                found.announced_seconds = _announced(opened)
                size_bytes = sum(part.source.size_bytes for part, _, _ in opened)
                found.lengths = compare_lengths(found.announced_seconds, found.duration_seconds, size_bytes)
            found.faults += faults
            best = found if best is None else _choose_better(best, found)
            if not found.faults and found.decoded_seconds >= MIN_SECONDS:
                break
        assert best is not None
        return best

    def _open(self, parts: Sequence[Part], first: int) -> tuple[list[tuple[Part, Stream, int]], list[Fault]]:
        """Open each part by the first decoder, from number `first` on, that can.

        Returns:
            Each part that was opened with its stream and the decoder's number (-1: by its frames), and why others were
            not.
        """
        opened: list[tuple[Part, Stream, int]] = []
        faults: list[Fault] = []
        for part in parts:
            if part.run is not None and first == 0:
                opened.append((part, CountedMp3(part.source, part.run), -1))
                continue
            fault: Fault | None = None
            begin = max(first, 0 if part.believable else len(self._decoders) - 1)
            for number in range(begin, len(self._decoders)):
                try:
                    opened.append((part, self._decoders[number](part.source), number))
                except AudioError as error:
                    if error.kind is ErrorKind.FETCH_FAILED:
                        raise
                    fault = Fault(error.kind, str(error), error.offset_bytes)
                else:
                    fault = None
                    break
            faults += [] if fault is None else [fault]
        return opened, faults


def _announced(opened: Sequence[tuple[Part, Stream, int]]) -> float:
    """Return the length that the headers of the parts announce; 0 if none does."""
    announced = [part.announced_seconds or stream.announced_seconds for part, stream, _ in opened]
    if not any(announced):
        return 0.0
    return sum(said or stream.duration_seconds for said, (_, stream, _) in zip(announced, opened, strict=True))


def _divisions(source: Source) -> Iterator[Division]:
    """Yield ways to see a file as streams, the likeliest first: as probed, from where audio begins, as it is."""
    facts = _probe(source)
    if facts is not None:
        yield divide(source, facts)
    begin = find_audio(source, 0)
    if begin is not None and (facts is None or begin != facts.audio.start):
        found = _probe_from(source, begin)
        if found is not None:
            yield found
    if facts is None or facts.audio != ByteRange(0, source.size_bytes):
        yield Division([Part(source)])
    bare = find_bare_flac(source) if facts is None else None
    if bare is not None and (headed := head_flac(source, bare)) is not None:
        yield Division([Part(headed)])


def _probe_from(source: Source, begin: int) -> Division | None:
    """Return the streams of what begins at a byte."""
    rest = take(source, ByteRange(begin, source.size_bytes))
    facts = _probe(rest)
    return None if facts is None else divide(rest, facts)


def _probe(source: Source) -> Probe | None:
    """Return what a probe finds out; None if it does not recognise the file.

    Raises:
        AudioError: `fetch_failed`, the source cannot be read.
    """
    try:
        return probe(source)
    except AudioError as error:
        if error.kind is ErrorKind.FETCH_FAILED:
            raise
        return None


def decode(recording: Recording, plan: ListeningPlan, track_id: str = "") -> Listened[Waveform]:
    """Return the planned windows of a track as samples, all at once. See `listen`."""
    return listen(recording, plan, _keep, track_id)


def _keep(window: Waveform) -> Waveform:
    return window


def _choose_better(first: Attempt[Use], second: Attempt[Use]) -> Attempt[Use]:
    """Return the attempt that decoded more, with what both attempts know about the damage."""
    if first.decoded_seconds > second.decoded_seconds:
        return first
    if not second.faults and second.lengths is None and first.opened:
        second.faults, second.lengths = first.faults, first.lengths
    elif second.lengths is None and first.lengths is not None and not second.opened:
        second.lengths = first.lengths
    return second


def _finish(
    attempt: Attempt[_Heard[Use]], faults: Sequence[Fault], source: Source, plan: ListeningPlan, min_seconds: float
) -> Listened[Use]:
    """Return what was heard.

    Raises:
        AudioError: it was too little.
    """
    all_faults = [*([] if attempt.lengths is None else [attempt.lengths]), *faults, *attempt.faults]
    # Lengths are compared as the message shows them, so that it does not matter how samples are rounded.
    least_seconds = max(MIN_SECONDS, min(min_seconds, plan.window_seconds))
    too_short = round(attempt.duration_seconds, 2) < min_seconds
    if round(attempt.decoded_seconds, 2) < least_seconds or too_short:
        raise _make_error(attempt, all_faults, source, plan, min_seconds)
    if not attempt.heard:
        text = f"nothing is to be heard in {attempt.silent_seconds:.1f} s, spread over the recording"
        raise AudioError(ErrorKind.SILENT, text)
    words = list(dict.fromkeys(fault.text for fault in all_faults))
    if attempt.unusable_samples:
        words.append(f"{attempt.unusable_samples} unusable sample(s)")
    return Listened(
        tuple(heard.result for _, heard in attempt.heard),
        attempt.duration_seconds,
        attempt.tolerance_seconds,
        attempt.seconds,
        max(heard.bandwidth_hz for _, heard in attempt.heard),
        attempt.decoder,
        "; ".join(words) or None,
        all(heard.steady for _, heard in attempt.heard),
    )


def _worst(faults: Sequence[Fault]) -> Fault | None:
    """Return the fault that says most: that the file is truncated, or else what the last decoder said."""
    truncated = [fault for fault in faults if fault.kind is ErrorKind.TRUNCATED]
    return next(iter(truncated), faults[-1] if faults else None)


def _make_error(
    attempt: Attempt[Use], faults: Sequence[Fault], source: Source, plan: ListeningPlan, min_seconds: float
) -> AudioError:
    """Return the error for a file with too little decodable audio."""
    decoded_seconds, fault = attempt.decoded_seconds, _worst(faults)
    least_seconds = max(min_seconds, MIN_SECONDS)
    needed = f"at least {least_seconds:g} s are needed"
    if fault is None or decoded_seconds >= MIN_SECONDS:
        heard_whole = round(decoded_seconds, 2) >= min(least_seconds, plan.window_seconds)
        seconds = max(decoded_seconds, attempt.duration_seconds) if heard_whole else decoded_seconds
        if fault is None or max(attempt.announced_seconds, attempt.duration_seconds) < least_seconds:
            return AudioError(ErrorKind.TOO_SHORT, f"{seconds:.2f} s of audio; {needed}")
        return AudioError(fault.kind, f"{fault.text}; {seconds:.2f} s can be decoded, {needed}", fault.offset_bytes)
    (head,) = source.read([ByteRange(0, min(source.size_bytes, _HEAD_BYTES))])
    looks_like = _guess_container(head)
    kind, message = fault.kind, fault.text
    if kind is ErrorKind.NOT_AUDIO and looks_like is not None and not attempt.opened:
        cut = looks_like == "MP4" and b"moov" not in head
        kind = ErrorKind.TRUNCATED if cut else ErrorKind.CORRUPT_STREAM
        index = " (its index, the box moov, is missing)" if cut else ""
        message = f"begins like {looks_like}, but no decoder finds audio in it{index}"
    elif kind is ErrorKind.NOT_AUDIO and not attempt.opened:
        message = "no decoder finds audio in it"
    elif kind not in (ErrorKind.NOT_AUDIO, ErrorKind.UNSUPPORTED_CODEC):
        message = f"{message}; {decoded_seconds:.2f} s can be decoded, {needed}"
    return AudioError(kind, message, fault.offset_bytes)


_HEAD_BYTES: Final = 1 << 20
"""Bytes of the file that are looked at for the message of an error."""

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
