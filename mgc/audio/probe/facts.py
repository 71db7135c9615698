"""What a probe finds out about a file without decoding it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mgc.audio.source import ByteRange

BitRateMode = Literal["constant", "variable"]

Certainty = Literal["counted", "announced", "estimated"]
"""How a length is known: counted in the stream itself (sample positions, packets), announced by a header, or estimated
from the bit rate of what was read."""


@dataclass(frozen=True)
class Probe:
    """Facts from a file's headers. What a file does not say is None; what it says may be a lie.

    Attributes:
        container: `mp3` (also bare MPEG audio of layers 1 and 2), `aac`, `wav`, `aiff`, `flac`, `ogg`, `mp4`, `asf`,
            `matroska`, `w64`, `caf`, `au`, `ac3` and so on.
        codec: of the first audio stream: `mp1`, `mp2`, `mp3`, `aac`, `alac`, `vorbis`, `opus`, `flac`, `speex`, `wma`,
            `pcm` and so on; a codec without a name here is its four-character code or number.
        duration_seconds: length of the first audio stream.
        duration_is: how that length is known.
        sample_rate_hz: samples a second, above 0.
        channels: how many, above 0.
        bit_rate_mode: constant or variable.
        bit_rate_bps: mean bits a second.
        tags: names of the tags found around the audio, in order of place: `ID3v2`, `APEv2`, `Lyrics3`, `ID3v1`.
        audio: where the container (for MPEG audio: the first frame) begins and ends, the tags around it left out.
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
