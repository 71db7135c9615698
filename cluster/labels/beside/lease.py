"""The lease of a table: who is at work on it. A second run is refused before it hears anything, not at its commit.

The lease is a file in the table's folder that its holder writes anew every few seconds. No clock is believed: a run
that finds the lease of another machine waits and looks whether it changes. The lease of a process of this machine is
void as soon as the process has ended or is stopped, so a killed run goes on at once.

A lease saves work, nothing else. What keeps two runs from both committing is the commit itself (`cluster.labels.runs`).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from cluster.storage import files
from cluster.storage.notice import notice
from cluster.storage.uri import Uri
from mgc.errors import LabelsError, StorageError

BEAT_SECONDS: Final = 10.0
"""Time after which the holder writes its lease anew."""

PATIENCE_SECONDS: Final = 45.0
"""Time in which the lease of a run that is still at work changes, even on a busy machine."""


@dataclass(frozen=True)
class _Holder:
    """A process that is at work on a table.

    Attributes:
        run: name of its lease.
        host: name of its machine.
        place: boot and process namespace of that machine, in which `pid` means something.
        pid: its process id.
        began: start of the process, in the kernel's ticks since the boot.
    """

    run: str
    host: str
    place: str
    pid: int
    began: str

    @classmethod
    def here(cls) -> _Holder:
        """Return this process as a holder."""
        pid = os.getpid()
        return cls(uuid.uuid4().hex, socket.gethostname(), _place(), pid, _began(pid) or "")

    @property
    def has_ended(self) -> bool | None:
        """Whether the process has ended or is stopped; None if it is on another machine."""
        return _began(self.pid) != self.began if self.place == _place() else None


@contextlib.contextmanager
def lease(table: Uri) -> Iterator[None]:
    """Hold the lease of a table while the body runs.

    Args:
        table: folder of the table.

    Raises:
        LabelsError: another run is at work on the table.
        StorageError: the lease cannot be read or written.
    """
    uri, holder = table / "_lease.json", _Holder.here()
    _take(uri, table, holder)
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(uri, holder, done), daemon=True)
    beating.start()
    try:
        yield
    finally:
        done.set()
        beating.join()
        try:
            found = _read(uri)
            if found is not None and found[0].run == holder.run:
                files.delete(uri)
        except StorageError as error:
            notice(f"The lease of the table could not be given back, so the next run waits for it: {error}")


def _take(uri: Uri, table: Uri, holder: _Holder) -> None:
    found = _read(uri)
    if found is not None and _is_at_work(uri, *found):
        raise _taken(table, found[0])
    _write(uri, holder, 0)
    # Of two runs that began at the same moment, the later one has it.
    now = _read(uri)
    if now is not None and now[0].run != holder.run:
        raise _taken(table, now[0])


def _is_at_work(uri: Uri, holder: _Holder, beat: int) -> bool:
    if holder.has_ended is not None:
        return not holder.has_ended
    notice(
        f"A run on {holder.host} has not given back the lease of this table. Looking for {PATIENCE_SECONDS:g} s "
        "whether it is still at work."
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(min(1.0, PATIENCE_SECONDS / 10))
        now = _read(uri)
        if now is None:
            return False
        if now != (holder, beat):
            return True
    return False


def _beat(uri: Uri, holder: _Holder, done: threading.Event) -> None:
    """Write the lease anew until the work is done, or until another run has taken it."""
    beat = 0
    while not done.wait(BEAT_SECONDS):
        beat += 1
        # A store that does not answer for a moment must not end the run.
        with contextlib.suppress(StorageError):
            found = _read(uri)
            if found is not None and found[0].run != holder.run:
                return
            _write(uri, holder, beat)


def _read(uri: Uri) -> tuple[_Holder, int] | None:
    """Return the holder of a lease and its last beat; None if there is none, or one that nobody can have written."""
    try:
        if not files.exists(uri):
            return None
        text = files.read_bytes(uri)
    except StorageError:
        # Its holder may give it back between the two.
        if files.exists(uri):
            raise
        return None
    try:
        values = json.loads(text)
        return _Holder(**values["holder"]), int(values["beat"])
    except (ValueError, TypeError, KeyError):
        return None


def _write(uri: Uri, holder: _Holder, beat: int) -> None:
    files.write_bytes(uri, json.dumps({"holder": asdict(holder), "beat": beat}).encode())


def _taken(table: Uri, holder: _Holder) -> LabelsError:
    return LabelsError(
        f"{table}: another run is at work on this table (process {holder.pid} on {holder.host}); nothing was heard. "
        "Run the command again when that one has ended."
    )


@functools.cache
def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        # Without Linux's /proc nobody knows this place, so its leases are watched as those of other machines.
        return uuid.uuid4().hex


def _began(pid: int) -> str | None:
    """Return when a process of this machine began; None if it has ended, or is stopped and may never go on."""
    try:
        # The name, in parentheses, may contain anything.
        state, *others = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(") ")[2].split()
    except OSError:
        return None
    return None if state in "XZTt" else others[18]
