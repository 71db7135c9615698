"""The second decoder: FFmpeg, through PyAV. It knows more formats and continues after damage.

It never seeks. It walks all packets twice, which is cheap because they are in memory: first for the length, which
headers often omit or state wrongly, then to decode the packets of the windows. T: samples in time, C: channels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from mgc.audio.decoders.mixing import Mixer
from mgc.audio.decoders.stream import EXACT_SECONDS, RATES_HZ, SLACK_SECONDS, DecoderName, Fault, Stretch
from mgc.audio.excerpts import Excerpt
from mgc.audio.source import HeldFile, Source, SourceFile, open_source
from mgc.errors import AudioError, ErrorKind

_PREROLL_SECONDS: Final = 1.0
"""Decoded before each window and dropped. Bit reservoir, overlap and delay of the decoders are shorter."""

_LONGEST_STEP_SECONDS: Final = 5.0
"""A larger gap between the timestamps of two packets means damage, or two files joined together."""

_LONG_STEP: Final = 8.0
"""A packet that claims to last longer than any before it by more than this factor does not. Those of Vorbis differ by
up to 8, if the encoder's choice of blocks is unusual."""

_LONGEST_FRAME_SECONDS: Final = 1.0

_CONTAINERS: Final = (
    "aac,ac3,eac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,flac,flv,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,"
    "oma,ogg,qoa,rm,shn,tak,truehd,tta,voc,w64,wav,wv,xwma"
)
"""Containers that FFmpeg may open. A playlist (hls, concat, dash) would make it open other files and hosts."""

_ANNOUNCING_CONTAINERS: Final = frozenset({"mov", "matroska", "asf", "flac", "caf"})
"""Containers that state their length in a header. For the others FFmpeg guesses it from the bit rate."""


_LAST_PACKETS: Final = 8
"""Packets at the end that are decoded to see where the sound ends. Some need those before them."""


def open_stream(source: Source) -> FFmpegStream:
    """Open the first audio stream of a file.

    Raises:
        AudioError: `not_audio` or `unsupported_codec`.
    """
    data = open_source(source)
    opened = False
    try:
        with _open(data) as container:
            opened = True
            name: str = container.format.name
            stream = next((stream for stream in container.streams.audio if stream.codec_context is not None), None)
            if stream is None and container.streams.audio:
                raise AudioError(ErrorKind.UNSUPPORTED_CODEC, f"no decoder knows its codec ({name} container)")
            if stream is None:
                raise AudioError(ErrorKind.NOT_AUDIO, f"no audio stream ({name} container)")
            announced_seconds = None
            if container.duration and not _ANNOUNCING_CONTAINERS.isdisjoint(name.split(",")):
                announced_seconds = container.duration / av.time_base
            duration_seconds, cut = _walk(container, stream)
            found = FFmpegStream(source, stream.index, stream.codec_context.sample_rate or 0)
            padding_seconds = 2 * stream.codec_context.frame_size / (found.sample_rate_hz or 1)
    except av.FFmpegError as error:
        if data.failure is None:
            kind = ErrorKind.CORRUPT_STREAM if opened else ErrorKind.NOT_AUDIO
            raise AudioError(kind, f"FFmpeg: {error.strerror}") from None
    if data.failure is not None:
        raise data.failure
    found.duration_seconds, found.announced_seconds, found.cut = duration_seconds, announced_seconds, cut
    # Some containers do not say how much of the first and last frame is padding. That matters where frames are long.
    found.tolerance_seconds = padding_seconds if padding_seconds > EXACT_SECONDS else 0.0
    return found


