"""A child that hangs, dies or eats memory costs one call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mgc.audio.isolate import Isolated
from mgc.errors import AudioError, ErrorKind


def make() -> Callable[[str], int]:
    return behave


def behave(how: str) -> int:
    if how == "hang":
        while True:
            time.sleep(60)
    if how == "abort":
        os.abort()
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(3)
    if how == "raise":
        raise ValueError("as it should")
    return os.getpid()


class Poison:
    """An argument that ends the process which receives it, as a recording does that is too large to receive."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return os._exit, (1,)


def behave_on_anything(what: object) -> int:
    return os.getpid()


def make_for_anything() -> Callable[[object], int]:
    return behave_on_anything


# The child looks for these functions by the name of their module; pytest imports a test under another.
for _each in (make, behave, make_for_anything, behave_on_anything):
    _each.__module__ = "tests.unit.audio.test_isolate"


def test_every_end_of_the_child_costs_one_call() -> None:
    with Isolated(make, preload="mgc.errors") as isolated:
        child = isolated("work", timeout_seconds=30)
        assert child != os.getpid()
        assert isolated("work", timeout_seconds=30) == child
        for how, kind, words in (
            ("hang", ErrorKind.TIMEOUT, "more than 1 s"),
            ("abort", ErrorKind.DECODER_CRASH, "SIGABRT"),
            ("kill", ErrorKind.DECODER_CRASH, "SIGKILL"),
            ("exit", ErrorKind.DECODER_CRASH, "exit code 3"),
        ):
            with pytest.raises(AudioError, match=words) as caught:
                isolated(how, timeout_seconds=1)
            assert caught.value.kind is kind
            other = isolated("work", timeout_seconds=30)
            assert other not in (child, os.getpid())
            child = other
        with pytest.raises(ValueError, match="as it should"):
            isolated("raise", timeout_seconds=30)
        assert isolated("work", timeout_seconds=30) == child
    assert not Path(f"/proc/{child}").exists()


def test_a_child_that_ends_while_it_receives_costs_one_call() -> None:
    """The calls that wait behind it are done by another child, and so are those that come later."""
    with Isolated(make_for_anything, preload="mgc.errors") as isolated:
        first = isolated("work", timeout_seconds=30)
        ends = [isolated.begin(each, timeout_seconds=30) for each in ("work", Poison(), "work", Poison(), "work")]
        outcomes: list[int | ErrorKind] = []
        for end in ends:
            try:
                outcomes.append(end())
            except AudioError as error:
                outcomes.append(error.kind)
        assert outcomes[1] is outcomes[3] is ErrorKind.DECODER_CRASH
        assert all(isinstance(outcomes[number], int) for number in (0, 2, 4))
        assert first != isolated("work", timeout_seconds=30) != os.getpid()


def test_a_hanging_child_dies_with_its_caller(tmp_path: Path) -> None:
    """SIGKILL leaves the caller no time to tidy up."""
    script = tmp_path / "caller.py"
    script.write_text(
        textwrap.dedent(
            """
            import threading
            from mgc.audio.isolate import Isolated
            from tests.unit.audio.test_isolate import make

            isolated = Isolated(make, preload="mgc.errors")
            print(isolated("work", timeout_seconds=30), flush=True)
            isolated("hang", timeout_seconds=600)
            """
        )
    )
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment) as caller:
        assert caller.stdout is not None
        child = int(caller.stdout.readline())
        time.sleep(0.5)
        assert Path(f"/proc/{child}").exists()
        caller.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()
