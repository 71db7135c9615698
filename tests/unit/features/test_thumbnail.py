from __future__ import annotations

import numpy as np
import pytest
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.audio.waveform import Waveform
from mgc.features.mel_power import MelPower
from mgc.features.thumbnail import Thumbnail, ThumbnailConfig


def noise(frames: int, rate_hz: int = 44100) -> Waveform:
    """Noise of so many frames."""
    samples = np.random.default_rng(3).standard_normal((frames - 1) * 512 + 100)
    return Waveform(samples.astype(np.float32), rate_hz, 5.0)


@pytest.mark.parametrize("frames", [2, 90, 128, 129, 700, 2583])
@pytest.mark.parametrize("rate_hz", [8000, 44100, 96000])
def test_one_window_is_one_clip(frames: int, rate_hz: int) -> None:
    front_end = Thumbnail(ThumbnailConfig())
    made = front_end(noise(frames, rate_hz))
    assert made.features.shape == (1, *front_end.shape) == (1, 104, 128)
    assert made.start_seconds.tolist() == [5.0]


def test_columns_are_the_frames_of_the_formula() -> None:
    """A pulse in one frame lights the columns that stand for it, and no other."""
    front_end = Thumbnail(ThumbnailConfig(sample_rate_hz=22050, columns=64))
    for frames in (40, 64, 400):
        samples = np.zeros((frames - 1) * 512 + 100, np.float32)
        pulse = frames // 2
        samples[pulse * 512] = 1.0
        made = front_end(Waveform(samples, 22050)).features[0]
        # A frame is four hops long: the pulse stands in frames pulse - 1 to pulse + 1, and at the edge of two more.
        frame_of = np.floor((np.arange(64) + 0.5) * frames / 64).astype(int)
        np.testing.assert_array_equal(made.max(axis=0) > 128, np.abs(frame_of - pulse) <= 1)


def test_the_scale_is_below_the_window_s_maximum() -> None:
    fade = noise(1000).samples * np.linspace(1e-9, 1, 999 * 512 + 100, dtype=np.float32)
    made = Thumbnail(ThumbnailConfig(columns=1000))(Waveform(fade, 44100)).features[0]
    assert made.min() == 0
    assert made.max() == 255
    # 0 is 80 dB below the maximum, whether or not anything is so low.
    steady = Thumbnail(ThumbnailConfig(columns=1000))(noise(1000)).features[0]
    assert steady.min() > 50
    assert steady.max() == 255


def test_what_is_above_the_band_is_not_heard() -> None:
    """The highest row of the defaults ends at 10,236 Hz. A tone above, however loud, changes nothing below."""
    time_T = np.arange(5 * 44100) / 44100
    low_T = 0.1 * np.sin(2 * np.pi * 3000 * time_T)
    low_T += 0.01 * np.sin(2 * np.pi * 9500 * time_T)
    fade_T = np.minimum(1, np.minimum(time_T, 5 - time_T) / 0.2)
    front_end = Thumbnail(ThumbnailConfig())
    plain = front_end(Waveform((fade_T * low_T).astype(np.float32), 44100)).features.astype(int)
    high_T = 0.5 * np.sin(2 * np.pi * 12_000 * time_T)
    made = front_end(Waveform((fade_T * (low_T + high_T)).astype(np.float32), 44100)).features.astype(int)
    # Hann's side lobes of a tone 26 dB louder stay below the floor of the first rows, not quite below that of the last.
    assert np.abs(made - plain)[0, :98].max() <= 1


def test_a_missing_band_is_zero() -> None:
    """What `limit_band` makes of a picture is what a file of a lower rate gives."""
    whole = noise(700, 44100)
    lower = Waveform(soxr.resample(whole.samples, 44100, 16000, quality="VHQ"), 16000, whole.start_seconds)
    front_end = Thumbnail(ThumbnailConfig())
    made, full = front_end(lower).features[0].astype(int), front_end(whole).features[0].astype(int)
    # 8,000 Hz is in row 96; the resamplers' transition reaches down from there.
    assert not made[98:].any()
    assert full[98:].min() > 50
    # White noise has as much power per hertz as before; its maximum may lie in another row.
    assert np.abs(made - full)[:90].max() <= 12


