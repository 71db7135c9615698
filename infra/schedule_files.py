"""Check the files beside the schedules: the settings of the night, and the rotation of its log."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path


def settings(file: Path) -> list[str]:
    """Check settings that a shell and systemd both read: NAME=VALUE, and nothing that either would read its own way."""
    return [
        f"line {number}: {line!r} is not NAME=VALUE without spaces, quotes and $"
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if line and not line.startswith("#") and not re.fullmatch(r"[A-Z_]+=[\w./:-]*", line)
    ]


def logrotate(file: Path) -> list[str]:
    """Check the rotation of logs: its files are those that cron's lines write, and logrotate can read it."""
    text = file.read_text(encoding="utf-8")
    rotated = set(re.findall(r"^(/\S+) \{$", text, re.MULTILINE))
    crontabs = "".join(each.read_text(encoding="utf-8") for each in file.parent.glob("*.cron"))
    written = set(re.findall(r">>(\S+)", crontabs))
    wrong = [f"cron writes {name}, which nothing rotates" for name in sorted(written - rotated)]
    wrong += [f"{name} is rotated, but no line of cron writes it" for name in sorted(rotated - written)]
    program = shutil.which("logrotate")
    if program is not None:
        done = subprocess.run([program, "--debug", str(file)], capture_output=True, text=True, timeout=60, check=False)
        wrong += [line for line in done.stderr.splitlines() if line.startswith("error:") and "unknown user" not in line]
    return wrong
