"""What the benchmarks listen to: MP3 files at 256 kbit/s made of real music, or of the synthetic corpus."""

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


def _encoded(wave_CT: NDArray[np.float32]) -> bytes:
    return encode_by_ffmpeg(wave_CT, RATE_HZ, "mp3", "libmp3lame", BIT_RATE)


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
