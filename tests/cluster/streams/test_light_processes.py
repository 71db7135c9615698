"""What each process of a job imports: those of which every run starts many import no PyTorch."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNTERS = (
    "cluster.session.counts", "cluster.session.epoch_counter", "cluster.streams.failed_tracks",
    "cluster.training.journal",
)  # fmt: skip
"""Modules of the actors of the driver's node."""


@pytest.mark.parametrize(
    ("modules", "heavy"), [(COUNTERS, {"torch", "pandas", "ray.data"}), (("cluster.streams.listening",), {"torch"})]
)
def test_without(modules: tuple[str, ...], heavy: set[str]) -> None:
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(modules) <= set(loaded)
    assert not heavy & set(loaded)
