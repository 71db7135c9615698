"""Cuts of an MP3 against its full decode: the same samples, at the time that they state.

The samples agree to 2e-6 of full scale, not to the bit: libmpg123's synthesis filter adds up its 16 last subband
vectors in an order that depends on how many frames it has decoded before, and float32 sums depend on their order.
Times: exact for a constant rate; by a table to 1 %, by estimate to 10 % of the track's length at most, as `Cuts` says.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from functools import cache

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from mgc.audio.cuts import Cuts, cut
from mgc.audio.decode import decode
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.mpeg import frames
from mgc.audio.probe import probe
from mgc.audio.probe.mpeg import MpegStream
from mgc.audio.recording import SMALL_BYTES, record
from mgc.audio.source import ByteRange, Held, Remembering

SAMPLES = 2e-6
WHOLE = ListeningPlan(window_seconds=600.0, windows=1)
SIX = ListeningPlan(window_seconds=1.0, windows=6)


@dataclass(frozen=True)
class Kind:
    """A way to encode. `rate` 0 is a variable rate."""

    hz: int
    channels: int
    rate: int
    table: str = "xing"
    joint: bool = True

    @property
    def seconds(self) -> float:
        """Short, but long enough for six windows with gaps between them."""
        return 30.0 if self.hz > 32000 else 60.0

    def __str__(self) -> str:
        rate = f"{self.rate // 1000}k" if self.rate else "vbr"
        mode = "mono" if self.channels == 1 else "joint" if self.joint else "stereo"
        return f"{self.hz}-{mode}-{rate}-{self.table}"


KINDS = [
    Kind(hz, channels, rate, table, joint)
    for hz, channels, constant, joint in (
        (44100, 2, 128_000, True),
        (44100, 2, 256_000, False),
        (48000, 1, 64_000, True),
        (22050, 2, 64_000, True),
        (16000, 1, 32_000, True),
        (11025, 1, 24_000, True),
    )
    for rate in (constant, 0)
    for table in ("xing", "none")
] + [Kind(44100, 2, 0, "vbri"), Kind(48000, 2, 0, "vbri", joint=False)]


def encoded(kind: Kind) -> bytes:
    """The same frames behind a Xing table, a VBRI table, or none: most of the time goes into the encoding."""
    data = with_xing(replace(kind, table="xing"))
    return {"xing": lambda data: data, "vbri": with_vbri, "none": without_table}[kind.table](data)


@cache
def with_xing(kind: Kind) -> bytes:
    """Noise, a rising tone and silence in turns, so that a variable rate varies; no two moments are alike."""
    random = np.random.default_rng(kind.hz + kind.channels)
    time_T = np.arange(round(kind.seconds * kind.hz)) / kind.hz
    turn_T = 2 * np.pi * time_T / kind.seconds
    noise_T = random.normal(0, 1, len(time_T)) * np.clip(np.sin(2.6 * turn_T), 0, 1) ** 2
    tone_T = np.sin(2 * np.pi * (200 * time_T + 4 * time_T**2)) * np.clip(np.cos(1.9 * turn_T), 0.02, 1)
    wave_CT = np.stack([0.15 * noise_T + 0.3 * tone_T, 0.1 * noise_T + 0.3 * np.roll(tone_T, 40)])[: kind.channels]
    layout = "mono" if kind.channels == 1 else "stereo"
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp3") as out:
        # The least careful choice of what is masked: it takes half the time, and the frames are of the same kinds.
        joint = {"joint_stereo": str(int(kind.joint)), "compression_level": "9"}
        encoder = out.add_stream("libmp3lame", rate=kind.hz, layout=layout, options=joint)
        if kind.rate:
            encoder.bit_rate = kind.rate
        else:
            encoder.codec_context.flags |= av.codec.context.Flags.qscale
            encoder.codec_context.global_quality = 4 * 118
        frame = av.AudioFrame.from_ndarray(wave_CT.astype(np.float32), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = kind.hz, 0
        out.mux(encoder.encode(frame))
        out.mux(encoder.encode(None))
    return stream.getvalue()


def music_of(data: bytes) -> tuple[MpegStream, bytes]:
    """The frames behind a table."""
    audio = probe(Held(data)).audio
    stream = MpegStream.find(data[audio.start : audio.start + 2**14], audio)
    assert stream is not None
    return stream, data[stream.first_byte : audio.stop]


def without_table(data: bytes) -> bytes:
    """The same frames without the Xing table, as FFmpeg writes them if told to write none."""
    _, music = music_of(data)
    return data[: data.index(b"\xff")] + music


def with_vbri(data: bytes) -> bytes:
    """The same frames behind a VBRI table in place of the Xing one, as Fraunhofer's encoder writes it."""
    stream, music = music_of(data)
    sizes = [header.size_bytes for _, header in frames(music)]
    a_step = 10
    steps = [sum(sizes[at : at + a_step]) for at in range(0, len(sizes), a_step)]
    first = bytearray(stream.word + bytes(1_000 - 4))
    first[2] = first[2] & 0x0C | 0xB0
    header = next(iter(frames(bytes(first))))[1]
    head = b"VBRI" + b"\0\1" + b"\0\0" + b"\0\0" + (len(music) + header.size_bytes).to_bytes(4, "big")
    head += len(sizes).to_bytes(4, "big") + len(steps).to_bytes(2, "big") + b"\0\1\0\2" + a_step.to_bytes(2, "big")
    table = head + b"".join(step.to_bytes(2, "big") for step in steps)
    return bytes(first[:36]) + (table + bytes(2_000))[: header.size_bytes - 36] + music


