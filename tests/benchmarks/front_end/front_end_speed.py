"""CPU of bytes to features, against bare decoding and against what people write with librosa."""

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
from mgc.audio.waveform import Waveform
from mgc.features.clips import Clips
from mgc.features.kaldi_mel import KaldiMel, KaldiMelConfig
from mgc.features.mel import LogMel, LogMelConfig
from mgc.features.thumbnail import Thumbnail, ThumbnailConfig
from tests.benchmarks.front_end.one_core import cpu_seconds, median_ratio
from tests.benchmarks.result import Result

PLAN = ListeningPlan(window_seconds=30.0, windows=1)


def measure(files: Sequence[bytes], rounds: int) -> list[Result]:
    """Ratios of CPU, each the median over the rounds; a round hears all files."""
    torch.set_num_threads(1)
    log_mel, thumbnail, kaldi_mel = LogMel(LogMelConfig()), Thumbnail(ThumbnailConfig()), KaldiMel(KaldiMelConfig())

    def hear(front_end: Callable[[Waveform], Clips]) -> Callable[[bytes], None]:
        def run(data: bytes) -> None:
            for window in decode(data, PLAN).windows:
                front_end(window)

        return run

    def every(work: Callable[[bytes], object]) -> Callable[[], None]:
        def run() -> None:
            for data in files:
                work(data)

        return run

    variants = {
        "decode": every(bare_decode),
        "front end": every(hear(log_mel)),
        "thumbnail": every(hear(thumbnail)),
        "kaldi mel": every(hear(kaldi_mel)),
        "habit": every(habit),
    }
    seconds = cpu_seconds(variants, rounds)

    def compare(name: str, upper: str, lower: str, aim: str) -> Result:
        ms = {each: 1000 * statistics.median(seconds[each]) / len(files) for each in (upper, lower)}
        spread = np.percentile(np.divide(seconds[upper], seconds[lower]), [10, 90])
        seen = f"{ms[upper]:.1f} over {ms[lower]:.1f} ms a file; 10 to 90 %: {spread[0]:.3f} to {spread[1]:.3f}"
        return Result(name, median_ratio(seconds[upper], seconds[lower]), aim, seen)

    return [
        compare("front_end_over_decode", "front end", "decode", "at most 1.3"),
        compare("thumbnail_over_decode", "thumbnail", "decode", "at most 0.8"),
        compare("kaldi_mel_over_decode", "kaldi mel", "decode", "none"),
        compare("habit_over_front_end", "habit", "front end", "at least 1.8"),
    ]


def bare_decode(data: bytes) -> None:
    """The floor: what every design pays."""
    soundfile.read(io.BytesIO(data), dtype="float32")


def habit(data: bytes) -> None:
    """What people write."""
    samples, rate_hz = librosa.load(io.BytesIO(data), sr=22050)
    librosa.power_to_db(librosa.feature.melspectrogram(y=samples, sr=rate_hz), ref=np.max)
