"""Facts that a probe finds out about a file without decoding it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mgc.audio.source import ByteRange

BitRateMode = Literal["constant", "variable"]

Certainty = Literal["counted", "announced", "estimated"]
"""Source of a length: counted in the stream itself (sample positions, packets), announced by a header, or estimated
from the bit rate of the bytes that were read."""


@dataclass(frozen=True)
class Probe:
    """Facts from the headers of a file. A fact that the file does not state is None; a stated one may be wrong.

    Attributes:
        container: `mp3` (also bare MPEG audio of layers 1 and 2), `aac`, `wav`, `aiff`, `flac`, `ogg`, `mp4`, `asf`,
            `matroska`, `w64`, `caf`, `au`, `ac3` and so on.
        codec: codec of the first audio stream: `mp1`, `mp2`, `mp3`, `aac`, `alac`, `vorbis`, `opus`, `flac`, `speex`,
            `wma`, `pcm` and so on; a codec without a name here is its four-character code or number.
        duration_seconds: length of the first audio stream.
        duration_is: source of that length.
        sample_rate_hz: samples per second, above 0.
        channels: number of channels, above 0.
        bit_rate_mode: constant or variable.
        bit_rate_bps: mean bits per second.
        tags: names of the tags around the audio, in order of place: `ID3v2`, `APEv2`, `Lyrics3`, `ID3v1`.
        audio: byte range of the container (for MPEG audio: of the frames), without the tags around it.
    """

    container: str
    codec: str | None
    duration_seconds: float | None
    duration_is: Certainty | None
    sample_rate_hz: int | None
    channels: int | None
    bit_rate_mode: BitRateMode | None
    bit_rate_bps: int | None
    tags: tuple[str, ...]
    audio: ByteRange
