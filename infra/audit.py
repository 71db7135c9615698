"""`make audit`: ask pip-audit whether a package of requirements.lock has a known weakness.

Further arguments go to pip-audit. The exit code is 0 if there is none, 1 if there is one, and 2 if the database gave no
answer for every package.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from infra import lock

_FOUND, _NO_ANSWER = 1, 2
_LONGEST: Final = 300


def audit(file: Path, arguments: list[str]) -> int:
    """Audit the packages of a file, say what was found, and return the exit code."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(file), "--require-hashes", "--disable-pip"]
    command += ["--strict", "--progress-spinner", "off", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout, end="")
    # What matters is the last line, also of a traceback.
    said = (done.stderr.strip().splitlines() or ["pip-audit says nothing"])[-1]
    said = said.removeprefix("ERROR:pip_audit._cli:")[:_LONGEST].rstrip(".")
    if done.returncode == 0:
        print(f"audit: {said}")
        return 0
    if done.stdout:
        # pip-audit prints a table of what it found, and nothing if it failed.
        print(f"audit: {said}; upgrade these packages (CONTRIBUTING.md, Set up).", file=sys.stderr)
        return _FOUND
    print(
        f"audit: no answer for every package of {file.name}: {said}. Run it where the database can be reached, or ask "
        "another one: make audit ARGS='--vulnerability-service osv'.",
        file=sys.stderr,
    )
    return _NO_ANSWER


if __name__ == "__main__":
    sys.exit(audit(lock.LOCK, sys.argv[1:]))
