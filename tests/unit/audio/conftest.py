"""Sound files made on the spot: a tone that rises steadily, so that a window's pitch tells its place in the track."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

START_HZ = 300.0
RISE_HZ_PER_SECOND = 60.0
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}


def rising_tone(seconds: float, rate_hz: int, channels: int) -> NDArray[np.float32]:
    """Float32 of shape (samples, channels); the channels' mean has amplitude 0.4, each alone another."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    tone = np.sin(2 * np.pi * (START_HZ * time + RISE_HZ_PER_SECOND / 2 * time**2))
    gains = 0.4 * (1 + 0.5 * np.linspace(-1, 1, channels)) if channels > 1 else np.array([0.4])
    return (tone[:, None] * gains).astype(np.float32)


@cache
def make(kind: str, seconds: float = 8.0, rate_hz: int = 44100, channels: int = 2) -> bytes:
    """A file of one of the kinds in SOUNDFILE and FFMPEG below."""
    tone = rising_tone(seconds, rate_hz, channels)
    stream = io.BytesIO()
    if kind in SOUNDFILE:
        container, subtype = SOUNDFILE[kind]
        soundfile.write(stream, tone, rate_hz, format=container, subtype=subtype)
        return stream.getvalue()
    container, codec, bit_rate, options = FFMPEG[kind]
    with av.open(stream, "w", format=container, options=options) as out:
        encoder = out.add_stream(codec, rate=rate_hz, layout=LAYOUTS[channels])
        encoder.bit_rate = bit_rate
        resampler = av.AudioResampler(encoder.codec_context.format, LAYOUTS[channels], rate_hz)
        for first in range(0, len(tone), 4096):
            part = np.ascontiguousarray(tone[first : first + 4096]).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout=LAYOUTS[channels])
            frame.sample_rate = rate_hz
            for piece in resampler.resample(frame):
                out.mux(encoder.encode(piece))
        for piece in [*resampler.resample(None), None]:
            out.mux(encoder.encode(piece))
    return stream.getvalue()


SOUNDFILE = {
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "ogg": ("OGG", "VORBIS"),
    "flac": ("FLAC", "PCM_16"),
    "wav": ("WAV", "PCM_16"),
    "wav24": ("WAV", "PCM_24"),
    "wav_float": ("WAV", "FLOAT"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
}
FFMPEG = {
    "mp3_uncounted": ("mp3", "libmp3lame", 128_000, {"write_xing": "0"}),
    "opus": ("ogg", "libopus", 96_000, {}),
    "m4a": ("mp4", "aac", 128_000, {}),
    "m4a_streamed": ("mp4", "aac", 128_000, {"moov_size": "20000"}),
    "alac": ("mp4", "alac", 0, {}),
    "aac": ("adts", "aac", 128_000, {}),
    "wma": ("asf", "wmav2", 128_000, {}),
    "webm": ("webm", "libopus", 96_000, {}),
    "wav_u8": ("matroska", "pcm_u8", 0, {}),
}


@pytest.fixture(scope="session")
def make_file() -> Callable[..., bytes]:
    return make


@pytest.fixture(scope="session")
def place_of() -> Callable[[NDArray[np.float32], int], float]:
    """Where in the track a quarter of a second of the rising tone comes from, in seconds: from its pitch."""

    def place(samples: NDArray[np.float32], rate_hz: int) -> float:
        count = min(len(samples), rate_hz // 4)
        spectrum = np.abs(np.fft.rfft(samples[:count] * np.hanning(count), 16 * count))
        pitch_hz = float(np.argmax(spectrum)) * rate_hz / (16 * count)
        # The pitch is that of the stretch's middle.
        return (pitch_hz - START_HZ) / RISE_HZ_PER_SECOND - count / rate_hz / 2

    return place