class FFmpegStream:
    """A stream that FFmpeg decodes. See `mgc.audio.decoders.stream.Stream`. It skips packets that cannot be decoded."""

    decoder: Final[DecoderName] = "pyav"

    def __init__(self, source: Source, index: int, sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.duration_seconds, self.tolerance_seconds = 0.0, 0.0
        self.announced_seconds: float | None = None
        self.fault: Fault | None = None
        self.cut: Fault | None = None
        """That the file ends inside its last packet, if it does. The stream then ends before that packet."""
        self._source, self._index = source, index

    def read(self, excerpts: Sequence[Excerpt]) -> Iterator[Stretch]:
        """Decode one stretch after the other, with one walk from the start of the file."""
        data = open_source(self._source)
        windows = deque(_Window(excerpt) for excerpt in excerpts)
        try:
            with _open(data) as container:
                yield from self._read(container, container.streams[self._index], windows, excerpts)
        except av.FFmpegError as error:
            self.fault = self.fault or Fault(ErrorKind.CORRUPT_STREAM, f"FFmpeg: {error.strerror}")
        if data.failure is not None:
            raise data.failure
        for window in windows:
            yield window.finish(self.sample_rate_hz)

    def _read(
        self, container: Any, stream: Any, windows: deque[_Window], excerpts: Sequence[Excerpt]
    ) -> Iterator[Stretch]:
        tick_seconds = float(stream.time_base)
        tried = failed = 0
        place_seconds = heard_seconds = 0.0
        first_failure: int | None = None
        skipped = False
        stops: list[str] = []
        for packet, place_seconds in _until_it_stops(_packets(container, stream), stops):
            while windows and windows[0].is_over(place_seconds):
                done = windows.popleft()
                heard_seconds += done.filled_seconds
                yield done.finish(self.sample_rate_hz)
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
            # Some decoders do not tell where a frame belongs. It follows the one before it.
            at_seconds = place_seconds
            for frame in frames:
                if frame.sample_rate not in RATES_HZ:
                    text = f"damaged: a sample rate of {frame.sample_rate} Hz"
                    self.fault = Fault(ErrorKind.CORRUPT_STREAM, text)
                    return
                self.sample_rate_hz = self.sample_rate_hz or frame.sample_rate
                if frame.pts is not None and packet.pts is not None:
                    at_seconds = max(0.0, place_seconds + (frame.pts - packet.pts) * tick_seconds)
                # All windows are asked: one frame may end one and begin the next.
                taken = [window.take(frame, at_seconds) for window in windows]
                at_seconds += frame.samples / frame.sample_rate
                failed += is_heard and not all(taken)
        planned_seconds = sum(excerpt.seconds for excerpt in excerpts)
        heard_seconds += sum(window.filled_seconds for window in windows)
        self.fault = self._judge(failed, tried, first_failure, stops, place_seconds) or self.fault
        if self.fault is None and planned_seconds - heard_seconds > SLACK_SECONDS * len(excerpts):
            text = f"damaged: {heard_seconds:.1f} of {planned_seconds:.1f} s can be decoded"
            self.fault = Fault(ErrorKind.CORRUPT_STREAM, text)

    def _judge(
        self, failed: int, tried: int, first_failure: int | None, stops: list[str], place_seconds: float
    ) -> Fault | None:
        if self.cut is not None and (failed == 0 or (failed == 1 and first_failure == self.cut.offset_bytes)):
            return self.cut
        if failed:
            where = "" if first_failure is None else f", the first at byte {first_failure}"
            text = f"damaged: {failed} of {tried} packets cannot be decoded{where}"
            return Fault(ErrorKind.CORRUPT_STREAM, text, first_failure)
        if stops:
            return Fault(ErrorKind.CORRUPT_STREAM, f"damaged: FFmpeg stops at {place_seconds:.1f} s ({stops[0]})")
        return None

    def close(self) -> None:
        """Do nothing: the file is open only while it is read."""


def _open(data: HeldFile | SourceFile) -> Any:
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": ""}
    # Tags need not be UTF-8.
    container = av.open(data, mode="r", options=options, metadata_errors="ignore")
    for stream in container.streams.audio:
        if stream.codec_context is not None:
            # FFmpeg would start threads for WavPack, which a cell may not.
            stream.codec_context.thread_count = 1
    return container


def _walk(container: Any, stream: Any) -> tuple[float, Fault | None]:
    """Return the length of a stream in seconds, and whether its file ends inside a packet."""
    place_seconds = 0.0
    states_length = False
    last = deque[tuple[Any, float]](maxlen=_LAST_PACKETS)
    try:
        for packet, place in _packets(container, stream):
            place_seconds = place
            if packet.size:
                # The file may end inside the next packet, and then no empty one follows this.
                place_seconds += min((packet.duration or 0) * float(stream.time_base), _LONGEST_FRAME_SECONDS)
                states_length = states_length or bool(packet.duration)
                last.append((packet, place))
    except av.FFmpegError:
        pass  # The file ends inside a packet. The packets before it give the length.
    if not last:
        return place_seconds, None
    end_seconds, is_cut = _decode_end(stream, last)
    packet, last_place_seconds = last[-1]
    if is_cut and packet.pos is not None:
        text = f"truncated: the file ends inside the packet at byte {packet.pos}"
        return min(place_seconds, last_place_seconds), Fault(ErrorKind.TRUNCATED, text, packet.pos)
    return place_seconds if states_length else max(place_seconds, end_seconds), None


def _decode_end(stream: Any, last: Sequence[tuple[Any, float]]) -> tuple[float, bool]:
    """Decode the last packets of a stream.

    Returns:
        Where the last samples end, and whether the decoder refuses the last packet.
    """
    tick_seconds = float(stream.time_base)
    stream.codec_context.flush_buffers()
    end_seconds = 0.0
    refused = False
    for packet, place_seconds in [*last, (None, 0.0)]:
        end_seconds = max(end_seconds, place_seconds)
        try:
            frames = stream.codec_context.decode(packet)
        except av.FFmpegError:
            refused = refused or packet is last[-1][0]
            continue
        for frame in frames:
            if packet is not None and frame.pts is not None and packet.pts is not None:
                end_seconds = place_seconds + (frame.pts - packet.pts) * tick_seconds
            end_seconds += frame.samples / frame.sample_rate if frame.sample_rate in RATES_HZ else 0.0
    return end_seconds, refused


def _packets(container: Any, stream: Any) -> Iterator[tuple[Any, float]]:
    """Yield packets with their places in seconds; the last packet is empty and flushes the decoder."""
    tick_seconds = float(stream.time_base)
    place_seconds = step_seconds = usual_seconds = 0.0
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
        if usual_seconds and step_seconds > _LONG_STEP * usual_seconds:
            # A position that lies, not a long packet.
            step_seconds = usual_seconds
        usual_seconds = max(usual_seconds, step_seconds)
        yield packet, place_seconds


def _until_it_stops(packets: Iterator[tuple[Any, float]], stops: list[str]) -> Iterator[tuple[Any, float]]:
    """Yield packets until FFmpeg fails, for example at a stream of another kind; append the reason to `stops`."""
    try:
        yield from packets
    except av.FFmpegError as error:
        stops.append(str(error.strerror))


class _Window:
    """A window that is being filled. Frames of another rate or layout than the last are a part of their own."""

    def __init__(self, excerpt: Excerpt) -> None:
        self.start_seconds = self._begins_seconds = excerpt.start_seconds
        self.filled_seconds = 0.0
        self._seconds = excerpt.seconds
        self._parts: list[_Part] = []

    def is_over(self, place_seconds: float) -> bool:
        """Return whether the window is full, or lies before this place (with the decoder's delay)."""
        full = bool(self._parts) and self._missing(self._parts[-1].rate_hz) == 0
        return full or place_seconds > self.start_seconds + self._seconds + _PREROLL_SECONDS

    def _missing(self, rate_hz: int) -> int:
        return max(0, round((self._seconds - self.filled_seconds) * rate_hz))

    def take(self, frame: Any, place_seconds: float) -> bool:
        """Keep the samples after the start of the window, until it is full. Returns False if they cannot be read."""
        if self.is_over(place_seconds):
            return True
        rate_hz, skipped = frame.sample_rate, 0
        if not self._parts:
            skipped = max(0, round((self.start_seconds - place_seconds) * rate_hz))
            if skipped >= frame.samples:
                return True
        wave_CT = _planes(frame)
        if wave_CT is None:
            return False
        if not self._parts:
            self._begins_seconds = place_seconds + skipped / rate_hz
        if not self._parts or not self._parts[-1].is_like(frame):
            if self._parts:
                self._parts[-1].settle()
            self._parts.append(_Part(frame, self._missing(rate_hz)))
        filled = self._parts[-1].add([channel_T[skipped:] for channel_T in wave_CT])
        self.filled_seconds += filled / rate_hz
        return True

    def finish(self, rate_hz: int) -> Stretch:
        """Return the samples at one rate: the highest that occurs, at least that of the stream's beginning."""
        rate_hz = max((part.rate_hz for part in self._parts), default=rate_hz)
        pieces = [part.finish(rate_hz) for part in self._parts]
        mono_T = pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, np.float32), *pieces])
        return Stretch(mono_T, rate_hz, self._begins_seconds)


