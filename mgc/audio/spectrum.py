"""Power spectra of frames of samples. B: frames, N: samples of a frame, F: frequency bins."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def power_spectrum(frames_BN: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return |X|² of each frame, where X is its discrete Fourier transform from 0 to half the sample rate.

    Args:
        frames_BN: frames, already under their window, float32.

    Returns:
        float32 of shape (frames, samples // 2 + 1). The noise of rounding is some 130 dB below the frame's power.
    """
    # Where NumPy divides by nothing, it computes in float64, which takes up to twice as long.
    power_BF: NDArray[np.float32] = np.square(np.abs(np.fft.rfft(frames_BN, norm="forward")))
    power_BF *= np.float32(frames_BN.shape[1] ** 2)
    return power_BF
