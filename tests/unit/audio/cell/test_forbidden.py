"""A container may forbid what closes doors. Then limits alone keep a decoder in, and nothing outlives its cell."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from cluster.session.local_cluster import descendants, still_there
from mgc.audio.cell import kernel, seccomp
from mgc.audio.cell.doors import Door
from mgc.audio.cell.isolated import Isolated
from mgc.audio.cell.messages import Task
from mgc.errors import AudioError
from tests.unit.audio.cell.breakouts import TakenOver
from tests.unit.audio.cell.works import Obedient

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="the filter has numbers of x86-64"
)

_UNSHARE, _LANDLOCK, _SECCOMP, _PRCTL = 272, 444, 317, 157

STILL_CLOSED: Final = (
    *("read_environment", "read_shadow", "write_file", "open_memory_of_the_caller", "connect", "send_datagram"),
    *("open_local_socket", "raise_memory_limit", "raise_file_limit", "share_memory", "make_memory_file", "duplicate"),
)


def forbid() -> None:
    """Forbid this process what a strict container forbids: namespaces, Landlock and seccomp."""
    refuse = seccomp._do(seccomp._RETURN, 0x0005_0000 | errno.EPERM)
    code = [seccomp._do(seccomp._LOAD, 0)]
    for number in (_UNSHARE, _LANDLOCK, _SECCOMP):
        code += [seccomp._do(seccomp._IF_EQUAL, number, 0, 1), refuse]
    code += [seccomp._do(seccomp._IF_EQUAL, _PRCTL, 0, 3), seccomp._do(seccomp._LOAD, 16)]
    code += [seccomp._do(seccomp._IF_EQUAL, kernel.PR_SET_SECCOMP, 0, 1), refuse]
    code += [seccomp._do(seccomp._RETURN, 0x7FFF_0000)]
    program = seccomp._Program(len(code), b"".join(code))
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_SECCOMP, 2, ctypes.cast(ctypes.byref(program), ctypes.c_void_p))


def answer(cell: Isolated, name: str) -> str:
    return cell(Task(f"{name}:{os.getpid()}".encode(), b""), 30).decode()


def main() -> None:
    """What `test_limits_and_a_keeper_remain` runs in a process of its own: a filter is for good."""
    forbid()
    with Isolated(TakenOver) as cell:
        found = {"closed": int(cell.closed), "tried": {name: answer(cell, name) for name in STILL_CLOSED}}
        found["forked"] = answer(cell, "fork")
        bombs = descendants(os.getpid())[1:]
    found["forks"], found["left"] = len(bombs), still_there(bombs, 10)
    # They leave the cell's process group, and are not its children any more.
    with Isolated(TakenOver) as cell:
        found["hidden"] = answer(cell, "fork_and_hide")
        time.sleep(0.2)
        hidden = descendants(os.getpid())[1:]
    found["hidden_left"] = still_there(hidden, 10)
    with Isolated(Obedient) as cell:
        for how in ("hang", "abort"):
            try:
                cell(Task(how.encode(), b""), 1)
            except AudioError as error:
                found[how] = str(error.kind)
        found["works"] = cell(Task(b"echo", b"still"), 30).decode()
    print(json.dumps(found))


def test_limits_and_a_keeper_remain() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", "from tests.unit.audio.cell.test_forbidden import main; main()"],
        cwd=Path(__file__).parents[4], env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert Door(found["closed"]) == Door.LIMITS | Door.CAPABILITIES | Door.PRIVILEGES
    assert not [name for name, said in found["tried"].items() if said.startswith("out")]
    # Root may start as many processes as it likes; none outlives the cell.
    if found["forked"] == "out: forked":
        assert found["forks"] > 300
    assert found["left"] == found["hidden_left"] == []
    assert (found["hang"], found["abort"], found["works"]) == ("timeout", "decoder_crash", "still")
