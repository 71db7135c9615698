"""A function in a child process that may hang or die without taking its caller with it.

Decoders are C code over bytes that anyone may have written. What they do to the process that runs them, they do to the
child: when it exceeds its time it is killed, when it dies it is missed, and the next call finds a new one. One child
serves one caller; it is no pool.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from multiprocessing import forkserver
from pathlib import Path
from types import TracebackType
from typing import Final, Generic, Self, TypeVar, cast

from pebble import ProcessExpired, ProcessPool

from mgc.errors import AudioError, ErrorKind

Result = TypeVar("Result")

MEMORY_BYTES: Final = 2 * 1024**3
"""What a child may take beyond what it has when it is ready. A decoder that wants more than that fails to get it."""

_PR_SET_PDEATHSIG: Final = 1


class Isolated(Generic[Result]):
    """Calls a function in a child process; a context manager.

    The child is forked from a server process that has imported what the function needs, so a new one is there soon. It
    dies with its caller, however that ends.
    """

    def __init__(self, make: Callable[[], Callable[..., Result]], preload: str) -> None:
        """Prepare; the child starts with the first call.

        Args:
            make: called once in the child; gives the function. Pickled, as are arguments and results.
            preload: the module to import in the server process.
        """
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([preload])
        # A child would run its caller's main script once more, to find what was pickled from it; ours is not.
        main = sys.modules["__main__"]
        if main.__spec__ is None and hasattr(main, "__file__"):
            del main.__file__
        self._pool = ProcessPool(max_workers=1, context=context, initializer=_become, initargs=(make,))

    def begin(self, *arguments: object, timeout_seconds: float) -> Callable[[], Result]:
        """Call the function; the child takes one call after the other, and goes on while its caller does other things.

        Args:
            arguments: of the function.
            timeout_seconds: from the moment at which the child takes the call.

        Returns:
            What waits for the result. It raises AudioError (`timeout` or `decoder_crash`), or what the function raised.
        """
        task = self._pool.schedule(_call, args=list(arguments), timeout=timeout_seconds)

        def end() -> Result:
            try:
                # The function that `make` gave returned it.
                result = cast(Result, task.result())
            except FutureTimeoutError:
                raise AudioError(
                    ErrorKind.TIMEOUT, f"decoding took more than {timeout_seconds:.0f} s and was stopped"
                ) from None
            except ProcessExpired as error:
                raise AudioError(ErrorKind.DECODER_CRASH, f"the decoder died: {_last_words(error.exitcode)}") from None
            return result

        return end

    def __call__(self, *arguments: object, timeout_seconds: float) -> Result:
        """The function's result; see `begin`."""
        return self.begin(*arguments, timeout_seconds=timeout_seconds)()

    def close(self) -> None:
        """End the child."""
        self._pool.stop()
        self._pool.join()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the child."""
        self.close()


_function: Callable[..., object] | None = None
"""In the child: what it was started for."""


def _become(make: Callable[[], Callable[..., object]]) -> None:
    """Set the child up."""
    global _function
    _function = make()
    # The server ends when the last end of this pipe is closed; the caller's own must be the last.
    os.close(forkserver._forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]
    if sys.platform == "linux":
        import ctypes

        # A child that hangs must not outlive the server, and so the caller.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (held + MEMORY_BYTES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.RLIM_INFINITY))


def _call(*arguments: object) -> object:
    assert _function is not None
    return _function(*arguments)


def _last_words(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"signal {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
