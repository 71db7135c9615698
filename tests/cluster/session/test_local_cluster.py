"""`mgc cluster`: several nodes on this machine, and none of their processes left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cluster.session import ray_internals
from cluster.session.local_cluster import Node, descendants, find_reason, still_there
from mgc.errors import ResourceError

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

ROOT = Path(__file__).parents[3]
START_SECONDS = 180.0

LOOK = (
    "import os, ray; from cluster.session.connect import connect, at_hand, look_at_nodes\n"
    "with connect(environment={'HUE': 'blue'}):\n"
    "    have = at_hand('the cluster')\n"
    "    stores = [node['Resources'].get('object_store_memory', 0) > 0 for node in ray.nodes()]\n"
    "    print('saw', [node.cpus for node in have.nodes], len(stores), all(stores), "
    "list(look_at_nodes(lambda: os.environ['HUE']).values()))"
)


INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.fixture
def nodes() -> int:
    """Nodes besides the head."""
    return 1


@pytest.fixture
def started(nodes: int, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`mgc cluster` with a head and some nodes, that writes to the file `log`."""
    with (tmp_path / "log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cluster", "--nodes", str(nodes), "--cpus", "1", "--no-dashboard"],
            cwd=ROOT, stdout=output, stderr=output, start_new_session=True,
            env={**without_ray(), "PYTHONWARNINGS": "default", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    yield process
    for pid in descendants(process.pid):
        kill(pid)
    process.wait(timeout=10)


def send(process: subprocess.Popen[bytes], signals: Sequence[tuple[float, signal.Signals]]) -> None:
    """Send signals, each after a pause; those that come after the end reach nobody."""
    for pause, number in signals:
        time.sleep(pause)
        process.send_signal(number)


@pytest.mark.parametrize(
    ("nodes", "signals"),
    [
        pytest.param(2, [(0.0, TERM), (0.5, TERM)], id="TERM, half a second, TERM"),
        pytest.param(
            1,
            [(0.0, INT), (0.0, TERM), (0.05, INT), (0.05, INT), (0.5, TERM), (0.5, INT), (0.5, TERM)],
            id="mixed",
            marks=pytest.mark.drill,
        ),
    ],
)
def test_signals_end_it_with_all_its_processes(
    nodes: int, signals: list[tuple[float, signal.Signals]], started: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    wait_for(log, "Ctrl-C ends it", started)
    processes = descendants(started.pid)
    # The head and each node have a raylet.
    assert sum(ray_internals.RAYLET in command(pid) for pid in processes) == 1 + nodes
    exports = re.search(r"^export (.*)$", log.read_text(), re.MULTILINE)
    assert exports
    told = dict(pair.split("=", 1) for pair in exports[1].split())
    token = Path(told["RAY_AUTH_TOKEN_PATH"])
    assert token.stat().st_mode & 0o077 == 0
    if nodes == 2:
        saw = subprocess.run(
            [sys.executable, "-c", LOOK], cwd=ROOT, capture_output=True, text=True, timeout=90, check=False,
            env={**without_ray(), **told, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip
        assert saw.returncode == 0, saw.stderr
        assert "saw [1.0, 1.0] 3 True ['blue', 'blue', 'blue']" in saw.stdout
    send(started, signals)
    assert started.wait(timeout=60) == 0, log.read_text()
    assert json.loads(log.read_text().splitlines()[-1])["status"] == "done"
    assert not still_there(processes, 5.0)
    assert not token.parent.exists()


@pytest.mark.parametrize("pause", [0.0, 0.05, 0.5, 4.0])
def test_signals_before_it_is_up_leave_nothing(pause: float, started: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """Some of them arrive while a node is being started."""
    log = tmp_path / "log"
    wait_for(log, "starting a head", started)
    time.sleep(pause)
    seen = set(descendants(started.pid))
    send(started, [(0.0, TERM), (0.0, INT), (0.05, TERM), (0.5, INT)])
    while started.poll() is None:
        seen |= set(descendants(started.pid))
        time.sleep(0.05)
    assert started.returncode == 130, log.read_text()
    assert json.loads(log.read_text().splitlines()[-1])["status"] == "interrupted"
    assert not still_there(sorted(seen), 5.0)


@pytest.mark.drill
def test_a_killed_cluster_leaves_nothing(started: subprocess.Popen[bytes], tmp_path: Path) -> None:
    wait_for(tmp_path / "log", "Ctrl-C ends it", started)
    processes = descendants(started.pid)
    started.kill()
    # Ray's agents look every now and then whether their node is still there.
    assert not still_there(processes, 120.0)


def test_a_node_does_not_outlive_who_started_it(tmp_path: Path) -> None:
    python, ray, pids = tmp_path / "python", tmp_path / "ray", tmp_path / "pids"
    python.symlink_to(sys.executable)
    ray.write_text(f"#!/bin/sh\nsleep 100 & echo $$ $! >> {pids}\nwait\n")
    ray.chmod(0o700)
    program = (
        "import os, signal, sys, time; from pathlib import Path; from cluster.session.local_cluster import Node\n"
        f"sys.executable = {str(python)!r}\n"
        f"first, other = (Node([], dict(os.environ), Path({str(tmp_path / 'log')!r})) for _ in range(2))\n"
        f"pids = Path({str(pids)!r})\n"
        "while not pids.exists() or pids.read_text().count('\\n') < 2: time.sleep(0.01)\n"
        "first.stop()\n"
        "first.stop()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not still_there([int(pid) for pid in pids.read_text().split()], 10.0)


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


def test_a_node_that_does_not_start_says_why_in_one_line(tmp_path: Path) -> None:
    log = tmp_path / "node.log"
    # The kernel lets nobody make a folder there.
    node = Node(["--head", "--num-cpus=0", "--temp-dir=/proc/ray", "--disable-usage-stats"], without_ray(), log)
    try:
        with pytest.raises(ResourceError) as caught:
            node.wait()
    finally:
        node.stop()
    assert "Traceback" in log.read_text()
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(": FileNotFoundError: [Errno 2] No such file or directory: '/proc/ray'")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "it says nothing"),
        ("\x1b[37mstarting\x1b[39m\n\x1b[31mport 1 is taken\x1b[39m\n\n", "port 1 is taken"),
        ('begun\nTraceback (most recent call last):\n  File "a.py"\n    b()\nOSError: c\nd\nended\n', "OSError: c"),
        ("Traceback (most recent call last):\n  File", "it says nothing"),
    ],
)
def test_the_reason_in_the_output_of_a_node(output: str, reason: str) -> None:
    assert find_reason(output) == reason


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
