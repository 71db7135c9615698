"""Up to which frequency a window has sound: noise and music with low-passes whose edges are known."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from mgc.audio.bandwidth import measure_bandwidth_hz
from tests.support.draws import draws

STEP = 2.0**-15
RATES_HZ = (8_000, 22_050, 44_100, 48_000, 96_000, 192_000)


def brown(seconds: float, rate_hz: int, seed: int = 0) -> NDArray[np.float64]:
    """Noise that falls by 6 dB an octave, about as music does."""
    samples = round(seconds * rate_hz)
    # A length of large prime factors takes its transform ten times as long.
    white = np.random.default_rng(seed).standard_normal(next_fast_len(samples, real=True))
    hz = np.fft.rfftfreq(len(white), 1 / rate_hz)
    sound = np.fft.irfft(np.fft.rfft(white) / np.maximum(hz, 50.0), len(white))[:samples]
    return sound * 0.1 / sound.std()


def low_passed(sound: NDArray[np.float64], rate_hz: int, edge_hz: float) -> NDArray[np.float32]:
    """The sound without anything above an edge."""
    length = next_fast_len(len(sound), real=True)
    spectrum = np.fft.rfft(sound, length)
    spectrum[np.fft.rfftfreq(length, 1 / rate_hz) > edge_hz] = 0
    return np.fft.irfft(spectrum, length)[: len(sound)].astype(np.float32)


def rounded(sound: NDArray[np.float32], seed: int = 1) -> NDArray[np.float32]:
    """The sound in 16 bits, with triangular dither."""
    rng = np.random.default_rng(seed)
    dither = rng.random(len(sound)) - rng.random(len(sound))
    return (np.round(sound / STEP + dither) * STEP).astype(np.float32)


@pytest.mark.draws
@settings(max_examples=draws(60), deadline=None)
@given(
    rate_hz=st.sampled_from(RATES_HZ),
    share=st.floats(0.05, 0.95),
    seconds=st.floats(0.5, 12.0),
    gain_db=st.floats(-40, 10),
    offset=st.sampled_from([0.0, 0.4]),
    in_16_bits=st.booleans(),
)
def test_an_edge_is_found(
    rate_hz: int, share: float, seconds: float, gain_db: float, offset: float, in_16_bits: bool
) -> None:
    edge_hz = max(share * rate_hz / 2, 2_000.0)
    # Attenuated and then rounded, sound near the edge is below the noise of rounding.
    gain = 10 ** ((max(gain_db, -10.0) if in_16_bits else gain_db) / 20)
    sound = low_passed(brown(seconds, rate_hz) * gain, rate_hz, edge_hz) + np.float32(offset)
    found_hz = measure_bandwidth_hz(rounded(sound) if in_16_bits else sound, rate_hz)
    assert found_hz == pytest.approx(edge_hz, rel=0.01, abs=100)
    assert found_hz <= rate_hz / 2


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_sound_of_full_bandwidth_reaches_half_the_rate(rate_hz: int) -> None:
    white = np.random.default_rng(3).standard_normal(5 * rate_hz)
    for sound in (0.1 * white, brown(5.0, rate_hz)):
        assert measure_bandwidth_hz(sound.astype(np.float32), rate_hz) == pytest.approx(rate_hz / 2, rel=0.01)


@pytest.mark.parametrize(("from_hz", "to_hz"), [(22_050, 44_100), (22_050, 48_000), (8_000, 44_100), (44_100, 96_000)])
def test_upsampled_sound_keeps_its_bandwidth(from_hz: int, to_hz: int) -> None:
    up = soxr.resample(brown(10.0, from_hz).astype(np.float32), from_hz, to_hz)
    assert measure_bandwidth_hz(up, to_hz) == pytest.approx(from_hz / 2, rel=0.05)
    assert measure_bandwidth_hz(rounded(up), to_hz) == pytest.approx(from_hz / 2, rel=0.05)


def test_a_click_is_not_treble() -> None:
    sound = low_passed(brown(30.0, 44_100), 44_100, 8_000.0)
    sound[500_000] += 0.9
    assert measure_bandwidth_hz(sound, 44_100) == pytest.approx(8_000.0, rel=0.02)


def test_one_loud_second_tells_the_bandwidth_of_its_window() -> None:
    window = rounded(np.zeros(30 * 44_100, np.float32))
    fade_T = np.sin(np.linspace(0, np.pi, 44_100)).astype(np.float32)
    window[441_000:485_100] += low_passed(brown(1.0, 44_100), 44_100, 15_000.0) * fade_T
    assert measure_bandwidth_hz(window, 44_100) == pytest.approx(15_000.0, rel=0.02)


@pytest.mark.parametrize("samples", [400, 2_000, 4_095])
def test_windows_shorter_than_a_frame_are_measured(samples: int) -> None:
    sound = low_passed(brown(1.0, 44_100), 44_100, 10_000.0)[:samples]
    assert 5_000.0 < measure_bandwidth_hz(sound, 44_100) <= 22_050.0


def test_real_music_that_is_resampled_and_encoded() -> None:
    folder = Path(os.environ.get("MGC_TEST_DATA") or "unset") / "music"
    if not folder.is_dir():
        pytest.skip("MGC_TEST_DATA names no folder with music/")
    for file in sorted(folder.glob("*.ogg")):
        if file.name == "pibble.ogg":  # Its treble is so weak that some frames have it and some do not.
            continue
        sound, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
        window = sound[: 30 * rate_hz].mean(axis=1)
        own_hz = measure_bandwidth_hz(window, rate_hz)
        assert own_hz <= rate_hz / 2
        for to_hz in (44_100, 48_000, 192_000):
            found_hz = measure_bandwidth_hz(soxr.resample(window, rate_hz, to_hz), to_hz)
            assert found_hz == pytest.approx(own_hz, rel=0.05), (file.name, to_hz)
        down = soxr.resample(window, rate_hz, 8_000)
        assert measure_bandwidth_hz(soxr.resample(down, 8_000, 44_100), 44_100) <= 4_200.0, file.name
