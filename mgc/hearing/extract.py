"""The stage between fetching and predicting: it turns a batch of recordings into features.

The process of the stage hands recordings to a cell that decodes and computes. Only the cell imports PyTorch, which
takes seconds of CPU and 200 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import numpy as np

from mgc.audio.cell.isolated import Isolated
from mgc.audio.cell.warden import Work
from mgc.audio.cuts import Cuts
from mgc.audio.recording import Recording
from mgc.errors import AudioError
from mgc.hearing.answer import ClipFacts, NoAnswerError, read_answer, write_task
from mgc.hearing.request import Hearing, Track, describe_failure

_OBJECTS = ("clips", "clip_starts", "decoder", "damage", "error_kind", "error_message", "error_offset")
"""Columns of Python objects, None where there is no value."""

_NUMBERS = ("duration_seconds", "tolerance_seconds", "seconds_listened", "bandwidth_hz")
"""Columns of numbers, NaN where there is no value."""

PATIENCE_SECONDS: Final = 60.0
PATIENCE_SECONDS_PER_MIB: Final = 1.0
"""Time limit of a recording: much longer than any needs on a busy core, so that only a hanging decoder is stopped."""


class Extract:
    """Decodes each recording of a batch and computes its features. A bad recording affects only its own row.

    The set-up is done once. Each call takes and returns a batch: a dict of NumPy arrays with one row for each track.
    """

    def __init__(
        self,
        hearing: Hearing,
        isolated: bool = False,
        patience_seconds: float = PATIENCE_SECONDS,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Set up.

        Args:
            hearing: what to hear, and how.
            isolated: whether to decode in a cell (`mgc.audio.cell`), so that a decoder that hangs, crashes or is taken
                over affects only its own row.
            patience_seconds: time limit of an isolated decoder, to which a second for each MiB is added.
            environment: variables that the cell's process needs to start; it starts with no others.
        """
        self._patience_seconds = patience_seconds
        self._isolated = Isolated(partial(_set_up_cell, hearing), environment) if isolated else None
        self._hear = None if isolated else _hear_here(hearing)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Replace the column of recordings by columns of features. Keeps the rows and their order.

        Args:
            batch: any columns; `track_id`; `recording` (a file's bytes, cuts of it, a source, or None), `error_kind`
                and `error_message` (None unless the fetch failed; a row that comes with an error keeps it).

        Returns:
            The columns of the batch without `recording`, and: `clips` (bytes of a C-ordered array (clip_count, *shape)
            of the front end's dtype), `clip_count` (int32, 0 on error), `clip_starts` (list of float, seconds),
            `duration_seconds`, `tolerance_seconds`, `seconds_listened` and `bandwidth_hz` (float64, NaN on error),
            `decoder`, `damage`, `error_kind`, `error_message` (str), `error_offset` (int). A missing value is None.
        """
        rows = len(batch["recording"])
        columns: dict[str, np.ndarray] = {name: np.full(rows, None, dtype=object) for name in _OBJECTS}
        columns["error_kind"][:] = batch["error_kind"]
        columns["error_message"][:] = batch["error_message"]
        columns["clip_count"] = np.zeros(rows, np.int32)
        for name in _NUMBERS:
            columns[name] = np.full(rows, np.nan)
        for row, recording in enumerate(batch["recording"]):
            if columns["error_kind"][row] is None:
                for name, value in self._hear_one(recording, str(batch["track_id"][row])).items():
                    columns[name][row] = value
        return {name: values for name, values in batch.items() if name != "recording"} | columns

    def close(self) -> None:
        """End the cell, if there is one."""
        if self._isolated is not None:
            self._isolated.close()

    def _hear_one(self, recording: Recording, track_id: str) -> Track:
        if self._hear is not None:
            return self._hear(recording, track_id)
        assert self._isolated is not None
        if isinstance(recording, bytes):
            size_bytes = len(recording)
        else:
            size_bytes = len(recording.data) if isinstance(recording, Cuts) else recording.size_bytes
        patience_seconds = self._patience_seconds + PATIENCE_SECONDS_PER_MIB * size_bytes / 2**20
        facts = ClipFacts.of_bytes(self._isolated.facts)
        try:
            answer = self._isolated(write_task(recording, track_id), patience_seconds)
            return read_answer(answer, facts)
        except NoAnswerError as error:
            return describe_failure(self._isolated.distrust(str(error)))
        except AudioError as error:
            return describe_failure(error)


def _hear_here(hearing: Hearing) -> Callable[[Recording, str], Track]:
    from mgc.hearing.hear import Hear

    return Hear(hearing)


def _set_up_cell(hearing: Hearing) -> Work:
    from mgc.hearing.hear import HearInCell

    return HearInCell(hearing)
