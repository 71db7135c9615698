"""The stage between fetching and predicting: a batch of files in, their features out."""

from __future__ import annotations

from typing import Any

import numpy as np

from mgc.audio.decode import decode
from mgc.audio.excerpts import ListeningPlan
from mgc.errors import AudioError, ErrorKind
from mgc.features.front_end import FrontEndConfig, build_front_end

_OBJECTS = ("clips", "clip_starts", "decoder", "damage", "error_kind", "error_message", "error_offset")
"""Columns of Python objects, None where there is nothing to say."""


class Extract:
    """Decodes each file of a batch and computes its features; a bad file costs its own row only.

    The set-up is done once; each call takes and gives a batch as a dict of NumPy arrays, one row a track.
    """

    def __init__(self, front_end: FrontEndConfig, plan: ListeningPlan) -> None:
        self._front_end = build_front_end(front_end)
        self._plan = plan

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Replace the column of bytes by columns of features; the same rows in the same order.

        Args:
            batch: any columns, and `bytes` (bytes or None), `error_kind` and `error_message` (None unless the fetch
                failed; a row that comes with an error keeps it).

        Returns:
            The columns of the batch without `bytes`, and: `clips` (bytes of a C-ordered uint8 array (clip_count, bins,
            frames)), `clip_count` (int32, 0 on error), `clip_starts` (list of float, seconds), `duration_seconds` and
            `seconds_listened` (float64, NaN on error), `decoder`, `damage`, `error_kind`, `error_message` (str),
            `error_offset` (int). What a row has nothing of is None.
        """
        rows = len(batch["bytes"])
        columns: dict[str, np.ndarray] = {name: np.full(rows, None, dtype=object) for name in _OBJECTS}
        columns["error_kind"][:] = batch["error_kind"]
        columns["error_message"][:] = batch["error_message"]
        columns["clip_count"] = np.zeros(rows, np.int32)
        columns["duration_seconds"] = np.full(rows, np.nan)
        columns["seconds_listened"] = np.full(rows, np.nan)
        for row, data in enumerate(batch["bytes"]):
            if columns["error_kind"][row] is None:
                for name, value in self._track(data).items():
                    columns[name][row] = value
        return {name: values for name, values in batch.items() if name != "bytes"} | columns

    def _track(self, data: bytes) -> dict[str, Any]:
        """One track's new values; those not named stay empty."""
        try:
            heard = decode(data, self._plan)
            clips = [self._front_end(window) for window in heard.waveforms]
        except AudioError as error:
            return {"error_kind": str(error.kind), "error_message": str(error), "error_offset": error.offset_bytes}
        # Two C libraries read bytes that anyone may have written: whatever they raise is this file's fault, and must
        # not cost the other files of the batch, or the run, their labels. The message keeps what was raised.
        except Exception as error:  # noqa: BLE001
            message = f"unexpected {type(error).__name__}: {error}"
            return {"error_kind": str(ErrorKind.CORRUPT_STREAM), "error_message": message}
        return {
            "clips": b"".join(part.features.tobytes() for part in clips),
            "clip_count": sum(len(part.features) for part in clips),
            "clip_starts": np.concatenate([part.start_seconds for part in clips]).tolist(),
            "duration_seconds": heard.duration_seconds,
            "seconds_listened": heard.seconds_listened,
            "decoder": heard.decoder,
            "damage": heard.damage,
        }
