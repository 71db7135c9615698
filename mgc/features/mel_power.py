"""Mel power of frames.

C: clips, T: samples in time, F: frequency bins of the Fourier transform, M: mel bins, X: frames, B: blocks of a wave,
J: blocks of a frame.
"""

from __future__ import annotations

import functools
from typing import Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import pad

from mgc.features.cutting import Constants

SMALLEST_POWER: Final = 1e-10
"""librosa.power_to_db's amin, -100 dB: power below counts as this much where the numbers say how loud a clip is."""

SILENT_POWER: Final = 1e-20
"""Power of a clip's loudest place up to which it counts as silent: far below the dither of 24 bits."""

_BANDS: Final = 4
"""A filter is zero but for a few bins: a product with a quarter of the filters needs only some of the bins."""

_WORTH_CUTTING: Final = 0.75
"""Bins above the highest filter are left out if no more than this share of all is needed."""

_LOUD_FRAMES_AT_ONCE: Final = 64
"""Frames in which the loudest place is looked for together. Few, because each shows that others need no look."""

_ROUNDING: Final = 1.001
"""Room for rounding above what a frame can have at most."""

_BLOCK_SAMPLES: Final = 64
"""Most samples of a block whose energy is summed for the limits of frames. Shorter blocks give closer limits."""

_VALUES_IN_CACHE: Final = 160 * 2048
"""So many values of frames at once leave their spectra, of 1.3 MB, in the processor's cache."""


