"""Files that are damaged, cut or no audio: a typed error, or what can still be heard and a word on what is wrong."""

from __future__ import annotations

import contextlib
import io
import threading
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mgc.audio.decode import Listened, decode
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.waveform import Waveform
from mgc.errors import AudioError, ErrorKind
from tests.damage.pieces import make_piece
from tests.support.draws import draws

MakeFile = Callable[..., bytes]

PLAN = ListeningPlan()
SHORT = ListeningPlan(window_seconds=1.0, windows=3)

JPEG = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffdb0043") + bytes(range(256)) * 40
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", ErrorKind.EMPTY),
        (b"x", ErrorKind.NOT_AUDIO),
        (b"This is no music.\n" * 500, ErrorKind.NOT_AUDIO),
        (JPEG, ErrorKind.NOT_AUDIO),
        (PLAYLIST, ErrorKind.NOT_AUDIO),
        (b"ffconcat version 1.0\nfile 'other.mp3'\n", ErrorKind.NOT_AUDIO),
        (bytes(100_000), ErrorKind.NOT_AUDIO),
        (np.random.default_rng(2).bytes(100_000), ErrorKind.NOT_AUDIO),
        (b"ID3\x04\x00\x00\x00\x00\x00\x7f" + bytes(3000), ErrorKind.CORRUPT_STREAM),
        (b"OggS" + bytes(3000), ErrorKind.CORRUPT_STREAM),
    ],
    ids=["empty", "one byte", "text", "jpeg", "playlist", "concat", "zeros", "noise", "only a tag", "broken ogg"],
)
def test_what_is_no_audio(data: bytes, kind: ErrorKind) -> None:
    with pytest.raises(AudioError) as caught:
        decode(data, PLAN)
    assert caught.value.kind is kind
    assert "\n" not in str(caught.value)


def test_too_short(make_file: MakeFile) -> None:
    with pytest.raises(AudioError, match=r"0\.30 s of audio; at least 0\.5 s") as caught:
        decode(make_file("wav", seconds=0.3), PLAN)
    assert caught.value.kind is ErrorKind.TOO_SHORT
    assert decode(make_file("wav", seconds=0.51), PLAN).damage is None


def test_no_decoder_for_the_codec(make_file: MakeFile) -> None:
    data = make_file("webm", rate_hz=48000).replace(b"A_OPUS", b"A_OQUS")
    with pytest.raises(AudioError) as caught:
        decode(data, PLAN)
    assert caught.value.kind is ErrorKind.UNSUPPORTED_CODEC


