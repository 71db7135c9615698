"""CPU of bytes to log-mel, against bare decoding and against what people write with librosa."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable, Sequence

import librosa
import numpy as np
import soundfile
import torch

from mgc.audio.decode import decode
from mgc.audio.excerpts import ListeningPlan
from mgc.features.mel import LogMel, LogMelConfig
from tests.benchmarks.front_end.one_core import cpu_seconds, median_ratio
from tests.benchmarks.result import Result

PLAN = ListeningPlan(window_seconds=30.0, windows=1)


def measure(files: Sequence[bytes], rounds: int) -> list[Result]:
    """`front_end_over_decode` and `habit_over_front_end`, each the median over the rounds; a round hears all files."""
    torch.set_num_threads(1)
    log_mel = LogMel(LogMelConfig())

    def front_end(data: bytes) -> None:
        for window in decode(data, PLAN).windows:
            log_mel(window)

    def every(work: Callable[[bytes], object]) -> Callable[[], None]:
        def run() -> None:
            for data in files:
                work(data)

        return run

    variants = {"decode": every(bare_decode), "front end": every(front_end), "habit": every(habit)}
    seconds = cpu_seconds(variants, rounds)
    ms = {name: 1000 * statistics.median(values) / len(files) for name, values in seconds.items()}
    spread = np.percentile(np.divide(seconds["front end"], seconds["decode"]), [10, 90])
    return [
        Result(
            "front_end_over_decode",
            median_ratio(seconds["front end"], seconds["decode"]),
            "at most 1.5, better 1.4",
            f"{ms['front end']:.1f} over {ms['decode']:.1f} ms a file; 10 to 90 %: {spread[0]:.3f} to {spread[1]:.3f}",
        ),
        Result(
            "habit_over_front_end",
            median_ratio(seconds["habit"], seconds["front end"]),
            "at least 1.8",
            f"{ms['habit']:.1f} over {ms['front end']:.1f} ms a file",
        ),
    ]


def bare_decode(data: bytes) -> None:
    """The floor: what every design pays."""
    soundfile.read(io.BytesIO(data), dtype="float32")


def habit(data: bytes) -> None:
    """What people write."""
    samples, rate_hz = librosa.load(io.BytesIO(data), sr=22050)
    librosa.power_to_db(librosa.feature.melspectrogram(y=samples, sr=rate_hz), ref=np.max)
