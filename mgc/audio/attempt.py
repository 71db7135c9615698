"""Result of one decoder: the windows it decoded and what went wrong. T: samples in time, C: channels.

Each window is used as soon as it is decoded, and only the result is kept. So even for a track of five hours no more
than one window of samples is in memory.
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
"""A file may be this much shorter than announced: encoder delay, padding, or a last frame that was not written."""

RATES_HZ: Final = range(1_000, 768_001)
"""Other sample rates come from damaged headers. At such a rate one window could fill the memory."""

_LARGEST_SAMPLE: Final = 1e6
"""Full scale is 1. A larger sample is damage, and its power would overflow float32."""

DecoderName = Literal["soundfile", "pyav"]

Use = TypeVar("Use")
"""What a window is turned into."""


@dataclass
class Attempt(Generic[Use]):
    """Result of one decoder, filled in while it decodes.

    Attributes:
        decoder: name of the decoder.
        use: function that turns a window into what is kept.
        opened: whether the decoder recognises the file as audio.
        windows: result of each window, in order of time; empty windows are left out.
        seconds: total length of the windows.
        duration_seconds: length of the track, as far as the decoder can tell.
        announced_seconds: length according to the file's header, if it has one.
        fault: what went wrong; None if everything planned was decoded cleanly.
        kind: kind of error that the fault becomes if too little was decoded.
        offset_bytes: place of the fault in the file, if known.
        unusable_samples: number of samples that were NaN, infinite or beyond ±1e6, and were set to 0.
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
        """All faults in a few words, or None."""
        unusable = f"{self.unusable_samples} unusable sample(s)" if self.unusable_samples else None
        return "; ".join(part for part in (self.fault, unusable) if part) or None

    def fail(self, kind: ErrorKind, fault: str, offset_bytes: int | None = None) -> Attempt[Use]:
        """Note what went wrong, and return this attempt."""
        self.kind, self.fault, self.offset_bytes = kind, fault, offset_bytes
        return self

    def add(self, mono_T: NDArray[np.float32], sample_rate_hz: int, start_seconds: float) -> None:
        """Use a window. Sets unusable samples to 0, in place."""
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
    """Write the mean of the channels to `mono_T`. Sums columns: np.mean over a short axis is 25 times slower."""
    if len(wave_CT) == 1:
        mono_T[:] = wave_CT[0]
        return
    # Damaged samples may overflow. `Attempt.add` finds those.
    with np.errstate(over="ignore", invalid="ignore"):
        if wave_CT[0].dtype == np.float32:
            # Without a dtype to convert to, NumPy needs no buffer.
            np.add(wave_CT[0], wave_CT[1], out=mono_T)
        else:
            np.add(wave_CT[0], wave_CT[1], out=mono_T, dtype=np.float32)
        for channel_T in wave_CT[2:]:
            mono_T += channel_T
        mono_T *= np.float32(1 / len(wave_CT))
