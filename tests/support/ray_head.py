"""A real Ray head on loopback for the test session, as a person would start it with `ray start --head`."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.session import ray_internals
from cluster.session.local_cluster import Node, free_port


@dataclass(frozen=True)
class RayHead:
    """Where the head answers: `address` for drivers, `jobs_url` for submitted jobs, `metrics_url` for Prometheus."""

    address: str
    jobs_url: str
    metrics_url: str


@contextmanager
def running(folder: Path) -> Iterator[RayHead]:
    """Start a head with eight logical CPUs and a token of its own, and end it with all its children.

    Meanwhile this process's environment holds the token, so that drivers and submitted jobs know it. Nobody reads
    what workers print, so no process collects their logs: one that does takes a twentieth of a core, work or no work.
    """
    port, dashboard, metrics = free_port(), free_port(), free_port()
    ray = Path(sys.executable).with_name("ray")
    # The path of a socket must be short, so Ray's folder does not lie below the tests'.
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as ray_folder,
    ):
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # Counters reach Prometheus after two seconds instead of ten; the node's own figures are not needed so often.
        patch.setenv(ray_internals.METRICS_INTERVAL_MS, "2000")
        patch.setenv(ray_internals.NODE_REPORT_INTERVAL_MS, "30000")
        # Ray read its settings when it was imported.
        ray_internals.read_settings_again()
        head = Node(
            [
                "--head", "--num-cpus=8", "--node-ip-address=127.0.0.1", f"--port={port}",
                f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={free_port()}",
                f"--ray-client-server-port={free_port()}", f"--metrics-export-port={metrics}",
                f"--temp-dir={ray_folder}", "--object-store-memory=500000000", "--disable-usage-stats",
                "--include-log-monitor=false",
            ],
            {**os.environ, "PATH": f"{ray.parent}:{os.environ['PATH']}", "PYTHONWARNINGS": "default"},
            folder / "ray.log",
        )  # fmt: skip
        try:
            head.wait(dashboard)
            yield RayHead(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{metrics}/metrics")
        finally:
            head.stop()
