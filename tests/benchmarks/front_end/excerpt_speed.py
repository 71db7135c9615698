"""Eight 3-second excerpts of a long MP3 to log-mel, against the whole of it: CPU, and the share of bytes read."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch

from mgc.audio.decode import decode
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.recording import record
from mgc.audio.source import ByteRange
from mgc.audio.waveform import Waveform
from mgc.features.mel import LogMel, LogMelConfig
from tests.benchmarks.front_end.one_core import cpu_seconds, median_ratio
from tests.benchmarks.result import Result

EXCERPTS = ListeningPlan(window_seconds=3.0, windows=8)
WHOLE = ListeningPlan(window_seconds=600.0, windows=1)


class CountedSource:
    """A source whose bytes are in memory, and which counts those that are read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.read_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Length of the whole file."""
        return len(self._data)

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """The bytes of each range, cut at the file's end."""
        parts = [self._data[start:stop] for start, stop in ranges]
        self.read_bytes += sum(map(len, parts))
        return parts


def hear(source: CountedSource) -> Sequence[Waveform]:
    """Read what the plan asks for, by ranges, and decode it: what a worker does with a track."""
    return decode(record(source, EXCERPTS), EXCERPTS).windows


def measure(data: bytes, rounds: int) -> list[Result]:
    """`excerpt_speedup` and `excerpt_bytes_share` of an MP3."""
    torch.set_num_threads(1)
    log_mel = LogMel(LogMelConfig())
    source = CountedSource(data)
    windows = hear(source)
    read_bytes = source.read_bytes
    heard_seconds = sum(window.duration_seconds for window in windows)
    if len(windows) != EXCERPTS.windows or abs(heard_seconds - 24.0) > 0.1:
        raise ValueError(f"{len(windows)} excerpts of {heard_seconds:.2f} s together; 8 of 24 s were planned")

    def excerpts() -> None:
        for window in hear(CountedSource(data)):
            log_mel(window)

    def whole() -> None:
        for window in decode(data, WHOLE).windows:
            log_mel(window)

    seconds = cpu_seconds({"excerpts": excerpts, "whole": whole}, rounds)
    ms = {name: 1000 * statistics.median(values) for name, values in seconds.items()}
    return [
        Result(
            "excerpt_speedup",
            median_ratio(seconds["whole"], seconds["excerpts"]),
            "at least 5",
            f"{ms['whole']:.1f} over {ms['excerpts']:.1f} ms",
        ),
        Result(
            "excerpt_bytes_share",
            read_bytes / len(data),
            "at most 0.12",
            f"{read_bytes} of {len(data)} bytes; 24 s are {24 / (len(data) * 8 / 256_000):.3f} of the track",
        ),
    ]
