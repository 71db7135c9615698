"""From parts to a finished recording: the band plays, the artist's studio colours it.

Axes: C channels, T samples, F frequencies.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy import fft

from mgc.datasets.synthetic.artist import CURVE_HZ, Artist
from mgc.datasets.synthetic.score import Part
from mgc.datasets.synthetic.timbre import Samples, fast_length, note, stroke

_CABINET_HZ: Final = 4500.0
_AMPLIFIED_LEVEL: Final = 0.35


def perform(parts: list[Part], artist: Artist, count: int, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """Play every part and put it at its place in the stereo field.

    Args:
        parts: parts to play.
        artist: artist who plays them.
        count: number of samples in the excerpt.
        sample_rate_hz: samples a second.
        rng: draws the noise within sounds.

    Returns:
        (2, T) float32, not yet limited.
    """
    mix_CT = np.zeros((2, count), dtype=np.float32)
    for part in parts:
        track_T = np.zeros(count, dtype=np.float32)
        heard: dict[tuple[float | None, float], Samples] = {}
        for start_seconds, seconds, pitch_midi, velocity in part.events:
            sound = (pitch_midi, seconds)
            if sound not in heard:
                if pitch_midi is None:
                    heard[sound] = stroke(artist.kit[part.sound], sample_rate_hz, rng)
                else:
                    heard[sound] = note(artist.instruments[part.sound], pitch_midi, seconds, sample_rate_hz, rng)
            _place(track_T, heard[sound], round(start_seconds * sample_rate_hz), velocity)
        instrument = artist.instruments.get(part.sound)
        if instrument is not None and instrument.drive:
            track_T = _amplify(track_T, instrument.drive, sample_rate_hz)
        gain = part.level * artist.balance[part.layer]
        angle = np.pi / 4.0 * (1.0 + part.pan * artist.width)
        mix_CT[0] += np.float32(gain * np.cos(angle)) * track_T
        mix_CT[1] += np.float32(gain * np.sin(angle)) * track_T
    return mix_CT


def master(mix_CT: Samples, artist: Artist, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """Apply the artist's studio: room, tone curve, band limit, tape noise, soft clipping, loudness.

    Args:
        mix_CT: (C, T) float32.
        artist: owner of the studio.
        sample_rate_hz: samples a second.
        rng: draws the echoes of the room and the noise.

    Returns:
        (C, T) float32 within -1 to 1.
    """
    count = mix_CT.shape[1]
    length = fast_length(count + int(artist.reverb_seconds * sample_rate_hz))
    room_CT = _room(artist, mix_CT.shape[0], sample_rate_hz, rng)
    frequency_F = fft.rfftfreq(length, 1.0 / sample_rate_hz).astype(np.float32)
    tone_F = _tone(artist, frequency_F)
    mix_CF = fft.rfft(mix_CT, length) * (1.0 + fft.rfft(room_CT, length)) * tone_F
    wave_CT = fft.irfft(mix_CF, length)[:, :count]
    wave_CT *= np.float32(0.15) / max(float(np.sqrt(np.mean(wave_CT**2))), 1e-4)
    wave_CT += np.float32(artist.hiss) * rng.standard_normal(wave_CT.shape, dtype=np.float32)
    wave_CT = np.tanh(np.float32(artist.saturation) * wave_CT) / np.float32(artist.saturation)
    target = 10.0 ** (artist.level_db / 20.0)
    wave_CT *= np.float32(target / max(float(np.sqrt(np.mean(wave_CT**2))), 1e-4))
    peak = float(np.max(np.abs(wave_CT)))
    # MP3 overshoots its input; one decibel of headroom keeps the decoded samples within full scale.
    return (wave_CT * np.float32(min(1.0, 0.89 / max(peak, 1e-6)))).astype(np.float32)


def _place(track_T: Samples, sound_T: Samples, start: int, velocity: float) -> None:
    begin, end = max(start, 0), min(start + sound_T.size, track_T.size)
    if end > begin:
        track_T[begin:end] += np.float32(velocity) * sound_T[begin - start : end - start]


def _amplify(track_T: Samples, drive: float, sample_rate_hz: int) -> Samples:
    """Clip softly, then the loudspeaker's band: nothing below 80 Hz, 18 dB an octave above `_CABINET_HZ`."""
    clipped_T = np.tanh(np.float32(drive) * track_T)
    length = fast_length(clipped_T.size)
    frequency_F = fft.rfftfreq(length, 1.0 / sample_rate_hz).astype(np.float32)
    cabinet_F = 1.0 / np.sqrt(1.0 + (frequency_F / np.float32(_CABINET_HZ)) ** 6)
    cabinet_F /= np.sqrt(1.0 + (np.float32(80.0) / np.maximum(frequency_F, 1.0)) ** 4)
    wave_T = fft.irfft(fft.rfft(clipped_T, length) * cabinet_F, length)[: clipped_T.size]
    return (_AMPLIFIED_LEVEL * wave_T).astype(np.float32)


def _room(artist: Artist, channels: int, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """Return diffuse echoes, different in both channels, that fall by 60 dB in the artist's reverberation time."""
    count = max(int(artist.reverb_seconds * sample_rate_hz), 64)
    time_T = np.arange(count, dtype=np.float32) / np.float32(sample_rate_hz)
    fall_T = np.exp(np.float32(-6.9 / artist.reverb_seconds) * time_T)
    fall_T[: int(0.008 * sample_rate_hz)] = 0.0
    echoes_CT = rng.standard_normal((channels, count), dtype=np.float32) * fall_T
    loudness = np.float32(artist.reverb / max(float(np.sqrt(np.sum(fall_T**2))), 1e-6))
    scaled_CT: Samples = echoes_CT * loudness
    return scaled_CT


def _tone(artist: Artist, frequency_F: Samples) -> Samples:
    octaves_F = np.log2(np.maximum(frequency_F, 20.0))
    gain_db_F = np.interp(octaves_F, np.log2(CURVE_HZ), artist.curve_db)
    band_F = 1.0 / np.sqrt(1.0 + (frequency_F / np.float32(artist.ceiling_hz)) ** 6)
    tone_F: Samples = (10.0 ** (gain_db_F / 20.0) * band_F).astype(np.float32)
    return tone_F
