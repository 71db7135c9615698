"""A Ray cluster of several nodes on this machine, each with a `ray start`, an object store and an address of its own.

The head only leads: it has no CPUs, so all work happens on the other nodes. Each has another address of the loopback
network, so that a driver attaches to the head's raylet, as on a cluster of machines, and not to that of a node that
may be killed. Nothing outside this machine can reach any of them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from mgc.errors import ResourceError

START_SECONDS: Final = 60.0
START_TRIES: Final = 2

_OBJECT_STORE_BYTES: Final = 500_000_000

_UP: Final = b"Ray runtime started"

_SETTINGS: Final = {
    "RAY_AUTH_MODE": "token",
    "OMP_NUM_THREADS": "1",
    # A dead node is missed after 2 s, not after 20: the same, sooner.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    # More workers than a node has CPUs start at once, and Ray warns of that in the job's output.
    "RAY_worker_maximum_startup_concurrency": "8",
}

_NOT_INHERITED: Final = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""They would lead to another cluster, or into it with another token."""


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


class Node:
    """One `ray start --block` with all that it started."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start it.

        Args:
            arguments: of `ray start`.
            environment: of the node and its workers.
            log: where its output goes.
        """
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [Path(sys.executable).with_name("ray"), "start", "--block", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=dict(environment),
            )

    def wait(self, port: int | None = None) -> None:
        """Until it has joined, and answers on a port where one is given.

        Raises:
            ResourceError: it ended instead, or takes too long.
        """
        deadline = time.monotonic() + START_SECONDS
        while _UP not in self._log.read_bytes() or (port is not None and not answers(port)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = " ".join(self._log.read_text(errors="replace").split())[-1500:]
                raise ResourceError(f"a Ray node did not start on this machine (`mgc doctor` looks at it): {said}")
            time.sleep(0.1)

    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def processes(self) -> list[int]:
        """Ids of the node's processes: `ray start`, the raylet and its agents, workers and their children."""
        return descendants(self._process.pid)

    def titles(self) -> dict[int, str]:
        """What Ray calls the processes of its actors and tasks, by their ids."""
        commands = {pid: _file(pid, "cmdline").rstrip(b"\0").decode(errors="replace") for pid in self.processes()}
        return {pid: command for pid, command in commands.items() if command.startswith("ray::")}

    def workers(self, name: str) -> list[int]:
        """Ids of those processes whose title holds a name."""
        return [pid for pid, title in self.titles().items() if name in title]

    def kill(self) -> list[int]:
        """SIGKILL to the process group: all at once, as when a machine goes. Returns all that it had running."""
        processes = self.processes()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=10)
        return processes

    def stop(self) -> None:
        """End it, and whatever it left behind; there is nothing to keep."""
        for pid in still_there(self.kill(), 5.0):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class LocalCluster:
    """A head and its nodes.

    Attributes:
        environment: that of a driver: it names the cluster, and the file with its token.
        address: where drivers connect.
        jobs_url: of the dashboard, where jobs are submitted; None without one.
        scraped: the file in which the head keeps where Prometheus finds the metrics of all nodes.
        nodes: beside the head.
    """

    def __init__(
        self, folder: Path, ray_folder: str, nodes: int, cpus: int, environment: Mapping[str, str], dashboard: bool
    ) -> None:
        """Start the head. See `running`, which calls this."""
        self._folder, self._ray_folder, self._wanted, self._cpus = folder, ray_folder, nodes, cpus
        self._numbers = itertools.count(1)
        self.nodes: list[Node] = []
        ray = Path(sys.executable).with_name("ray")
        token = Path(ray_folder, "token")
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        self.environment = {
            **{name: value for name, value in environment.items() if name not in _NOT_INHERITED},
            **_SETTINGS,
            "RAY_AUTH_TOKEN_PATH": str(token),
            # The Python of submitted jobs is that on the head's path.
            "PATH": f"{ray.parent}:{environment['PATH']}",
        }
        port, web = free_port(), free_port() if dashboard else None
        self.head = Node(
            [
                "--head", "--num-cpus=0", "--num-gpus=0", "--node-ip-address=127.0.0.1", f"--port={port}",
                f"--include-dashboard={str(dashboard).lower()}", *([f"--dashboard-port={web}"] if web else []),
                f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}",
                f"--temp-dir={ray_folder}/0", f"--object-store-memory={_OBJECT_STORE_BYTES}", "--disable-usage-stats",
            ],
            self.environment,
            folder / "head.log",
        )  # fmt: skip
        try:
            self.head.wait(web)
        except BaseException:
            self.head.stop()
            raise
        self.address = self.environment["RAY_ADDRESS"] = f"127.0.0.1:{port}"
        self.jobs_url = f"http://127.0.0.1:{web}" if web else None
        self.scraped = Path(ray_folder, "0", "prom_metrics_service_discovery.json")

    def fill(self) -> None:
        """Start the nodes that are wanted and not there, and wait for them.

        Raises:
            ResourceError: one does not start.
        """
        for attempt in range(START_TRIES):
            while len(self.nodes) < self._wanted:
                self.nodes.append(self._start())
            for node in list(self.nodes):
                try:
                    node.wait()
                except ResourceError:
                    # Two that start at once may reach for the same port.
                    node.stop()
                    self.nodes.remove(node)
                    if attempt + 1 == START_TRIES:
                        raise

    def _start(self) -> Node:
        number = next(self._numbers)
        arguments = [
            f"--address={self.address}", f"--num-cpus={self._cpus}", "--num-gpus=0",
            f"--node-ip-address=127.0.0.{number + 1}", f"--object-store-memory={_OBJECT_STORE_BYTES}",
            "--disable-usage-stats",
            # In a folder that they share, two that start at once take the same sockets.
            f"--temp-dir={self._ray_folder}/{number}",
        ]  # fmt: skip
        without = {name: value for name, value in self.environment.items() if name != "RAY_ADDRESS"}
        return Node(arguments, without, self._folder / f"node-{number}.log")

    def kill(self, node: Node) -> list[int]:
        """Kill a node; returns all that it had running."""
        self.nodes.remove(node)
        return node.kill()

    def stop(self) -> None:
        """End all nodes, the head last. A second Ctrl-C does not disturb it: it would leave processes behind."""
        with _undisturbed():
            for node in [*self.nodes, self.head]:
                node.stop()


