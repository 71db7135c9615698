"""95 % intervals of scores, by bootstrap over groups of similar units: the tracks of an artist, the clips of a track.

Axes: N units scored (tracks, or clips), K groups, E events (something counted of a unit), C counts, R replicates.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

GroupKind = Literal["artists", "tracks", "clips"]
Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

REPLICATES: Final = 2000
"""Number of replicates; with these, interval ends vary by about 0.06 standard errors from seed to seed."""

SEED: Final = 0

FEW_GROUPS: Final = 20
"""Number of groups below which intervals are too narrow: see Cameron, Gelbach and Miller 2008 on 5 to 30 clusters."""

_LEVELS: Final = (0.025, 0.975)
_Z_95: Final = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """The ends of a 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class ResamplingGroups:
    """The groups of units that belong together.

    Attributes:
        index_N: int64 group of each unit, 0 to K-1; every group has at least one unit.
        kind: kind of the groups. It is `artists` even if some artists are unknown; each track without one is a group.
    """

    index_N: Integers  # noqa: N815  (axes in capitals)
    kind: GroupKind

    @classmethod
    def of(cls, names: Sequence[Hashable], kind: GroupKind) -> ResamplingGroups:
        """Group units by name; groups are numbered as they first appear."""
        numbers: dict[Hashable, int] = {}
        index = (numbers.setdefault(name, len(numbers)) for name in names)
        return cls(np.fromiter(index, np.int64, len(names)), kind)

    @classmethod
    def singles(cls, units: int, kind: GroupKind) -> ResamplingGroups:
        """Make every unit its own group: the ordinary bootstrap."""
        return cls(np.arange(units, dtype=np.int64), kind)

    @property
    def count(self) -> int:
        """The number of groups, K."""
        return int(self.index_N.max(initial=-1)) + 1

    @property
    def effective_count(self) -> float:
        """The least number of equal-sized groups that would be worth as much: N² / sum of squared sizes (Kish 1965).

        This is the number if all units of a group are alike. It is K if all groups have the same size.
        """
        sizes_K = np.bincount(self.index_N)
        return float(sizes_K.sum() ** 2 / np.square(sizes_K).sum())


@dataclass(frozen=True, eq=False)
class Resampled:
    """Counts of the units, and the same counts for many resampled sets of groups.

    Attributes:
        counts_C: float64 counts of all units.
        counts_RC: float64 counts of each replicate.
        groups_C: int64 number of groups that contribute to each count.
    """

    counts_C: Numbers  # noqa: N815
    counts_RC: Numbers  # noqa: N815
    groups_C: Integers  # noqa: N815

    def share(self, part: int, whole: int) -> Interval | None:
        """Return the interval of one count's share of another that contains it.

        Replicates in which the whole is zero are skipped. If the share is 0 or 1 in all groups, resampling shows no
        spread. The result is then Wilson's interval with each group as one trial, the most cautious estimate from that
        many groups.

        Returns:
            The interval. None if fewer than two groups contribute, since one group cannot show how groups differ, or if
            all replicates are equal.
        """
        groups, total = int(self.groups_C[whole]), self.counts_C[whole]
        if groups < 2:
            return None
        right = self.counts_C[part] / total
        if right in (0.0, 1.0):
            return wilson_interval(round(right * groups), groups)
        return interval(_divided(self.counts_RC[:, part], self.counts_RC[:, whole]))

    def f1(self, right: int, whole: int, answered: int) -> Numbers:
        """Return the F1 of each replicate, 2 · right / (whole + answered): (R,), NaN where the whole is zero."""
        whole_R = self.counts_RC[:, whole]
        f1_R = _divided(2 * self.counts_RC[:, right], whole_R + self.counts_RC[:, answered])
        f1_R[whole_R == 0] = np.nan
        return f1_R


def resample(
    groups: ResamplingGroups,
    unit_E: Integers,
    count_E: Integers,
    counts: int,
    replicates: int = REPLICATES,
    seed: int = SEED,
) -> Resampled:
    """Draw as many groups as there are, with replacement, and count again; repeat this for each replicate.

    This is the bootstrap of Efron (Annals of Statistics 7, 1979) over whole groups, since units of one group are not
    independent of each other. Field and Welsh (J. Royal Statistical Society B 69, 2007) show that this cluster
    bootstrap is consistent in the number of groups. The same arguments give the same numbers on every machine.

    Args:
        groups: groups of the units.
        unit_E: unit of each event, 0 to N-1.
        count_E: count to which each event adds one, 0 to C-1.
        counts: number of counts, C.
        replicates: number of replicates, R.
        seed: seed of the draws.
    """
    K = groups.count
    # Events of the same kind in the same group are always drawn together, so count them once.
    cells, times_E = np.unique(groups.index_N[unit_E] * counts + count_E, return_counts=True)
    group_E, cell_E = np.divmod(cells, counts)
    random = np.random.default_rng(seed)
    counts_RC = np.empty((replicates, counts))
    for replicate_C in counts_RC:
        drawn_K = np.bincount(random.integers(0, K, K), minlength=K)
        replicate_C[:] = np.bincount(cell_E, drawn_K[group_E] * times_E, counts)
    counts_C = np.bincount(cell_E, times_E, counts).astype(np.float64)
    return Resampled(counts_C, counts_RC, np.bincount(cell_E, minlength=counts))


def interval(values_R: Numbers) -> Interval | None:
    """Return the percentile interval of replicates, without NaN; None if no values are left or all are equal."""
    known_R = values_R[~np.isnan(values_R)]
    if not len(known_R) or known_R.min() == known_R.max():
        return None
    low, high = np.quantile(known_R, _LEVELS)
    return Interval(float(low), float(high))


def share_of_right(right_N: npt.NDArray[np.bool_], groups: ResamplingGroups) -> Interval | None:
    """Return the interval of the share of units that are right."""
    units = np.arange(len(right_N))
    unit_E = np.concatenate([units, units[right_N]])
    count_E = np.repeat([0, 1], [len(units), int(right_N.sum())])
    return resample(groups, unit_E, count_E, 2).share(1, 0)


def wilson_interval(right: int, total: int) -> Interval:
    """Return the 95 % score interval of a share of independent trials: Wilson 1927, JASA 22 (158), 209-212.

    Args:
        right: number of successes, 0 to `total`.
        total: number of trials, at least 1.
    """
    share = right / total
    z2 = _Z_95**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z_95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    # If all or none are right, rounding could carry an end past the share itself.
    return Interval(max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))


def _divided(part_R: Numbers, whole_R: Numbers) -> Numbers:
    share_R: Numbers = np.divide(part_R, whole_R, out=np.full(len(whole_R), np.nan), where=whole_R > 0)
    return share_R
