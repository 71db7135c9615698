"""Mix the channels of a window to one. T: samples in time, C: channels.

Two channels become their mean, unless the mean cancels what they hold. More than two are mixed by the places of their
speakers (ITU-R BS.775-3, annex 8): the centre and each surround channel join the front pair at 0.7071, and the pair
becomes its mean. The channel of low frequencies is left out, as the standard says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

CANCELLED_POWER: Final = 0.01
"""If the mean of two channels has less than this share (-20 dB) of the power of the stronger one, they cancel."""

EMPTY_POWER: Final = 1e-4
"""A channel with less than this share (-40 dB) of the power of the other is empty: mono in one of two channels."""

PIECE_SAMPLES: Final = 1 << 15
"""Samples that are looked at together. A song may be out of phase in its second half only."""

_WEIGHTS: Final = {
    **dict.fromkeys(("FL", "FR", "L", "R", "DL", "DR"), 0.5),
    **dict.fromkeys(("FC", "C"), 0.5**0.5),
    **dict.fromkeys(("BL", "BR", "SL", "SR", "FLC", "FRC", "WL", "WR"), 0.5 * 0.5**0.5),
    "BC": 0.5,
    **dict.fromkeys(("LFE", "LFE2"), 0.0),
}
"""Share of each channel in the mono mix, by FFmpeg's name of it."""


class Mixer:
    """Mixes a window that comes block by block.

    Args:
        samples: length of the window in samples; fewer may come.
        channels: number of channels.
        names: FFmpeg's names of the channels, if they are known; they matter only for more than two.
        silence: value of a silent sample; 128 for samples of 8 unsigned bits.
    """

    def __init__(self, samples: int, channels: int, names: Sequence[str] = (), silence: float = 0.0) -> None:
        self._mono_T = np.empty(samples, np.float32)
        # Of one piece only, so that it stays in the processor's cache.
        self._left_T = np.empty(min(samples, PIECE_SAMPLES) if channels == 2 else 0, np.float32)
        self._weights = _weigh(channels, names)
        self._silence = np.float32(silence)
        self._filled = 0

    @property
    def missing(self) -> int:
        """Number of samples that have not come yet."""
        return len(self._mono_T) - self._filled

    def add(self, wave_CT: Sequence[NDArray[Any]]) -> None:
        """Add the next samples of each channel, of any numeric dtype; those beyond the window are left out."""
        count, first = min(len(wave_CT[0]), self.missing), 0
        # Damaged samples may overflow. `Attempt.add` finds those.
        with np.errstate(over="ignore", invalid="ignore"):
            while first < count:
                last = min(count, first + PIECE_SAMPLES - self._filled % PIECE_SAMPLES)
                self._add([channel_T[first:last] for channel_T in wave_CT], last - first)
                first = last

    def _add(self, wave_CT: Sequence[NDArray[Any]], count: int) -> None:
        """Add samples within one piece."""
        place = self._filled % PIECE_SAMPLES
        mono_T = self._mono_T[self._filled : self._filled + count]
        self._filled += count
        if len(wave_CT) == 1:
            mono_T[:] = wave_CT[0]
        elif len(wave_CT) == 2:
            # Columns are added, because np.mean over a short axis is 25 times slower.
            left_T = self._left_T[place : place + count]
            left_T[:] = wave_CT[0]
            np.add(left_T, wave_CT[1], out=mono_T, dtype=np.float32)
            mono_T *= np.float32(0.5)
            if self._silence:
                left_T -= self._silence
        else:
            mono_T[:] = 0
            for channel_T, weight in zip(wave_CT, self._weights, strict=True):
                if weight:
                    mono_T += channel_T * np.float32(weight)
        if self._silence:
            mono_T -= self._silence
        if len(wave_CT) == 2 and place + count == PIECE_SAMPLES:
            _restore(self._mono_T[self._filled - PIECE_SAMPLES : self._filled], self._left_T)

    def finish(self) -> NDArray[np.float32]:
        """Return the samples so far: the mix, or the stronger of two channels that cancel each other."""
        rest = self._filled % PIECE_SAMPLES
        if len(self._left_T) and rest:
            with np.errstate(over="ignore", invalid="ignore"):
                _restore(self._mono_T[self._filled - rest : self._filled], self._left_T[:rest])
        return self._mono_T[: self._filled]


def _weigh(channels: int, names: Sequence[str]) -> list[float]:
    """Return the share of each channel; equal shares if a name is not known."""
    weights = [_WEIGHTS.get(name, -1.0) for name in names]
    if len(weights) != channels or min(weights, default=0.0) < 0 or not sum(weights):
        return [1 / channels] * channels
    return [weight / sum(weights) for weight in weights]


def _restore(mono_T: NDArray[np.float32], left_T: NDArray[np.float32]) -> None:
    """Replace the mean of two channels by the stronger channel, in place, if they cancel each other."""
    mixed, left = float(np.dot(mono_T, mono_T)), float(np.dot(left_T, left_T))
    # Power of the right channel, from that of the mean, of the left one, and of their product.
    right = 4 * mixed + left - 4 * float(np.dot(mono_T, left_T))
    strongest = max(left, right)
    lost = mixed < CANCELLED_POWER * strongest or min(left, right) < EMPTY_POWER * strongest
    if lost and np.isfinite(strongest):
        mono_T[:] = left_T if left >= right else 2 * mono_T - left_T
