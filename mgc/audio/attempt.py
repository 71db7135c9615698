"""What one decoder made of a file: the windows it gave and what went wrong. T: samples in time, C: channels.

A window is handed on as soon as it is heard, and only what becomes of it is kept: of a track of five hours heard from
end to end there is never more than a window in memory as samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from mgc.audio.waveform import Waveform
from mgc.errors import ErrorKind

SLACK_SECONDS: Final = 0.2
"""This much less than announced is no damage: encoder delay and padding, a last frame counted but not written."""

RATES_HZ: Final = range(1_000, 768_001)
"""Rates outside come from damaged headers; taken at their word, one window could fill the memory."""

_LARGEST_SAMPLE: Final = 1e6
"""Full scale is 1. Beyond lies damage, and its power would overflow float32."""

DecoderName = Literal["soundfile", "pyav"]

Use = TypeVar("Use")
"""What becomes of a window."""


@dataclass
class Attempt(Generic[Use]):
    """One decoder's result, filled in as it goes.

    Attributes:
        decoder: which one.
        use: what is made of each window.
        opened: whether it takes the file for audio.
        windows: what was made of each window heard, in order of time; an empty window is none.
        seconds: heard in all windows together.
        duration_seconds: length of the track as far as the decoder can tell.
        announced_seconds: length by the file's header, where it has one.
        fault: what went wrong; None for a clean decode of all that was planned.
        kind: the error that the fault makes if too little is heard.
        offset_bytes: where in the file the fault lies, if known.
        unusable_samples: how many samples were NaN, infinite or beyond ±1e6, and became 0.
    """

    decoder: DecoderName
    use: Callable[[Waveform], Use]
    opened: bool = False
    windows: list[Use] = field(default_factory=list)
    seconds: float = 0.0
    duration_seconds: float = 0.0
    announced_seconds: float | None = None
    fault: str | None = None
    kind: ErrorKind = ErrorKind.TOO_SHORT
    offset_bytes: int | None = None
    unusable_samples: int = 0

    @property
    def damage(self) -> str | None:
        """Everything that is wrong, in a few words."""
        unusable = f"{self.unusable_samples} sample(s) are no usable number" if self.unusable_samples else None
        return "; ".join(part for part in (self.fault, unusable) if part) or None

    def faulty(self, kind: ErrorKind, fault: str, offset_bytes: int | None = None) -> Attempt[Use]:
        """Note what went wrong; returns itself, so that a decoder can end with it."""
        self.kind, self.fault, self.offset_bytes = kind, fault, offset_bytes
        return self

    def hear(self, mono_T: NDArray[np.float32], sample_rate_hz: int, start_seconds: float) -> None:
        """Hand a window on. Samples that are no usable number become 0, in place."""
        if not len(mono_T):
            return
        # The sum of squares is small only if every sample is; NaN fails the comparison too.
        with np.errstate(over="ignore", invalid="ignore"):
            suspicious = not float(np.dot(mono_T, mono_T)) <= _LARGEST_SAMPLE**2
        if suspicious:
            wrong_T = ~(np.abs(mono_T) <= _LARGEST_SAMPLE)
            mono_T[wrong_T] = 0
            self.unusable_samples += int(wrong_T.sum())
        window = Waveform(mono_T, sample_rate_hz, start_seconds)
        self.seconds += window.duration_seconds
        self.windows.append(self.use(window))


def mix(wave_CT: Sequence[NDArray[Any]], mono_T: NDArray[np.float32]) -> None:
    """Write the mean of the channels to `mono_T`, by sums of columns: np.mean over a short axis is 25 times slower."""
    if len(wave_CT) == 1:
        mono_T[:] = wave_CT[0]
        return
    # Damaged floats may be near the largest: what overflows is found when the window is kept.
    with np.errstate(over="ignore", invalid="ignore"):
        if wave_CT[0].dtype == np.float32:
            # Without a type to convert to, NumPy adds without a buffer of its own.
            np.add(wave_CT[0], wave_CT[1], out=mono_T)
        else:
            np.add(wave_CT[0], wave_CT[1], out=mono_T, dtype=np.float32)
        for channel_T in wave_CT[2:]:
            mono_T += channel_T
        mono_T *= np.float32(1 / len(wave_CT))
