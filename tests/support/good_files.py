"""Good audio files of every format that mgc reads, made of the synthetic corpus, for tests that damage or mix them.

C: channels, T: samples in time.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import PurePosixPath
from typing import Any, Final

import av
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from mgc.datasets.synthetic import SyntheticConfig, plan_corpus, render
from mgc.datasets.synthetic.encode import ChannelMode, encode_mp3


@dataclass(frozen=True)
class GoodFile:
    """`name` ends with the extension; `bit_rate_kbps` is None but for an MP3 of constant rate."""

    name: str
    data: bytes
    sample_rate_hz: int
    channels: int
    bit_rate_kbps: int | None = None

    @property
    def extension(self) -> str:
        return PurePosixPath(self.name).suffix


_MP3: Final[tuple[tuple[int, ChannelMode, int | None, int | None], ...]] = (
    # sample rate in Hz, channel mode, constant bit rate in kbit/s, VBR quality
    (44100, "joint", 128, None),
    (44100, "joint", 256, None),
    (44100, "stereo", 320, None),
    (44100, "mono", 64, None),
    (48000, "joint", 128, None),
    (48000, "joint", None, 2),
    (44100, "joint", None, 7),
    (32000, "stereo", 96, None),
    (22050, "mono", 56, None),
    (24000, "mono", None, 5),
)
_SOUNDFILE: Final = (
    # extension, sample rate in Hz, channels, container, subtype
    (".ogg", 44100, 2, "OGG", "VORBIS"),
    (".ogg", 22050, 1, "OGG", "VORBIS"),
    (".flac", 44100, 2, "FLAC", "PCM_16"),
    (".flac", 48000, 1, "FLAC", "PCM_24"),
    (".wav", 44100, 2, "WAV", "PCM_16"),
    (".wav", 22050, 1, "WAV", "FLOAT"),
    (".aiff", 44100, 2, "AIFF", "PCM_16"),
)
_FFMPEG: Final = (
    # extension, sample rate in Hz, channels, container, codec, bit rate
    (".m4a", 44100, 2, "mp4", "aac", 128_000),
    (".m4a", 48000, 1, "mp4", "alac", 0),
    (".aac", 44100, 2, "adts", "aac", 96_000),
    (".opus", 48000, 2, "ogg", "libopus", 96_000),
    (".wma", 44100, 2, "asf", "wmav2", 128_000),
)


@cache
def good_files(shortest_seconds: float = 3.0, longest_seconds: float = 12.0) -> tuple[GoodFile, ...]:
    """Synthetic music in every format that mgc reads, from the shortest to the longest length in even steps."""
    config = SyntheticConfig(shortest_seconds=longest_seconds, longest_seconds=longest_seconds, damaged_tracks=0)
    plan = next(plan for plan in plan_corpus(config) if (plan.channels, plan.sample_rate_hz) == (2, 48000))
    music_CT = render(plan)
    lengths = iter(np.linspace(shortest_seconds, longest_seconds, len(_MP3) + len(_SOUNDFILE) + len(_FFMPEG)))

    def sound(rate_hz: int, channels: int) -> NDArray[np.float32]:
        wave_CT = music_CT if channels == 2 else music_CT.mean(axis=0, keepdims=True)
        seconds = float(next(lengths))
        wave_TC = soxr.resample(wave_CT.T[: round(seconds * 48000)], 48000, rate_hz)
        return np.ascontiguousarray(wave_TC.T.clip(-1, 1), np.float32)

    files = []
    for rate_hz, mode, kbps, quality in _MP3:
        channels = 1 if mode == "mono" else 2
        data = encode_mp3(
            sound(rate_hz, channels),
            sample_rate_hz=rate_hz,
            channel_mode=mode,
            bit_rate_kbps=kbps,
            vbr_quality=quality,
            tags={"title": "Damaged"},
        )
        rate = f"cbr{kbps}" if kbps else f"vbr{quality}"
        files.append(GoodFile(f"{rate}-{rate_hz}-{mode}.mp3", data, rate_hz, channels, kbps))
    for extension, rate_hz, channels, container, subtype in _SOUNDFILE:
        stream = io.BytesIO()
        soundfile.write(stream, sound(rate_hz, channels).T, rate_hz, format=container, subtype=subtype)
        name = f"{subtype.lower()}-{rate_hz}-{channels}{extension}"
        files.append(GoodFile(name, stream.getvalue(), rate_hz, channels))
    for extension, rate_hz, channels, container, codec, bit_rate in _FFMPEG:
        data = encode_by_ffmpeg(sound(rate_hz, channels), rate_hz, container, codec, bit_rate)
        files.append(GoodFile(f"{codec}-{rate_hz}-{channels}{extension}", data, rate_hz, channels))
    return tuple(files)


def encode_by_ffmpeg(
    wave_CT: NDArray[np.float32], rate_hz: int, container: str, codec: str, bit_rate: int, **options: str
) -> bytes:
    """A file in a container and codec by FFmpeg's names; `options` are the container's."""
    stream, layout = io.BytesIO(), {1: "mono", 2: "stereo"}[len(wave_CT)]
    with av.open(stream, "w", format=container, options=options) as out:
        encoder: Any = out.add_stream(codec, rate=rate_hz, layout=layout)
        encoder.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(wave_CT, format="fltp", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), 0
        out.mux(encoder.encode(frame))
        out.mux(encoder.encode(None))
    return stream.getvalue()