def test_silence_is_zero() -> None:
    assert Thumbnail(ThumbnailConfig())(Waveform(np.zeros(44100, np.float32), 44100)).features.max() == 0


def test_the_scale_does_not_depend_on_how_it_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    window = noise(700)
    expected = Thumbnail(ThumbnailConfig())(window).features.astype(int)
    monkeypatch.setattr("mgc.features.mel_power._LOUD_FRAMES_AT_ONCE", 7)
    # Another split may round another way, by one step at most.
    assert np.abs(Thumbnail(ThumbnailConfig())(window).features.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("n_fft", "hop_length"), [(2048, 512), (2048, 509), (1024, 320), (256, 300), (64, 16)])
@pytest.mark.parametrize("sound", ["noise", "tone", "click", "offset", "zeros"])
def test_the_loudest_of_all_frames_is_found(sound: str, n_fft: int, hop_length: int) -> None:
    noise_T = torch.randn(44_100, generator=torch.manual_seed(0))
    tone_T = torch.sin(torch.arange(44_100) * 0.03) * torch.linspace(0.1, 1, 44_100)
    click_T = 1e-3 * noise_T
    click_T[20_011] = 1.0
    waves = {"noise": noise_T, "tone": tone_T, "click": click_T, "offset": 1 + 0 * tone_T, "zeros": 0 * tone_T}
    wave_T = waves[sound]
    power = MelPower.like_librosa(44_100, n_fft, hop_length, 40, 0.0, None)
    known = power.of_frames(wave_T, torch.tensor([0, 3])).max()
    torch.testing.assert_close(power.loudest(wave_T, known), power(wave_T).max(), rtol=1e-5, atol=0)


@settings(max_examples=60)
@given(
    half=st.integers(32, 1024), hop_length=st.integers(16, 1200), samples=st.integers(0, 20_000), seed=st.integers(0, 9)
)
def test_no_limit_is_below_the_energy_of_its_frame(half: int, hop_length: int, samples: int, seed: int) -> None:
    """Whatever blocks a hop is divided into: one that is too low would leave the loudest frame out."""
    generator = torch.Generator().manual_seed(seed)
    # Bursts, so that frames hold sound in a part of them only.
    gate_T = torch.rand(2 * half + samples, generator=generator) < 0.5 ** (seed % 5)
    wave_T = torch.randn(2 * half + samples, generator=generator) * gate_T
    power = MelPower.like_librosa(44_100, 2 * half, hop_length, 40, 0.0, None)
    energy_X = (wave_T.unfold(0, 2 * half, hop_length) * torch.hann_window(2 * half)).square().sum(1)
    # The window's largest power is 1, in the middle of a frame.
    assert (power._limits(wave_T) >= energy_X * power._most_J.max() * 0.9999).all()


def test_few_frames_of_music_are_transformed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second of a chord that fades again and again: most frames have too little energy to set the scale."""
    place_T = np.arange(30 * 44_100) / 44_100
    chord_T = sum(np.sin(2 * np.pi * hz * place_T) for hz in (220.0, 277.2, 329.6)) * np.exp(-4 * (place_T % 1.0))
    transformed = []
    of_frames = MelPower.of_frames

    def count(power: MelPower, wave_T: torch.Tensor, frames_X: torch.Tensor) -> torch.Tensor:
        transformed.append(len(frames_X))
        return of_frames(power, wave_T, frames_X)

    monkeypatch.setattr(MelPower, "of_frames", count)
    Thumbnail(ThumbnailConfig())(Waveform(chord_T.astype(np.float32), 44_100))
    assert sum(transformed) < 2584 / 4
