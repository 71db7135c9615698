"""Where the front end's time goes: CPU of each part, on one core.

python -m tests.benchmarks.front_end.front_end_parts FOLDER     (FOLDER has music/*.ogg)
"""

from __future__ import annotations

import io
import statistics
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.front_end.one_core import cpu_seconds, pin

ROUNDS = 25


def main(folder: Path) -> None:
    """Measure the parts in turn on one recording of 30 s and print the medians."""
    pin()
    import soundfile
    import soxr
    import torch

    from mgc.audio.decode import decode
    from mgc.audio.excerpts import ListeningPlan
    from mgc.audio.waveform import Waveform
    from mgc.features.mel import LogMel, LogMelConfig
    from mgc.features.mel_power import MelPower
    from tests.benchmarks import music

    torch.set_num_threads(1)
    data = music.thirty_seconds(folder).files[0]
    plan, config = ListeningPlan(window_seconds=30.0, windows=1), LogMelConfig()
    log_mel = LogMel(config)
    (window,) = decode(data, plan).windows
    rates = window.sample_rate_hz, config.sample_rate_hz
    resampled = Waveform(soxr.resample(window.samples, *rates, quality="HQ"), config.sample_rate_hz)
    wave_CT = torch.from_numpy(log_mel.cut(resampled)[0])
    power = MelPower.like_librosa(config.sample_rate_hz, config.n_fft, config.hop_length, config.n_mels, 0.0, None)
    hann_T = torch.hann_window(config.n_fft)

    @torch.inference_mode()
    def transform() -> None:
        for clip_T in wave_CT:
            torch.fft.rfft(clip_T.unfold(-1, config.n_fft, config.hop_length) * hann_T)

    seconds = cpu_seconds(
        {
            "bare soundfile.read": lambda: soundfile.read(io.BytesIO(data), dtype="float32"),
            "decode (with mixing and the check of samples)": lambda: decode(data, plan),
            "resample": lambda: soxr.resample(window.samples, *rates, quality="HQ"),
            "cut into clips": lambda: log_mel.cut(resampled),
            "window and Fourier transform": transform,
            "mel power (with window and transform)": torch.inference_mode()(lambda: power(wave_CT)),
            "features (mel power, decibels, rounding)": torch.inference_mode()(lambda: log_mel.features(wave_CT)),
            "whole front end": lambda: log_mel(decode(data, plan).windows[0]),
        },
        ROUNDS,
    )
    table = Table("part", "CPU ms")
    for name, values in seconds.items():
        table.add_row(name, f"{1000 * statistics.median(values):.2f}")
    Console(width=80).print(table)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
