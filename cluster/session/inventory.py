"""What a machine has, and what of it would not work: one finding a line, with what to do.

Runs on this machine, or as a task on each node of a cluster.
"""

from __future__ import annotations

import csv
import io
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic.dataclasses import dataclass

from cluster.session import ray_internals
from cluster.session.connect import object_store_bytes
from cluster.session.profiles import machine_cores
from cluster.storage import files
from cluster.storage.failures import explain, redact
from cluster.storage.s3 import s3_client
from cluster.storage.uri import is_remote
from mgc.audio.decode import CASCADE
from mgc.audio.excerpts import ListeningPlan
from mgc.configuration import STRICT
from mgc.errors import StorageError
from mgc.units import GIB, format_bytes

_LEAST_MEMORY: Final = 3 * GIB
"""Of which Ray and its idle workers take about half."""

_LEAST_DISK: Final = 2 * GIB

_FULL: Final = 0.95
"""Share of a disk, or of the memory, above which Ray writes no more objects, or ends workers: its own default."""

_SMI: Final = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
_SMI_SECONDS: Final = 20.0

_STORE_SETTINGS: Final = (
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_ARN"),
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Any of these says that a store is meant to be used."""

_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")

_RATE_HZ: Final = 22050


class State(StrEnum):
    """What a finding says."""

    WORKS = "ok"
    LACKS = "--"
    FAILS = "!!"


@dataclass(frozen=True, config=STRICT)
class Finding:
    """One line.

    Attributes:
        name: of what was looked at.
        value: what there is.
        state: it works; it is lacking, which only who wants it need care about; or something would not work.
        advice: what to do, where it does not work.
    """

    name: str
    value: str
    state: State = State.WORKS
    advice: str = ""


def fails(name: str, value: str, advice: str) -> Finding:
    """Something would not work."""
    return Finding(name, value, State.FAILS, advice)


def lacks(name: str, value: str, advice: str = "") -> Finding:
    """Something that not everybody needs is not there."""
    return Finding(name, value, State.LACKS, advice)


def machine(folder: str = ".") -> list[Finding]:
    """What this machine has.

    Args:
        folder: on the disk that jobs write to.
    """
    return [
        versions(),
        cores(),
        memory(*memory_bytes()),
        shared_memory(shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else 0, object_store_bytes()),
        disk("disk", folder),
        disk("disk for Ray", os.environ.get("RAY_TMPDIR") or "/tmp"),
        gpus(),
        decoders(),
    ]


def cores() -> Finding:
    """CPU cores that this process may use."""
    there = os.cpu_count() or 1
    mine = machine_cores()
    return Finding("cores", f"{mine}" if mine == there else f"{mine} of the machine's {there}")


def memory_bytes() -> tuple[int, int]:
    """Return the memory of this machine or container, and how much of it is free, in bytes."""
    total, used = ray_internals.memory_bytes()
    return total, max(0, total - used)


def memory(total: int, free: int) -> Finding:
    """Whether Ray and a job have room in the memory."""
    value = f"{format_bytes(total)}, {format_bytes(free)} free"
    if free < _LEAST_MEMORY:
        return fails(
            "memory", value, f"Ray and a job want {format_bytes(_LEAST_MEMORY)} free: end other programs, or add memory"
        )
    if free < (1 - _FULL) * total:
        return fails("memory", value, f"Ray ends workers above {_FULL:.0%}: end other programs, or add memory")
    return Finding("memory", value)


def shared_memory(total: int, wanted: int) -> Finding:
    """Whether Ray's object store finds its place in /dev/shm."""
    if total < wanted:
        size = format_bytes(wanted).replace(" GiB", "g").replace(" MiB", "m")
        advice = f"Ray's object store ({size}) would go to the disk: give a container --shm-size={size}"
        return fails("/dev/shm", format_bytes(total), advice)
    return Finding("/dev/shm", format_bytes(total))


def disk(name: str, folder: str) -> Finding:
    """Whether a disk has room, and is not so full that Ray writes nothing more to it."""
    where = Path(folder).expanduser().absolute()
    while not where.exists():
        where = where.parent
    usage = shutil.disk_usage(where)
    value = f"{format_bytes(usage.free)} free of {format_bytes(usage.total)} at {where}"
    if usage.free < _LEAST_DISK:
        return fails(
            name, value, f"jobs and Ray want {format_bytes(_LEAST_DISK)}: delete something, or use another folder"
        )
    if usage.used > _FULL * (usage.used + usage.free):
        return fails(name, value, f"Ray writes nothing to a disk that is above {_FULL:.0%} full: delete something")
    return Finding(name, value)


def gpus() -> Finding:
    """GPUs as the driver and as torch see them."""
    import torch

    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    driver = _driver_gpus()
    if seen:
        kinds = [torch.cuda.get_device_properties(number) for number in range(seen)]
        names = ", ".join(f"{kind.name} ({format_bytes(kind.total_memory)})" for kind in kinds)
        precision = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        return Finding("GPUs", f"{seen}: {names}; CUDA {torch.version.cuda}, {precision}")
    if driver:
        advice = (
            f"torch does not see them (it is built for CUDA {torch.version.cuda}): update the driver, or look at "
            "CUDA_VISIBLE_DEVICES"
        )
        return fails("GPUs", f"{len(driver)}: {'; '.join(driver)}", advice)
    return lacks("GPUs", "none", "everything runs on the CPU")


def _driver_gpus() -> list[str]:
    try:
        said = subprocess.run(_SMI, capture_output=True, text=True, timeout=_SMI_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if said.returncode:
        return []
    return [", ".join(part.strip() for part in row) for row in csv.reader(io.StringIO(said.stdout)) if row]


def versions() -> Finding:
    """Of Python and the libraries that decide what a job can do."""
    import av
    import pyarrow
    import ray
    import soundfile
    import torch

    ffmpeg = ".".join(map(str, av.library_versions["libavcodec"]))
    value = (
        f"Python {platform.python_version()}, Ray {ray.__version__}, torch {torch.__version__}, pyarrow "
        f"{pyarrow.__version__}, libsndfile {soundfile.__libsndfile_version__}, libavcodec {ffmpeg}"
    )
    return Finding("versions", value)


def decoders() -> Finding:
    """Whether each decoder hears a second of MP3 that is made for it."""
    import soundfile

    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * _RATE_HZ) / _RATE_HZ)
    made = io.BytesIO()
    try:
        soundfile.write(made, tone, _RATE_HZ, format="MP3")
    except soundfile.LibsndfileError as error:
        return fails(
            "decoders", f"libsndfile writes no MP3: {error.error_string}", "install the package soundfile anew"
        )
    heard: list[str] = []
    deaf: list[str] = []
    for decoder in CASCADE:
        attempt = decoder(made.getvalue(), ListeningPlan(), lambda window: float(np.abs(window.samples).max()))
        (heard if any(attempt.windows) else deaf).append(attempt.decoder)
    if deaf:
        return fails("decoders", f"{', '.join(deaf)} cannot decode MP3", "install the packages soundfile and av anew")
    return Finding("decoders", f"{' and '.join(heard)} decode MP3")


