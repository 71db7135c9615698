"""Batches for the stage that fetches, and what it should make of them."""

from __future__ import annotations

import functools

import numpy as np

from cluster.storage import files
from cluster.storage.listing import list_audio
from cluster.storage.uri import Uri
from mgc.audio.cuts import Cuts
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.recording import record
from mgc.audio.source import Held
from tests.support.good_files import encode_by_ffmpeg

EIGHT = ListeningPlan(window_seconds=3.0, windows=8)


CHECKED = ("track_id", "uri", "content_tag", "recording", "error_kind", "error_message")


def batch_of(source: str) -> dict[str, np.ndarray]:
    facts = list(list_audio(Uri.parse(source)))
    return {
        "track_id": np.array([fact.track_id for fact in facts]),
        "uri": np.array([fact.uri for fact in facts]),
        "content_tag": np.array([fact.content_tag for fact in facts]),
    }


def sized_batch_of(source: str) -> dict[str, np.ndarray]:
    sizes = [fact.size_bytes for fact in list_audio(Uri.parse(source))]
    return batch_of(source) | {"size_bytes": np.array(sizes, dtype=np.int64)}


def check(fetched: dict[str, np.ndarray], wanted: dict[str, bytes | str]) -> None:
    """`wanted`: by track id, the bytes or a part of the message."""
    assert list(fetched) == ["track_id", "uri", "content_tag", "recording", "error_kind", "error_message"]
    assert all(fetched[name].dtype == object for name in ("recording", "error_kind", "error_message"))
    rows = zip(*(fetched[name] for name in ("track_id", "recording", "error_kind", "error_message")), strict=True)
    seen = set()
    for track_id, data, kind, message in rows:
        seen.add(str(track_id))
        expected = wanted[str(track_id)]
        if isinstance(expected, bytes):
            assert (data, kind, message) == (expected, None, None)
        else:
            assert (data, kind) == (None, "too_large" if "max-file-gib" in expected else "fetch_failed")
            assert expected in message
            assert "\n" not in message
    assert seen == set(wanted)


def check_cuts(fetched: dict[str, np.ndarray]) -> None:
    """One row: what the plan hears of `long_mp3`."""
    expected = record(Held(long_mp3()), EIGHT)
    assert isinstance(expected, Cuts)
    [cuts] = fetched["recording"]
    assert isinstance(cuts, Cuts), fetched["error_message"]
    assert cuts.data == expected.data
    assert cuts.windows == expected.windows


def put(base: str, **contents: bytes) -> None:
    for name, data in contents.items():
        files.write_bytes(Uri.parse(f"{base}/{name}.mp3"), data)


@functools.cache
def long_mp3() -> bytes:
    """Four minutes of quiet noise, 128 kbit/s: 3.8 MB. At 16 kHz, because LAME's time goes by samples."""
    noise_T = np.random.default_rng(0).normal(0, 0.05, 240 * 16_000).astype(np.float32)
    return encode_by_ffmpeg(noise_T[None], 16_000, "mp3", "libmp3lame", 128_000)


def bucket_of(batch: dict[str, np.ndarray]) -> str:
    return Uri.parse(batch["uri"][0]).bucket


def only(track_id: str, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: column[batch["track_id"] == track_id] for name, column in batch.items()}
