"""The beginning of a file that is being downloaded. It stays after a failure, so that a later call can go on."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from cluster.storage.failures import explain


@dataclass
class Part:
    """The beginning of a file, and what the server said of the whole.

    Attributes:
        path: place of the bytes.
        file: the same, open.
        kept: whether it stays after a failure, for a later call.
        address: address that it came from.
        validator: strong ETag, or date, by which the server knows this version of the file; "" if it gave none.
        total_bytes: size of the whole file; None if the server did not say.
    """

    path: Path
    file: FileIO
    kept: bool
    address: str = ""
    validator: str = ""
    total_bytes: int | None = None

    @property
    def about(self) -> Path:
        """Place of what the server said."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size_bytes(self) -> int:
        """How much is there."""
        return os.fstat(self.file.fileno()).st_size

    def load(self) -> None:
        """Read what an earlier call noted; the bytes are worth nothing without it."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            noted = json.loads(self.about.read_bytes())
            total = noted["total_bytes"]
            self.address, self.validator = str(noted["address"]), str(noted["validator"])
            self.total_bytes = None if total is None else int(total)

    def begin(self, address: str = "", validator: str = "", total_bytes: int | None = None) -> None:
        """Forget the bytes, and note what the server says of those that come now."""
        with explain(self.path, "write"):
            # First, so that old bytes never count as the new file's.
            self.about.unlink(missing_ok=True)
            self.file.truncate(0)
            self.address, self.validator, self.total_bytes = address, validator, total_bytes
            if address:
                noted = {"address": address, "validator": validator, "total_bytes": total_bytes}
                self.about.write_text(json.dumps(noted), encoding="utf-8")

    def append(self, data: bytes) -> None:
        """Write more bytes, at the end."""
        with explain(self.path, "write"):
            rest = memoryview(data)
            while rest:
                rest = rest[self.file.write(rest) :]

    def digest(self) -> str:
        """Return the SHA-256 of the bytes."""
        with explain(self.path, "read"):
            self.file.seek(0)
            return hashlib.file_digest(self.file, "sha256").hexdigest()

    def finish(self, target: Path) -> None:
        """Give the file its name."""
        os.fsync(self.file.fileno())
        self.about.unlink(missing_ok=True)
        self.path.replace(target)

    def delete(self) -> None:
        """Leave nothing."""
        with explain(self.path, "delete"):
            self.about.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def open_part(path: Path) -> Iterator[Part]:
    """Open a part file for this process alone. If another process has it, yield an empty one of our own."""
    while True:
        with explain(path, "write"):
            file = FileIO(path, "a+")
        with file:
            part = Part(path, file, kept=True)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                # Another process has it, or the disk knows no locks.
                break
            # The process that had it may have renamed it or deleted it since we opened it.
            if not _is_at(path, file):
                continue
            part.load()
            try:
                yield part
            except BaseException:
                # Without a validator the server cannot say whether the rest belongs to these bytes.
                if not (part.size_bytes and part.validator):
                    part.delete()
                raise
            return
    own = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with explain(own, "write"):
        file = FileIO(own, "a+")
    with file:
        part = Part(own, file, kept=False)
        try:
            yield part
        except BaseException:
            part.delete()
            raise


def _is_at(path: Path, file: FileIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
