"""Listen to the windows of a plan in streams that follow one another. T: samples in time.

Each window is used as soon as it is decoded, and only the result is kept. So even for a track of five hours no more
than one window of samples is in memory.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, Generic, TypeVar

import numpy as np
import soxr
from numpy.typing import NDArray

from mgc.audio.decoders.stream import SLACK_SECONDS, DecoderName, Fault, Stream, Stretch
from mgc.audio.excerpts import Excerpt, ListeningPlan
from mgc.audio.silence import is_silent
from mgc.audio.waveform import Waveform
from mgc.errors import ErrorKind

LENGTH_TOLERANCE: Final = 0.01
"""A header may be off by this share of the length without a word."""

MOST_OTHERS: Final = 12
"""Most windows that are tried in place of silent ones."""

_LARGEST_SAMPLE: Final = 1e6
"""Full scale is 1. A larger sample is damage, and its power would overflow float32."""

_SHORTEST_SECONDS: Final = 0.001
"""A shorter part of a window in a stream is left out."""

Use = TypeVar("Use")
"""What a window is turned into."""


@dataclass
class Attempt(Generic[Use]):
    """Result of one way of decoding a recording, filled in while it is decoded.

    Attributes:
        use: function that turns a window into what is kept.
        decoder: name of the decoder of the first stream.
        opened: whether a decoder recognises the file as audio.
        heard: start of each window in seconds, and its result.
        seconds: total length of the windows.
        duration_seconds: length of the recording, as far as the decoders can tell.
        announced_seconds: length according to the headers; 0 if they do not say.
        tolerance_seconds: largest error of the length and of the windows' places.
        faults: what went wrong while decoding.
        lengths: how the length differs from what the header announces, or None.
        unusable_samples: number of samples that were NaN, infinite or beyond ±1e6, and were set to 0.
        silent_seconds: total length of windows that were left out because they are silent.
        decoded_seconds: total length of all windows that were decoded.
    """

    use: Callable[[Waveform], Use]
    decoder: DecoderName = "soundfile"
    opened: bool = False
    heard: list[tuple[float, Use]] = field(default_factory=list)
    seconds: float = 0.0
    duration_seconds: float = 0.0
    announced_seconds: float = 0.0
    tolerance_seconds: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    lengths: Fault | None = None
    unusable_samples: int = 0
    silent_seconds: float = 0.0

    @property
    def decoded_seconds(self) -> float:
        """Total length of the windows that were decoded, silent ones included."""
        return self.seconds + self.silent_seconds

    def add(self, mono_T: NDArray[np.float32], sample_rate_hz: int, start_seconds: float) -> bool:
        """Use a window, unless it is silent. Sets unusable samples to 0, in place.

        Returns:
            Whether there was something to hear.
        """
        if not len(mono_T):
            return False
        # The sum of squares is small only if every sample is; NaN fails the comparison too.
        with np.errstate(over="ignore", invalid="ignore"):
            suspicious = not float(np.dot(mono_T, mono_T)) <= _LARGEST_SAMPLE**2
        if suspicious:
            wrong_T = ~(np.abs(mono_T) <= _LARGEST_SAMPLE)
            mono_T[wrong_T] = 0
            self.unusable_samples += int(wrong_T.sum())
        window = Waveform(mono_T, sample_rate_hz, start_seconds)
        if is_silent(mono_T, sample_rate_hz):
            self.silent_seconds += window.duration_seconds
            return False
        self.seconds += window.duration_seconds
        self.heard.append((start_seconds, self.use(window)))
        return True


def listen_to(streams: Sequence[Stream], plan: ListeningPlan, track_id: str, attempt: Attempt[Use]) -> Attempt[Use]:
    """Listen to the windows of a plan, laid over all streams. Others are heard in place of silent windows.

    Args:
        streams: streams in order of time; at least one.
        plan: windows to listen to.
        track_id: seed of a plan with random windows.
        attempt: where the results go.
    """
    attempt.opened, attempt.decoder = True, streams[0].decoder
    duration_seconds = sum(stream.duration_seconds for stream in streams)
    tried = list(plan.excerpts(duration_seconds, track_id))
    wanted = _listen(streams, tried, attempt)
    left = MOST_OTHERS
    while wanted and left > 0 and not any(stream.fault for stream in streams):
        others = _others(duration_seconds, plan.window_seconds, tried)[: min(wanted, left)]
        if not others:
            break
        tried += others
        left -= len(others)
        wanted -= len(others) - _listen(streams, sorted(others), attempt)
    attempt.heard.sort(key=lambda window: window[0])
    # What a stream could not decode is not there.
    attempt.duration_seconds = sum(stream.duration_seconds for stream in streams)
    attempt.tolerance_seconds = sum(stream.tolerance_seconds for stream in streams)
    attempt.faults += [stream.fault for stream in streams if stream.fault is not None]
    return attempt


def _listen(streams: Sequence[Stream], excerpts: Sequence[Excerpt], attempt: Attempt[Use]) -> int:
    """Listen to some windows. Returns how many of them are silent."""
    begins = list(accumulate((stream.duration_seconds for stream in streams), initial=0.0))
    parts: list[list[Excerpt]] = [[] for _ in streams]
    places: list[list[int]] = []
    for start, seconds in excerpts:
        stop, of_window = start + seconds, list[int]()
        for number in range(max(0, bisect_right(begins, start) - 1), len(streams)):
            begin, end = begins[number], begins[number + 1]
            if begin >= stop and of_window:
                break
            within = Excerpt(max(start, begin) - begin, min(stop, end) - max(start, begin))
            if within.seconds > _SHORTEST_SECONDS:
                parts[number].append(within)
                of_window.append(number)
        places.append(of_window)
    readers: list[Iterator[Stretch]] = [
        stream.read(part) if part else iter(()) for stream, part in zip(streams, parts, strict=True)
    ]
    silent = 0
    for of_window in places:
        pieces = [(number, next(readers[number])) for number in of_window]
        pieces = [(number, piece) for number, piece in pieces if len(piece.samples)]
        if pieces:
            number, first = pieces[0]
            rate_hz = max(piece.sample_rate_hz for _, piece in pieces)
            mono_T = _join([piece for _, piece in pieces], rate_hz)
            silent += not attempt.add(mono_T, rate_hz, begins[number] + first.start_seconds)
    for reader in readers:
        # A decoder notes what went wrong only when it has come to its end.
        next(reader, None)
    return silent


def _join(pieces: Sequence[Stretch], rate_hz: int) -> NDArray[np.float32]:
    """Return stretches as one, at one rate."""
    waves = [
        each.samples if each.sample_rate_hz == rate_hz else soxr.resample(each.samples, each.sample_rate_hz, rate_hz)
        for each in pieces
    ]
    return waves[0] if len(waves) == 1 else np.concatenate(waves)


def _others(duration_seconds: float, window_seconds: float, tried: Sequence[Excerpt]) -> list[Excerpt]:
    """Return places that were not heard yet, those in the middle of the longest stretches first."""
    gaps, place = list[Excerpt](), 0.0
    for start, seconds in sorted(tried):
        gaps.append(Excerpt(place, start - place))
        place = start + seconds
    gaps.append(Excerpt(place, duration_seconds - place))
    gaps = [gap for gap in gaps if gap.seconds >= window_seconds / 2]
    gaps.sort(key=lambda gap: -gap.seconds)
    middles = [(gap, min(window_seconds, gap.seconds)) for gap in gaps]
    return [Excerpt(gap.start_seconds + (gap.seconds - seconds) / 2, seconds) for gap, seconds in middles]


def compare_lengths(announced_seconds: float, found_seconds: float, size_bytes: int) -> Fault | None:
    """Return how a length differs from what a header announces; None if it does not, or the header says nothing."""
    if not announced_seconds:
        return None
    missing_seconds = announced_seconds - found_seconds
    if abs(missing_seconds) <= max(SLACK_SECONDS, LENGTH_TOLERANCE * announced_seconds):
        return None
    lengths = f"header announces {announced_seconds:.1f} s, {found_seconds:.1f} s are there"
    if missing_seconds > 0:
        return Fault(ErrorKind.TRUNCATED, f"truncated: {lengths}", size_bytes)
    return Fault(ErrorKind.CORRUPT_STREAM, lengths)
