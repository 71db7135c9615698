"""Run a function in a child process, so that the caller survives if it hangs or crashes.

Decoders are C code that reads bytes from anywhere. A child that takes too long is killed. After that, or after a crash,
the next call gets a new child. One child serves one caller; this is not a pool.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from pathlib import Path
from pickle import PicklingError
from types import TracebackType
from typing import Final, Generic, Self, TypeVar, cast

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from mgc.errors import AudioError, ErrorKind
from mgc.lifeline import die_with_parent

Result = TypeVar("Result")

MEMORY_BYTES: Final = 2 * 1024**3
"""Memory that a child may allocate after its set-up. A decoder that asks for more gets an error."""


class Isolated(Generic[Result]):
    """Calls a function in a child process. A context manager.

    The child is forked from a server process that has already imported what the function needs, so it starts quickly.
    It dies with its caller, however the caller ends.
    """

    def __init__(self, make: Callable[[], Callable[..., Result]], preload: str) -> None:
        """Prepare the child, which starts with the first call.

        Args:
            make: function that is called once in the child and returns the function to run. It is pickled, as are
                arguments and results.
            preload: module that the server process imports.
        """
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([preload])
        # multiprocessing would run the caller's main script again in the child. Nothing is pickled from there.
        main = sys.modules["__main__"]
        if main.__spec__ is None and hasattr(main, "__file__"):
            del main.__file__
        self._make = make
        self._pool = self._make_pool()

    def begin(self, *arguments: object, timeout_seconds: float) -> Callable[[], Result]:
        """Start a call. The child runs one call after the other while the caller does other things.

        Args:
            arguments: arguments of the function.
            timeout_seconds: time limit, counted from the start of the call in the child.

        Returns:
            A function that waits for the result. It raises AudioError (`timeout` or `decoder_crash`), or whatever the
            function raised.
        """
        pool = self._pool
        try:
            task = pool.schedule(_call, args=list(arguments), timeout=timeout_seconds)
        except RuntimeError:
            # A call before this one has broken the pool, and nobody has asked for its result yet.
            self._renew(pool)
            pool = self._pool
            task = pool.schedule(_call, args=list(arguments), timeout=timeout_seconds)

        def end() -> Result:
            try:
                return self._result(task, timeout_seconds)
            except BrokenProcessPool:
                self._renew(pool)
                return self._call_alone(arguments, timeout_seconds)

        return end

    def _result(self, task: ProcessFuture[object], timeout_seconds: float) -> Result:
        try:
            # The function that `make` gave returned it.
            return cast(Result, task.result())
        except FutureTimeoutError:
            raise AudioError(
                ErrorKind.TIMEOUT, f"decoding took more than {timeout_seconds:.0f} s and was stopped"
            ) from None
        except ProcessExpired as error:
            raise AudioError(
                ErrorKind.DECODER_CRASH, f"the decoder crashed: {_describe_exit(error.exitcode)}"
            ) from None
        except (PicklingError, MemoryError) as error:
            raise AudioError(
                ErrorKind.TOO_LARGE, f"it cannot be handed to the decoder: {type(error).__name__} {error}"
            ) from None

    def _call_alone(self, arguments: Sequence[object], timeout_seconds: float) -> Result:
        """Return the result of a call that was in a pool which broke. Only the call that breaks it again fails.

        A pool breaks as a whole, with all calls that wait in it, if a child ends while it is handed its arguments.
        """
        pool = self._pool
        try:
            return self._result(pool.schedule(_call, args=list(arguments), timeout=timeout_seconds), timeout_seconds)
        except BrokenProcessPool as error:
            self._renew(pool)
            text = f"the decoder's process ended while it was handed the recording: {error}"
            raise AudioError(ErrorKind.DECODER_CRASH, text) from None

    def _make_pool(self) -> ProcessPool:
        return ProcessPool(max_workers=1, context=self._context, initializer=_become, initargs=(self._make,))

    def _renew(self, broken: ProcessPool) -> None:
        """Replace a broken pool, once."""
        if self._pool is broken:
            self.close()
            self._pool = self._make_pool()

    def __call__(self, *arguments: object, timeout_seconds: float) -> Result:
        """Return the result of a call; see `begin`."""
        return self.begin(*arguments, timeout_seconds=timeout_seconds)()

    def close(self) -> None:
        """End the child."""
        self._pool.stop()
        self._pool.join()

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the child."""
        self.close()


_function: Callable[..., object] | None = None
"""In the child: the function to run."""


def _become(make: Callable[[], Callable[..., object]]) -> None:
    """Set up the child."""
    global _function
    _function = make()
    # The server ends when all copies of this pipe are closed. Only the caller may keep one.
    os.close(forkserver._forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]
    # A hanging child must not outlive the server, and therefore the caller.
    die_with_parent()
    if sys.platform == "linux":
        held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (held + MEMORY_BYTES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.RLIM_INFINITY))


def _call(*arguments: object) -> object:
    assert _function is not None
    return _function(*arguments)


def _describe_exit(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"signal {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