class _Part:
    """A part of a window in which rate, channels and format stay the same."""

    def __init__(self, frame: Any, samples: int) -> None:
        self.rate_hz: int = frame.sample_rate
        self._kind = _kind(frame)
        self._mono_T: NDArray[np.float32] | None = None
        self._dtype = np.dtype(_DTYPES[frame.format.name.removesuffix("p")])
        names = [channel.name for channel in frame.layout.channels]
        silence = 128.0 if self._dtype.kind == "u" else 0.0
        self._mixer = Mixer(samples, frame.layout.nb_channels, names, silence)

    def is_like(self, frame: Any) -> bool:
        """Return whether a frame belongs to this part."""
        return self._kind == _kind(frame)

    def add(self, wave_CT: Sequence[NDArray[Any]]) -> int:
        """Add samples. Returns how many there was room for."""
        before = self._mixer.missing
        self._mixer.add(wave_CT)
        return before - self._mixer.missing

    def settle(self) -> None:
        """Keep no more memory than the samples that came need: a damaged stream may have many parts."""
        if self._mono_T is None:
            mono_T = self._mixer.finish()
            if self._dtype.kind in "iu":
                mono_T *= np.float32(0.5 ** (8 * self._dtype.itemsize - 1))
            self._mono_T = mono_T if self._mixer.missing == 0 else mono_T.copy()
            del self._mixer

    def finish(self, rate_hz: int) -> NDArray[np.float32]:
        """Return the samples mixed to one channel, full scale ±1, at a rate."""
        self.settle()
        assert self._mono_T is not None
        if self.rate_hz == rate_hz:
            return self._mono_T
        resampled_T: NDArray[np.float32] = soxr.resample(self._mono_T, self.rate_hz, rate_hz)
        return resampled_T


def _kind(frame: Any) -> tuple[int, str, str]:
    return frame.sample_rate, frame.layout.name, frame.format.name


_DTYPES: Final = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
"""NumPy's dtypes of FFmpeg's sample formats."""

_MOST_PLANES: Final = 8


def _planes(frame: Any) -> list[NDArray[Any]] | None:
    """Return the samples of each channel of a frame; None for more than 8 planar channels.

    Reads the planes itself, because `frame.to_ndarray()` of PyAV 18 crashes at frames of 8 channels or more, damaged
    ones included: it follows pointers past the end of the list.
    """
    channels = frame.layout.nb_channels
    dtype = np.dtype(_DTYPES[frame.format.name.removesuffix("p")])
    if not frame.format.is_planar:
        return list(np.frombuffer(frame.planes[0], dtype, frame.samples * channels).reshape(-1, channels).T)
    if channels > _MOST_PLANES:
        return None
    return [np.frombuffer(plane, dtype, frame.samples) for plane in frame.planes[:channels]]
