from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mgc.audio.decode import CASCADE, decode, listen
from mgc.audio.decoders import ffmpeg
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.waveform import Waveform

MakeFile = Callable[..., bytes]
PlaceOf = Callable[..., float]

WHOLE = ListeningPlan()
SHORT = ListeningPlan(window_seconds=1.0, windows=3)


def keep(window: Waveform) -> Waveform:
    return window


def assert_same(window: NDArray[np.float32], samples: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(window, samples, atol=1e-6)


BY_SOUNDFILE = ("mp3", "ogg", "flac", "wav", "wav24", "wav_float", "aiff", "au", "mp3_uncounted", "opus")
BY_PYAV = ("m4a", "m4a_streamed", "alac", "aac", "wma", "webm", "wav_u8")


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", [*BY_SOUNDFILE, *BY_PYAV])
def test_every_format_is_heard_whole(make_file: MakeFile, kind: str, channels: int) -> None:
    rate_hz = 48000 if kind in ("opus", "webm") else 44100
    heard = decode(make_file(kind, rate_hz=rate_hz, channels=channels), WHOLE)
    assert heard.decoder == ("soundfile" if kind in BY_SOUNDFILE else "pyav")
    assert heard.damage is None
    (window,) = heard.windows
    assert window.sample_rate_hz == rate_hz
    assert heard.duration_seconds == pytest.approx(8.0, abs=0.1)
    assert window.duration_seconds == pytest.approx(8.0, abs=0.1)
    assert heard.seconds == window.duration_seconds
    # Mono is the mean of the channels: a tone of amplitude 0.4 (LAME takes 5 % off). Either channel alone is 50 % off.
    middle = window.samples[2 * rate_hz : 6 * rate_hz]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.4 / np.sqrt(2), rel=0.06)


@pytest.mark.parametrize("kind", [*BY_SOUNDFILE, *BY_PYAV])
def test_windows_come_from_their_place_in_the_track(make_file: MakeFile, place_of: PlaceOf, kind: str) -> None:
    rate_hz = 48000 if kind in ("opus", "webm") else 44100
    heard = decode(make_file(kind, rate_hz=rate_hz), SHORT)
    planned = SHORT.excerpts(heard.duration_seconds)
    assert len(heard.windows) == 3
    for window, excerpt in zip(heard.windows, planned, strict=True):
        assert window.duration_seconds == pytest.approx(1.0, abs=0.001)
        assert window.start_seconds == pytest.approx(excerpt.start_seconds, abs=0.1)
        assert place_of(window.samples, window.sample_rate_hz) == pytest.approx(window.start_seconds, abs=0.1)


@pytest.mark.parametrize("windows", [3, 10, 14])
@pytest.mark.parametrize(("kind", "rate_hz"), [("mp3", 44100), ("mp3", 22050), ("ogg", 22050), ("flac", 44100)])
def test_soundfile_windows_are_the_samples_of_the_full_decode(
    make_file: MakeFile, kind: str, rate_hz: int, windows: int
) -> None:
    """Wherever a window begins: libsndfile's own seeking is not that exact, see `SoundFileStream`."""
    data = make_file(kind, seconds=20.0, rate_hz=rate_hz, channels=1)
    whole, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    for window in decode(data, ListeningPlan(window_seconds=1.0, windows=windows)).windows:
        start = round(window.start_seconds * rate_hz)
        assert_same(window.samples, whole[start : start + len(window.samples)])


@pytest.mark.parametrize("kind", ["mp3", "ogg", "flac", "wav", "alac"])
def test_ffmpeg_windows_are_the_samples_of_the_full_decode(make_file: MakeFile, kind: str) -> None:
    """Though it skips the packets before them. (AAC is no test of this: it fills in noise, never twice the same.)"""
    data = make_file(kind)
    (whole,), windows = (listen(data, plan, keep, "", (ffmpeg.open_stream,)).windows for plan in (WHOLE, SHORT))
    for window in windows:
        start = round((window.start_seconds - whole.start_seconds) * window.sample_rate_hz)
        assert_same(window.samples, whole.samples[start : start + 44100])


