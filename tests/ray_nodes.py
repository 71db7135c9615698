"""A Ray cluster of several nodes on this machine, each with a `ray start` and an address of its own.

The head only leads: it has no CPUs, so all work happens on the other nodes. Each has another address of the loopback
network, so that a driver attaches to the head's raylet, as on a cluster of machines, and not to that of a node which a
test is about to kill.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.ray_head import free_port

START_SECONDS: Final = 60.0
START_TRIES: Final = 2

_OBJECT_STORE_BYTES: Final = 500_000_000

_UP: Final = b"Ray runtime started"

_SETTINGS: Final = {
    "RAY_AUTH_MODE": "token",
    "PYTHONWARNINGS": "default",
    "OMP_NUM_THREADS": "1",
    # A dead node is missed after 2 s, not after 20: the same, sooner.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}


class Node:
    """One `ray start --block` with all that it started."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [Path(sys.executable).with_name("ray"), "start", "--block", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=dict(environment),
            )

    def wait(self) -> None:
        """Until it has joined.

        Raises:
            RuntimeError: it ended instead, or takes too long.
        """
        deadline = time.monotonic() + START_SECONDS
        while _UP not in self._log.read_bytes():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"a Ray node did not start:\n{self._log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)

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


class RayNodes:
    """A head and its nodes. `environment` is that of a driver: it names the cluster and holds its token."""

    def __init__(self, folder: Path, ray_folder: str, nodes: int, cpus: int, environment: Mapping[str, str]) -> None:
        self._folder, self._ray_folder, self._wanted, self._cpus = folder, ray_folder, nodes, cpus
        self._numbers = itertools.count(1)
        self.nodes: list[Node] = []
        ray = Path(sys.executable).with_name("ray")
        self.environment = {
            **environment,
            **_SETTINGS,
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "PATH": f"{ray.parent}:{environment['PATH']}",
        }
        port = free_port()
        self.head = Node(
            [
                "--head", "--num-cpus=0", "--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false",
                f"--ray-client-server-port={free_port()}", f"--temp-dir={ray_folder}/0",
                f"--object-store-memory={_OBJECT_STORE_BYTES}", "--disable-usage-stats",
            ],
            self.environment,
            folder / "head.log",
        )  # fmt: skip
        try:
            self.head.wait()
        except RuntimeError:
            self.head.stop()
            raise
        self.environment["RAY_ADDRESS"] = f"127.0.0.1:{port}"

    def fill(self) -> None:
        """Start the nodes that are wanted and not there, and wait for them."""
        for attempt in range(START_TRIES):
            while len(self.nodes) < self._wanted:
                self.nodes.append(self._start())
            for node in list(self.nodes):
                try:
                    node.wait()
                except RuntimeError:
                    # Two that start at once may reach for the same port.
                    node.stop()
                    self.nodes.remove(node)
                    if attempt + 1 == START_TRIES:
                        raise

    def _start(self) -> Node:
        number = next(self._numbers)
        arguments = [
            f"--address={self.environment['RAY_ADDRESS']}", f"--num-cpus={self._cpus}",
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
        """End all nodes, the head last."""
        for node in [*self.nodes, self.head]:
            node.stop()


@contextlib.contextmanager
def running(folder: Path, environment: Mapping[str, str], nodes: int = 2, cpus: int = 2) -> Iterator[RayNodes]:
    """A cluster whose workers have this environment; ended with all its processes.

    Args:
        folder: for logs.
        environment: of the head and the nodes, to which Ray's own is added.
        nodes: beside the head.
        cpus: logical ones, of each node.
    """
    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as ray_folder,
        contextlib.ExitStack() as ending,
    ):
        cluster = RayNodes(folder, ray_folder, nodes, cpus, environment)
        ending.callback(cluster.stop)
        cluster.fill()
        yield cluster


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
