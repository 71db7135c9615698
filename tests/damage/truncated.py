"""Files that end early. What is there is heard, and what is missing is said."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import av
from numpy.random import Generator

from tests.damage.draw import Kind, draw_piece
from tests.damage.generated import Generated, Said, Truth
from tests.damage.pieces import join
from tests.damage.sound import REFERENCE_HZ

_LEAST_SECONDS: Final = 1.5


def decodable_seconds(data: bytes) -> float:
    """Return how much FFmpeg decodes of the first audio stream, by its samples; 0 if it cannot open the file."""
    seconds = 0.0
    try:
        opened = av.open(io.BytesIO(data), metadata_errors="ignore")
    except av.FFmpegError:
        return seconds
    with opened as file:
        packets: Any = file.demux(file.streams.audio[0])
        while True:
            try:
                packet = next(packets)
                seconds += sum(frame.samples / frame.sample_rate for frame in packet.decode())
            except StopIteration:
                return seconds
            except av.FFmpegError:
                # The packet is cut. If the file ends with it, the next one stops the iteration.
                continue


def _cut(
    kind: str,
    formats: Sequence[str],
    announces: bool = True,
    slack_seconds: float = 0.3,
    seconds: Sequence[float] = (6.0, 9.0, 14.0),
) -> Kind:
    def generate(rng: Generator) -> Generated:
        piece = draw_piece(rng, formats, seconds)
        heard_seconds = 0.0
        while heard_seconds < _LEAST_SECONDS:
            size = int(len(piece.data) * rng.uniform(0.25, 0.92))
            data = piece.data[:size]
            heard_seconds = decodable_seconds(data)
        reference_T = join([piece])[: round(heard_seconds * REFERENCE_HZ)]
        truth = Truth(reference_T, Said.MISSING if announces else Said.ANYTHING, length_slack_seconds=slack_seconds)
        what = f"{piece.format} {piece.rate_hz} Hz {piece.channels} ch: {size} of {len(piece.data)} bytes"
        return Generated(data, piece.extension, kind, what, truth)

    return generate


KINDS: Final[Mapping[str, Kind]] = {
    "truncated WAV": _cut("truncated WAV", ("wav", "wav24", "wav_float")),
    "truncated AIFF": _cut("truncated AIFF", ("aiff",)),
    "truncated FLAC": _cut("truncated FLAC", ("flac", "flac24")),
    "truncated Ogg": _cut("truncated Ogg", ("vorbis", "opus", "ogg_flac")),
    "truncated MP3": _cut("truncated MP3", ("mp3", "mp3_vbr", "mp3_320", "mp3_vbri"), seconds=(9.0, 20.0, 60.0)),
    "truncated M4A": _cut("truncated M4A", ("m4a_index_first",)),
    "truncated fragmented M4A": _cut("truncated fragmented M4A", ("m4a_fragmented",)),
    "truncated WMA": _cut("truncated WMA", ("wma",)),
    "truncated Matroska": _cut("truncated Matroska", ("matroska", "webm")),
    "truncated others": _cut("truncated others", ("wavpack", "tta", "caf", "au")),
    "truncated without a header": _cut(
        "truncated without a header", ("mp3_untagged", "mp3_vbr_untagged", "aac", "ac3", "mp2"), announces=False
    ),
}
