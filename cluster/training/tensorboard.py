"""TensorBoard event files under any URI.

Events stay in memory until `flush` writes them as a file of their own. An object store cannot append to a file, and
TensorBoard reads the files of a folder one after another, in the order of their names.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from cluster.storage import files
from cluster.storage.uri import Uri


class EventFiles:
    """The events of one run.

    Args:
        uri: folder of the run. TensorBoard shows its name as the name of the run.
    """

    def __init__(self, uri: Uri) -> None:
        self.uri = uri
        self._purge: int | None = None
        self._events: list[Callable[[SummaryWriter], object]] = []

    def purge(self, step: int) -> None:
        """Hide the events of earlier files of the run from a step on, because the training repeats those steps.

        Args:
            step: first repeated step.
        """
        self._purge = step

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Add a number at a step, with the current time."""
        now = time.time()
        self._events.append(lambda writer: writer.add_scalar(tag, value, step, now))

    def image(self, tag: str, image_HWC: npt.NDArray[np.uint8], step: int) -> None:
        """Add a picture at a step. `image_HWC` is uint8 with three channels."""
        self._events.append(lambda writer: writer.add_image(tag, image_HWC, step, dataformats="HWC"))

    def parameters(self, values: Mapping[str, bool | float | str], metrics: Mapping[str, float]) -> None:
        """Add the settings of the run, for TensorBoard's HParams.

        Args:
            values: settings by name.
            metrics: last value of a scalar by its tag. HParams shows the last scalar of each of these tags.
        """

        def write(writer: SummaryWriter) -> None:
            for summary in hparams(dict(values), dict(metrics)):
                writer.file_writer.add_summary(summary)

        self._events.append(write)

    def flush(self) -> None:
        """Write the events since the last flush, if there are any.

        Raises:
            StorageError: the folder cannot be written. The events are kept for the next flush.
        """
        if not self._events:
            return
        # The writer puts the second first. The suffix orders files of the same second, whichever process wrote them.
        suffix = f".{time.time_ns()}"
        with tempfile.TemporaryDirectory(prefix="mgc-events-") as folder:
            with SummaryWriter(folder, purge_step=self._purge, filename_suffix=suffix) as writer:
                for write in self._events:
                    write(writer)
            for path in Path(folder).iterdir():
                files.write_bytes(self.uri / path.name, path.read_bytes())
        self._purge = None
        self._events.clear()