class MelPower:
    """Mel power of the frames of waves: window, Fourier transform, re² + im², product with the filters."""

    def __init__(self, window_T: torch.Tensor, hop_length: int, filters_FM: torch.Tensor) -> None:
        """Take the window, as long as a frame, and the filters for half a frame and one bin."""
        self._n_fft, self._hop_length, self._mels = len(window_T), hop_length, filters_FM.shape[1]
        bands = [_band(filters_FM, mels) for mels in torch.arange(self._mels).chunk(_BANDS)]
        self._bins = [bins for bins, _ in bands]
        top = max(bins.stop for bins in self._bins)
        # Squares are slower where rows do not follow one another, so leaving out a few bins would not pay.
        self._top = top if top < _WORTH_CUTTING * len(filters_FM) else len(filters_FM)
        self._constants = Constants(window_T, *(filters for _, filters in bands))
        # Blocks divide a hop. Where no short ones do, they are whole hops.
        divisors = [size for size in range(_BLOCK_SAMPLES // 4, _BLOCK_SAMPLES + 1) if hop_length % size == 0]
        self._block = max(divisors, default=hop_length)
        window_power_JT = pad(window_T.square(), (0, -self._n_fft % self._block)).view(-1, self._block)
        # Half of the spectrum has half of the energy, but both of its ends have theirs once.
        shares_F = torch.full((len(filters_FM),), self._n_fft / 2)
        shares_F[[0, -1]] *= 2
        most = _ROUNDING * float((filters_FM.amax(1) * shares_F).max())
        self._most_J = most * window_power_JT.amax(1)

    @classmethod
    def like_librosa(
        cls,
        sample_rate_hz: int,
        n_fft: int,
        hop_length: int,
        n_mels: int,
        f_min_hz: float,
        f_max_hz: float | None,
        bins: int | None = None,
    ) -> Self:
        """Return the mel power of `mel_filters` after a Hann window; only the lowest `bins` of the filters are used."""
        top_hz = sample_rate_hz / 2 if f_max_hz is None else f_max_hz
        filters_FM = torch.from_numpy(mel_filters(sample_rate_hz, n_fft, n_mels, f_min_hz, top_hz))[:, :bins]
        return cls(torch.hann_window(n_fft), hop_length, filters_FM)

    def __call__(self, wave_CT: torch.Tensor) -> torch.Tensor:
        """Power of shape (clips, frames, mels), float32, of waves already padded: frame x begins at sample x · hop."""
        window_T, *filters = self._constants.on(wave_CT.device)
        frames_CXT = wave_CT.unfold(-1, self._n_fft, self._hop_length)
        if wave_CT.device.type != "cpu":
            return self._power(frames_CXT, window_T, filters)
        power_CXM = wave_CT.new_empty(*frames_CXT.shape[:-1], self._mels)
        at_once = max(1, _VALUES_IN_CACHE // self._n_fft)
        clips = zip(frames_CXT, power_CXM, strict=True) if wave_CT.dim() == 2 else [(frames_CXT, power_CXM)]
        for clip_XT, clip_XM in clips:
            for part_XT, part_XM in zip(clip_XT.split(at_once), clip_XM.split(at_once), strict=True):
                self._power(part_XT, window_T, filters, part_XM)
        return power_CXM

    def of_frames(self, wave_T: torch.Tensor, frames_X: torch.Tensor) -> torch.Tensor:
        """Power of some frames, given by their numbers, of one wave on the CPU: shape (frames, mels)."""
        window_T, *filters = self._constants.on(wave_T.device)
        return self._power(wave_T.unfold(-1, self._n_fft, self._hop_length)[frames_X], window_T, filters)

    def loudest(self, wave_T: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Return the largest power in all frames of one wave on the CPU, given a power that occurs in it.

        By Parseval's theorem the energy of a frame limits its power. In music, few frames have the energy to be louder
        than the loudest of some others, and only these are transformed.
        """
        most_X = self._limits(wave_T)
        louder_X = (most_X > known).nonzero().flatten()
        for frames_X in louder_X[most_X[louder_X].argsort(descending=True)].split(_LOUD_FRAMES_AT_ONCE):
            frames_X = frames_X[most_X[frames_X] > known]
            if not len(frames_X):
                break
            known = torch.maximum(known, self.of_frames(wave_T, frames_X).max())
        return known

    def _limits(self, wave_T: torch.Tensor) -> torch.Tensor:
        """Return what no mel bin of a frame exceeds: its energy under the window times the largest weight.

        The energy of a block counts with the largest power of the window in it, so this is close to the frame's energy
        under the window but never less.

        Returns:
            float32 of shape (frames,), in the unit of the power.
        """
        frames, blocks = 1 + (len(wave_T) - self._n_fft) // self._hop_length, len(self._most_J)
        needed = (frames - 1) * self._hop_length + blocks * self._block
        blocks_BT = pad(wave_T, (0, max(0, needed - len(wave_T))))[:needed].view(-1, self._block)
        energy_B = torch.linalg.vector_norm(blocks_BT, dim=1).square_()
        limits_X: torch.Tensor = energy_B.unfold(0, blocks, self._hop_length // self._block) @ self._most_J
        return limits_X

    def _power(
        self,
        frames_XT: torch.Tensor,
        window_T: torch.Tensor,
        filters: list[torch.Tensor],
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        spectrum_XF2 = torch.view_as_real(torch.fft.rfft(frames_XT * window_T)[..., : self._top])
        # Squared in place: abs() would take a root first, and copies of the two parts twice the memory.
        spectrum_XF2.mul_(spectrum_XF2)
        power_XF = spectrum_XF2[..., 0] + spectrum_XF2[..., 1]
        bands = [power_XF[..., bins] @ each for bins, each in zip(self._bins, filters, strict=True)]
        return torch.cat(bands, -1, out=out)


def levels_below(power: torch.Tensor, loudest: torch.Tensor, top_db: float) -> torch.Tensor:
    """Return decibels above a floor that is `top_db` below the loudest power, 0 to top_db. Overwrites the power.

    The floor is relative, so that the same sound gives the same levels however quiet it is. Where the loudest power is
    `SILENT_POWER` or less, all levels are 0.

    Args:
        power: at most `loudest`.
        loudest: the power that has the level `top_db`; of a shape that fits the power's.
        top_db: range in decibels.
    """
    floor = (loudest * 10 ** (-top_db / 10)).clamp_min_(torch.finfo(power.dtype).tiny)
    levels = torch.maximum(power, floor, out=power).div_(floor).log10_().mul_(10)
    return levels.mul_(loudest > SILENT_POWER)


def _band(filters_FM: torch.Tensor, mels: torch.Tensor) -> tuple[slice, torch.Tensor]:
    """Some of the filters: the bins that they need, and their weights there."""
    weights_FM = filters_FM[:, mels]
    needed = weights_FM.any(1).nonzero().flatten()
    # A filter narrower than a bin can miss them all.
    bins = slice(int(needed[0]), int(needed[-1]) + 1) if len(needed) else slice(0, 1)
    return bins, weights_FM[bins].contiguous()


@functools.lru_cache(maxsize=32)
def mel_filters(sample_rate_hz: int, n_fft: int, n_mels: int, f_min_hz: float, f_max_hz: float) -> NDArray[np.float32]:
    """Triangular mel filters of equal area, as librosa.filters.mel's defaults. The result is shared: not to be written.

    Scale and normalisation are those of M. Slaney, Auditory Toolbox, 1998: linear to 1 kHz (66.67 Hz a mel), above that
    logarithmic (a factor of 6.4 in 27 mels), each filter divided by half its width in hertz.

    Returns:
        float32 of shape (n_fft // 2 + 1, n_mels).
    """
    mels = np.linspace(_hz_to_mel(f_min_hz), _hz_to_mel(f_max_hz), n_mels + 2)
    edges_hz = np.where(mels < 15, mels * (200 / 3), 1000 * np.exp((mels - 15) * (np.log(6.4) / 27)))
    bins_hz_F1 = np.linspace(0, sample_rate_hz / 2, n_fft // 2 + 1)[:, None]
    left_hz, centre_hz, right_hz = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising_FM = (bins_hz_F1 - left_hz) / (centre_hz - left_hz)
    falling_FM = (right_hz - bins_hz_F1) / (right_hz - centre_hz)
    filters_FM = np.maximum(0, np.minimum(rising_FM, falling_FM)) * (2 / (right_hz - left_hz))
    filters_32_FM: NDArray[np.float32] = filters_FM.astype(np.float32)
    return filters_32_FM


def _hz_to_mel(frequency_hz: float) -> float:
    if frequency_hz < 1000:
        return frequency_hz * (3 / 200)
    return float(15 + 27 * np.log(frequency_hz / 1000) / np.log(6.4))
