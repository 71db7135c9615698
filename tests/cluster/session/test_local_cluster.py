"""`mgc cluster`: several nodes on this machine, and none of their processes left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.session.local_cluster import descendants, still_there

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

ROOT = Path(__file__).parents[3]
START_SECONDS = 90.0

LOOK = (
    "import os, ray; from cluster.session.connect import connect, at_hand, looked_at\n"
    "with connect(environment={'HUE': 'blue'}):\n"
    "    have = at_hand('the cluster')\n"
    "    stores = [node['Resources'].get('object_store_memory', 0) > 0 for node in ray.nodes()]\n"
    "    print('saw', [node.cpus for node in have.nodes], len(stores), all(stores), "
    "list(looked_at(lambda: os.environ['HUE']).values()))"
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_all_its_processes(number: signal.Signals, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cluster", "--nodes", "2", "--cpus", "1", "--no-dashboard"],
            cwd=ROOT, stdout=output, stderr=output, start_new_session=True,
            env={**os.environ, "PYTHONWARNINGS": "default", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    try:
        wait_for(log, "Ctrl-C", process)
        started = descendants(process.pid)
        # A head and two nodes, each with a raylet.
        assert sum(b"raylet/raylet" in command(pid) for pid in started) == 3
        if number is signal.SIGINT:
            exports = re.search(r"^export (.*)$", log.read_text(), re.MULTILINE)
            assert exports
            told = dict(pair.split("=", 1) for pair in exports[1].split())
            assert Path(told["RAY_AUTH_TOKEN_PATH"]).stat().st_mode & 0o077 == 0
            saw = subprocess.run(
                [sys.executable, "-c", LOOK], cwd=ROOT, capture_output=True, text=True, timeout=90, check=False,
                env={**without_ray(), **told, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
            )  # fmt: skip
            assert saw.returncode == 0, saw.stderr
            assert "saw [1.0, 1.0] 3 True ['blue', 'blue', 'blue']" in saw.stdout
        process.send_signal(number)
        time.sleep(0.5)
        # An impatient person; it must not be left half ended.
        process.send_signal(number)
        assert process.wait(timeout=60) == 0, log.read_text()
        assert '"status": "done"' in log.read_text().splitlines()[-1]
        assert not still_there(started, 5.0)
    finally:
        for pid in descendants(process.pid):
            kill(pid)
    ray_folder = Path(told["RAY_AUTH_TOKEN_PATH"]).parent if number is signal.SIGINT else tmp_path / "none"
    assert not ray_folder.exists()


def test_it_ends_with_a_command(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "import os, sys; print('at', os.environ['RAY_ADDRESS']); sys.exit(7)"]
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cluster", "--nodes", "1", "--cpus", "1", "--no-dashboard", "--", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        env={**without_ray(), "PYTHONWARNINGS": "default", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "at 127.0.0.1:" in done.stdout
    assert "exit code 7" in done.stderr


def without_ray() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def wait_for(log: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
