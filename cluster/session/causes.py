"""Explain in one line an error that comes from the machine or the cluster: no disk, no memory, no Ray, another mgc.

Imports nothing heavy. Errors of Ray are found only where Ray is imported already.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from cluster.session.ray_internals import KilledWorker
from cluster.storage.redaction import redact
from mgc.errors import MgcError, beneath

_FULL: Final = {errno.ENOSPC: "is full", errno.EDQUOT: "has no quota left", errno.EFBIG: "may not hold larger files"}
_SAYS_FULL: Final = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|disk is full", re.IGNORECASE
)
_NO_FOLDER: Final = "No usable temporary directory"
_ROOM: Final = "free some space there, or point TMPDIR (for Ray's files RAY_TMPDIR) at a larger disk"
_FULL_BYTES: Final = 2**20
"""A disk with less room counts as full."""

_MEMORY: Final = re.compile(r"IP: ([^,)]+).*?was ([\d.]+[KMG]?B) used / ([\d.]+[KMG]?B) limit", re.DOTALL)
_LESS_MEMORY: Final = (
    "give the nodes more memory, or fewer CPUs and so fewer decoders at once (`ray start --num-cpus N`; on one machine "
    "`taskset -c 0,1 mgc …`), and run the same command again: it goes on from what was saved"
)
_DIED: Final = re.compile(r"class_name: (.+)|^\s*ip: (.+)", re.MULTILINE)
_OTHER_MGC: Final = re.compile(r"No module named '((?:mgc|cluster|tune|pipelines)\b[\w.]*)'")
_NO_RAY: Final = re.compile(
    r"(failed to connect to|lost connection to|unable to connect to) GCS|GCS (is|has) ", re.IGNORECASE
)


def explain_cause(error: BaseException) -> str | None:
    """Return what happened and what to do, in one line; None if the error has another cause."""
    errors = list(beneath(error))
    for explain in (_disk, _memory, _other_mgc, _lost_ray):
        for each in errors:
            line = explain(each)
            if line is not None:
                return redact(line)
    return None


def killed_workers_line(killed: Sequence[KilledWorker]) -> str:
    """Return the line for work that does not move because its workers are killed."""
    nodes = Counter(worker.node for worker in killed)
    where = ", ".join(f"{number} on node {node}" for node, number in nodes.most_common(3))
    for_memory = any(worker.for_memory for worker in killed)
    full = None if for_memory else full_disk_line()
    if full is not None:
        # A worker that cannot write its log ends without a word.
        return f"nothing moves, because workers end as soon as they start ({where}): {full}"
    why = (
        "Ray killed them because memory was nearly full"
        if for_memory
        else "most likely by the system because memory ran out (see `dmesg`)"
    )
    return f"nothing moves, because workers are killed ({where}), {why}; {_LESS_MEMORY}."


def _disk(error: BaseException) -> str | None:
    if isinstance(error, MgcError):
        return None
    text = str(error)
    if isinstance(error, OSError) and error.errno in _FULL:
        folder = _folder_of(error.filename)
        return f"{folder or _guess()} {_FULL[error.errno]}; {_ROOM}."
    if _NO_FOLDER in text:
        return f"no folder for temporary files can be written ({text.partition('found in ')[2]}); {_ROOM}."
    if _SAYS_FULL.search(text):
        return f"{_guess()} is full ({' '.join(text.split())[-200:]}); {_ROOM}."
    return None


def _folder_of(name: object) -> str | None:
    """Return the folder of a file that an error names."""
    if not isinstance(name, str | bytes):
        return None
    path = Path(os.fsdecode(name))
    return str(path if path.is_dir() else path.parent)


def full_disk_line() -> str | None:
    """Return the line about a full folder among those that jobs write to; None if all have room."""
    full = _full()
    return f"{full} is full; {_ROOM}." if full else None


def _full() -> str:
    """Return the folders that jobs write to and that are full."""
    full = [str(folder) for folder in _written() if shutil.disk_usage(folder).free < _FULL_BYTES]
    return " and ".join(dict.fromkeys(full))


def _guess() -> str:
    """Return which of the folders that jobs write to is full. If none is, the disk may be another node's."""
    return _full() or f"a disk (TMPDIR is {os.environ.get('TMPDIR') or '/tmp'})"


def _written() -> Iterator[Path]:
    names = [os.environ.get("TMPDIR"), os.environ.get("RAY_TMPDIR"), "/tmp", "/dev/shm"]
    yield from (Path(name) for name in names if name and Path(name).is_dir())


def _memory(error: BaseException) -> str | None:
    exceptions = sys.modules.get("ray.exceptions")
    if isinstance(error, MemoryError):
        return f"this machine ran out of memory; {_LESS_MEMORY}."
    if exceptions is None:
        return None
    if isinstance(error, exceptions.OutOfMemoryError):
        found = _MEMORY.search(str(error))
        node = f"node {found[1]} (with {found[2]} of {found[3]} in use)" if found else "a node"
        return f"{node} ran out of memory, and Ray ended the work there; {_LESS_MEMORY}."
    died = isinstance(error, exceptions.ActorDiedError) and not error.actor_init_failed
    if died or isinstance(error, exceptions.WorkerCrashedError):
        return f"{_who(str(error))} was killed from outside, most likely because memory ran out; {_LESS_MEMORY}."
    return None


def _who(text: str) -> str:
    """Return the worker that an error of Ray is about."""
    facts = [name or place for name, place in _DIED.findall(text)]
    return f"a worker ({', '.join(fact.strip() for fact in facts)})" if facts else "a worker"


def _other_mgc(error: BaseException) -> str | None:
    found = _OTHER_MGC.search(str(error))
    if found is None:
        return None
    return (
        f"a node has no module {found[1]}: it runs a different mgc from the driver's, or none. Give all nodes the "
        "driver's image or checkout, start Ray there again, and run the job again."
    )


def _lost_ray(error: BaseException) -> str | None:
    exceptions = sys.modules.get("ray.exceptions")
    if exceptions is None:
        return None
    lost = (exceptions.LocalRayletDiedError, exceptions.NodeDiedError, exceptions.RpcError)
    may_be_lost = (ConnectionError, RuntimeError, exceptions.RaySystemError)
    if isinstance(error, lost) or (isinstance(error, may_be_lost) and _NO_RAY.search(str(error))):
        reason = " ".join(str(error).split())[:200].rstrip(".")
        return (
            f"the connection to Ray is lost ({reason}). See whether its head is up (`ray status`), and run the same "
            "command again: it goes on from what was saved."
        )
    return None