def made(kind: Kind) -> tuple[Cuts, NDArray[np.float32]]:
    """Cuts, and all samples of the file."""
    source = Remembering(Held(encoded(kind)))
    cuts = cut(source, probe(source).audio, SIX.excerpts)
    assert cuts is not None
    (window,) = decode(encoded(kind), WHOLE).windows
    assert window.duration_seconds == pytest.approx(kind.seconds, abs=0.2)
    return cuts, window.samples


def place(part_T: NDArray[np.float32], whole_T: NDArray[np.float32], around: int, within: int) -> int:
    """Where in the whole the part fits best: least squares by FFT of its loudest eighth, around a stated place."""
    length = len(part_T) // 8
    loudest = int(np.argmax((part_T[: 8 * length].reshape(8, length) ** 2).sum(axis=1))) * length
    heard_T = part_T[loudest : loudest + length].astype(np.float64)
    begin = max(0, around + loudest - within)
    whole_T = whole_T[begin : around + loudest + within + length]
    size = 1 << (len(whole_T) + length).bit_length()
    product_T = np.fft.irfft(np.fft.rfft(whole_T, size) * np.conj(np.fft.rfft(heard_T, size)), size)
    energy_T = np.concatenate([[0], np.cumsum(whole_T.astype(np.float64) ** 2)])
    places = len(whole_T) - length + 1
    return begin + int(np.argmin(energy_T[length:] - energy_T[:-length] - 2 * product_T[:places])) - loudest


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_cuts_are_the_samples_of_the_full_decode(kind: Kind) -> None:
    cuts, whole_T = made(kind)
    heard = decode(cuts, SIX)
    assert heard.damage is None
    assert heard.duration_seconds == pytest.approx(kind.seconds, abs=max(0.2, cuts.tolerance_seconds))
    assert len(heard.windows) == 6
    share = {"none": 0.1 if kind.rate == 0 else 0.0, "xing": 0.0 if kind.rate else 0.01, "vbri": 0.01}[kind.table]
    assert cuts.tolerance_seconds == pytest.approx(share * kind.seconds, rel=0.05)
    for window, excerpt in zip(heard.windows, SIX.excerpts(heard.duration_seconds), strict=True):
        assert window.sample_rate_hz == kind.hz
        # By estimate, the last window may reach the end of the file a little early.
        assert kind.hz * (0.9 if share == 0.1 else 1) <= len(window.samples) <= kind.hz
        # What lies a second further off than it may is found too, and fails below.
        within = round((cuts.tolerance_seconds + 1) * kind.hz)
        found = place(window.samples, whole_T, round(window.start_seconds * kind.hz), within)
        difference_T = window.samples - whole_T[found : found + len(window.samples)]
        assert np.abs(difference_T).max() <= SAMPLES
        if share == 0:
            assert found == round(window.start_seconds * kind.hz)
            assert window.start_seconds == pytest.approx(excerpt.start_seconds, abs=1 / kind.hz)
        assert found / kind.hz == pytest.approx(window.start_seconds, abs=cuts.tolerance_seconds + 1e-6)
        assert window.start_seconds == pytest.approx(excerpt.start_seconds, abs=cuts.tolerance_seconds + 0.06)


def test_only_what_is_needed_is_read() -> None:
    kind = Kind(44100, 2, 256_000, joint=False)
    data, asked = encoded(kind), 0

    class Counting(Held):
        def read(self, ranges: list[ByteRange]) -> list[bytes]:  # type: ignore[override]
            nonlocal asked
            asked += sum(piece.size_bytes for piece in ranges)
            return super().read(ranges)

    cuts = record(Counting(data), SIX)
    assert isinstance(cuts, Cuts)
    assert cuts.read_bytes == asked
    # 6 s of them, the first 64 and last 16 KiB for the probe, and some frames before each excerpt.
    assert asked < (6 / kind.seconds) * len(data) + 80 * 1024 + 6 * 8 * 1024


