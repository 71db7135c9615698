"""Check what a machine has and what would not work there: one line for each finding, with advice.

The checks run on this machine, or as a task on each node of a cluster.
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
from typing import Final

import numpy as np
from pydantic import JsonValue
from pydantic.dataclasses import dataclass

from cluster.session import ray_internals
from cluster.session.connect import object_store_bytes
from cluster.session.profiles import machine_cores
from cluster.storage import files, s3
from cluster.storage.failures import explain, redact
from cluster.storage.uri import Uri
from mgc.audio.cell.doors import DOORS, Door
from mgc.audio.cell.isolated import try_doors
from mgc.audio.decode import CASCADE, listen
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.waveform import Waveform
from mgc.configuration import STRICT
from mgc.errors import AudioError, ResourceError, StorageError
from mgc.software import Software
from mgc.units import GIB, format_bytes

_LEAST_MEMORY: Final = 3 * GIB
"""Ray and its idle workers take about half of this."""

_LEAST_DISK: Final = 2 * GIB

_FULL: Final = 0.95
"""Share in use at which Ray stops writing objects to a disk, or starts killing workers for lack of memory."""

_SMI: Final = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
_SMI_SECONDS: Final = 20.0

_STORE_SETTINGS: Final = (
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_ARN"),
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Variables that show that the user has a store."""

CELL: Final = "decoder's cell"
"""Name of the finding about it."""

_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")

_RATE_HZ: Final = 22050


class State(StrEnum):
    """Whether something works, is missing, or fails."""

    WORKS = "ok"
    LACKS = "--"
    FAILS = "!!"


@dataclass(frozen=True, config=STRICT)
class Finding:
    """Result of one check.

    Attributes:
        name: what was checked.
        value: what is there.
        state: `WORKS`; `LACKS` for something missing that not everybody needs; or `FAILS`.
        advice: what to do if it does not work.
    """

    name: str
    value: str
    state: State = State.WORKS
    advice: str = ""


def fails(name: str, value: str, advice: str) -> Finding:
    """Return the finding that something would not work."""
    return Finding(name, value, State.FAILS, advice)


def lacks(name: str, value: str, advice: str = "") -> Finding:
    """Return the finding that something is missing that not everybody needs."""
    return Finding(name, value, State.LACKS, advice)


def look_at_machine(folder: str = ".") -> list[Finding]:
    """Return the findings about this machine.

    Args:
        folder: a folder on the disk that jobs write to.
    """
    shared = shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else 0
    return [
        list_versions(),
        count_cores(),
        check_memory(*memory_bytes()),
        check_shared_memory(shared, object_store_bytes()),
        check_disk("disk", folder),
        check_disk("disk for Ray", os.environ.get("RAY_TMPDIR") or "/tmp"),
        compare_gpus(),
        find_runtime(),
        check_decoders(),
        check_cell(),
    ]


def count_cores() -> Finding:
    """Count the CPU cores that this process may use."""
    there = os.cpu_count() or 1
    mine = machine_cores()
    return Finding("cores", f"{mine}" if mine == there else f"{mine} of the machine's {there}")


def memory_bytes() -> tuple[int, int]:
    """Return the memory of this machine or container, and how much of it is free, in bytes."""
    total, used = ray_internals.memory_bytes()
    return total, max(0, total - used)


def check_memory(total: int, free: int) -> Finding:
    """Check that Ray and a job fit in memory."""
    value = f"{format_bytes(total)}, {format_bytes(free)} free"
    if free < _LEAST_MEMORY:
        return fails(
            "memory", value, f"Ray and a job need {format_bytes(_LEAST_MEMORY)} free: end other programs, or add memory"
        )
    if free < (1 - _FULL) * total:
        return fails("memory", value, f"Ray kills workers above {_FULL:.0%} in use: end other programs, or add memory")
    return Finding("memory", value)


def check_shared_memory(total: int, wanted: int) -> Finding:
    """Check that Ray's object store fits in /dev/shm."""
    if total < wanted:
        size = format_bytes(wanted).replace(" GiB", "g").replace(" MiB", "m")
        advice = f"Ray's object store ({size}) would go to the disk: start the container with --shm-size={size}"
        return fails("/dev/shm", format_bytes(total), advice)
    return Finding("/dev/shm", format_bytes(total))


def check_disk(name: str, folder: str) -> Finding:
    """Check that a disk has room, and is not so full that Ray stops writing to it."""
    where = Path(folder).expanduser().absolute()
    while not where.exists():
        where = where.parent
    usage = shutil.disk_usage(where)
    value = f"{format_bytes(usage.free)} free of {format_bytes(usage.total)} at {where}"
    if usage.free < _LEAST_DISK:
        return fails(
            name, value, f"jobs and Ray need {format_bytes(_LEAST_DISK)}: delete something, or use another folder"
        )
    if usage.used > _FULL * (usage.used + usage.free):
        return fails(name, value, f"Ray does not write to a disk that is more than {_FULL:.0%} full: delete something")
    return Finding(name, value)


