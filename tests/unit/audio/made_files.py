"""Sound files of many formats, made by soundfile and FFmpeg, and a source that counts what is read of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache

import av
import numpy as np
import soundfile

from mgc.audio.probe import Probe
from mgc.audio.source import ByteRange

RATE_HZ = 48000
SECONDS = 3.0


@dataclass
class Counting:
    """A file of any claimed size that counts what is read; behind its data come zeros."""

    data: bytes
    size_bytes: int
    behind: dict[int, bytes] = field(default_factory=dict)
    reads: int = 0
    read_bytes: int = 0

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        parts = []
        for start, stop in ranges:
            assert 0 <= start <= stop
            stop = min(stop, self.size_bytes)
            part = bytearray(self.data[start:stop].ljust(stop - start, b"\0"))
            for place, there in self.behind.items():
                if start <= place < stop:
                    part[place - start : place - start + len(there)] = there[: stop - place]
            parts.append(bytes(part))
            self.reads += 1
            self.read_bytes += len(part)
        return parts


def counting(data: bytes) -> Counting:
    return Counting(data, len(data))


def noise(channels: int = 2, rate_hz: int = RATE_HZ) -> np.ndarray:
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, (round(SECONDS * rate_hz), channels))
    return samples.astype(np.float32)


@cache
def by_soundfile(container: str, subtype: str, endian: str = "FILE", rate_hz: int = RATE_HZ) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, noise(rate_hz=rate_hz), rate_hz, format=container, subtype=subtype, endian=endian)
    return stream.getvalue()


@cache
def by_ffmpeg(container: str, codecs: tuple[str, ...], options: tuple[tuple[str, str], ...] = ()) -> bytes:
    stream = io.BytesIO()
    with av.open(stream, "w", format=container, options=dict(options)) as out:
        encoders = []
        for codec in codecs:
            encoder = out.add_stream(codec, rate=RATE_HZ, layout="stereo")
            encoder.bit_rate = 128_000
            encoders.append((encoder, av.AudioResampler(encoder.codec_context.format, "stereo", RATE_HZ)))
        for number, part in enumerate(np.split(noise(), 36)):
            for encoder, resampler in encoders:
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part).reshape(1, -1), "flt", "stereo")
                frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, number * len(part), Fraction(1, RATE_HZ)
                for piece in resampler.resample(frame):
                    out.mux(encoder.encode(piece))
        for encoder, resampler in encoders:
            for piece in [*resampler.resample(None), None]:
                out.mux(encoder.encode(piece))
    return stream.getvalue()


def ffmpeg_seconds(data: bytes) -> float | None:
    with av.open(io.BytesIO(data)) as file:
        stream = file.streams.audio[0]
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return file.duration / av.time_base if file.duration is not None else None


def facts(found: Probe) -> tuple[str, str | None, str | None]:
    return found.container, found.codec, found.duration_is