@pytest.mark.parametrize("table", ["xing", "none"])
def test_the_first_and_the_last_seconds(table: str) -> None:
    kind = Kind(44100, 2, 128_000, table)
    source = Remembering(Held(encoded(kind)))
    cuts = cut(source, probe(source).audio, ListeningPlan(window_seconds=2.0, windows=3, where="first").excerpts)
    assert cuts is not None
    whole_T = decode(encoded(kind), WHOLE).windows[0].samples
    for index, window in enumerate(decode(cuts, SIX).windows):
        assert window.start_seconds == pytest.approx(2.0 * index)
        first = 2 * 44100 * index
        # The first frame after the beginning lacks the one before it in both, but not in the same way.
        from_sample = 2304 if index == 0 else 0
        difference_T = window.samples - whole_T[first : first + len(window.samples)]
        assert np.abs(difference_T[from_sample:]).max() <= SAMPLES


def test_a_short_file_or_one_of_which_most_is_heard_is_read_whole() -> None:
    data = encoded(KINDS[0])
    assert record(Held(data), ListeningPlan(window_seconds=30.0, windows=3)) == data
    short = data[:SMALL_BYTES]
    assert record(Held(short), SIX) == short


def test_a_variable_rate_without_a_table_is_counted_in_memory() -> None:
    data = encoded(Kind(44100, 2, 0, "none"))
    whole = decode(data, WHOLE)
    whole_T = whole.windows[0].samples
    # What stands between two frames does not count.
    heads = [offset for offset, _ in frames(data, data.index(b"\xff\xfb"))]
    middle = heads[len(heads) // 2]
    spoiled = data[:middle] + b"\0" * 5_000 + data[middle:]
    for file in (data, spoiled):
        heard = decode(file, SIX)
        assert heard.tolerance_seconds == 0
        assert heard.duration_seconds == whole.duration_seconds
        for window, excerpt in zip(heard.windows, SIX.excerpts(heard.duration_seconds), strict=True):
            first = round(window.start_seconds * 44100)
            assert window.start_seconds == pytest.approx(excerpt.start_seconds, abs=1e-4)
            assert np.abs(window.samples - whole_T[first : first + len(window.samples)]).max() <= SAMPLES


def test_a_truncated_file_is_cut_from_what_is_there() -> None:
    data = encoded(Kind(44100, 2, 256_000, joint=False))
    half = data[: len(data) // 2]
    cuts = record(Held(half), SIX)
    assert isinstance(cuts, Cuts)
    heard = decode(cuts, SIX)
    assert heard.duration_seconds == pytest.approx(15.0, abs=0.1)
    assert heard.damage is not None
    assert heard.damage.startswith("truncated: header announces 30.0 s, 15.0 s")
    assert all(window.start_seconds + window.duration_seconds <= 30.1 for window in heard.windows)


def test_a_table_that_lies_is_not_believed() -> None:
    data = bytearray(encoded(Kind(44100, 2, 256_000, joint=False)))
    tag = data.find(b"Info")
    data[tag + 8 : tag + 12] = (10**8).to_bytes(4, "big")
    heard = decode(record(Held(bytes(data)), SIX), SIX)
    assert heard.duration_seconds == pytest.approx(30.0, abs=0.1)
    assert len(heard.windows) == 6
    assert "30.0 s are there" in str(heard.damage)


@pytest.mark.parametrize("factor", [1.005, 1.1, 1.9])
def test_a_table_that_lies_about_its_bytes_only_makes_nothing_shorter(factor: float) -> None:
    data = bytearray(encoded(Kind(44100, 2, 256_000, joint=False)))
    at = data.find(b"Info") + 12
    data[at : at + 4] = int(factor * int.from_bytes(data[at : at + 4], "big")).to_bytes(4, "big")
    heard = decode(record(Held(bytes(data)), SIX), SIX)
    assert heard.duration_seconds == pytest.approx(30.0, abs=0.1)
    assert heard.windows[-1].start_seconds == pytest.approx(27.0, abs=0.1)
    assert heard.damage is None


def test_noise_between_the_windows_does_not_matter_and_inside_one_the_file_is_read_whole() -> None:
    data = encoded(Kind(44100, 2, 256_000, joint=False))
    random = np.random.default_rng(0)
    excerpts = SIX.excerpts(30.0)
    between = excerpts[3].start_seconds + excerpts[3].seconds + 4.0
    for seconds, is_cut in ((between, True), (excerpts[3].start_seconds + 0.5, False)):
        at = round(seconds * 32_000)
        spoiled = data[:at] + random.bytes(4_000) + data[at + 4_000 :]
        assert isinstance(record(Held(spoiled), SIX), Cuts) == is_cut