def find_runtime() -> Finding:
    """Say which library computes networks on this machine's CPUs when it labels."""
    version = dict(Software.here().versions).get("onnxruntime")
    if version is None:
        return lacks("networks on CPUs", "PyTorch", "onnxruntime, once installed, computes them in less time")
    return Finding("networks on CPUs", f"ONNX Runtime {version}")


def compare_gpus() -> Finding:
    """Compare the GPUs that the driver sees with those that torch sees."""
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


def list_versions() -> Finding:
    """Return the versions of Python and of the libraries that matter to a job."""
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


def check_decoders() -> Finding:
    """Check that each decoder can decode a second of MP3."""
    import soundfile

    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * _RATE_HZ) / _RATE_HZ)
    made = io.BytesIO()
    try:
        soundfile.write(made, tone, _RATE_HZ, format="MP3")
    except soundfile.LibsndfileError as error:
        return fails(
            "decoders", f"libsndfile cannot write MP3: {error.error_string}", "reinstall the package soundfile"
        )
    working: list[str] = []
    broken: list[str] = []
    for name, decoder in zip(("soundfile", "pyav"), CASCADE, strict=True):
        try:
            heard = listen(made.getvalue(), ListeningPlan(), _loudest, decoders=(decoder,))
        except AudioError:
            broken.append(name)
        else:
            (working if any(heard.windows) else broken).append(name)
    if broken:
        return fails("decoders", f"{', '.join(broken)} cannot decode MP3", "reinstall the packages soundfile and av")
    return Finding("decoders", f"{' and '.join(working)} decode MP3")


def _loudest(window: Waveform) -> float:
    return float(np.abs(window.samples).max())


def check_cell() -> Finding:
    """Check what keeps a decoder that was taken over from all but computing."""
    try:
        return describe_doors(try_doors())
    except ResourceError as error:
        return fails(CELL, "does not start", str(error))


def describe_doors(closed: Door) -> Finding:
    """Return the finding about the doors of a decoder's cell.

    Args:
        closed: the doors that the kernel and the container let it close.
    """
    missing = ", ".join(words for door, words in DOORS.items() if door not in closed)
    if not missing:
        return Finding(CELL, "closed")
    if Door.CALLS in closed:
        return Finding(CELL, f"closed by seccomp; not offered here: {missing}")
    advice = "a decoder that is taken over can do what its user may; see Security in the docs for what to allow"
    return lacks(CELL, f"not closed; not offered here: {missing}", advice)


def find_browser() -> Finding:
    """Look for Chromium, which one test uses to open a report."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        return lacks("Chromium", "none", "only the browser test needs it; it is skipped")
    return Finding("Chromium", found)


def check_places(uris: Sequence[Uri]) -> list[Finding]:
    """Check that places can be read.

    If no S3 URI is given but AWS variables are set, check that the store answers.
    """
    findings = [_place(uri) for uri in uris]
    if any(uri.is_remote for uri in uris) or not any(map(os.environ.get, _STORE_SETTINGS)):
        return findings
    return [*findings, _answering()]


def _place(uri: Uri) -> Finding:
    name = "object store" if uri.is_remote else "folder"
    try:
        there = files.exists(uri)
    except StorageError as error:
        return fails(name, str(uri), str(error))
    if not there:
        return lacks(name, f"{uri}: nothing here yet")
    return Finding(name, f"{uri} can be read")


def _answering() -> Finding:
    from botocore.exceptions import ClientError

    where = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "Amazon S3"
    where = redact(where)
    try:
        with explain("s3://", "reach"):
            try:
                s3.client("s3://").list_buckets()
            except ClientError as error:
                # A role with few rights may not list the buckets, but the store answered.
                if error.response.get("Error", {}).get("Code") != "AccessDenied":
                    raise
    except StorageError as error:
        return fails("object store", where, str(error))
    return Finding("object store", f"{where} answers; --uri s3://BUCKET/… checks that a place can be read")


def guard(look: Callable[[], list[Finding]], name: str) -> list[Finding]:
    """Return the findings of a check, or the one finding that the check itself failed.

    Args:
        look: function that does the check.
        name: what it checks.
    """
    try:
        return look()
    except Exception as error:  # noqa: BLE001
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return [fails(name, reason, "this is unexpected; set mgc up again (`make setup`)")]


def as_json(finding: Finding) -> dict[str, JsonValue]:
    """Return JSON-ready values."""
    return {"name": finding.name, "state": finding.state.name.lower(), "value": finding.value, "advice": finding.advice}
