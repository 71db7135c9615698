"""Answers of a cell: what a sound decoder says arrives, and nothing else does."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgc.audio.cuts import Cuts, CutWindow
from mgc.audio.source import ByteRange, Held
from mgc.errors import AudioError, ErrorKind
from mgc.hearing.answer import ClipFacts, NoAnswerError, read_answer, read_task, write_answer, write_task
from mgc.hearing.request import describe_failure

FACTS = ClipFacts("float16", (2, 3))

HEARD: dict[str, Any] = {
    "clips": np.arange(12, dtype=np.float16).tobytes(),
    "clip_count": 2,
    "clip_starts": [0.5, 3.25],
    "duration_seconds": 200.1,
    "tolerance_seconds": 0.0,
    "seconds_listened": 6.0,
    "bandwidth_hz": 16_000.0,
    "decoder": "pyav",
    "damage": "truncated: header announces 9 s, 6 s are there — mended",
}


def test_what_was_heard_arrives() -> None:
    assert read_answer(write_answer(HEARD), FACTS) == HEARD
    whole = HEARD | {"damage": None}
    assert read_answer(write_answer(whole), FACTS) == whole


@pytest.mark.parametrize("kind", ErrorKind)
@pytest.mark.parametrize("offset", [None, 0, 2**40])
def test_a_failure_arrives(kind: ErrorKind, offset: int | None) -> None:
    failure = describe_failure(AudioError(kind, "it is no music", offset))
    assert read_answer(write_answer(failure), FACTS) == failure


def test_a_text_is_bounded_and_does_nothing_to_a_terminal() -> None:
    said = read_answer(write_answer(HEARD | {"damage": "\x1b[2J\nrow\r\u202e" + 9_999 * "x"}), FACTS)
    assert said["damage"].startswith(" [2J row  x")
    assert len(said["damage"]) == 1_000


@pytest.mark.parametrize(
    "changed",
    [
        {"clip_count": 3},
        {"clip_count": 0, "clips": b"", "clip_starts": []},
        {"clips": HEARD["clips"][:-1]},
        {"clips": HEARD["clips"] + b"x"},
        {"clips": np.full(12, np.nan, np.float16).tobytes()},
        {"clips": np.full(12, np.inf, np.float16).tobytes()},
        {"clip_starts": [0.5, float("nan")]},
        {"clip_starts": [-1.0, 3.0]},
        {"duration_seconds": float("inf")},
        {"tolerance_seconds": -0.1},
        {"seconds_listened": float("nan")},
        {"bandwidth_hz": 1e300},
    ],
    ids=str,
)
def test_what_cannot_be_is_no_answer(changed: dict[str, Any]) -> None:
    with pytest.raises(NoAnswerError):
        read_answer(write_answer(HEARD | changed), FACTS)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"cos\nsystem\n(S'true'\ntR.", id="a pickle"),
        pytest.param(b"F\xff" + write_answer(describe_failure(AudioError(ErrorKind.SILENT, "x")))[2:], id="a kind"),
        pytest.param(write_answer(describe_failure(AudioError(ErrorKind.SILENT, "x"))) + b"y", id="a longer text"),
        pytest.param(b"F" + struct.pack("<BqH", 0, -2, 0), id="an offset before the file"),
        pytest.param(b"F" + struct.pack("<BqH", 0, -1, 20_000) + 20_000 * b"x", id="a text without end"),
        pytest.param(b"H" + struct.pack("<IddddBH", 2**32 - 1, 1, 0, 1, 1, 0, 0), id="clips that are not there"),
    ],
)
def test_bytes_that_are_no_answer(data: bytes) -> None:
    with pytest.raises(NoAnswerError):
        read_answer(data, FACTS)


def test_an_unknown_decoder_is_no_answer() -> None:
    said = bytearray(write_answer(HEARD))
    said[1 + struct.calcsize("<Idddd")] = 200
    with pytest.raises(NoAnswerError):
        read_answer(bytes(said), FACTS)


@given(st.binary(max_size=200), st.sampled_from([b"", b"H", b"F"]))
def test_any_bytes_are_an_answer_or_none(data: bytes, kind: bytes) -> None:
    try:
        track = read_answer(kind + data, FACTS)
    except NoAnswerError:
        return
    assert ("error_kind" in track) != ("clips" in track)


def test_a_recording_is_described_whole() -> None:
    windows = (CutWindow(1105, 22050, 3.5), CutWindow(40000, 22050, 90.1))
    cuts = Cuts(b"mp3", windows, 22050, 200.5, 0.25, "damaged", 99, Held(b"all of it"), ByteRange(10, 5000))
    for recording in (cuts, replace(cuts, source=None, audio=None, damage=None)):
        task = write_task(recording, "a/ä\udcff.mp3")
        assert (task.data, task.source) == (b"mp3", recording.source)
        again, track_id = read_task(task)
        assert isinstance(again, Cuts)
        assert vars(again) == vars(recording)
        assert track_id == "a/ä\udcff.mp3"
    for whole in (b"bytes", Held(b"a large file")):
        again, _ = read_task(write_task(whole, "x"))
        assert again is whole
    assert ClipFacts.of_bytes(FACTS.to_bytes()) == FACTS
