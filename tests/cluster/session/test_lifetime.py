"""A worker ends with its node, even if it can no longer end by itself."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.session.local_cluster import still_there

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

ROOT = Path(__file__).parents[3]

PROGRAM = """
import os, signal, sys
import ray
from cluster.session.connect import connect
from cluster.session.software import begin_work
from mgc.software import Software

class Worker:
    def __init__(self, software):
        # In the session of its parent, the kernel would let a stopped process go on when the parent ends. Ray made
        # it the first of a group, and only another process can begin a session.
        os.setpgid(0, os.getpgid(os.getppid()))
        os.setsid()
        begin_work(software)

    def processes(self): return os.getpid(), os.getppid()

with connect():
    worker = ray.remote(Worker).options(num_cpus=0, runtime_env={"env_vars": {"HUE": "blue"}}).remote(Software.here())
    pid, raylet = ray.get(worker.processes.remote())
    print(pid, flush=True)
    os.kill(pid, signal.SIGSTOP)
    os.kill(raylet, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_that_hangs_ends_with_its_node() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        env={**environment, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    try:
        # A process that is stopped ends by nothing but SIGKILL.
        assert not still_there([pid], 10.0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_outside_a_worker_nothing_is_tied() -> None:
    """A notebook that lives on when its shell ends must not be killed for having tried a stage."""
    program = (
        "import ctypes; from cluster.session.software import begin_work; from mgc.software import Software\n"
        "begin_work(Software.here())\n"
        "number = ctypes.c_int(-1); ctypes.CDLL(None).prctl(2, ctypes.byref(number)); print(number.value)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
