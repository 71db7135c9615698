"""Compute the features of one recording in this process."""

from __future__ import annotations

import numpy as np

from mgc.audio.decode import listen
from mgc.audio.recording import Recording
from mgc.audio.waveform import Waveform
from mgc.errors import AudioError, ErrorKind
from mgc.features.clips import Clips
from mgc.features.front_end import build_front_end, read_front_end
from mgc.hearing.request import Hearing, Track, describe_failure


class Hear:
    """Computes the features of a recording in this process. A fault of the recording is part of the result."""

    def __init__(self, hearing: Hearing) -> None:
        self._front_end = build_front_end(read_front_end(hearing.front_end))
        self._plan = hearing.plan
        self._decoders = hearing.decoders
        self._min_seconds = hearing.min_seconds

    def _compute(self, window: Waveform) -> Clips:
        return self._front_end(window.without_offset())

    def __call__(self, recording: Recording, track_id: str) -> Track:
        """Return the values of the columns of `Extract` for one track."""
        try:
            heard = listen(recording, self._plan, self._compute, track_id, self._decoders, self._min_seconds)
            heard.require_change()
        except AudioError as error:
            return describe_failure(error)
        except MemoryError:
            return describe_failure(AudioError(ErrorKind.TOO_LARGE, "decoding it needs more memory than there is"))
        # Two C libraries read bytes from anywhere. Whatever they raise is the fault of this file, and must not cost the
        # other files of the batch, or the run, their labels. The message keeps what was raised.
        except Exception as error:  # noqa: BLE001
            return describe_failure(AudioError(ErrorKind.CORRUPT_STREAM, f"unexpected {type(error).__name__}: {error}"))
        clips = heard.windows
        return {
            "clips": b"".join(part.features.tobytes() for part in clips),
            "clip_count": sum(len(part.features) for part in clips),
            "clip_starts": np.concatenate([part.start_seconds for part in clips]).tolist(),
            "duration_seconds": heard.duration_seconds,
            "tolerance_seconds": heard.tolerance_seconds,
            "seconds_listened": heard.seconds,
            "bandwidth_hz": heard.bandwidth_hz,
            "decoder": heard.decoder,
            "damage": heard.damage,
        }
