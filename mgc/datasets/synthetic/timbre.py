"""Instruments and drums: one note or one stroke as samples.

A pitched note is a wavetable oscillator: the harmonics of one cycle are weighted by the instrument (slope, even
harmonics, formants), stay below the Nyquist frequency, and are read out with vibrato, glide, unison and two-operator
frequency modulation (Chowning, "The Synthesis of Complex Audio Spectra by Means of Frequency Modulation", JAES 1973).
A drum stroke is a swept sine, band-limited noise, or both.

Axes: T samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from numpy import fft

Samples = npt.NDArray[np.float32]

_CYCLE: Final = 2048
_HIGHEST_HARMONIC: Final = 80


@dataclass(frozen=True)
class Instrument:
    """The properties of a pitched sound.

    Attributes:
        slope: harmonic k has the amplitude k ** -slope, before the formants. 0.5 is shrill, 3 is nearly a sine.
        even: strength of the even harmonics, 0 (hollow) to 1.
        formants_hz: resonances of the body, each half an octave wide.
        formant_gain: amplitude factor at the centre of a formant, 0 for no formants.
        attack_seconds: time to full level.
        decay_seconds: time constant of the exponential decay; 1000 and more is a sustained sound.
        release_seconds: fade after the note's own length.
        dulling: added to the slope as the note ages; plucked and struck strings lose their high harmonics first.
        dulling_seconds: time constant of that, and of the frequency modulation.
        unison_cents: detuning of two further oscillators, 0 for none.
        vibrato_cents: depth of a 5.5 Hz vibrato that comes in over the first 0.4 s.
        glide_semitones: where the pitch starts, relative to the note; it arrives in about 0.1 s.
        modulation_ratio: frequency of the modulator relative to the note.
        modulation_index: depth of the modulation in radians, 0 for none.
        breath: level of air or bow noise relative to the tone.
        drive: gain before the amplifier clips everything that the instrument plays together, 0 for no amplifier.
    """

    slope: float = 1.2
    even: float = 1.0
    formants_hz: tuple[float, ...] = ()
    formant_gain: float = 0.0
    attack_seconds: float = 0.005
    decay_seconds: float = 1000.0
    release_seconds: float = 0.06
    dulling: float = 0.0
    dulling_seconds: float = 0.3
    unison_cents: float = 0.0
    vibrato_cents: float = 0.0
    glide_semitones: float = 0.0
    modulation_ratio: float = 1.0
    modulation_index: float = 0.0
    breath: float = 0.0
    drive: float = 0.0


def note(
    instrument: Instrument, pitch_midi: float, seconds: float, sample_rate_hz: int, rng: np.random.Generator
) -> Samples:
    """Return one note, including its release.

    Args:
        instrument: instrument that plays it.
        pitch_midi: pitch in semitones; 69 is 440 Hz.
        seconds: time for which the note is held.
        sample_rate_hz: samples a second.
        rng: draws the breath noise and the phases of the unison.

    Returns:
        (T,) float32, roughly within -1 to 1.
    """
    frequency_hz = 440.0 * 2.0 ** ((pitch_midi - 69.0) / 12.0)
    count = max(int((seconds + instrument.release_seconds) * sample_rate_hz), 16)
    time_T = np.arange(count, dtype=np.float32) / np.float32(sample_rate_hz)
    phase_T = np.arange(count, dtype=np.float64) * (frequency_hz / sample_rate_hz)
    if instrument.vibrato_cents:
        depth = frequency_hz * instrument.vibrato_cents / 1200.0 * np.log(2.0) / (2.0 * np.pi * 5.5)
        phase_T += depth * np.minimum(time_T / 0.4, 1.0) * np.sin(np.float32(2.0 * np.pi * 5.5) * time_T)
    if instrument.glide_semitones:
        cycles = frequency_hz * (2.0 ** (instrument.glide_semitones / 12.0) - 1.0) * 0.04
        phase_T += cycles * (1.0 - np.exp(-time_T / np.float32(0.04)))
    young_T = np.exp(-time_T / np.float32(instrument.dulling_seconds))
    if instrument.modulation_index:
        modulator_T = np.sin(np.float32(2.0 * np.pi * instrument.modulation_ratio * frequency_hz) * time_T)
        phase_T += instrument.modulation_index / (2.0 * np.pi) * young_T * modulator_T

    old = _cycle(instrument, frequency_hz, instrument.slope + instrument.dulling, sample_rate_hz)
    read_T = _positions(phase_T)
    wave_T = old[read_T]
    if instrument.dulling:
        wave_T += young_T * (_cycle(instrument, frequency_hz, instrument.slope, sample_rate_hz) - old)[read_T]
    if instrument.unison_cents:
        for cents in (-instrument.unison_cents, instrument.unison_cents):
            wave_T += old[_positions(phase_T * 2.0 ** (cents / 1200.0) + rng.random())]
        wave_T *= np.float32(0.5)
    if instrument.breath:
        wave_T += np.float32(instrument.breath) * rng.standard_normal(count, dtype=np.float32)
    return wave_T * _envelope(instrument, seconds, time_T)


def _positions(phase_T: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return (phase_T * _CYCLE).astype(np.int64) & (_CYCLE - 1)


def _cycle(instrument: Instrument, frequency_hz: float, slope: float, sample_rate_hz: int) -> Samples:
    """Return one cycle of the sound, (2048,), with no harmonic above 0.47 of the sample rate."""
    highest = int(np.clip(0.47 * sample_rate_hz / frequency_hz, 1, _HIGHEST_HARMONIC))
    harmonic_K = np.arange(1, highest + 1)
    amplitude_K = harmonic_K**-slope
    amplitude_K[1::2] *= instrument.even
    if instrument.formant_gain:
        octave_K = np.log2(harmonic_K * frequency_hz)
        body_K = sum(np.exp(-(((octave_K - np.log2(centre)) / 0.5) ** 2)) for centre in instrument.formants_hz)
        amplitude_K = amplitude_K * (0.3 + instrument.formant_gain * body_K)
    amplitude_K /= np.sqrt(np.sum(amplitude_K**2))
    spectrum = np.zeros(_CYCLE // 2 + 1, dtype=np.complex64)
    # Quadratic phases spread the energy over the cycle; equal phases would turn every bright sound into a click.
    spectrum[1 : highest + 1] = amplitude_K * np.exp(1j * 0.7 * harmonic_K**2) * (_CYCLE / 2 * 0.7)
    cycle_T: Samples = fft.irfft(spectrum, _CYCLE).astype(np.float32)
    return cycle_T


def _envelope(instrument: Instrument, seconds: float, time_T: Samples) -> Samples:
    rise_T = np.minimum(time_T / np.float32(max(instrument.attack_seconds, 1e-3)), 1.0)
    fall_T = np.clip((seconds + instrument.release_seconds - time_T) / np.float32(instrument.release_seconds), 0.0, 1.0)
    level_T = rise_T * fall_T
    if instrument.decay_seconds < 1000.0:
        level_T *= np.exp(-time_T / np.float32(instrument.decay_seconds))
    shaped_T: Samples = level_T.astype(np.float32)
    return shaped_T


@dataclass(frozen=True)
class Stroke:
    """The properties of a drum sound: a sine that falls in pitch, and noise within a band.

    Attributes:
        tone_hz: frequency at which the sine ends, 0 for no sine.
        sweep: multiple of `tone_hz` at which the sine starts.
        sweep_seconds: time constant of the fall in pitch.
        tone_seconds: time constant of the sine's decay.
        noise: level of the noise relative to the sine.
        noise_low_hz: lower edge of the noise's band.
        noise_high_hz: upper edge of the noise's band.
        noise_seconds: time constant of the noise's decay.
        metal: share of the noise replaced by inharmonic partials, as a cymbal has them, 0 to 1.
        bursts: number of bursts of the noise, 11 ms apart, as in a hand clap.
    """

    tone_hz: float = 0.0
    sweep: float = 1.0
    sweep_seconds: float = 0.03
    tone_seconds: float = 0.1
    noise: float = 1.0
    noise_low_hz: float = 200.0
    noise_high_hz: float = 16000.0
    noise_seconds: float = 0.08
    metal: float = 0.0
    bursts: int = 1


def stroke(sound: Stroke, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """Return one drum stroke until it has decayed by 52 dB.

    Returns:
        (T,) float32, roughly within -1 to 1.
    """
    longest = max(sound.tone_seconds if sound.tone_hz else 0.0, sound.noise_seconds if sound.noise else 0.0)
    count = int(min(6.0 * longest, 2.5) * sample_rate_hz) + 64
    time_T = np.arange(count, dtype=np.float32) / np.float32(sample_rate_hz)
    wave_T = np.zeros(count, dtype=np.float32)
    if sound.tone_hz:
        swept = sound.sweep_seconds * (sound.sweep - 1.0)
        cycles_T = sound.tone_hz * (time_T + swept * (1.0 - np.exp(-time_T / np.float32(sound.sweep_seconds))))
        wave_T += np.sin(2.0 * np.pi * cycles_T).astype(np.float32) * np.exp(-time_T / np.float32(sound.tone_seconds))
    if sound.noise:
        burst_T = np.exp(-time_T / np.float32(sound.noise_seconds))
        gap = int(0.011 * sample_rate_hz)
        for burst in range(1, sound.bursts):
            burst_T[burst * gap :] += burst_T[: count - burst * gap]
        wave_T += np.float32(sound.noise) * burst_T * _band(sound, count, sample_rate_hz, rng)
    wave_T[-64:] *= np.linspace(1.0, 0.0, 64, dtype=np.float32)
    return wave_T


def fast_length(count: int) -> int:
    """Return the next multiple of 4096, a length with only small factors, for fast Fourier transforms."""
    return -(-count // 4096) * 4096


def _band(sound: Stroke, count: int, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """Return noise of unit power between the edges, falling by 24 dB an octave outside them."""
    length = fast_length(count)
    frequency_F = np.maximum(fft.rfftfreq(length, 1.0 / sample_rate_hz), 1.0)
    response_F = (
        1.0 / (1.0 + (sound.noise_low_hz / frequency_F) ** 4) / (1.0 + (frequency_F / sound.noise_high_hz) ** 4)
    )
    response_F = response_F.astype(np.float32)
    white_T = rng.standard_normal(length, dtype=np.float32)
    noise_T = fft.irfft(fft.rfft(white_T) * response_F, length)[:count].astype(np.float32)
    noise_T *= np.float32(0.3) / max(float(np.std(noise_T)), 1e-6)
    if not sound.metal:
        return noise_T
    time_T = np.arange(count, dtype=np.float32) / np.float32(sample_rate_hz)
    partials_hz = sound.noise_low_hz * np.array([1.0, 1.34, 1.52, 1.87, 2.29, 2.63])
    partials_hz = partials_hz[partials_hz < 0.45 * sample_rate_hz]
    metal_T = np.zeros(count, dtype=np.float32)
    for partial in partials_hz:
        metal_T += np.sin(np.float32(2.0 * np.pi * partial) * time_T)
    return np.float32(1.0 - sound.metal) * noise_T + np.float32(0.15 * sound.metal) * metal_T


def draw_kit(rng: np.random.Generator, *, electronic: bool) -> dict[str, Stroke]:
    """Draw an artist's own drum kit.

    Args:
        rng: random generator of the artist.
        electronic: whether the bass drum is longer and deeper.

    Returns:
        Strokes by the names that scores use.
    """
    kick_hz = rng.uniform(42, 62) if electronic else rng.uniform(55, 90)
    hat_low_hz = rng.uniform(4500, 9500)
    snare_low_hz = rng.uniform(500, 2200)
    return {
        "kick": Stroke(
            tone_hz=kick_hz,
            sweep=rng.uniform(2.5, 7.0),
            sweep_seconds=rng.uniform(0.015, 0.05),
            tone_seconds=rng.uniform(0.09, 0.28) if electronic else rng.uniform(0.06, 0.13),
            noise=rng.uniform(0.05, 0.9),
            noise_low_hz=rng.uniform(1000, 4000),
            noise_seconds=0.006,
        ),
        "snare": Stroke(
            tone_hz=rng.uniform(140, 260),
            sweep=1.4,
            tone_seconds=rng.uniform(0.04, 0.12),
            noise=rng.uniform(1.0, 2.4),
            noise_low_hz=snare_low_hz,
            noise_high_hz=snare_low_hz * rng.uniform(3.0, 9.0),
            noise_seconds=rng.uniform(0.04, 0.14),
        ),
        "clap": Stroke(
            noise=2.0,
            noise_low_hz=rng.uniform(700, 1500),
            noise_high_hz=rng.uniform(2500, 6000),
            noise_seconds=rng.uniform(0.03, 0.09),
            bursts=3,
        ),
        "hat": Stroke(noise_low_hz=hat_low_hz, noise_seconds=rng.uniform(0.012, 0.04)),
        "open_hat": Stroke(noise_low_hz=hat_low_hz * 0.9, noise_seconds=rng.uniform(0.09, 0.22), metal=0.2),
        "ride": Stroke(
            noise_low_hz=rng.uniform(2600, 4800), noise_seconds=rng.uniform(0.2, 0.5), metal=rng.uniform(0.3, 0.7)
        ),
        "crash": Stroke(noise_low_hz=rng.uniform(1800, 3500), noise_seconds=rng.uniform(0.35, 0.7), metal=0.15),
        "rim": Stroke(
            tone_hz=rng.uniform(400, 1700), tone_seconds=0.02, noise=0.5, noise_low_hz=2500, noise_seconds=0.012
        ),
        "tom": Stroke(tone_hz=rng.uniform(80, 190), sweep=1.5, tone_seconds=0.18, noise=0.2, noise_seconds=0.02),
        "brush": Stroke(noise_low_hz=rng.uniform(900, 2500), noise_high_hz=rng.uniform(4000, 9000), noise_seconds=0.11),
        "shaker": Stroke(noise_low_hz=rng.uniform(5000, 8000), noise_seconds=rng.uniform(0.02, 0.05)),
    }
