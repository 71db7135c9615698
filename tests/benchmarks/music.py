"""What the benchmarks listen to: MP3 files made of real music, or of the synthetic corpus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from mgc.datasets.synthetic import GENRES, SyntheticConfig, plan_corpus, render
from tests.support.good_files import encode_by_ffmpeg

RATE_HZ = 44100
BIT_RATE = 256_000
SHORT_BIT_RATE = 128_000

_REAL = ("music/*.ogg", "fma/*/*.mp3", "gtzan_half/*.flac")
"""Where real recordings lie in the folder of data."""


@dataclass(frozen=True)
class Music:
    """MP3 files, and where they come from, in a few words."""

    files: tuple[bytes, ...]
    origin: str


def thirty_seconds(folder: Path | None) -> Music:
    """The middle 30 s of each recording in `folder`/music (a shorter one is repeated), 44.1 kHz, stereo, 256 kbit/s."""
    waves = _recordings(folder, 30.0)
    if waves:
        return Music(tuple(map(_encoded, waves)), f"{len(waves)} recordings, 30 s each")
    return Music(
        tuple(_encoded(_synthetic(genre, 30.0)) for genre in GENRES), f"SYNTHETIC: {len(GENRES)} tracks of 30 s"
    )


def four_minutes(folder: Path | None) -> Music:
    """One file of four minutes: 30 s of eight recordings one after the other."""
    waves = _recordings(folder, 30.0)
    origin = "8 recordings of 30 s in one file" if waves else "SYNTHETIC: 8 tracks of 30 s in one file"
    waves = waves or [_synthetic(genre, 30.0) for genre in GENRES]
    return Music((_encoded(np.concatenate([waves[n % len(waves)] for n in range(8)], axis=1)),), origin)


def short_clips(folder: Path | None, clips: int, seconds: float) -> Music:
    """Different pieces of the recordings in `folder`, 44.1 kHz, stereo, 128 kbit/s; as many as asked for, or all."""
    paths = [path for pattern in _REAL for path in sorted(folder.glob(pattern))] if folder else []
    pieces = [(path, number) for path in paths for number in range(int(soundfile.info(path).duration / seconds))]
    if not pieces:
        waves = [_synthetic(genre, seconds) for genre in GENRES]
        return Music(tuple(map(_encoded, waves)), f"SYNTHETIC: {len(waves)} tracks of {seconds:g} s")
    taken = [pieces[number * len(pieces) // clips] for number in range(clips)] if clips < len(pieces) else pieces
    files = tuple(_encoded(_piece(path, number, seconds), SHORT_BIT_RATE) for path, number in taken)
    return Music(files, f"{len(files)} clips of {seconds:g} s out of {len(paths)} recordings")


def _piece(path: Path, number: int, seconds: float) -> NDArray[np.float32]:
    """Float32 (2, T): the piece of a recording that begins `number` times `seconds` after its start."""
    with soundfile.SoundFile(path) as file:
        count = int(seconds * file.samplerate)
        file.seek(number * count)
        wave_CT = soxr.resample(file.read(count, dtype="float32", always_2d=True), file.samplerate, RATE_HZ).T
    return np.ascontiguousarray(np.broadcast_to(wave_CT[:2], (2, wave_CT.shape[1])), np.float32)


def _encoded(wave_CT: NDArray[np.float32], bit_rate: int = BIT_RATE) -> bytes:
    return encode_by_ffmpeg(wave_CT, RATE_HZ, "mp3", "libmp3lame", bit_rate)


def _recordings(folder: Path | None, seconds: float) -> list[NDArray[np.float32]]:
    """Float32 (2, T) of each recording; none where there is no folder."""
    waves = []
    for path in sorted((folder / "music").glob("*.ogg")) if folder else []:
        wave_TC, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        wave_CT = soxr.resample(wave_TC, rate_hz, RATE_HZ).T
        count = round(seconds * RATE_HZ)
        repeated_CT = np.tile(wave_CT, -(-count // wave_CT.shape[1]))
        start = (repeated_CT.shape[1] - count) // 2
        stereo_CT = np.broadcast_to(repeated_CT[:2], (2, repeated_CT.shape[1]))
        waves.append(np.ascontiguousarray(stereo_CT[:, start : start + count], np.float32))
    return waves


def _synthetic(genre: str, seconds: float) -> NDArray[np.float32]:
    config = SyntheticConfig(shortest_seconds=seconds, longest_seconds=seconds, damaged_tracks=0)
    plans = [plan for plan in plan_corpus(config) if plan.genre == genre and plan.channels == 2]
    wave_CT = render(plans[0])
    return np.ascontiguousarray(soxr.resample(wave_CT.T, plans[0].sample_rate_hz, RATE_HZ).T, np.float32)
