"""Event files of TensorBoard under any URI.

What is noted is held in memory until `flush`, which writes one file of its own: an object store has no appending, and
TensorBoard reads the files of a folder one after another, in the order of their names.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from cluster.storage import files
from cluster.storage.uri import join


class EventFiles:
    """The events of one run.

    Args:
        uri: folder of the run, local or `s3://`; TensorBoard calls the run by its last part.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._purge: int | None = None
        self._events: list[Callable[[SummaryWriter], Any]] = []

    def purge(self, step: int) -> None:
        """Hide what the run has from a step on, in files that are written by now: it is done again.

        Args:
            step: the first one that is done again.
        """
        self._purge = step

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Note a number at a step, as of now."""
        now = time.time()
        self._events.append(lambda writer: writer.add_scalar(tag, value, step, now))

    def image(self, tag: str, image_HWC: npt.NDArray[np.uint8], step: int) -> None:
        """Note a picture at a step."""
        self._events.append(lambda writer: writer.add_image(tag, image_HWC, step, dataformats="HWC"))

    def parameters(self, values: Mapping[str, bool | float | str], metrics: Mapping[str, float]) -> None:
        """Note what the run was set to, for TensorBoard's HParams.

        Args:
            values: name → setting.
            metrics: tag of a scalar → its value in the end. HParams shows the last scalar of each of these tags.
        """

        def write(writer: SummaryWriter) -> None:
            for summary in hparams(dict(values), dict(metrics)):
                writer.file_writer.add_summary(summary)

        self._events.append(write)

    def flush(self) -> None:
        """Write what was noted since the last time; nothing where there is nothing.

        Raises:
            StorageError: the folder cannot be written. What was noted is kept for the next time.
        """
        if not self._events:
            return
        # Before it the writer puts the second; files of the same second are in order too, whoever writes them.
        suffix = f".{time.time_ns()}"
        with tempfile.TemporaryDirectory(prefix="mgc-events-") as folder:
            with SummaryWriter(folder, purge_step=self._purge, filename_suffix=suffix) as writer:
                for write in self._events:
                    write(writer)
            for path in Path(folder).iterdir():
                files.write_bytes(join(self.uri, path.name), path.read_bytes())
        self._purge = None
        self._events.clear()
