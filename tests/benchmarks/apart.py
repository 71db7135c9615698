"""Measurements in a process of their own: with every core, where `pin` has left this one, and a fresh memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.front_end.one_core import THREADS

ALL_CORES = frozenset(os.sched_getaffinity(0))
"""Those that this process had when it was started."""


class ApartError(RuntimeError):
    """The process failed; the message holds the end of what it said."""


def facts_of(
    module: str,
    arguments: Collection[str],
    cores: Collection[int] = ALL_CORES,
    environment: Mapping[str, str] | None = None,
    python: str = sys.executable,
    say: Callable[[str], None] | None = None,
    good: Collection[int] = (0,),
) -> Any:
    """Run `python -m module arguments`; returns the JSON of its last line on stdout.

    Args:
        module: what to run.
        arguments: for it.
        cores: that it may use.
        environment: variables besides those of this process. The thread settings of `pin` are not handed on.
        python: the interpreter.
        say: hears what the process says on stderr, line by line, while it works.
        good: exit codes of a process that did its work.

    Raises:
        ApartError: it ended with another code, or without a line of JSON.
    """
    own = os.sched_getaffinity(0)
    variables = {name: value for name, value in os.environ.items() if name not in THREADS} | dict(environment or {})
    command = [python, "-m", module, *arguments]
    with tempfile.TemporaryFile("w+") as answer:
        os.sched_setaffinity(0, cores)
        try:
            child = subprocess.Popen(command, stdout=answer, stderr=subprocess.PIPE, text=True, env=variables)
        finally:
            os.sched_setaffinity(0, own)
        with child:
            assert child.stderr is not None
            said = []
            for line in child.stderr:
                said.append(line)
                if say is not None:
                    say(line.rstrip())
        answer.seek(0)
        lines = answer.read().splitlines()
    if child.returncode not in good or not lines:
        raise ApartError(f"{module} ended with {child.returncode}: {''.join(said[-30:])[-3000:]}")
    return json.loads(lines[-1])


def peak_bytes() -> int:
    """The most memory that this process has had at once: resident, as Linux tells it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
