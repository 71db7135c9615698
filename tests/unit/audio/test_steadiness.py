"""Sounds in which nothing changes are no music, whatever their rate, level and format."""

from __future__ import annotations

import functools
import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from mgc.audio.decode import decode
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.steadiness import is_steady
from mgc.errors import AudioError, ErrorKind
from mgc.features.front_end import build_front_end
from mgc.features.mel import LogMelConfig
from mgc.hearing.one_file import hear
from tests.damage.sound import make_sound
from tests.support.draws import draws

RATES_HZ = (8_000, 16_000, 22_050, 44_100, 48_000, 96_000)
SOUNDS = ("sine", "square", "hum", "white", "pink", "brown", "chord")


@functools.lru_cache(maxsize=len(SOUNDS))
def steady(sound: str, seconds: float, rate_hz: int, seed: int) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    time_T = np.arange(round(seconds * rate_hz)) / rate_hz
    hz = float(random.uniform(40, 3000))
    match sound:
        case "sine":
            wave_T = np.sin(2 * np.pi * hz * time_T)
        case "square":
            wave_T = np.sign(np.sin(2 * np.pi * hz * time_T))
        case "hum":
            wave_T = np.sum([np.sin(2 * np.pi * 50 * k * time_T) / k for k in range(1, 20)], axis=0)
        case "chord":
            wave_T = np.sum([np.sin(2 * np.pi * 220 * ratio * time_T) for ratio in (1, 1.25, 1.5)], axis=0)
        case "white":
            wave_T = random.normal(size=len(time_T))
        case _:
            # A length of large prime factors takes its transform ten times as long.
            length = next_fast_len(len(time_T), real=True)
            spectrum_F = np.fft.rfft(random.normal(size=length))
            hz_F = np.maximum(np.fft.rfftfreq(length, 1 / rate_hz), 20)
            wave_T = np.fft.irfft(spectrum_F / (np.sqrt(hz_F) if sound == "pink" else hz_F), length)[: len(time_T)]
    return (wave_T / np.abs(wave_T).max()).astype(np.float32)


@pytest.mark.draws
@settings(deadline=None, max_examples=draws(40))
@given(
    st.sampled_from(SOUNDS),
    st.floats(5.1, 12),
    st.sampled_from(RATES_HZ),
    st.integers(0, 1000),
    st.floats(0.001, 1.0),
)
def test_nothing_changes(sound: str, seconds: float, rate_hz: int, seed: int, level: float) -> None:
    assert is_steady(np.float32(level) * steady(sound, seconds, rate_hz, seed), rate_hz)


@pytest.mark.draws
@settings(deadline=None, max_examples=draws(30))
@given(st.integers(0, 1000), st.floats(5.1, 12), st.sampled_from(RATES_HZ), st.floats(0.0, 0.1))
def test_music_changes_even_in_noise(seed: int, seconds: float, rate_hz: int, noise: float) -> None:
    wave_T = make_sound(seed, seconds, rate_hz).copy()
    wave_T += np.float32(noise * wave_T.std()) * steady("white", seconds, rate_hz, seed)[: len(wave_T)]
    assert not is_steady(wave_T, rate_hz)


@pytest.mark.parametrize("hz", [60, 255, 1000, 5000])
@pytest.mark.parametrize("beats_hz", [0.3, 1.3, 4.0])
def test_a_tone_with_tremolo_changes(hz: float, beats_hz: float) -> None:
    time_T = np.arange(10 * 22_050) / 22_050
    wave_T = np.sin(2 * np.pi * hz * time_T) * (1 + np.sin(2 * np.pi * beats_hz * time_T)) / 2
    assert not is_steady(wave_T.astype(np.float32), 22_050)


def test_what_cannot_be_said() -> None:
    assert not is_steady(np.zeros(0, np.float32), 44_100)
    assert not is_steady(steady("sine", 4.5, 44_100, 0), 44_100)
    assert not is_steady(np.zeros(441_000, np.float32), 44_100)


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("sound", SOUNDS)
def test_a_file_of_it_is_not_music(sound: str, container: str) -> None:
    stream = io.BytesIO()
    soundfile.write(stream, 0.5 * steady(sound, 14.0, 44_100, 3), 44_100, format=container)
    plan = ListeningPlan(window_seconds=6.0)
    assert decode(stream.getvalue(), plan).steady
    with pytest.raises(AudioError, match="nothing changes in 12") as raised:
        hear(stream.getvalue(), None, plan, build_front_end(LogMelConfig()), 0.5)
    assert raised.value.kind is ErrorKind.NOT_MUSIC


def test_one_window_with_music_is_enough() -> None:
    wave_T = np.concatenate([steady("sine", 12.0, 22_050, 0), make_sound(1, 12.0, 22_050)])
    stream = io.BytesIO()
    soundfile.write(stream, wave_T, 22_050, format="WAV")
    assert not decode(stream.getvalue(), ListeningPlan(window_seconds=6.0)).steady
