"""What a decoder gives: one stream of audio, of which stretches can be read. T: samples in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mgc.audio.excerpts import Excerpt
from mgc.audio.source import Source
from mgc.errors import ErrorKind

SLACK_SECONDS: Final = 0.2
"""A file may be this much shorter than announced: encoder delay, padding, or a last frame that was not written."""

EXACT_SECONDS: Final = 0.1
"""A length or a place that is off by no more counts as exact."""

RATES_HZ: Final = range(1_000, 768_001)
"""Other sample rates come from damaged headers. At such a rate one window could fill the memory."""

DecoderName = Literal["soundfile", "pyav", "samples"]


@dataclass(frozen=True)
class Fault:
    """What is wrong with a stream.

    Attributes:
        kind: kind of error that it becomes if too little was decoded.
        text: what is wrong, in a few words.
        offset_bytes: place of the fault in the file, if known.
    """

    kind: ErrorKind
    text: str
    offset_bytes: int | None = None


@dataclass(frozen=True, eq=False)
class Stretch:
    """Samples of a stream, mixed to one channel.

    Attributes:
        samples: float32, shape (T,), full scale ±1; may be shorter than asked for, or empty.
        sample_rate_hz: samples per second.
        start_seconds: place of the first sample in the stream.
    """

    samples: NDArray[np.float32]
    sample_rate_hz: int
    start_seconds: float


class Stream(Protocol):
    """One stream of audio, opened by a decoder.

    Attributes:
        sample_rate_hz: samples per second; of the beginning, if the rate changes.
        duration_seconds: length, as exactly as the decoder can tell before it decodes. If the stream ends earlier,
            `read` corrects it.
        tolerance_seconds: largest error of the length and of the places of stretches.
        announced_seconds: length according to the stream's header, if it has one.
        fault: what went wrong so far, or None.
    """

    sample_rate_hz: int
    duration_seconds: float
    tolerance_seconds: float
    announced_seconds: float | None
    fault: Fault | None

    @property
    def decoder(self) -> DecoderName:
        """Name of the decoder."""

    def read(self, excerpts: Sequence[Excerpt]) -> Iterator[Stretch]:
        """Decode one stretch after the other, one for each excerpt. May be called again.

        Args:
            excerpts: stretches in order of time, without overlap.
        """

    def close(self) -> None:
        """Release what the decoder holds."""


Decoder = Callable[[Source], Stream]
"""Opens a stream. Raises AudioError if it finds none, and never another error because of what the bytes hold."""
