"""Download a file over HTTP(S) and check it.

What has arrived lies in a part file until the file is whole, checked and renamed. A broken connection, or a later call,
goes on from there, if the server says that the file is still the same (`If-Range`).
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError

from cluster.storage.failures import explain
from cluster.storage.http.answer import BrokenError, Opening, Patience, UnreachedError
from cluster.storage.http.part import Part, open_part
from cluster.storage.redaction import redact
from mgc.errors import StorageError
from mgc.units import GIB
from mgc.version import __version__

OFFLINE: Final = "MGC_OFFLINE"
"""Environment variable with which nothing is fetched."""

MOST_BYTES: Final = GIB
"""Largest file, where its size is not known beforehand."""

_CHUNK_BYTES: Final = 256 * 1024
_GONE: Final = (404, 410)
_TRY_AGAIN: Final = (408, 425, 429, 500, 502, 503, 504)
_LONGEST_PAUSE_SECONDS: Final = 8.0
_NETWORK: Final = "check the network (and HTTPS_PROXY, if it needs a proxy)"

Report = Callable[[int, int | None], None]
"""Gets the bytes that are there, and all bytes of the file, if they are known."""


@dataclass(frozen=True)
class Wanted:
    """A file to download.

    Attributes:
        address: its http:// or https:// address.
        size_bytes: its size; None if it is not known.
        sha256: its hexadecimal SHA-256; None if it is not known.
    """

    address: str
    size_bytes: int | None = None
    sha256: str | None = None

    def __str__(self) -> str:
        return redact(self.address)


def is_offline() -> bool:
    """Return whether the environment says that nothing is to be fetched."""
    return os.environ.get(OFFLINE, "").lower() not in ("", "0", "false", "no")


def download(
    wanted: Wanted, target: Path, part: Path, patience: Patience | None = None, report: Report | None = None
) -> str:
    """Download a file, or the rest of it. Returns its SHA-256.

    Args:
        wanted: the file.
        target: where it shall lie, on the disk of `part`. It appears whole and checked, or not at all.
        part: where the beginning of the file lies from an earlier call, and is kept for a later one after a failure.
            Another process that downloads at the same time neither disturbs nor uses it.
        patience: how long to wait; the default suits a slow network.
        report: is told how much has arrived.

    Raises:
        StorageError: the file cannot be had, is not the one that is wanted, or cannot be written.
    """
    with explain(part, "write"):
        part.parent.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
    with open_part(part) as begun:
        digest = _Download(wanted, begun, patience or Patience(), report or (lambda done, total: None)).run()
        with explain(target, "write"):
            begun.finish(target)
    return digest


@dataclass
class _Download:
    wanted: Wanted
    part: Part
    patience: Patience
    report: Report
    reached: bool = field(default=False, init=False)

    def run(self) -> str:
        """Receive the file, and return its SHA-256."""
        part, wanted = self.part, self.wanted
        limit = wanted.size_bytes or MOST_BYTES
        if part.address != wanted.address or not part.validator or part.size_bytes > limit:
            part.begin()
        while True:
            resumed = part.size_bytes > 0
            self._receive_all()
            found = part.digest()
            if wanted.sha256 is None or found == wanted.sha256.lower():
                return found
            part.begin()
            # Bytes of an earlier call may have been damaged since; new ones are what the server has.
            if not resumed:
                raise StorageError(f"{wanted}: this is another file: its SHA-256 is {found}, expected {wanted.sha256}.")

    def _receive_all(self) -> None:
        part, misses = self.part, 0
        furthest = part.size_bytes
        while part.total_bytes is None or part.size_bytes != part.total_bytes:
            try:
                self._receive()
                return
            except BrokenError as broken:
                misses = 0 if part.size_bytes > furthest else misses + 1
                furthest = max(furthest, part.size_bytes)
                hopeless = isinstance(broken, UnreachedError) and not self.reached
                if hopeless or misses >= self.patience.tries:
                    keeps = part.kept and part.validator and part.size_bytes
                    kept = "; the next call goes on from there" if keeps else ""
                    raise StorageError(f"cannot download {self.wanted}: {broken}{kept}; {_NETWORK}.") from None
            time.sleep(min(self.patience.pause_seconds * 2 ** max(0, misses - 1), _LONGEST_PAUSE_SECONDS))

    def _receive(self) -> None:
        """Receive the rest of the file over one connection.

        Raises:
            BrokenError: the connection broke.
            StorageError: another connection would not help.
        """
        part, begun = self.part, self.part.size_bytes
        headers = {"Accept-Encoding": "identity", "User-Agent": f"mgc/{__version__}"}
        if begun and part.validator:
            headers |= {"Range": f"bytes={begun}-", "If-Range": part.validator}
        answer = Opening(self.wanted.address, headers, self.patience).wait()
        self.reached = True
        with contextlib.closing(answer):
            if answer.status == 206 and "Range" in headers:
                self._check_rest(answer, begun)
            elif answer.status == 200:
                self._begin(answer)
            else:
                self._refuse(answer.status)
            self._read(answer)

    def _begin(self, answer: urllib3.BaseHTTPResponse) -> None:
        stated = answer.headers.get("Content-Length", "")
        total = int(stated) if stated.isdecimal() else None
        self._check_total(total)
        tag = answer.headers.get("ETag", "")
        # A weak tag does not promise the same bytes.
        validator = tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")
        self.part.begin(self.wanted.address, validator, total)

    def _check_rest(self, answer: urllib3.BaseHTTPResponse, begun: int) -> None:
        """Check that an answer goes on where the part ends; if not, the next connection begins anew."""
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        tag = answer.headers.get("ETag", self.part.validator)
        changed = self.part.validator.startswith('"') and tag != self.part.validator
        if not found or int(found[1]) != begun or changed or self.part.total_bytes not in (None, int(found[2])):
            self.part.begin()
            raise BrokenError("the server sent another part of the file than was asked for")
        self._check_total(int(found[2]))

    def _check_total(self, total: int | None) -> None:
        expected = self.wanted.size_bytes
        if expected is not None and total not in (None, expected):
            raise StorageError(f"{self.wanted}: this is another file: it has {total:,} bytes, expected {expected:,}.")
        if total is not None and total > MOST_BYTES:
            raise StorageError(f"{self.wanted}: the server says that the file has {total:,} bytes; none is so large.")

    def _refuse(self, status: int) -> None:
        """Raise for an answer that is no file."""
        if status == 416:
            self.part.begin()
            raise BrokenError("the server has fewer bytes than before")
        if status in _TRY_AGAIN:
            raise BrokenError(f"the server answers {status}")
        if status in _GONE:
            raise StorageError(f"cannot download {self.wanted}: nothing is there (the server answers {status}).")
        raise StorageError(f"cannot download {self.wanted}: the server answers {status}.")

    def _read(self, answer: urllib3.BaseHTTPResponse) -> None:
        part, limit = self.part, self.wanted.size_bytes or MOST_BYTES
        while True:
            self.report(part.size_bytes, part.total_bytes or self.wanted.size_bytes)
            try:
                data = answer.read1(_CHUNK_BYTES, decode_content=False)
            except ReadTimeoutError:
                raise BrokenError(f"nothing came for {self.patience.stall_seconds:g} s {self._so_far()}") from None
            except (HTTPError, OSError):
                raise BrokenError(f"the connection ended {self._so_far()}") from None
            if not data:
                break
            if part.size_bytes + len(data) > limit:
                part.begin()
                raise StorageError(f"{self.wanted}: this is another file: it has more than {limit:,} bytes.")
            part.append(data)
        expected = part.total_bytes or self.wanted.size_bytes
        if expected is not None and part.size_bytes < expected:
            raise BrokenError(f"the connection ended {self._so_far()}")

    def _so_far(self) -> str:
        expected = self.part.total_bytes or self.wanted.size_bytes
        return f"after {self.part.size_bytes:,} bytes" + ("" if expected is None else f" of {expected:,}")