def browser() -> Finding:
    """Chromium, in which one of the tests opens a report."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        return lacks("Chromium", "none", "only the browser test wants it, and skips")
    return Finding("Chromium", found)


def stores(uris: Sequence[str]) -> list[Finding]:
    """Whether places can be read, and whether the store answers where AWS variables are set and no S3 URI is given."""
    findings = [_place(uri) for uri in uris]
    if any(map(is_remote, uris)) or not any(map(os.environ.get, _STORE_SETTINGS)):
        return findings
    return [*findings, _answering()]


def _place(uri: str) -> Finding:
    shown = redact(uri)
    name = "object store" if is_remote(uri) else "folder"
    try:
        there = files.exists(uri)
    except StorageError as error:
        return fails(name, shown, str(error))
    if not there:
        return lacks(name, f"{shown}: there is nothing here yet")
    return Finding(name, f"{shown} can be read")


def _answering() -> Finding:
    from botocore.exceptions import ClientError

    where = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "Amazon S3"
    where = redact(where)
    try:
        with explain("s3://", "reach"):
            try:
                s3_client("s3://").list_buckets()
            except ClientError as error:
                # Roles with few rights may not list the buckets; the store knows them all the same.
                if error.response.get("Error", {}).get("Code") != "AccessDenied":
                    raise
    except StorageError as error:
        return fails("object store", where, str(error))
    return Finding("object store", f"{where} answers; --uri s3://BUCKET/… looks whether a place can be read")


def guarded(look: Callable[[], list[Finding]], name: str) -> list[Finding]:
    """Findings, or the one that a look failed: whatever it was, the others are worth seeing.

    Args:
        look: what to do.
        name: of what was looked at.
    """
    try:
        return look()
    except Exception as error:  # noqa: BLE001
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return [fails(name, reason, "this is not expected; set mgc up anew (`make setup`)")]


def as_json(finding: Finding) -> dict[str, Any]:
    """JSON-ready."""
    return {"name": finding.name, "state": finding.state.name.lower(), "value": finding.value, "advice": finding.advice}
