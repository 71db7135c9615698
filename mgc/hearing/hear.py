"""Compute the features of one recording in this process."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Final

import numpy as np
import soundfile
import torch

from mgc.audio.cell.messages import Task
from mgc.audio.decode import listen
from mgc.audio.recording import Recording
from mgc.audio.waveform import Waveform
from mgc.errors import AudioError, ErrorKind
from mgc.features.clips import Clips
from mgc.features.front_end import build_front_end, read_front_end
from mgc.hearing.answer import ClipFacts, read_task, write_answer
from mgc.hearing.request import Hearing, Track, describe_failure

_WARM_UP_SECONDS: Final = 5.0
_WARM_UP_RATE_HZ: Final = 44_100


class Hear:
    """Computes the features of a recording in this process. A fault of the recording is part of the result."""

    def __init__(self, hearing: Hearing) -> None:
        self._front_end = build_front_end(read_front_end(hearing.front_end))
        self._plan = hearing.plan
        self._decoders = hearing.decoders
        self._min_seconds = hearing.min_seconds

    @property
    def clip_facts(self) -> ClipFacts:
        """What all clips have in common."""
        return ClipFacts(self._front_end.dtype, self._front_end.shape)

    def warm_up(self) -> None:
        """Hear a made-up sound with each decoder, so that all that they and the front end load late is loaded."""
        sound = _make_sound(min(self._plan.window_seconds, _WARM_UP_SECONDS))
        for decoder in self._decoders:
            with suppress(AudioError):
                listen(sound, self._plan, self._compute, decoders=(decoder,))

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


class HearInCell:
    """`Hear`, as a cell runs it: it reads a task, and writes an answer."""

    def __init__(self, hearing: Hearing) -> None:
        """Set up the process, which uses one core."""
        torch.set_num_threads(1)
        self._hear = Hear(hearing)
        self._hear.warm_up()
        self.facts = self._hear.clip_facts.to_bytes()

    def __call__(self, task: Task) -> bytes:
        """Return the answer to a task."""
        return write_answer(self._hear(*read_task(task)))


def _make_sound(seconds: float) -> bytes:
    """Return a WAV file in which something changes."""
    time_T = np.arange(round(seconds * _WARM_UP_RATE_HZ)) / _WARM_UP_RATE_HZ
    samples_T = 0.5 * np.sin(2 * np.pi * 440 * time_T) * np.sin(2 * np.pi * time_T)
    made = io.BytesIO()
    soundfile.write(made, samples_T, _WARM_UP_RATE_HZ, format="WAV")
    return made.getvalue()