@pytest.mark.parametrize("kind", ["mp3", "flac", "m4a_streamed", "webm"])
def test_a_truncated_file_is_heard_as_far_as_it_goes(make_file: MakeFile, kind: str) -> None:
    data = make_file(kind, rate_hz=48000)
    heard = decode(data[: len(data) * 6 // 10], PLAN)
    assert heard.damage is not None
    assert heard.damage.startswith("truncated: header announces 8.0 s")
    assert 3.5 < heard.duration_seconds < 6.5
    assert heard.seconds == pytest.approx(heard.duration_seconds, abs=0.3)


def test_the_plan_is_laid_over_what_is_there(make_file: MakeFile) -> None:
    data = make_file("mp3", seconds=30.0)
    heard = decode(data[: len(data) // 3], SHORT)
    assert len(heard.windows) == 3
    assert 8.0 < heard.duration_seconds < 12.0
    assert heard.windows[-1].start_seconds < heard.duration_seconds


@pytest.mark.parametrize("name", ["tta", "wavpack"])
def test_a_file_cut_inside_its_last_packet_ends_before_it(name: str) -> None:
    data = make_piece(name, 9.0, 5, 44100).data
    data = data[: len(data) * 6 // 10]
    heard = decode(data, ListeningPlan(window_seconds=2.2, windows=2))
    assert heard.damage is not None
    assert heard.damage.startswith("truncated: ")
    assert heard.seconds == pytest.approx(4.4, abs=0.01)
    assert heard.windows[-1].start_seconds + 2.2 <= heard.duration_seconds + 0.01
    from_start = decode(data, ListeningPlan(window_seconds=1.0, windows=1, where="first"))
    assert from_start.damage is not None, "no window comes near the cut, and still it is said"
    assert from_start.damage.startswith("truncated: ")


@pytest.mark.parametrize(
    ("kind", "size_bytes", "error"),
    [
        ("flac", 300, ErrorKind.TRUNCATED),
        ("m4a", 60_000, ErrorKind.TRUNCATED),
        ("mp3", 300, ErrorKind.CORRUPT_STREAM),
    ],
)
def test_cut_to_nothing(make_file: MakeFile, kind: str, size_bytes: int, error: ErrorKind) -> None:
    with pytest.raises(AudioError) as caught:
        decode(make_file(kind)[:size_bytes], PLAN)
    assert caught.value.kind is error
    if kind == "flac":
        assert caught.value.offset_bytes == size_bytes


def test_behind_a_hole_it_reads_on(make_file: MakeFile) -> None:
    data = bytearray(make_file("mp3"))
    hole = len(data) // 2
    data[hole : hole + 4000] = bytes(4000)
    heard = decode(bytes(data), PLAN)
    assert heard.seconds > 7.0
    assert heard.damage is not None
    assert "bytes between frames are no audio, the first at byte" in heard.damage


def test_damage_outside_the_windows_costs_nothing(make_file: MakeFile) -> None:
    data = bytearray(make_file("wav"))
    data[2000:3000] = bytes(1000)
    assert decode(bytes(data), SHORT).damage is None


def test_samples_that_are_no_numbers_become_silence() -> None:
    samples = 0.25 * np.sign(np.sin(np.arange(44100) / 20 + 0.01)).astype(np.float32)
    samples[[10, 20, 30]] = [np.nan, np.inf, 1e30]
    stream = io.BytesIO()
    soundfile.write(stream, samples, 44100, format="WAV", subtype="FLOAT")
    heard = decode(stream.getvalue(), PLAN)
    assert heard.damage is not None
    assert heard.damage.startswith("3 ")
    assert heard.decoder == "soundfile"
    assert heard.windows[0].samples[[9, 10, 20, 30]].tolist() == [0.25, 0.0, 0.0, 0.0]


def test_a_lying_header_takes_no_memory(make_file: MakeFile) -> None:
    """A WAV header that claims 4 GHz, a FLAC header that claims 2^36 - 1 samples, an MP3 that claims five hours."""
    wav = bytearray(make_file("wav"))
    wav[24:28] = (4_000_000_000).to_bytes(4, "little")
    with pytest.raises(AudioError):
        decode(bytes(wav), PLAN)
    flac = bytearray(make_file("flac"))
    flac[21] |= 0x0F
    flac[22:26] = b"\xff\xff\xff\xff"
    mp3 = bytearray(make_file("mp3"))
    count = max(mp3.find(b"Xing"), mp3.find(b"Info")) + 8
    mp3[count : count + 4] = (5 * 3600 * 44100 // 1152).to_bytes(4, "big")
    for data in (flac, mp3):
        tracemalloc.start()
        try:
            heard = decode(bytes(data), PLAN)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert heard.duration_seconds == pytest.approx(8.0, abs=0.2)
        assert heard.seconds == pytest.approx(8.0, abs=0.2)
        assert heard.damage is not None
        # The sound itself is 1.4 MB.
        assert peak < 16e6


def test_decoders_print_nothing(make_file: MakeFile, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(make_file("mp3"))
    data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.read(io.BytesIO(data))
    assert "Illegal Audio-MPEG-Header" in capfd.readouterr().err, "libmpg123 is quiet now: _CStderr can go"
    decode(bytes(data), PLAN)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.read(io.BytesIO(data))
    assert capfd.readouterr().err, "C's stderr is back in its place"


def test_decoding_in_threads(make_file: MakeFile, capfd: pytest.CaptureFixture[str]) -> None:
    data = make_file("mp3")
    broken = data[: len(data) // 2]
    lengths: list[float] = []

    def work() -> None:
        for file in (data, broken):
            lengths.append(decode(file, PLAN).duration_seconds)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lengths) == 8
    assert len({round(length, 3) for length in lengths}) == 2
    assert capfd.readouterr().err == ""


@pytest.mark.draws
@settings(
    max_examples=draws(120),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    kind=st.sampled_from(["mp3", "mp3_uncounted", "ogg", "flac", "wav_float", "opus", "m4a", "aac", "wma", "webm"]),
    keep=st.floats(0.01, 1.0),
    flips=st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(0, 7)), max_size=20),
    in_header=st.booleans(),
    windows=st.sampled_from([PLAN, SHORT]),
)
def test_damage_is_never_more_than_an_audio_error(
    make_file: MakeFile,
    kind: str,
    keep: float,
    flips: list[tuple[float, int]],
    in_header: bool,
    windows: ListeningPlan,
) -> None:
    whole = make_file(kind, seconds=3.0, rate_hz=48000)
    data = bytearray(whole[: max(1, int(keep * len(whole)))])
    reach = min(len(data), 1000) if in_header else len(data)
    for place, bit in flips:
        data[int(place * (reach - 1))] ^= 1 << bit
    with contextlib.suppress(AudioError):
        assert_sound(decode(bytes(data), windows))


def assert_sound(heard: Listened[Waveform]) -> None:
    starts = [window.start_seconds for window in heard.windows]
    assert starts
    assert starts == sorted(starts)
    assert heard.seconds >= 0.5
    for window in heard.windows:
        assert len(window.samples) > 0
        assert np.isfinite(window.samples).all()


@pytest.mark.parametrize(("first", "second"), [("ogg", "opus"), ("opus", "ogg")])
def test_streams_of_two_kinds_in_one_file_are_both_heard(make_file: MakeFile, first: str, second: str) -> None:
    heard = decode(make_file(first, rate_hz=48000) + make_file(second, rate_hz=48000), PLAN)
    assert heard.seconds == pytest.approx(16.0, abs=0.2)
    assert heard.damage is None
