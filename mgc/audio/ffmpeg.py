"""The second decoder: FFmpeg, through PyAV. It knows more formats and continues after damage.

It never seeks. It walks all packets twice, which is cheap because they are in memory: first for the length, which
headers often omit or state wrongly, then to decode the packets of the windows. T: samples in time, C: channels.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from mgc.audio.attempt import RATES_HZ, SLACK_SECONDS, Attempt, Use, mix
from mgc.audio.excerpts import Excerpt, ListeningPlan
from mgc.audio.waveform import Waveform
from mgc.errors import ErrorKind

_PREROLL_SECONDS: Final = 1.0
"""Decoded before each window and dropped. Bit reservoir, overlap and delay of the decoders are shorter."""

_LONGEST_STEP_SECONDS: Final = 5.0
"""A larger gap between the timestamps of two packets means damage, or two files joined together."""

_CONTAINERS: Final = (
    "aac,ac3,eac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,flac,flv,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,"
    "oma,ogg,qoa,rm,shn,tak,truehd,tta,voc,w64,wav,wv,xwma"
)
"""Containers that FFmpeg may open. A playlist (hls, concat, dash) would make it open other files and hosts."""

_ANNOUNCING_CONTAINERS: Final = frozenset({"mov", "matroska", "asf", "flac", "caf"})
"""Containers that state their length in a header. For the others FFmpeg guesses it from the bit rate."""


def listen(data: bytes, plan: ListeningPlan, use: Callable[[Waveform], Use], track_id: str = "") -> Attempt[Use]:
    """Decode the planned windows, and skip packets that cannot be decoded."""
    attempt = Attempt("pyav", use)
    try:
        with _open(data) as container:
            attempt.opened = True
            name: str = container.format.name
            stream = next((stream for stream in container.streams.audio if stream.codec_context is not None), None)
            if stream is None and container.streams.audio:
                return attempt.fail(ErrorKind.UNSUPPORTED_CODEC, f"no decoder knows its codec ({name} container)")
            if stream is None:
                return attempt.fail(ErrorKind.NOT_AUDIO, f"no audio stream ({name} container)")
            if container.duration and not _ANNOUNCING_CONTAINERS.isdisjoint(name.split(",")):
                attempt.announced_seconds = container.duration / av.time_base
            attempt.duration_seconds, last_position = _walk(container, stream)
            index: int = stream.index
        with _open(data) as container:
            excerpts = plan.excerpts(attempt.duration_seconds, track_id)
            _listen(container, container.streams[index], excerpts, attempt, last_position)
    except av.FFmpegError as error:
        kind = ErrorKind.CORRUPT_STREAM if attempt.opened else ErrorKind.NOT_AUDIO
        attempt.fail(kind, f"FFmpeg: {error.strerror}")
    return attempt


def measure_seconds(data: bytes) -> float | None:
    """Return the length of the first audio stream, measured by its packets; None if FFmpeg finds no stream."""
    try:
        with _open(data) as container:
            return _walk(container, container.streams.audio[0])[0]
    except (av.FFmpegError, IndexError):
        return None


def _open(data: bytes) -> Any:
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": ""}
    # Tags need not be UTF-8.
    return av.open(io.BytesIO(data), mode="r", options=options, metadata_errors="ignore")


def _walk(container: Any, stream: Any) -> tuple[float, int | None]:
    """Return the length of a stream in seconds, and the byte at which its last packet begins, if known."""
    place_seconds, last_position = 0.0, None
    try:
        for packet, place in _packets(container, stream):
            place_seconds = place
            last_position = packet.pos if packet.size else last_position
    except av.FFmpegError:
        pass  # The file ends inside a packet. The packets before it give the length.
    return place_seconds, last_position


def _packets(container: Any, stream: Any) -> Iterator[tuple[Any, float]]:
    """Yield packets with their places in seconds; the last packet is empty and flushes the decoder."""
    tick_seconds = float(stream.time_base)
    place_seconds = step_seconds = 0.0
    last_pts: int | None = None
    for packet in container.demux(stream):
        if packet.size == 0:
            yield packet, place_seconds + step_seconds
            continue
        if last_pts is not None:
            moved_seconds = -1.0 if packet.pts is None else (packet.pts - last_pts) * tick_seconds
            place_seconds += moved_seconds if 0 <= moved_seconds <= _LONGEST_STEP_SECONDS else step_seconds
        last_pts = last_pts if packet.pts is None else packet.pts
        step_seconds = min((packet.duration or 0) * tick_seconds, _LONGEST_STEP_SECONDS)
        yield packet, place_seconds


def _until_it_stops(packets: Iterator[tuple[Any, float]], stops: list[str]) -> Iterator[tuple[Any, float]]:
    """Yield packets until FFmpeg fails, for example at a stream of another kind; append the reason to `stops`."""
    try:
        yield from packets
    except av.FFmpegError as error:
        stops.append(str(error.strerror))


class _Window:
    """A window that is being filled."""

    def __init__(self, excerpt: Excerpt) -> None:
        self.start_seconds = self.begins_seconds = excerpt.start_seconds
        self.seconds = excerpt.seconds
        self.pieces: list[NDArray[np.float32]] = []
        self._missing: int | None = None

    def is_over(self, place_seconds: float) -> bool:
        """Return whether the window is full, or lies before this place (with the decoder's delay)."""
        return self._missing == 0 or place_seconds > self.start_seconds + self.seconds + _PREROLL_SECONDS

    def take(self, mono_T: NDArray[np.float32], rate_hz: int, place_seconds: float) -> None:
        """Keep the samples after the start of the window, until it is full."""
        if self.is_over(place_seconds):
            return
        skipped = 0
        if self._missing is None:
            skipped = max(0, round((self.start_seconds - place_seconds) * rate_hz))
            if skipped >= len(mono_T):
                return
            self.begins_seconds = place_seconds + skipped / rate_hz
            self._missing = round(self.seconds * rate_hz)
        piece_T = mono_T[skipped : skipped + self._missing]
        self.pieces.append(piece_T)
        self._missing -= len(piece_T)

    def hand_on(self, attempt: Attempt[Use], rate_hz: int) -> None:
        """Give the samples to the attempt."""
        if self.pieces:
            attempt.add(np.concatenate(self.pieces), rate_hz, self.begins_seconds)


def _listen(
    container: Any, stream: Any, excerpts: tuple[Excerpt, ...], attempt: Attempt[Use], last_position: int | None
) -> None:
    windows = deque(_Window(excerpt) for excerpt in excerpts)
    tick_seconds = float(stream.time_base)
    rate_hz = tried = failed = 0
    place_seconds = 0.0
    first_failure: int | None = None
    changed_to_hz: int | None = None
    skipped = False
    stops: list[str] = []
    for packet, place_seconds in _until_it_stops(_packets(container, stream), stops):
        while windows and windows[0].is_over(place_seconds):
            windows.popleft().hand_on(attempt, rate_hz)
        if not windows:
            break
        window = windows[0]
        if place_seconds < window.start_seconds - _PREROLL_SECONDS and packet.size:
            skipped = True
            continue
        if skipped:
            stream.codec_context.flush_buffers()
            skipped = False
        is_heard = place_seconds >= window.start_seconds
        tried += is_heard
        try:
            frames = packet.decode()
        except av.FFmpegError:
            # Before a window a decoder may miss the packets that were skipped.
            failed += is_heard
            first_failure = packet.pos if is_heard and first_failure is None else first_failure
            continue
        for frame in frames:
            rate_hz = rate_hz or frame.sample_rate
            if rate_hz not in RATES_HZ:
                attempt.fail(ErrorKind.CORRUPT_STREAM, f"damaged: a sample rate of {rate_hz} Hz")
                return
            if frame.sample_rate != rate_hz:
                changed_to_hz = frame.sample_rate
                continue
            late = 0 if frame.pts is None or packet.pts is None else frame.pts - packet.pts
            mono_T = _mix_frame(frame)
            if mono_T is None:
                failed += is_heard
                continue
            for window in windows:
                window.take(mono_T, rate_hz, max(0.0, place_seconds + late * tick_seconds))
    for window in windows:
        window.hand_on(attempt, rate_hz)
    planned_seconds = sum(excerpt.seconds for excerpt in excerpts)
    if failed == 1 and first_failure is not None and first_failure == last_position:
        fault = f"truncated: the file ends inside the packet at byte {first_failure}"
        attempt.fail(ErrorKind.TRUNCATED, fault, first_failure)
    elif failed:
        where = "" if first_failure is None else f", the first at byte {first_failure}"
        fault = f"damaged: {failed} of {tried} packets cannot be decoded{where}"
        attempt.fail(ErrorKind.CORRUPT_STREAM, fault, first_failure)
    elif stops:
        fault = f"damaged: FFmpeg stops at {place_seconds:.1f} s ({stops[0]})"
        attempt.fail(ErrorKind.CORRUPT_STREAM, fault)
    elif changed_to_hz is not None:
        fault = f"damaged: the sample rate changes from {rate_hz} to {changed_to_hz} Hz"
        attempt.fail(ErrorKind.CORRUPT_STREAM, fault)
    elif planned_seconds - attempt.seconds > SLACK_SECONDS * len(excerpts):
        fault = f"damaged: {attempt.seconds:.1f} of {planned_seconds:.1f} s can be decoded"
        attempt.fail(ErrorKind.CORRUPT_STREAM, fault)


_DTYPES: Final = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
"""NumPy's dtypes of FFmpeg's sample formats."""

_MOST_PLANES: Final = 8


def _mix_frame(frame: Any) -> NDArray[np.float32] | None:
    """Return the mean of a frame's channels, full scale ±1; None for more than 8 planar channels.

    Reads the planes itself, because `frame.to_ndarray()` of PyAV 18 crashes at frames of 8 channels or more, damaged
    ones included: it follows pointers past the end of the list.
    """
    channels = frame.layout.nb_channels
    dtype = np.dtype(_DTYPES[frame.format.name.removesuffix("p")])
    if frame.format.is_planar:
        if channels > _MOST_PLANES:
            return None
        wave_CT = [np.frombuffer(plane, dtype, frame.samples) for plane in frame.planes[:channels]]
    else:
        wave_CT = list(np.frombuffer(frame.planes[0], dtype, frame.samples * channels).reshape(-1, channels).T)
    mono_T = np.empty(frame.samples, np.float32)
    mix(wave_CT, mono_T)
    if dtype.kind == "u":
        mono_T -= 128
    if dtype.kind in "iu":
        mono_T *= np.float32(0.5 ** (8 * dtype.itemsize - 1))
    return mono_T
