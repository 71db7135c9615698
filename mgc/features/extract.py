"""The stage between fetching and predicting: a batch of recordings in, their features out."""

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
"""Columns of Python objects, None where there is nothing to say."""

PATIENCE_SECONDS: Final = 60.0
PATIENCE_SECONDS_PER_MIB: Final = 1.0
"""How long a recording may take: far longer than any needs on a busy core, so that only what hangs is stopped."""

Track = dict[str, Any]
"""One track's new values by column; those not named stay empty."""


class Hear:
    """A recording's features, in this process. What is wrong with the recording is part of the answer."""

    def __init__(self, front_end: FrontEndConfig, plan: ListeningPlan, decoders: Sequence[Decoder] = CASCADE) -> None:
        self._front_end = build_front_end(front_end)
        self._plan = plan
        self._decoders = decoders

    def __call__(self, recording: Recording, track_id: str) -> Track:
        """The values of `Extract`'s columns for one track."""
        try:
            heard = listen(recording, self._plan, self._front_end, track_id, self._decoders)
        except AudioError as error:
            return _failure(error)
        except MemoryError:
            return _failure(AudioError(ErrorKind.TOO_LARGE, "decoding it takes more memory than there is"))
        # Two C libraries read bytes that anyone may have written: whatever they raise is this file's fault, and must
        # not cost the other files of the batch, or the run, their labels. The message keeps what was raised.
        except Exception as error:  # noqa: BLE001
            return _failure(AudioError(ErrorKind.CORRUPT_STREAM, f"unexpected {type(error).__name__}: {error}"))
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
    """Decodes each recording of a batch and computes its features; a bad one costs its own row only.

    The set-up is done once; each call takes and gives a batch as a dict of NumPy arrays, one row a track.
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
            front_end: what features to compute.
            plan: which seconds to hear.
            decoders: asked in this order.
            isolated: work in a child process, so that a decoder that hangs or dies costs its own row only.
            patience_seconds: after so long, and a second more for each MiB, an isolated decoder is taken to hang.
        """
        self._patience_seconds = patience_seconds
        self._isolated = Isolated(partial(_alone, front_end, plan, decoders), preload=__name__) if isolated else None
        self._hear = None if isolated else Hear(front_end, plan, decoders)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Replace the column of recordings by columns of features; the same rows in the same order.

        Args:
            batch: any columns; `track_id`; `recording` (a file's bytes, cuts of it, or None), `error_kind` and
                `error_message` (None unless the fetch failed; a row that comes with an error keeps it).

        Returns:
            The columns of the batch without `recording`, and: `clips` (bytes of a C-ordered array (clip_count, *shape)
            of the front end's dtype), `clip_count` (int32, 0 on error), `clip_starts` (list of float, seconds),
            `duration_seconds` and `seconds_listened` (float64, NaN on error), `decoder`, `damage`, `error_kind`,
            `error_message` (str), `error_offset` (int). What a row has nothing of is None.
        """
        rows = len(batch["recording"])
        columns: dict[str, np.ndarray] = {name: np.full(rows, None, dtype=object) for name in _OBJECTS}
        columns["error_kind"][:] = batch["error_kind"]
        columns["error_message"][:] = batch["error_message"]
        columns["clip_count"] = np.zeros(rows, np.int32)
        columns["duration_seconds"] = np.full(rows, np.nan)
        columns["seconds_listened"] = np.full(rows, np.nan)
        # All are begun before the first is waited for, so that the child never waits for its caller.
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
                return _failure(error)

        return heard


def _alone(front_end: FrontEndConfig, plan: ListeningPlan, decoders: Sequence[Decoder]) -> Hear:
    """What a child process does: one core's work."""
    torch.set_num_threads(1)
    return Hear(front_end, plan, decoders)


def _failure(error: AudioError) -> Track:
    return {"error_kind": str(error.kind), "error_message": str(error), "error_offset": error.offset_bytes}
