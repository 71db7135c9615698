"""What crosses between the nodes of a cluster on this machine: the bytes of each TCP connection, as Linux counts them.

All processes are on this machine, so both ends of a connection are seen. A node is a process tree.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.processes import children, cpu_seconds, descendants
from tests.benchmarks.scale.watch import Kinds

HEAD: Final = "head"
UNKNOWN: Final = "unknown"
_OWNER: Final = re.compile(r"pid=(\d+)")
_COUNTS: Final = re.compile(r"\b(bytes_acked|data_segs_out):(\d+)")


@dataclass(frozen=True)
class End:
    """One end of a connection.

    Attributes:
        node: the node that its process belongs to. The driver is on the head.
        kind: what its process is.
    """

    node: str
    kind: str


@dataclass(frozen=True)
class Sent:
    """What one kind of process has sent to another.

    Attributes:
        size_bytes: that arrived.
        segments: TCP segments with data. A message has at least one.
    """

    size_bytes: int
    segments: int


@dataclass(frozen=True)
class Moment:
    """How far the counters were.

    Attributes:
        sent: bytes and segments by sender and receiver, of all connections that were seen.
        cpu_seconds: CPU by node and kind.
    """

    sent: Mapping[tuple[End, End], Sent]
    cpu_seconds: Mapping[End, float]


class Wire:
    """Counts what crosses.

    Args:
        nodes: process id of each node's first process, by its name.
    """

    def __init__(self, nodes: Mapping[str, int]) -> None:
        self._roots = list(nodes.items())
        self._kinds = Kinds()
        self._ends: dict[int, End] = {}
        self._cpu: dict[int, float] = {}
        self._sockets: dict[tuple[str, str], tuple[int, Sent]] = {}

    def follow(self, job: int) -> None:
        """Also look at a job, which runs on the head."""
        self._roots.append((HEAD, job))

    def look(self) -> Moment:
        """Look now. What a connection carried between the last look and its end is not seen."""
        self._look_at_processes()
        listed = subprocess.run(["ss", "-tinHpO"], check=True, capture_output=True, text=True).stdout
        for line in listed.splitlines():
            fields, owner = line.split(), _OWNER.search(line)
            if owner is not None and (pid := int(owner[1])) in self._ends:
                counts = {name: int(count) for name, count in _COUNTS.findall(line)}
                sent = Sent(counts.get("bytes_acked", 0), counts.get("data_segs_out", 0))
                self._sockets[_plain(fields[3]), _plain(fields[4])] = (pid, sent)
        return Moment(self._sums(), self._cpu_by_end())

    def _look_at_processes(self) -> None:
        below = children()
        for node, root in self._roots:
            for pid in [root, *descendants(root, below)]:
                self._ends[pid] = End(node, self._kinds.of(pid))
                if (used := cpu_seconds(pid)) is not None:
                    self._cpu[pid] = used

    def _sums(self) -> Mapping[tuple[End, End], Sent]:
        found: dict[tuple[End, End], Sent] = {}
        for (local, peer), (pid, sent) in self._sockets.items():
            other = self._sockets.get((peer, local))
            ends = (self._ends[pid], End(UNKNOWN, UNKNOWN) if other is None else self._ends[other[0]])
            before = found.get(ends, Sent(0, 0))
            found[ends] = Sent(before.size_bytes + sent.size_bytes, before.segments + sent.segments)
        return found

    def _cpu_by_end(self) -> Mapping[End, float]:
        found = Counter[End]()
        for pid, seconds in self._cpu.items():
            found[self._ends[pid]] += seconds
        return found


def _plain(address: str) -> str:
    """An address without the brackets of one that IPv6 maps."""
    return address.replace("[::ffff:", "").replace("]", "")
