"""What the programs ffmpeg and mpg123 decode of a file. T: samples in time."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from tests.damage.generated import Generated
from tests.damage.sound import REFERENCE_HZ, Samples

_PATIENCE_SECONDS: Final = 120

_COMMANDS: Final = {
    "ffmpeg": "ffmpeg -v quiet -nostdin -i {file} -map 0:a:0 -ac 1 -ar {rate_hz} -f f32le -",
    "mpg123": "mpg123 -q --resync-limit -1 -m -r {rate_hz} -e f32 -s {file}",
}


def installed() -> tuple[str, ...]:
    """Return which of the programs are on the PATH."""
    return tuple(name for name in _COMMANDS if shutil.which(name))


def ask(program: str, file: Generated) -> Samples | None:
    """Return what a program decodes, in mono at the reference rate; None if it decodes nothing."""
    with tempfile.NamedTemporaryFile(suffix=file.extension) as stored:
        Path(stored.name).write_bytes(file.data)
        command = _COMMANDS[program].format(file=stored.name, rate_hz=REFERENCE_HZ).split()
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE_SECONDS, check=False)
    heard_T = np.frombuffer(done.stdout[: len(done.stdout) // 4 * 4], "<f4")
    return heard_T if len(heard_T) else None