@contextlib.contextmanager
def running(
    folder: Path, environment: Mapping[str, str], nodes: int = 2, cpus: int = 2, dashboard: bool = False
) -> Iterator[LocalCluster]:
    """A cluster whose workers have this environment; ended with all its processes.

    Args:
        folder: for logs.
        environment: of the head and the nodes, to which Ray's own is added.
        nodes: beside the head.
        cpus: logical ones, of each node.
        dashboard: start Ray's dashboard too, which takes submitted jobs.

    Raises:
        ResourceError: a node does not start.
    """
    with (
        # Sockets have short names: Ray's folder must not lie deep.
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as ray_folder,
        contextlib.ExitStack() as ending,
    ):
        cluster = LocalCluster(folder, ray_folder, nodes, cpus, environment, dashboard)
        ending.callback(cluster.stop)
        cluster.fill()
        yield cluster


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def descendants(pid: int) -> list[int]:
    """Ids of a process and of all below it that are alive."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (parent := _alive_child_of(int(entry.name))) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def still_there(pids: Sequence[int], seconds: float) -> list[int]:
    """Which of the processes are alive after so many seconds; sooner, where none is."""
    deadline = time.monotonic() + seconds
    while alive := [pid for pid in pids if _alive_child_of(pid) is not None]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return alive


def _alive_child_of(pid: int) -> int | None:
    """The id of the parent of a process that is alive."""
    # The name, in parentheses, may hold anything.
    state, parent = (_file(pid, "stat").rpartition(b") ")[2].split() or [b"X", b"0"])[:2]
    return None if state in b"XZ" else int(parent)


def _file(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
