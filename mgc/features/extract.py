"""The stage between fetching and predicting: it turns a batch of recordings into features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from mgc.audio.decode import CASCADE, Decoder, listen
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.isolate import Isolated
from mgc.audio.recording import Recording
from mgc.errors import AudioError, ErrorKind
from mgc.features.front_end import FrontEndConfig, build_front_end

_OBJECTS = ("clips", "clip_starts", "decoder", "damage", "error_kind", "error_message", "error_offset")
"""Columns of Python objects, None where there is no value."""

PATIENCE_SECONDS: Final = 60.0
PATIENCE_SECONDS_PER_MIB: Final = 1.0
"""Time limit of a recording: much longer than any needs on a busy core, so that only a hanging decoder is stopped."""

Track = dict[str, Any]
"""New values of one track by column. Columns without a value stay empty."""


class Hear:
    """Computes the features of a recording in this process. A fault of the recording is part of the result."""

    def __init__(self, front_end: FrontEndConfig, plan: ListeningPlan, decoders: Sequence[Decoder] = CASCADE) -> None:
        self._front_end = build_front_end(front_end)
        self._plan = plan
        self._decoders = decoders

    def __call__(self, recording: Recording, track_id: str) -> Track:
        """Return the values of the columns of `Extract` for one track."""
        try:
            heard = listen(recording, self._plan, self._front_end, track_id, self._decoders)
        except AudioError as error:
            return _describe_failure(error)
        except MemoryError:
            return _describe_failure(AudioError(ErrorKind.TOO_LARGE, "decoding it needs more memory than there is"))
        # Two C libraries read bytes from anywhere. Whatever they raise is the fault of this file, and must not cost the
        # other files of the batch, or the run, their labels. The message keeps what was raised.
        except Exception as error:  # noqa: BLE001
            return _describe_failure(
                AudioError(ErrorKind.CORRUPT_STREAM, f"unexpected {type(error).__name__}: {error}")
            )
        clips = heard.windows
        return {
            "clips": b"".join(part.features.tobytes() for part in clips),
            "clip_count": sum(len(part.features) for part in clips),
            "clip_starts": np.concatenate([part.start_seconds for part in clips]).tolist(),
            "duration_seconds": heard.duration_seconds,
            "seconds_listened": heard.seconds,
            "decoder": heard.decoder,
            "damage": heard.damage,
        }


class Extract:
    """Decodes each recording of a batch and computes its features. A bad recording affects only its own row.

    The set-up is done once. Each call takes and returns a batch: a dict of NumPy arrays with one row for each track.
    """

    def __init__(
        self,
        front_end: FrontEndConfig,
        plan: ListeningPlan,
        decoders: Sequence[Decoder] = CASCADE,
        isolated: bool = False,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Set up.

        Args:
            front_end: features to compute.
            plan: windows to listen to.
            decoders: decoders, in the order in which they are tried.
            isolated: whether to decode in a child process, so that a decoder that hangs or crashes affects only its
                own row.
            patience_seconds: time limit of an isolated decoder, to which a second for each MiB is added.
        """
        self._patience_seconds = patience_seconds
        self._isolated = (
            Isolated(partial(_set_up_child, front_end, plan, decoders), preload=__name__) if isolated else None
        )
        self._hear = None if isolated else Hear(front_end, plan, decoders)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Replace the column of recordings by columns of features. Keeps the rows and their order.

        Args:
            batch: any columns; `track_id`; `recording` (a file's bytes, cuts of it, or None), `error_kind` and
                `error_message` (None unless the fetch failed; a row that comes with an error keeps it).

        Returns:
            The columns of the batch without `recording`, and: `clips` (bytes of a C-ordered array (clip_count, *shape)
            of the front end's dtype), `clip_count` (int32, 0 on error), `clip_starts` (list of float, seconds),
            `duration_seconds` and `seconds_listened` (float64, NaN on error), `decoder`, `damage`, `error_kind`,
            `error_message` (str), `error_offset` (int). A missing value is None.
        """
        rows = len(batch["recording"])
        columns: dict[str, np.ndarray] = {name: np.full(rows, None, dtype=object) for name in _OBJECTS}
        columns["error_kind"][:] = batch["error_kind"]
        columns["error_message"][:] = batch["error_message"]
        columns["clip_count"] = np.zeros(rows, np.int32)
        columns["duration_seconds"] = np.full(rows, np.nan)
        columns["seconds_listened"] = np.full(rows, np.nan)
        # Start all before waiting for the first, so that the child never waits for its caller.
        tracks = {
            row: self._begin(recording, str(batch["track_id"][row]))
            for row, recording in enumerate(batch["recording"])
            if columns["error_kind"][row] is None
        }
        for row, heard in tracks.items():
            for name, value in heard().items():
                columns[name][row] = value
        return {name: values for name, values in batch.items() if name != "recording"} | columns

    def _begin(self, recording: Recording, track_id: str) -> Callable[[], Track]:
        if self._hear is not None:
            return partial(self._hear, recording, track_id)
        assert self._isolated is not None
        size_bytes = len(recording) if isinstance(recording, bytes) else len(recording.data)
        patience_seconds = self._patience_seconds + PATIENCE_SECONDS_PER_MIB * size_bytes / 2**20
        end = self._isolated.begin(recording, track_id, timeout_seconds=patience_seconds)

        def heard() -> Track:
            try:
                return end()
            except AudioError as error:
                return _describe_failure(error)

        return heard


def _set_up_child(front_end: FrontEndConfig, plan: ListeningPlan, decoders: Sequence[Decoder]) -> Hear:
    """Set up a child process, which uses one core."""
    torch.set_num_threads(1)
    return Hear(front_end, plan, decoders)


def _describe_failure(error: AudioError) -> Track:
    return {"error_kind": str(error.kind), "error_message": str(error), "error_offset": error.offset_bytes}
