"""A Ray cluster of several nodes on this machine.

Each node has its own `ray start`, object store and loopback address. The head has no CPUs, so all work happens on the
other nodes. Because the addresses differ, a driver attaches to the head's raylet, as on a cluster of machines, never to
that of a node that may be killed. Nothing outside this machine can reach the nodes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster.session import ray_internals
from cluster.session.interrupts import hold_back_signals
from cluster.session.profiles import machine_cores
from mgc.errors import ResourceError

START_SECONDS: Final = 120.0
MOST_FAILED: Final = 2
"""Nodes that may fail to start and are started again."""

_OBJECT_STORE_BYTES: Final = 500_000_000

_LONGEST_REASON: Final = 300
"""Characters of Ray's output that an error repeats."""

_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")

_NOT_INHERITED: Final = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""Variables of another cluster, or with another token."""


_KEEPER: Final = "read -r _ || kill -KILL -$1"
"""Waits for a line on its standard input. If it ends without one, it kills a process group."""


def free_port() -> int:
    """Return a port that is currently free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def answers(port: int) -> bool:
    """Return whether something listens on a port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@dataclass(frozen=True)
class LocalClusterSpec:
    """A cluster to start on this machine.

    Attributes:
        environment: variables for the head and the nodes, in addition to Ray's own.
        nodes: number of nodes besides the head.
        cpus: logical CPUs of each node.
        dashboard: whether to start Ray's dashboard, which accepts submitted jobs.
    """

    environment: Mapping[str, str]
    nodes: int = 2
    cpus: int = 2
    dashboard: bool = False


class Node:
    """One `ray start --block` with all its processes. It does not outlive the process that started it."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start it.

        Args:
            arguments: options of `ray start`.
            environment: variables for the node and its workers.
            log: file for its output.
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
        self._keeper = keep(self._process)

    def wait(self, port: int | None = None) -> None:
        """Wait until the node has joined and, if a port is given, answers on it.

        Raises:
            ResourceError: the node ended, or takes too long.
        """
        deadline = time.monotonic() + START_SECONDS
        while not ray_internals.has_started(self._log.read_bytes()) or (port is not None and not answers(port)):
            if not self.alive() or time.monotonic() > deadline:
                why = find_reason(self._log.read_text(errors="replace"))
                raise ResourceError(f"a Ray node did not start on this machine (`mgc doctor` looks at it): {why}")
            time.sleep(0.1)

    def alive(self) -> bool:
        """Return whether it still runs."""
        # An exception inside `poll` would leave its lock taken, and `wait` could never see the end.
        with hold_back_signals():
            return self._process.poll() is None

    def processes(self) -> list[int]:
        """Return the ids of its processes: `ray start`, the raylet and its agents, workers and their children."""
        return descendants(self._process.pid)

    def titles(self) -> dict[int, str]:
        """Return the titles of its actors and tasks, by process id."""
        commands = {pid: _file(pid, "cmdline").rstrip(b"\0").decode(errors="replace") for pid in self.processes()}
        return {pid: command for pid, command in commands.items() if ray_internals.is_worker_title(command)}

    def workers(self, name: str) -> list[int]:
        """Return the ids of the processes whose title contains a name."""
        return [pid for pid, title in self.titles().items() if name in title]

    def kill(self) -> list[int]:
        """Kill the whole process group at once, as when a machine fails. Return the ids of all its processes."""
        processes = self.processes()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=10)
        release(self._keeper)
        return processes

    def stop(self) -> None:
        """Kill the node and any process that it left behind; there is nothing to save."""
        for pid in still_there(self.kill(), 5.0):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def keep(leader: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Let a process group end with this process, however it ends. Returns the process that sees to that.

    Args:
        leader: first process of the group; it has just been started.
    """
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, "keeper", str(leader.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except BaseException:
        os.killpg(leader.pid, signal.SIGKILL)
        raise


def release(keeper: subprocess.Popen[bytes]) -> None:
    """End a process of `keep` once its group has ended: another group may get the same number."""
    if keeper.poll() is None:
        keeper.communicate(b"\n", timeout=10)


def find_reason(output: str) -> str:
    """Return why a node failed, from its output: the error below its last traceback, or else its last line."""
    _, traceback, below = _COLOUR.sub("", output).rpartition("Traceback (most recent call last):\n")
    lines = [line.strip() for line in below.splitlines() if line.strip() and not (traceback and line.startswith(" "))]
    if not lines:
        return "it says nothing"
    return (lines[0] if traceback else lines[-1])[:_LONGEST_REASON]


class LocalCluster:
    """A head and its nodes.

    Attributes:
        environment: variables for a driver; they name the cluster and the file with its token.
        address: where drivers connect.
        jobs_url: address of the dashboard, where jobs are submitted; None without one.
        scraped: file in which the head lists the metrics ports of all nodes, for Prometheus.
        head: the head.
        nodes: the other nodes.
    """

    def __init__(self, spec: LocalClusterSpec, folder: Path, ray_folder: Path) -> None:
        """Start the head, without waiting for it.

        Args:
            spec: what to start.
            folder: for logs.
            ray_folder: for Ray's own files.
        """
        self._spec, self._folder, self._ray_folder = spec, folder, ray_folder
        self._numbers = itertools.count(1)
        self.nodes: list[Node] = []
        token = ray_folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        port, self._web_port = free_port(), free_port() if spec.dashboard else None
        self.address = f"127.0.0.1:{port}"
        self.jobs_url = f"http://127.0.0.1:{self._web_port}" if self._web_port else None
        self.scraped = ray_internals.prometheus_targets(ray_folder / "0")
        self._node_environment = {
            **{name: value for name, value in spec.environment.items() if name not in _NOT_INHERITED},
            **ray_internals.QUICK_NODE_CHECKS,
            "RAY_AUTH_MODE": "token",
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_TOKEN_PATH": str(token),
            # Submitted jobs run the Python that is first on the head's path.
            "PATH": f"{Path(sys.executable).parent}:{spec.environment['PATH']}",
        }
        self.environment = {**self._node_environment, "RAY_ADDRESS": self.address}
        self.head = Node(
            [
                "--head", "--num-cpus=0", "--num-gpus=0", "--node-ip-address=127.0.0.1", f"--port={port}",
                f"--include-dashboard={str(spec.dashboard).lower()}",
                *([f"--dashboard-port={self._web_port}"] if self._web_port else []),
                f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}",
                f"--temp-dir={ray_folder}/0", f"--object-store-memory={_OBJECT_STORE_BYTES}", "--disable-usage-stats",
            ],
            self._node_environment,
            folder / "head.log",
        )  # fmt: skip

    def fill(self) -> None:
        """Wait for the head, then start the missing nodes, as many at a time as there are cores.

        Raises:
            ResourceError: one does not start.
        """
        self.head.wait(self._web_port)
        failed = 0
        while missing := self._spec.nodes - len(self.nodes):
            # Ray gives a node 30 s to start, which takes seconds of CPU.
            with hold_back_signals():
                started = [self._start() for _ in range(min(missing, machine_cores()))]
                self.nodes += started
            for node in started:
                try:
                    node.wait()
                except ResourceError:
                    # Two nodes that start at the same time may choose the same port.
                    with hold_back_signals():
                        node.stop()
                        self.nodes.remove(node)
                    failed += 1
                    if failed > MOST_FAILED:
                        raise

    def _start(self) -> Node:
        number = next(self._numbers)
        arguments = [
            f"--address={self.address}", f"--num-cpus={self._spec.cpus}", "--num-gpus=0",
            f"--node-ip-address=127.0.0.{number + 1}", f"--object-store-memory={_OBJECT_STORE_BYTES}",
            "--disable-usage-stats",
            # In a shared folder, two nodes that start at the same time would use the same sockets.
            f"--temp-dir={self._ray_folder}/{number}",
        ]  # fmt: skip
        return Node(arguments, self._node_environment, self._folder / f"node-{number}.log")

    def kill(self, node: Node) -> list[int]:
        """Kill a node. Return the ids of all its processes."""
        self.nodes.remove(node)
        return node.kill()

    def stop(self) -> None:
        """End all nodes, the head last."""
        for node in [*self.nodes, self.head]:
            node.stop()


@contextlib.contextmanager
def running(spec: LocalClusterSpec, folder: Path) -> Iterator[LocalCluster]:
    """Run a cluster, and end all its processes afterwards, even if signals arrive meanwhile.

    Args:
        spec: what to start.
        folder: for logs.

    Raises:
        ResourceError: a node does not start.
    """
    cluster = None
    # The path of a socket must be short, so Ray's folder must not be deeply nested.
    ray_folder = tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True)
    try:
        with hold_back_signals():
            cluster = LocalCluster(spec, folder, Path(ray_folder.name))
        cluster.fill()
        yield cluster
    finally:
        with hold_back_signals():
            if cluster is not None:
                cluster.stop()
            ray_folder.cleanup()


def descendants(pid: int) -> list[int]:
    """Return the ids of a process and of all its descendants that are alive."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (parent := _alive_child_of(int(entry.name))) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def still_there(pids: Sequence[int], seconds: float) -> list[int]:
    """Return the processes that are still alive after some seconds. Return at once when none is."""
    deadline = time.monotonic() + seconds
    while alive := [pid for pid in pids if _alive_child_of(pid) is not None]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return alive


def _alive_child_of(pid: int) -> int | None:
    """Return the id of the parent of a process; None if the process is not alive."""
    # The name, in parentheses, may contain anything.
    state, parent = (_file(pid, "stat").rpartition(b") ")[2].split() or [b"X", b"0"])[:2]
    return None if state in b"XZ" else int(parent)


def _file(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
