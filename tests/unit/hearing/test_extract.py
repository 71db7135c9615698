from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from mgc.audio.decode import CASCADE, decode
from mgc.audio.decoders.stream import Decoder, Stream
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.source import Source
from mgc.configuration import to_json
from mgc.features.front_end import AnyFrontEndConfig
from mgc.features.mel import LogMel, LogMelConfig
from mgc.features.thumbnail import ThumbnailConfig
from mgc.hearing.extract import Extract
from mgc.hearing.request import Hearing

PLAN = ListeningPlan(window_seconds=4.0, windows=2)


def hearing(front_end: AnyFrontEndConfig, *decoders: Decoder) -> Hearing:
    return Hearing(to_json(front_end), PLAN, decoders or CASCADE)


def sound(seconds: float, container: str = "WAV") -> bytes:
    stream = io.BytesIO()
    time_T = np.arange(round(seconds * 16000))
    samples = 0.3 * np.sin(time_T * 0.1) * (1 + np.sin(time_T / 2000)) / 2
    soundfile.write(stream, samples.astype(np.float32), 16000, format=container)
    return stream.getvalue()


def column(values: list[Any]) -> np.ndarray:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def batch_of(files: list[bytes | None], **more: Any) -> dict[str, np.ndarray]:
    nothing = [None] * len(files)
    return {
        "track_id": column([f"track {row}" for row in range(len(files))]),
        "recording": column(list(files)),
        "error_kind": column(more.get("error_kind", nothing)),
        "error_message": column(more.get("error_message", nothing)),
    }


def test_rows_stay_in_order_and_a_bad_file_costs_its_own_row_only() -> None:
    files = [sound(6.0), b"", sound(20.0, "FLAC"), None, b"no music " * 99, sound(0.2), sound(1.0, "MP3")]
    kinds = [None, None, None, "fetch_failed", None, None, None]
    messages = [None, None, None, "it is gone", None, None, None]
    made = Extract(hearing(LogMelConfig(clip_seconds=2.0, frames=80)))(
        batch_of(files, error_kind=kinds, error_message=messages)
    )
    assert "recording" not in made
    assert {len(values) for values in made.values()} == {7}
    assert made["track_id"].tolist() == [f"track {row}" for row in range(7)]
    assert made["error_kind"].tolist() == [None, "empty", None, "fetch_failed", "not_audio", "too_short", None]
    assert made["error_message"][3] == "it is gone"
    # 6 s: 4 s of the middle. 20 s: two windows. 1 s: one padded clip.
    assert made["clip_count"].tolist() == [2, 0, 4, 0, 0, 0, 1]
    assert made["clip_count"].dtype == np.int32
    assert made["clip_starts"].tolist() == [
        pytest.approx([1.0, 3.0]),
        None,
        pytest.approx([3.0, 5.0, 13.0, 15.0]),
        None,
        None,
        None,
        [0.0],
    ]
    np.testing.assert_allclose(made["duration_seconds"][[0, 2, 6]], [6.0, 20.0, 1.0], atol=0.1)
    np.testing.assert_allclose(made["seconds_listened"][[0, 2, 6]], [4.0, 8.0, 1.0], atol=0.1)
    assert np.isnan(made["duration_seconds"][[1, 3, 4, 5]]).all()
    assert np.isnan(made["seconds_listened"][[1, 3, 4, 5]]).all()
    assert made["bandwidth_hz"].dtype == np.float64
    assert np.isnan(made["bandwidth_hz"][[1, 3, 4, 5]]).all()
    assert made["decoder"].tolist() == ["soundfile", None, "soundfile", None, None, None, "soundfile"]
    assert made["damage"].tolist() == [None] * 7
    for clips, count in zip(made["clips"], made["clip_count"], strict=True):
        assert (clips is None) == (count == 0)
        assert clips is None or len(clips) == count * 128 * 80


def test_a_recording_shorter_than_asked_for_is_too_short() -> None:
    asked = replace(hearing(ThumbnailConfig()), min_seconds=3.0)
    made = Extract(asked)(batch_of([sound(2.9), sound(3.0)]))
    assert made["error_kind"].tolist() == ["too_short", None]
    assert made["error_message"][0] == "2.90 s of audio; at least 3 s are needed"
    assert made["clip_count"].tolist() == [0, 1]


def test_clips_are_those_of_the_front_end() -> None:
    config, data = LogMelConfig(), sound(20.0)
    made = Extract(hearing(config))(batch_of([data]))
    windows = [window.without_offset() for window in decode(data, PLAN).windows]
    expected = np.concatenate([LogMel(config)(window).features for window in windows])
    stored = np.frombuffer(made["clips"][0], np.uint8).reshape(made["clip_count"][0], 128, 128)
    np.testing.assert_array_equal(stored, expected)


def test_damage_and_offset_are_told() -> None:
    flac = sound(8.0, "FLAC")
    made = Extract(hearing(ThumbnailConfig()))(batch_of([flac[: len(flac) // 2], flac[:200]]))
    assert made["error_kind"].tolist() == [None, "truncated"]
    assert made["damage"][0].startswith("truncated")
    assert made["error_offset"].tolist() == [None, 200]


def test_an_unexpected_exception_costs_one_row() -> None:
    good, odd = sound(1.0), sound(2.0)

    def fail_once(source: Source) -> Stream:
        if source.size_bytes == len(odd):
            raise RuntimeError("the decoder is confused")
        return CASCADE[0](source)

    made = Extract(hearing(ThumbnailConfig(), fail_once))(batch_of([good, odd, good]))
    assert made["error_kind"].tolist() == [None, "corrupt_stream", None]
    assert made["error_message"][1] == "unexpected RuntimeError: the decoder is confused"
    assert made["clip_count"].tolist() == [1, 0, 1]


def test_no_rows_give_no_rows() -> None:
    made = Extract(hearing(ThumbnailConfig()))(batch_of([]))
    assert {len(values) for values in made.values()} == {0}


def test_arrow_takes_the_columns_without_pickling() -> None:
    """What Ray Data does with a batch between two stages."""
    made = Extract(hearing(LogMelConfig()))(batch_of([sound(9.0), b"", sound(9.0, "FLAC")[:200]]))
    table = pa.table({name: pa.array(values.tolist()) for name, values in made.items()})
    types = {name: str(table.schema.field(name).type) for name in ("clips", "clip_starts", "error_offset", "decoder")}
    assert types == {
        "clips": "binary",
        "clip_starts": "list<item: double>",
        "error_offset": "int64",
        "decoder": "string",
    }
