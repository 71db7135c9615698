"""Channels become one: the mean, unless it cancels, and the standard's shares for more than two."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mgc.audio.decoders.mixing import Mixer

RATE_HZ = 44_100
TONE_T = (0.3 * np.sin(np.arange(3 * RATE_HZ) / 20)).astype(np.float32)
NOISE_T = (0.1 * np.random.default_rng(0).standard_normal(3 * RATE_HZ)).astype(np.float32)
FIVE = ("FL", "FR", "FC", "LFE", "BL", "BR")


def mixed(*wave_CT: NDArray[np.float32], names: tuple[str, ...] = (), block: int = 10_000) -> NDArray[np.float32]:
    mixer = Mixer(len(wave_CT[0]), len(wave_CT), names)
    for first in range(0, len(wave_CT[0]), block):
        mixer.add([channel_T[first : first + block] for channel_T in wave_CT])
    return mixer.finish()


def test_two_channels_become_their_mean() -> None:
    np.testing.assert_array_equal(mixed(TONE_T, NOISE_T), (TONE_T + NOISE_T) * np.float32(0.5))


@pytest.mark.parametrize("share", [1.0, 0.99, 0.9])
def test_channels_that_cancel_leave_the_stronger_one(share: float) -> None:
    for wave_CT in ((TONE_T, -share * TONE_T), (-share * TONE_T, TONE_T)):
        np.testing.assert_allclose(np.abs(mixed(*wave_CT)), np.abs(TONE_T), atol=1e-6)


def test_only_the_part_that_cancels_is_replaced() -> None:
    right_T = TONE_T.copy()
    half = len(right_T) // 2
    right_T[half:] *= -1
    for block in (1152, 50_000, len(TONE_T)):
        np.testing.assert_array_equal(mixed(TONE_T, right_T, block=block), mixed(TONE_T, right_T))
    power = np.mean(mixed(TONE_T, right_T)[half + RATE_HZ :] ** 2)
    assert power == pytest.approx(np.mean(TONE_T**2), rel=0.01)


@pytest.mark.parametrize("empty", [0.0, 1e-4])
def test_one_of_two_channels_is_heard_at_its_level(empty: float) -> None:
    silence_T = (empty * NOISE_T).astype(np.float32)
    np.testing.assert_allclose(mixed(TONE_T, silence_T), TONE_T, atol=1e-4)
    np.testing.assert_allclose(mixed(silence_T, TONE_T), TONE_T, atol=1e-4)


def test_wide_stereo_is_not_taken_for_a_fault() -> None:
    """Sides 6 dB above the middle: rare in music, and its mean is right."""
    left_T, right_T = TONE_T + 2 * NOISE_T, TONE_T - 2 * NOISE_T
    np.testing.assert_allclose(mixed(left_T, right_T), TONE_T, atol=1e-6)


def test_surround_by_the_standard() -> None:
    silent_T = np.zeros_like(TONE_T)
    levels = {}
    for number, name in enumerate(FIVE):
        wave = [silent_T] * 6
        wave[number] = TONE_T
        levels[name] = float(np.abs(mixed(*wave, names=FIVE)).max() / np.abs(TONE_T).max())
    assert levels["LFE"] == 0
    assert levels["FC"] / levels["FL"] == pytest.approx(2 * 0.7071, rel=1e-3)
    assert levels["BL"] / levels["FL"] == pytest.approx(0.7071, rel=1e-3)
    assert levels["FR"] == levels["FL"]
    np.testing.assert_allclose(mixed(*[TONE_T] * 6, names=FIVE), TONE_T, atol=1e-6)


def test_channels_without_names_count_alike() -> None:
    np.testing.assert_allclose(mixed(TONE_T, NOISE_T, TONE_T), (2 * TONE_T + NOISE_T) / 3, atol=1e-6)


def test_integers_and_silence_at_128() -> None:
    mixer = Mixer(4, 2, silence=128.0)
    mixer.add([np.array([128, 129, 255, 0], np.uint8), np.array([128, 131, 255, 0], np.uint8)])
    np.testing.assert_array_equal(mixer.finish(), [0, 2, 127, -128])


def test_more_samples_than_the_window_are_left_out() -> None:
    mixer = Mixer(5, 1)
    mixer.add([np.ones(3, np.float32)])
    mixer.add([np.ones(9, np.float32)])
    assert (mixer.missing, len(mixer.finish())) == (0, 5)
