from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mgc.audio.waveform import Waveform
from mgc.features.mel import LogMel, LogMelConfig
from mgc.features.mel_power import mel_filters

RATE_HZ = 22050


def noise(seconds: float, rate_hz: int = RATE_HZ, start_seconds: float = 0.0) -> Waveform:
    samples = 0.1 * np.random.default_rng(7).standard_normal(round(seconds * rate_hz))
    return Waveform(samples.astype(np.float32), rate_hz, start_seconds)


@pytest.mark.parametrize(
    ("seconds", "clips"), [(0.5, 1), (2.9, 1), (3.0, 1), (4.4, 1), (4.6, 2), (7.0, 2), (7.5, 3), (30.0, 10), (31.5, 11)]
)
def test_a_window_is_cut_into_clips(seconds: float, clips: int) -> None:
    made = LogMel(LogMelConfig())(noise(seconds, start_seconds=12.0))
    assert made.features.shape == (clips, 128, 128)
    assert made.start_seconds.tolist() == pytest.approx([12.0 + 3.0 * clip for clip in range(clips)])


def test_a_clip_is_relative_to_its_own_loudest_point() -> None:
    loud, quiet = noise(3.0).samples, noise(3.0).samples * np.float32(0.01)
    made = LogMel(LogMelConfig())(Waveform(np.concatenate([loud, quiet]), RATE_HZ))
    assert made.features.max(axis=(1, 2)).tolist() == [255, 255]
    assert np.abs(made.features[0].astype(int) - made.features[1].astype(int))[:, 2:-2].max() <= 1


def test_a_remainder_is_padded_with_silence() -> None:
    made = LogMel(LogMelConfig())(noise(5.0)).features
    # Two seconds of noise, then nothing: 86 frames a second, the first kept frame is the clip's second.
    assert made[1, :, :80].min() > 0
    assert made[1, :, 90:].max() == 0


@pytest.mark.filterwarnings("error")
def test_silence_is_the_floor() -> None:
    front_end = LogMel(LogMelConfig())
    assert front_end(Waveform(np.zeros(3 * RATE_HZ, np.float32), RATE_HZ)).features.max() == 0
    half = np.concatenate([np.zeros(3 * RATE_HZ, np.float32), noise(3.0).samples])
    made = front_end(Waveform(half, RATE_HZ)).features
    assert made[0].max() == 0
    assert made[1].max() == 255


def test_with_a_fixed_reference_loudness_is_told_apart_and_saturates() -> None:
    front_end = LogMel(LogMelConfig(reference_db=0.0, top_db=51.0))
    sound = noise(3.0)
    made = [
        front_end(Waveform(sound.samples * np.float32(gain), RATE_HZ)).features.astype(int) for gain in (0, 0.01, 0.1)
    ]
    assert not made[0].any()
    inside = (made[1] > 0) & (made[2] < 255)
    assert inside.mean() > 0.5
    # 20 dB are 100 steps of 51 / 255 dB.
    assert (np.abs(made[2] - made[1] - 100)[inside] <= 1).all()
    assert front_end(Waveform(sound.samples * np.float32(1000), RATE_HZ)).features.min() == 255


def test_a_tone_lies_in_its_bin_whatever_the_file_rate() -> None:
    front_end = LogMel(LogMelConfig())
    edges_hz = np.argmax(mel_filters(RATE_HZ, 2048, 128, 0.0, RATE_HZ / 2), axis=0) * RATE_HZ / 2048
    expected = int(np.argmin(np.abs(edges_hz - 1000.0)))
    for rate_hz in (8000, 22050, 44100, 48000):
        time = np.arange(3 * rate_hz) / rate_hz
        tone = Waveform(np.sin(2 * np.pi * 1000.0 * time).astype(np.float32), rate_hz)
        features = front_end(tone).features[0]
        assert abs(int(features.mean(axis=1).argmax()) - expected) <= 1


def test_shape_follows_the_configuration() -> None:
    config = LogMelConfig(
        sample_rate_hz=16000,
        n_fft=512,
        hop_length=160,
        n_mels=64,
        clip_seconds=1.0,
        frames=96,
        f_min_hz=60,
        f_max_hz=7800,
    )
    front_end = LogMel(config)
    made = front_end(noise(5.0))
    assert made.features.shape == (5, *front_end.shape) == (5, 64, 96)


def test_the_caller_keeps_its_samples_and_gradient_mode() -> None:
    window = noise(3.0)
    before = window.samples.copy()
    LogMel(LogMelConfig())(window)
    assert (window.samples == before).all()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"frames": 131}, "130"),
        ({"f_max_hz": 12000.0}, "half the sample rate"),
        ({"f_min_hz": 11025.0}, "f_min_hz"),
        ({"n_fft": 2047}, "odd"),
        ({"n_mels": 0}, "n_mels"),
        ({"hop": 512}, "hop"),
        ({"kind": "mel"}, "kind"),
        ({"reference_db": -50.0}, "reference_db - top_db is -130 dB"),
        ({"reference_db": -101.0}, "reference_db"),
    ],
)
def test_refuses_wrong_values(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        LogMelConfig(**wrong)  # type: ignore[arg-type]
