"""Fetch a wheel by pip, in a child process, so that the person's own configuration of pip holds."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cluster.storage.redaction import redact
from mgc.errors import StorageError

_REACHED: Final = re.compile(r"\s*(Downloading|Using cached|Processing|Saved|File was already downloaded)\b")
"""Lines with which pip says that it has found the wheel."""

_NO_PIP: Final = re.compile(r"No module named '?pip\b")
_NO_NETWORK: Final = re.compile(r"WARNING: Retrying \(|Max retries exceeded")


def pip_command(requirement: str, folder: Path) -> list[str]:
    """Return the command that downloads a wheel into a folder."""
    options = ("--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check")
    return [
        sys.executable,
        "-m",
        "pip",
        "download",
        *options,
        "--progress-bar",
        "off",
        "--dest",
        str(folder),
        requirement,
    ]


def fetch_wheel(
    requirement: str, folder: Path, answer_seconds: float | None, command: Sequence[str] | None = None
) -> Path:
    """Download the wheel of a package. Returns its place.

    Args:
        requirement: package and version, such as "name==1.0".
        folder: an empty folder for the wheel.
        answer_seconds: longest wait until pip has found the wheel; None leaves that to pip.
        command: the command to run; by default `pip_command`.

    Raises:
        StorageError: pip is missing or has not downloaded it.
    """
    lines: list[str] = []
    answered = threading.Event()
    with subprocess.Popen(
        command or pip_command(requirement, folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
    ) as pip:  # fmt: skip

        def listen() -> None:
            for line in pip.stdout or ():
                lines.append(line)
                if _REACHED.match(line):
                    answered.set()
            answered.set()

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        try:
            if not answered.wait(answer_seconds):
                raise StorageError(f"pip did not find {requirement} within {answer_seconds:.3g} s.")
            code = pip.wait()
        finally:
            pip.kill()
            pip.wait()
            listener.join()
    wheels = sorted(folder.glob("*.whl"))
    if code or len(wheels) != 1:
        raise StorageError(_explain(requirement, "".join(lines)))
    return wheels[0]


def _explain(requirement: str, said: str) -> str:
    if _NO_PIP.search(said):
        return f"this Python ({sys.executable}) has no pip to fetch {requirement} with; `python -m ensurepip` adds it."
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    # The first error is the reason, a later one often only what follows from it.
    reason = redact(errors[0])[:200].rstrip(". ") if errors else "it says nothing more"
    remedy = "check the network" if _NO_NETWORK.search(said) else "check pip's configuration"
    return f"pip cannot fetch {requirement} ({reason}); {remedy}."
