"""Throughput of a label run: what it processed, and how long each stage took."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Final


@dataclass(frozen=True)
class Throughput:
    """The work of a run and the time it took. Stage times are summed over parallel processes.

    Attributes:
        tracks: number of tracks that went through the stages, decoded or not.
        seconds: wall-clock time from the first track to the last, without start-up and commit.
        startup_seconds: wall-clock time before the first track.
        cores: CPU cores in use.
        gpus: GPUs in use.
        size_bytes: total size of the tracks' files.
        bytes_read: bytes downloaded of those files.
        audio_seconds: total length of the tracks, where known.
        heard_seconds: seconds of audio decoded.
        fetch_seconds: time spent waiting for storage.
        listen_seconds: time spent on decoding and features.
        predict_seconds: time spent in the network.
    """

    tracks: int = 0
    seconds: float = 0.0
    startup_seconds: float = 0.0
    cores: int = 1
    gpus: int = 0
    size_bytes: int = 0
    bytes_read: int = 0
    audio_seconds: float = 0.0
    heard_seconds: float = 0.0
    fetch_seconds: float = 0.0
    listen_seconds: float = 0.0
    predict_seconds: float = 0.0

    @property
    def tracks_per_second(self) -> float:
        """Tracks per second of wall-clock time; 0 if no time was measured."""
        return self.tracks / self.seconds if self.seconds > 0 else 0.0

    @property
    def stages(self) -> dict[str, tuple[float, float]]:
        """Seconds of each stage, and its share of all stages (0 to 1)."""
        seconds = {
            "fetch": self.fetch_seconds,
            "decode and features": self.listen_seconds,
            "predict": self.predict_seconds,
        }
        total = sum(seconds.values())
        return {name: (spent, spent / total if total > 0 else 0.0) for name, spent in seconds.items()}

    def plus(self, later: Throughput) -> Throughput:
        """Return the sum of this pass and a later one. Cores and GPUs are those of the later pass."""
        summed = {name: getattr(self, name) + getattr(later, name) for name in _SUMMED}
        return Throughput(**summed, cores=later.cores, gpus=later.gpus)

    def to_json(self) -> dict[str, float]:
        """Return the fields as JSON-ready values, with seconds rounded to the millisecond."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}


_SUMMED: Final = tuple(each.name for each in fields(Throughput) if each.name not in ("cores", "gpus"))
