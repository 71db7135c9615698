"""Channels that cancel out or are empty, levels, and sample rates. C: channels, T: samples in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.random import Generator

from tests.damage.draw import Kind, damaged, draw_piece, pick
from tests.damage.generated import Generated, Said
from tests.damage.pieces import FORMATS, RATES_HZ, Piece, encode
from tests.damage.sound import REFERENCE_HZ, Samples, make_sound

_STEREO: Final = (
    "wav",
    "wav24",
    "aiff",
    "flac",
    "vorbis",
    "opus",
    "mp3",
    "mp3_320",
    "mp3_vbr",
    "aac",
    "m4a",
    "wma",
    "alac",
)
_LOSSLESS: Final = ("wav", "wav24", "wav_float", "flac", "aiff", "alac", "wavpack")


def _made(
    rng: Generator,
    formats: Sequence[str],
    change: Callable[[Samples], Samples],
    mono: Callable[[Samples], Samples] = lambda wave_T: wave_T,
    rates_hz: Sequence[int] = (44100, 48000),
) -> Piece:
    """Return a piece whose channels are made of a sound (T,), and what it sounds like, made of it too."""
    name, rate_hz = pick(rng, formats), pick(rng, rates_hz)
    rate_hz = rate_hz if rate_hz in RATES_HZ[name] else RATES_HZ[name][-1]
    seconds, seed = pick(rng, (6.0, 9.0, 12.0)), int(rng.integers(1000, 2000))
    piece = encode(name, np.ascontiguousarray(change(make_sound(seed, seconds, rate_hz)), np.float32), rate_hz)
    return replace(piece, reference=mono(make_sound(seed, seconds, REFERENCE_HZ)))


def _antiphase(rng: Generator) -> Generated:
    """The right channel is the left one's negative, in the whole file or in its second half."""
    whole = rng.random() < 0.7

    def change(wave_T: Samples) -> Samples:
        right_T = -wave_T
        if not whole:
            right_T[: len(wave_T) // 2] *= -1
        return np.stack([wave_T, right_T])

    piece = _made(rng, _STEREO, change)
    return damaged(piece, "antiphase stereo", "all of it" if whole else "its second half", piece.data, Said.ANYTHING)


def _one_channel(rng: Generator) -> Generated:
    loud = int(rng.integers(2))
    piece = _made(rng, _STEREO, lambda wave_T: np.stack([wave_T * (loud == 0), wave_T * (loud == 1)]))
    return damaged(piece, "one of two channels", f"channel {loud}", piece.data, Said.NOTHING)


_SURROUND: Final = {6: ("wav", "wav_float", "flac", "vorbis", "opus", "aac", "m4a", "ac3", "eac3"), 8: ("wav", "flac")}
_CENTRE, _BASS = 2, 3


def _surround(rng: Generator) -> Generated:
    """Sound in all channels, or in those of one place only."""
    channels = pick(rng, tuple(_SURROUND))
    formats = _SURROUND[channels]
    places = pick(rng, (tuple(range(channels)), (0, 1), (_CENTRE,), tuple(range(4, channels))))
    if len(places) < channels:
        # Vorbis and Opus order channels in another way.
        formats = tuple(name for name in formats if name not in ("vorbis", "opus"))

    def change(wave_T: Samples) -> Samples:
        wave_CT = np.zeros((channels, len(wave_T)), np.float32)
        wave_CT[list(places)] = wave_T
        return wave_CT

    piece = _made(rng, formats, change)
    return damaged(piece, "5.1 and 7.1", f"sound in channels {places}", piece.data, Said.NOTHING)


def _offset(rng: Generator) -> Generated:
    offset = float(rng.uniform(0.05, 0.5)) * pick(rng, (-1, 1))
    piece = _made(rng, _LOSSLESS, lambda wave_T: np.stack([wave_T + offset] * pick(rng, (1, 2))))
    return damaged(piece, "constant offset", f"{offset:.2f}", piece.data, Said.ANYTHING)


def _level(rng: Generator) -> Generated:
    """-60 dB to far above full scale; what is above it is cut off, but in files of floating-point samples."""
    decibels = float(rng.uniform(-60, 24))
    gain = 10 ** (decibels / 20)
    formats = _LOSSLESS if decibels < -30 else (*_LOSSLESS, "mp3", "vorbis", "m4a", "opus", "aac")
    name = pick(rng, formats)

    def scale(wave_T: Samples) -> Samples:
        return wave_T * gain if name == "wav_float" else np.clip(wave_T * gain, -1, 1)

    piece = _made(rng, (name,), lambda wave_T: np.stack([scale(wave_T)] * 2), scale)
    return damaged(piece, "level -60 dB to clipped", f"{decibels:+.0f} dB", piece.data, Said.NOTHING)


def _rates(rng: Generator) -> Generated:
    """A good file of any format at any of its rates, of any length: its last packet may be short."""
    name = pick(rng, tuple(FORMATS))
    piece = draw_piece(rng, (name,), (round(rng.uniform(3, 12), 3),), RATES_HZ[name])
    return damaged(piece, "good files, 8 to 192 kHz", "good", piece.data, Said.NOTHING)


KINDS: Final[Mapping[str, Kind]] = {
    "good files, 8 to 192 kHz": _rates,
    "antiphase stereo": _antiphase,
    "one of two channels": _one_channel,
    "5.1 and 7.1": _surround,
    "constant offset": _offset,
    "level -60 dB to clipped": _level,
}
