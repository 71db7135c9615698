"""An environment with Daft, which is no dependency of mgc: a virtual environment that also sees this one's packages.

So torch and the decoders are the same files, and what Daft asks for beyond them lies apart.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Final

REQUIREMENTS: Final = Path(__file__).with_name("requirements-daft.txt")
PIP_SECONDS: Final = 300


class NoDaftError(RuntimeError):
    """The environment cannot be made; says why, in one line."""


def python_with_daft(folder: Path, say: Callable[[str], None]) -> str:
    """The interpreter of the environment in `folder`, which is made there unless it stands.

    Daft comes from the package index that pip is configured for.

    Raises:
        NoDaftError: without a network, for example.
    """
    python = folder / "bin" / "python"
    if not _works(python):
        say(f"making an environment for Daft in {folder}, once")
        _run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)])
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        below = folder / "lib" / version / "site-packages" / "packages_of_mgc.pth"
        below.write_text(sysconfig.get_path("purelib") + "\n")
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--only-binary", ":all:"]
        _run([*pip, "--requirement", str(REQUIREMENTS)])
        if not _works(python):
            raise NoDaftError(f"Daft cannot be imported in {folder}")
    return str(python)


def _works(python: Path) -> bool:
    if not python.exists():
        return False
    wanted = next(line for line in REQUIREMENTS.read_text().splitlines() if line.startswith("daft=="))
    look = "import daft, torch; print(daft.__version__)"
    found = subprocess.run([python, "-c", look], capture_output=True, text=True, check=False)
    return found.stdout.strip() == wanted.partition("==")[2]


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=PIP_SECONDS)
    except subprocess.TimeoutExpired:
        raise NoDaftError(f"{command[2]} took longer than {PIP_SECONDS} s") from None
    except subprocess.CalledProcessError as error:
        said = [line for line in error.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise NoDaftError(f"{command[2]} ended with {error.returncode}: {said[-1][:200]}") from None