def test_short_ways_forward_in_ogg() -> None:
    """libsndfile seeks wrong by seconds here unless it is sent back to the start first."""
    rate_hz = 22050
    time = np.arange(20 * rate_hz) / rate_hz
    beats = 0.3 * np.sin(2 * np.pi * (300 * time + 30 * time**2)) * np.exp(-6 * (3 * time % 1))
    stream = io.BytesIO()
    soundfile.write(stream, beats.astype(np.float32), rate_hz, format="OGG", subtype="VORBIS")
    whole, _ = soundfile.read(io.BytesIO(stream.getvalue()), dtype="float32")
    windows = decode(stream.getvalue(), ListeningPlan(window_seconds=1.0, windows=10)).windows
    assert len(windows) == 10
    for window in windows[:-1]:
        start = round(window.start_seconds * rate_hz)
        assert_same(window.samples, whole[start : start + len(window.samples)])


@pytest.mark.parametrize(
    ("kind", "rate_hz"),
    [("mp3", 8000), ("mp3", 16000), ("mp3", 32000), ("ogg", 22050), ("wav", 96000), ("m4a", 16000), ("wma", 22050)],
)
def test_other_sample_rates(make_file: MakeFile, place_of: PlaceOf, kind: str, rate_hz: int) -> None:
    heard = decode(make_file(kind, rate_hz=rate_hz), SHORT)
    assert heard.duration_seconds == pytest.approx(8.0, abs=0.3)
    assert {window.sample_rate_hz for window in heard.windows} == {rate_hz}
    last = heard.windows[-1]
    assert place_of(last.samples, rate_hz) == pytest.approx(last.start_seconds, abs=0.1)


@pytest.mark.parametrize(("kind", "channels"), [("wav", 6), ("flac", 8), ("alac", 6), ("m4a", 6), ("m4a", 8)])
def test_surround_is_mixed_to_mono(make_file: MakeFile, kind: str, channels: int) -> None:
    # PyAV's own to_ndarray kills the process on the last of these.
    (window,) = decode(make_file(kind, seconds=2.0, rate_hz=48000, channels=channels), WHOLE).windows
    assert window.duration_seconds == pytest.approx(2.0, abs=0.1)
    # The mean over all channels, the bass channel (which AAC cuts) included.
    assert np.sqrt(np.mean(window.samples[24000:48000] ** 2)) == pytest.approx(0.4 / np.sqrt(2), rel=0.15)


def test_both_decoders_give_the_same_sound(make_file: MakeFile) -> None:
    data = make_file("flac")
    first, second = (listen(data, SHORT, keep, "", (decoder,)) for decoder in CASCADE)
    for one, other in zip(first.windows, second.windows, strict=True):
        assert one.start_seconds == pytest.approx(other.start_seconds, abs=1e-4)
        assert_same(one.samples, other.samples)


def test_length_of_an_mp3_that_does_not_tell_it(make_file: MakeFile) -> None:
    """Two bit rates and no frame count: libsndfile takes the first frame's rate for all."""
    low, high = make_file("mp3_uncounted", rate_hz=44100), make_file("mp3", rate_hz=44100)
    glued = low + high[high.index(b"LAME") + 2000 :]
    heard = decode(glued, WHOLE)
    assert 10.0 < heard.duration_seconds < 17.0
    assert heard.seconds == pytest.approx(heard.duration_seconds, abs=0.2)


def test_big_tags_and_odd_text_do_not_matter(make_file: MakeFile) -> None:
    tag = b"ID3\x04\x00\x00" + bytes([0, 0x40, 0, 0]) + b"Xing\xff\xfe\x80 not text " + bytes(2**20 - 20)
    assert decode(tag[: 10 + 2**20] + make_file("mp3"), WHOLE).duration_seconds == pytest.approx(8.0, abs=0.1)
    webm = make_file("webm", rate_hz=48000).replace(b"Lavf", b"\xff\xfe\x80\xc3")
    assert decode(webm, WHOLE).damage is None


@pytest.mark.parametrize("kind", ["flac", "m4a"])
def test_a_long_track_is_never_held_whole(make_file: MakeFile, kind: str) -> None:
    data = make_file(kind, seconds=120.0, rate_hz=16000, channels=1)
    plan = ListeningPlan(window_seconds=2.0, windows=2)
    decode(data, plan)
    tracemalloc.start()
    try:
        heard = decode(data, plan)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert heard.duration_seconds == pytest.approx(120.0, abs=0.5)
    # As float32 the track is 7.7 MB; the two windows are 0.26 MB, and some spectra of them as much again.
    assert peak < 1.5e6
