"""What is silent and what sounds. Rates from 8 to 192 kHz, levels from one step of 16 bits to full scale."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mgc.audio.silence import is_silent
from tests.support.draws import draws

STEP = 2.0**-15
RATES_HZ = (8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000)
SHAPED = (
    "lipshitz",
    "shibata",
    "low_shibata",
    "high_shibata",
    "f_weighted",
    "modified_e_weighted",
    "improved_e_weighted",
)

Samples = NDArray[np.float32]


def seconds_of(seconds: float, rate_hz: int) -> NDArray[np.float64]:
    return np.arange(round(seconds * rate_hz)) / rate_hz


def triangular(samples: int, bits: int, seed: int = 0) -> Samples:
    """Silence that was rounded after triangular dither."""
    rng = np.random.default_rng(seed)
    step = 2.0 ** (1 - bits)
    return (np.round(rng.random(samples) - rng.random(samples)) * step).astype(np.float32)


def music(seconds: float, rate_hz: int, rms: float = 0.1) -> Samples:
    """Chords with beats."""
    time = seconds_of(seconds, rate_hz)
    tones = sum(np.sin(2 * np.pi * pitch_hz * time) for pitch_hz in (110.0, 277.2, 659.3, 1318.5))
    beats = np.exp(-8 * (2 * time % 1)) * np.random.default_rng(11).standard_normal(len(time))
    sound = tones * (time % 4 < 3) + beats
    return (sound * rms / np.sqrt(np.mean(sound**2))).astype(np.float32)


def rounded(sound: Samples) -> Samples:
    return (np.round(sound / STEP) * STEP).astype(np.float32)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("bits", [16, 24])
def test_dither_is_silent(rate_hz: int, bits: int) -> None:
    assert is_silent(triangular(10 * rate_hz, bits), rate_hz)


def test_silence_that_was_dithered_twice_is_silent() -> None:
    assert is_silent(triangular(441_000, 16) + triangular(441_000, 16, seed=1), 44_100)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize(
    ("rate_hz", "method", "offset"),
    [
        # `make test` tries each pair of two values, `make drills` the other triples too.
        pytest.param(rate_hz, method, offset, marks=[] if (row + column + bool(offset)) % 2 else [pytest.mark.drill])
        for row, rate_hz in enumerate([22_050, 44_100, 48_000])
        for column, method in enumerate(SHAPED)
        for offset in (0.0, 0.3)
    ],
)
def test_noise_shaped_dither_is_silent(rate_hz: int, method: str, offset: float) -> None:
    raw = np.full(5 * rate_hz, offset, np.float32).tobytes()
    read = ["-f", "f32le", "-ar", str(rate_hz), "-ac", "1", "-i", "-"]
    shape = ["-af", f"aresample=osf=s16:dither_method={method}", "-f", "s16le", "-"]
    made = subprocess.run(["ffmpeg", "-v", "error", *read, *shape], input=raw, capture_output=True, check=True).stdout
    dither = (np.frombuffer(made, np.int16) * STEP).astype(np.float32)
    assert np.ptp(dither) > 0
    assert is_silent(dither, rate_hz)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("offset", [0.0, STEP, 0.4, -1.0, 1.0])
def test_an_offset_is_silent(rate_hz: int, offset: float) -> None:
    assert is_silent(np.full(5 * rate_hz, offset, np.float32), rate_hz)


@pytest.mark.parametrize("rate_hz", [8_000, 44_100])
def test_a_slow_drift_is_silent(rate_hz: int) -> None:
    time = seconds_of(20.0, rate_hz)
    for drift in (0.5 * np.sin(2 * np.pi * 0.3 * time), time / 20, 0.5 * np.exp(-time / 2)):
        assert is_silent(drift.astype(np.float32), rate_hz)
        assert is_silent(rounded(drift.astype(np.float32)), rate_hz)


@pytest.mark.draws
@settings(max_examples=draws(60), deadline=None)
@given(
    rate_hz=st.sampled_from(RATES_HZ[:5]),
    places=st.lists(st.integers(0, 29), max_size=10, unique=True),
    width=st.integers(1, 50),
    level=st.floats(0.01, 1.0),
    dithered=st.booleans(),
)
def test_a_few_clicks_are_silent(rate_hz: int, places: list[int], width: int, level: float, dithered: bool) -> None:
    """Wherever they lie in half a minute, up to 6 ms wide."""
    silence = triangular(30 * rate_hz, 16) if dithered else np.zeros(30 * rate_hz, np.float32)
    for place in places:
        first = int((place + 0.37 * place % 1) * rate_hz)
        silence[first : first + width] += level
    assert is_silent(silence, rate_hz)


def test_clicks_in_a_row_are_silent() -> None:
    """Three clicks within 0.2 s, each wide enough to touch two frames."""
    clicks = np.zeros(10 * 44_100, np.float32)
    for first in (100_000, 104_000, 108_000):
        clicks[first : first + 500] = 0.8
    assert is_silent(clicks, 44_100)


def test_one_click_in_half_a_second_is_silent() -> None:
    click = np.zeros(22_050, np.float32)
    click[10_000:10_050] = 0.8
    assert is_silent(click, 44_100)


@pytest.mark.parametrize("samples", [0, 1, 2, 3, 100])
def test_hardly_any_samples_are_judged_too(samples: int) -> None:
    assert is_silent(np.zeros(samples, np.float32), 44_100)


@pytest.mark.parametrize(("container", "codec", "bit_rate"), [("adts", "aac", 96_000), ("ogg", "libopus", 48_000)])
def test_encoded_silence_is_silent(container: str, codec: str, bit_rate: int) -> None:
    for silence in (np.zeros(480_000, np.float32), triangular(480_000, 16)):
        assert is_silent(_through(silence, container, codec, bit_rate), 48_000)


@pytest.mark.parametrize(("container", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("WAV", "PCM_U8")])
def test_silence_written_by_libsndfile_is_silent(container: str, subtype: str) -> None:
    stream = io.BytesIO()
    click = np.zeros(441_000, np.float32)
    click[[50_000, 300_000]] = 0.9
    soundfile.write(stream, click, 44_100, format=container, subtype=subtype)
    stream.seek(0)
    heard, _ = soundfile.read(stream, dtype="float32")
    assert is_silent(heard, 44_100)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_music_sounds_at_any_level(rate_hz: int) -> None:
    sound = music(10.0, rate_hz)
    for gain_db in (20, 0, -30, -60):
        attenuated = sound * np.float32(10 ** (gain_db / 20))
        assert not is_silent(attenuated, rate_hz)
        assert not is_silent(rounded(attenuated), rate_hz)
        assert not is_silent(attenuated + np.float32(0.4), rate_hz)
        assert not is_silent(rounded(attenuated + triangular(len(sound), 16)), rate_hz)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_half_a_second_of_sound_sounds(rate_hz: int) -> None:
    assert not is_silent(music(0.5, rate_hz, 0.01), rate_hz)


@pytest.mark.draws
@settings(max_examples=draws(30), deadline=None)
@given(start_seconds=st.floats(0, 29), pitch_hz=st.floats(50, 2500), level_db=st.floats(-80, 0))
def test_one_note_of_a_second_in_half_a_minute_sounds(start_seconds: float, pitch_hz: float, level_db: float) -> None:
    rate_hz = 22_050
    window = triangular(30 * rate_hz, 16)
    time = seconds_of(1.0, rate_hz)
    first = int(start_seconds * rate_hz)
    # A note has overtones: even one above 2 kHz has its attack in the band, or a voice below it.
    note = np.sin(2 * np.pi * pitch_hz * time) + 0.5 * np.sin(np.pi * pitch_hz * time)
    window[first : first + rate_hz] += (10 ** (level_db / 20) * note).astype(np.float32)
    assert not is_silent(window, rate_hz)


def test_dry_beats_sound() -> None:
    rate_hz = 44_100
    window = np.zeros(10 * rate_hz, np.float32)
    beat = (0.3 * np.random.default_rng(0).standard_normal(rate_hz // 10)).astype(np.float32)
    for number in range(30):
        first = number * rate_hz // 3
        window[first : first + len(beat)] = beat
    assert not is_silent(window, rate_hz)


def test_real_music_sounds_sixty_decibels_down() -> None:
    folder = Path(os.environ.get("MGC_TEST_DATA") or "unset") / "music"
    if not folder.is_dir():
        pytest.skip("MGC_TEST_DATA names no folder with music/")
    for file in sorted(folder.glob("*.ogg")):
        if file.name == "pibble.ogg":  # A dog that howls in her sleep: single frames are left.
            continue
        sound, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
        window = sound[: 30 * rate_hz].mean(axis=1)
        assert not is_silent(window, rate_hz), file.name
        assert not is_silent(rounded(window / 1000), rate_hz), file.name


def _through(sound: Samples, container: str, codec: str, bit_rate: int) -> Samples:
    """Encode and decode sound of 48 kHz with FFmpeg."""
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as out:
        encoder = out.add_stream(codec, rate=48_000, layout="mono")
        encoder.bit_rate = bit_rate
        resampler = av.AudioResampler(encoder.codec_context.format, "mono", 48_000)
        for first in range(0, len(sound), 4_800):
            frame = av.AudioFrame.from_ndarray(sound[None, first : first + 4_800], format="flt", layout="mono")
            frame.sample_rate = 48_000
            for piece in resampler.resample(frame):
                out.mux(encoder.encode(piece))
        for piece in [*resampler.resample(None), None]:
            out.mux(encoder.encode(piece))
    stream.seek(0)
    with av.open(stream) as file:
        to_float = av.AudioResampler("flt", "mono", 48_000)
        parts = [part.to_ndarray()[0] for frame in file.decode(audio=0) for part in to_float.resample(frame)]
    return np.concatenate(parts)


@pytest.mark.parametrize("pitch_hz", [2_500, 4_000, 9_000])
@pytest.mark.parametrize(("level_db", "silent"), [(-20, False), (-50, False), (-75, True)])
def test_a_high_note_sounds_if_it_is_no_dither(pitch_hz: float, level_db: float, silent: bool) -> None:
    note_T = 10 ** (level_db / 20) * np.sqrt(2) * np.sin(2 * np.pi * pitch_hz * np.arange(44_100) / 44_100)
    assert is_silent(note_T.astype(np.float32), 44_100) == silent
