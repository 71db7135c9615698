"""Reliability of a model's probabilities: the reliability diagram and its errors.

Axes: N units scored (tracks, or clips), G genres, M bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mgc.errors import BundleError, FeaturesError
from mgc.evaluation.intervals import Interval, ResamplingGroups, resample

BINS: Final = 15
"""Number of bins, as in Guo et al. 2017."""


@dataclass(frozen=True)
class CalibrationBin:
    """Tracks whose answers have about the same probability.

    Attributes:
        low: lower edge, which is not in the bin.
        high: upper edge, which is in the bin.
        tracks: number of tracks in the bin, or of clips if clips are scored.
        confidence: mean probability of their answers; None if there are none.
        accuracy: share of correct answers; None if there are none.
        accuracy_interval: 95 % interval by bootstrap over groups; None if fewer than two groups have tracks in the bin.
    """

    low: float
    high: float
    tracks: int
    confidence: float | None
    accuracy: float | None
    accuracy_interval: Interval | None


@dataclass(frozen=True)
class Calibration:
    """How well a model's confidence, the probability of its answer, predicts its accuracy.

    Attributes:
        expected_error: mean over all tracks of the distance between accuracy and confidence of their bin (expected
            calibration error), 0 to 1. Even a perfectly calibrated model has some error by chance, more with fewer
            tracks or more bins.
        largest_error: largest such distance of a bin (maximum calibration error), 0 to 1.
        confidence: mean confidence over all tracks, 0 to 1.
        accuracy: share of correct answers, 0 to 1.
        bins: M bins of equal width over 0 to 1.
    """

    expected_error: float
    largest_error: float
    confidence: float
    accuracy: float
    bins: tuple[CalibrationBin, ...]


def calibration(
    true_genres: npt.NDArray[np.integer],
    probabilities_NG: npt.NDArray[np.floating],
    groups: ResamplingGroups | None = None,
    bins: int = BINS,
) -> Calibration:
    """Compare a model's confidence with its accuracy (Guo, Pleiss, Sun and Weinberger, ICML 2017, section 2).

    Args:
        true_genres: (N,) integers, 0 to G-1.
        probabilities_NG: (N, G), each row summing to 1.
        groups: groups of similar tracks, for the intervals; by default every track is its own group.
        bins: number M of equal bins (m/M, (m+1)/M].

    Raises:
        FeaturesError: there is no track.
        BundleError: a row is not a distribution: the numbers are logits, or the model diverged.
    """
    N = len(probabilities_NG)
    if not N:
        raise FeaturesError("calibration: the split has no track with a known genre; name another split.")
    # Written so that NaN fails too.
    if not (probabilities_NG.min() >= 0 and np.allclose(probabilities_NG.sum(axis=1), 1, rtol=0, atol=1e-4)):
        raise BundleError("calibration: the probabilities of a track do not sum to 1; give probabilities, not logits.")
    groups = groups or ResamplingGroups.singles(N, "tracks")
    confidence_N = probabilities_NG.max(axis=1).astype(np.float64)
    right_N = probabilities_NG.argmax(axis=1) == true_genres
    edges_M1 = np.arange(bins + 1) / bins
    # Only inner edges are used, so a probability that rounding pushes above 1 stays in the last bin.
    bin_N = np.digitize(confidence_N, edges_M1[1:-1], right=True)
    units = np.arange(N)
    drawn = resample(
        groups, np.concatenate([units, units[right_N]]), np.concatenate([bin_N, bins + bin_N[right_N]]), 2 * bins
    )
    tracks_M, right_M = drawn.counts_C[:bins], drawn.counts_C[bins:]
    confidence_M = np.bincount(bin_N, confidence_N, bins)
    error_M = np.abs(right_M - confidence_M)
    filled_M = tracks_M > 0
    return Calibration(
        expected_error=float(error_M.sum() / N),
        largest_error=float((error_M[filled_M] / tracks_M[filled_M]).max()),
        confidence=float(confidence_N.mean()),
        accuracy=float(right_N.mean()),
        bins=tuple(
            CalibrationBin(
                low=float(edges_M1[m]),
                high=float(edges_M1[m + 1]),
                tracks=int(tracks_M[m]),
                confidence=_mean(confidence_M, tracks_M, m),
                accuracy=_mean(right_M, tracks_M, m),
                accuracy_interval=drawn.share(bins + m, m),
            )
            for m in range(bins)
        ),
    )


def _mean(sums_M: npt.NDArray[Any], counts_M: npt.NDArray[Any], m: int) -> float | None:
    return float(sums_M[m] / counts_M[m]) if counts_M[m] else None
