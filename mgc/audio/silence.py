"""Tell silence from sound. T: samples in time, B: frames, N: samples of a frame, F: frequency bins.

A window is cut into frames of 50 ms. A frame sounds if its RMS between 60 Hz and 2 kHz reaches one step of 16 bits. A
window is silent if hardly any frame sounds. So a click does not make a window of silence sound, and one note does. No
average over the window could tell them apart.

The threshold lies above dither, the noise that is added before rounding to 16 bits. If its density is triangular, its
variance together with that of the rounding is a quarter of a squared step (Lipshitz, Wannamaker and Vanderkooy,
"Quantization and Dither: A Theoretical Survey", J. Audio Eng. Soc. 40, 1992): an RMS of half a step, -96.3 dB. At 8 kHz
half of that power lies below 2 kHz, at 44.1 kHz a tenth. Noise-shaped dither has up to 30 dB more, but above the band.
Shapers for less than 16 kHz have no such room; their noise counts as sound. A sound of less than one step hardly
survives being rounded to 16 bits without dither.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mgc.audio.spectrum import power_spectrum

THRESHOLD_RMS: Final = 2.0**-15
"""RMS of the weakest frame that sounds, in the band: one step of 16 bits, -90.3 dB. Full scale is ±1."""

HIGH_THRESHOLD_RMS: Final = 2.0**-10
"""RMS of the weakest frame that sounds above the band only, such as a bird: -60.2 dB, above the strongest dither."""

FRAME_SECONDS: Final = 0.05

_BAND_HZ: Final = (60.0, 2000.0)
"""Below lie drifts of the offset, above noise-shaped dither. At a low rate the band ends at a quarter of it."""

SHORTEST_FRAMES: Final = 6
"""This many frames in a row are a sound: 0.3 s. A click touches two; through MP3 or AAC, which smear it, up to four."""

SOUNDING_SHARE: Final = 0.25
"""Dry beats, each shorter than 0.3 s, are a sound if they fill this share of the window."""

_BLOCK_FRAMES: Final = 8
"""Frames that are looked at in one go. Most music is found to sound in the first block."""


def is_silent(mono_T: NDArray[np.float32], sample_rate_hz: int) -> bool:
    """Return whether a window has nothing to hear: zeros, dither, an offset, a slow drift, or a few clicks.

    Music that is 60 dB down sounds, and so does one note of a second in half a minute of silence.

    Args:
        mono_T: samples, float32, shape (T,), full scale ±1, all finite. No samples are silent.
        sample_rate_hz: samples per second.
    """
    frame_samples = min(max(round(FRAME_SECONDS * sample_rate_hz), 1), len(mono_T))
    if frame_samples == 0:
        return True
    frames = len(mono_T) // frame_samples
    frames_BN = mono_T[: frames * frame_samples].reshape(frames, frame_samples)
    sounding = run = 0
    for first in range(0, frames, _BLOCK_FRAMES):
        for sounds in _which_sound(frames_BN[first : first + _BLOCK_FRAMES], sample_rate_hz):
            run = run + 1 if sounds else 0
            sounding += int(sounds)
            if run >= min(SHORTEST_FRAMES, frames):
                return False
    return sounding < max(SOUNDING_SHARE * frames, SHORTEST_FRAMES)


def _which_sound(frames_BN: NDArray[np.float32], sample_rate_hz: int) -> NDArray[np.bool_]:
    """Return whether each frame sounds, shape (B,)."""
    samples = frames_BN.shape[1]
    # An offset and its drift are much stronger than what is looked for. Without the line through a frame, and under a
    # taper that falls off as steeply as a squared Hann window, they do not leak into the band.
    flat_BN = frames_BN - frames_BN.mean(axis=1, keepdims=True)
    line_N = np.linspace(-1, 1, samples, dtype=np.float32)
    flat_BN -= (flat_BN @ line_N / max(float(line_N @ line_N), 1.0))[:, None] * line_N
    taper_N = np.square(np.hanning(samples + 1)[:samples]).astype(np.float32)
    taper_energy = max(float(taper_N @ taper_N), 1e-9)
    # The taper can at most multiply a frame's energy by samples / taper_energy. Weaker frames need no transform.
    possible_B: NDArray[np.bool_] = np.square(flat_BN).sum(axis=1) >= THRESHOLD_RMS**2 * taper_energy
    power_BF = power_spectrum(flat_BN[possible_B] * taper_N)
    hz_F = np.fft.rfftfreq(samples, 1 / sample_rate_hz)
    top_hz = min(_BAND_HZ[1], sample_rate_hz / 4)
    inside_F, above_F = (hz_F >= _BAND_HZ[0]) & (hz_F <= top_hz), hz_F > top_hz
    inside_B, above_B = (2 * power_BF[:, band_F].sum(axis=1) for band_F in (inside_F, above_F))
    full = samples * taper_energy
    possible_B[possible_B] = (inside_B >= THRESHOLD_RMS**2 * full) | (above_B >= HIGH_THRESHOLD_RMS**2 * full)
    return possible_B
