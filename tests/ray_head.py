"""A real Ray head on loopback for the test session, as a person would start it with `ray start --head`."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray._raylet import Config

START_SECONDS = 90


@dataclass(frozen=True)
class RayHead:
    """Where the head answers: `address` for drivers, `jobs_url` for submitted jobs."""

    address: str
    jobs_url: str


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def answers(port: int) -> bool:
    """Whether something listens on a port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def running(folder: Path) -> Iterator[RayHead]:
    """Start a head with eight logical CPUs and a token of its own; end it and all its children at the end.

    The token stands in this process's environment meanwhile, so that drivers and submitted jobs know it.
    """
    port, dashboard = free_port(), free_port()
    ray = Path(sys.executable).with_name("ray")
    log = folder / "ray.log"
    # Sockets have short names: Ray's folder must not lie deep below the tests'.
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as ray_folder,
        log.open("wb") as output,
    ):
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # Ray has read its settings when it was imported.
        Config.initialize("")
        head = subprocess.Popen(
            [
                ray, "start", "--head", "--block", "--num-cpus=8", "--node-ip-address=127.0.0.1", f"--port={port}",
                f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={free_port()}",
                f"--ray-client-server-port={free_port()}", f"--temp-dir={ray_folder}",
                "--object-store-memory=500000000", "--disable-usage-stats",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PATH": f"{ray.parent}:{os.environ['PATH']}", "PYTHONWARNINGS": "default"},
        )  # fmt: skip
        try:
            deadline = time.monotonic() + START_SECONDS
            while not (answers(port) and answers(dashboard)):
                if head.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the Ray head did not start:\n{log.read_text()[-3000:]}")
                time.sleep(0.3)
            yield RayHead(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}")
        finally:
            # The head's own process group: nothing else on this machine.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(head.pid, signal.SIGTERM)
            try:
                head.wait(timeout=5)
            except subprocess.TimeoutExpired:
                os.killpg(head.pid, signal.SIGKILL)
                head.wait(timeout=10)
