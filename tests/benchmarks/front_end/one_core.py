"""CPU time on one core, in rounds that take the variants in turn, so that noise meets all of them alike."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")


def pin() -> int:
    """Keep this process on one core with one thread for each library; returns the core.

    To be called before NumPy or torch is imported: their libraries read the variables as they are loaded.
    """
    for name in THREADS:
        os.environ[name] = "1"
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def cpu_seconds(variants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each variant in each round. A first round warms up and is not counted.

    Each round takes the variants in another order, so that none always runs in the wake of the same other one.
    """
    names = list(variants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-1, rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            gc.collect()
            begun = time.process_time()
            variants[name]()
            spent = time.process_time() - begun
            if number >= 0:
                seconds[name].append(spent)
    return seconds


def median_ratio(upper: list[float], lower: list[float]) -> float:
    """Median of the ratios of the same round."""
    return statistics.median(above / below for above, below in zip(upper, lower, strict=True))
