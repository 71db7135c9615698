"""Files without sound, and files that are silent for the most part. C: channels, T: samples in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.random import Generator

from tests.damage.draw import Kind, damaged, pick
from tests.damage.generated import Generated, Said, Truth
from tests.damage.pieces import encode
from tests.damage.sound import REFERENCE_HZ, Samples, make_sound, silence

_FORMATS: Final = ("wav", "wav24", "wav_float", "flac", "aiff", "vorbis", "opus", "mp3", "mp3_vbr", "aac", "m4a", "wma")
_EXACT: Final = ("wav", "wav24", "flac", "aiff")
_RATE_HZ: Final = 44100
_SILENT: Final = frozenset({"silent"})


def _file(rng: Generator, kind: str, what: str, formats: Sequence[str], wave_CT: Samples) -> Generated:
    name = pick(rng, formats)
    rate_hz = 48000 if name == "opus" else _RATE_HZ
    piece = encode(name, wave_CT, rate_hz)
    return Generated(piece.data, piece.extension, kind, f"{name}: {what}", Truth(piece.reference, errors=_SILENT))


def _zeros(rng: Generator) -> Generated:
    return _file(rng, "digital silence", "zeros", _FORMATS, np.zeros(_shape(rng), np.float32))


def _shape(rng: Generator) -> tuple[int, int]:
    return int(rng.integers(1, 3)), int(rng.uniform(4, 20) * _RATE_HZ)


def _dither(rng: Generator) -> Generated:
    """Triangular noise of one step of 16 bits."""
    shape = _shape(rng)
    wave_CT = (rng.random(shape) + rng.random(shape) - 1).astype(np.float32) / 2**15
    return _file(rng, "dither", "dither", _EXACT, wave_CT)


def _click(rng: Generator) -> Generated:
    wave_CT = np.zeros(_shape(rng), np.float32)
    at = int(rng.integers(wave_CT.shape[1] - 8))
    wave_CT[:, at : at + int(rng.integers(1, 4))] = rng.uniform(0.1, 0.99)
    return _file(rng, "one click", f"a click at {at / _RATE_HZ:.1f} s", _EXACT, wave_CT)


def _offset(rng: Generator) -> Generated:
    wave_CT = np.full(_shape(rng), rng.uniform(0.001, 0.9), np.float32)
    return _file(rng, "constant offset alone", f"{wave_CT[0, 0]:.3f}", _EXACT, wave_CT)


def _nan(rng: Generator) -> Generated:
    wave_CT = np.full(_shape(rng), np.nan, np.float32)
    file = _file(rng, "all NaN", "NaN", ("wav_float",), wave_CT)
    return replace(file, truth=replace(file.truth, errors=frozenset({"silent", "corrupt_stream"})))


def _empty_frames(rng: Generator) -> Generated:
    """MPEG frames of zeros behind their headers: no scale factors, no samples."""
    header, size = pick(rng, ((b"\xff\xfb\x90\x64", 417), (b"\xff\xfb\x92\x64", 418), (b"\xff\xf3\x80\xc4", 208)))
    count = int(rng.integers(200, 800))
    data = header.ljust(size, b"\0") * count
    return Generated(data, ".mp3", "empty MPEG frames", f"{count} frames", Truth(silence(10.0), errors=_SILENT))


def _mostly_silent(rng: Generator) -> Generated:
    """Sound for a part of the file only. What is heard of it is the sound."""
    name = pick(rng, ("wav", "flac", "mp3", "mp3_untagged", "vorbis", "m4a"))
    rate_hz, seed = 44100, int(rng.integers(3000, 3050))
    total, sound = float(rng.uniform(20, 36)), float(rng.uniform(5, 8))
    start = float(rng.uniform(0, total - sound))
    wave_T = np.concatenate(
        [
            np.zeros(round(start * rate_hz), np.float32),
            make_sound(seed, sound, rate_hz),
            np.zeros(round((total - start - sound) * rate_hz), np.float32),
        ]
    )
    reference_T = np.concatenate(
        [silence(start), make_sound(seed, sound, REFERENCE_HZ), silence(total - start - sound)]
    )
    piece = replace(encode(name, np.stack([wave_T, wave_T]), rate_hz), reference=reference_T)
    what = f"{total:.0f} s, sound from {start:.1f} to {start + sound:.1f} s"
    return damaged(piece, "mostly silent", what, piece.data, Said.NOTHING)


KINDS: Final[Mapping[str, Kind]] = {
    "digital silence": _zeros,
    "dither": _dither,
    "one click": _click,
    "constant offset alone": _offset,
    "all NaN": _nan,
    "empty MPEG frames": _empty_frames,
    "mostly silent": _mostly_silent,
}
