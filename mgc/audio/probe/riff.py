"""WAV: RIFF, RIFX (big-endian), RF64 and BW64 (64-bit sizes), and Sony Wave64."""

from __future__ import annotations

from typing import Final

from mgc.audio.probe.chunks import Chunk, Layout, chunks
from mgc.audio.probe.codec_names import WaveFormat, wave_format
from mgc.audio.probe.found import Found
from mgc.audio.probe.reader import BoundedReader

_FORMAT_BYTES: Final = 40
"""Most bytes of a format chunk that are read."""

_UNKNOWN: Final = 0xFFFFFFFF
_SAMPLE_COUNTED: Final = ("pcm", "alaw", "mulaw")


def parse_wav(reader: BoundedReader, found: Found) -> None:
    """Collect facts of a WAV file from its chunks `fmt `, `ds64`, `fact` and `data`.

    A data chunk of size 0 or 0xFFFFFFFF reaches to the end of the file. Programs that write to a pipe leave it so.

    Raises:
        OutOfBytesError: the file ends within its headers.
    """
    start, stop = found.audio
    order = ">" if reader.need(start, 4) == b"RIFX" else "<"
    _parse(reader, found, start + 12, stop, Layout(order + "4sI", 2), order)


def parse_w64(reader: BoundedReader, found: Found) -> None:
    """Collect facts of a Sony Wave64 file, which is like WAV with 128-bit names and 64-bit sizes.

    Raises:
        OutOfBytesError: the file ends within its headers.
    """
    start, stop = found.audio
    _parse(reader, found, start + 40, stop, Layout("<16sQ", 8, size_counts_head=True), "<")


def _parse(reader: BoundedReader, found: Found, start: int, stop: int, layout: Layout, order: str) -> None:
    wave: WaveFormat | None = None
    data: Chunk | None = None
    wide_data_bytes = fact = None
    for chunk in chunks(reader, start, stop, layout):
        match chunk.name[:4]:
            case b"fmt ":
                size = min(_FORMAT_BYTES, chunk.stop - chunk.start)
                wave = wave_format(reader.upto(chunk.start, size), order)
            case b"ds64":
                [wide_data_bytes] = reader.unpack(order + "Q", chunk.start + 8)
            case b"fact":
                [fact] = reader.unpack(order + ("Q" if chunk.announced_bytes == 8 else "I"), chunk.start)
            case b"data":
                data = chunk
        if wave is not None and data is not None:
            break
    if wave is None:
        return
    found.codec, found.channels, found.sample_rate_hz = wave.codec, wave.channels, wave.sample_rate_hz
    found.bit_rate_bps = 8 * wave.bytes_a_second
    if data is not None:
        _measure(found, wave, _data_bytes(data, stop, wide_data_bytes), fact)


def _data_bytes(data: Chunk, stop: int, wide_data_bytes: int | None) -> int:
    """Return the bytes of sound that are there, whatever the header announces."""
    if data.announced_bytes == _UNKNOWN and wide_data_bytes:
        return min(wide_data_bytes, stop - data.start)
    if data.announced_bytes in (0, _UNKNOWN):
        return stop - data.start
    return data.stop - data.start


def _measure(found: Found, wave: WaveFormat, data_bytes: int, fact: int | None) -> None:
    """Set length and bit rate. If blocks have a known number of samples, the bytes that are there are counted."""
    if wave.codec in _SAMPLE_COUNTED:
        frame_bytes = wave.channels * ((wave.bits + 7) // 8) or wave.block_bytes
        if frame_bytes:
            found.samples(data_bytes // frame_bytes, "counted")
            found.bit_rate_mode, found.bit_rate_bps = "constant", 8 * frame_bytes * wave.sample_rate_hz
    elif wave.samples_a_block and wave.block_bytes:
        samples = -(-data_bytes // wave.block_bytes) * wave.samples_a_block
        # The last block may be padded. For stereo IMA ADPCM, libsndfile writes a `fact` that is half of the true count.
        filled = fact is not None and 0 <= samples - fact < wave.samples_a_block
        found.samples(fact if fact is not None and filled else samples, "counted")
        found.bit_rate_mode = "constant"
    elif fact and fact != _UNKNOWN:
        found.samples(fact, "announced")
    else:
        found.length(data_bytes, wave.bytes_a_second, "estimated")
