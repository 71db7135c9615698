from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from mgc import schema
from mgc.errors import LabelsError
from mgc.labeling.rows import Lineage, embeddings_rows, labels_rows, with_embeddings

LINEAGE = Lineage("0123456789ab", "ba9876543210", "run-1")
EARS = Lineage("ears", "ba9876543210", "run-2")
AT = datetime(2025, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def column(*values: Any) -> np.ndarray:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def batch() -> dict[str, np.ndarray]:
    """A labelled track and a quarantined one, as `Extract` and `Predict` leave them."""
    return {
        "track_id": column("a", "b"),
        "uri": column("s3://m/a.mp3", "s3://m/b.mp3"),
        "content_tag": column("ta", "tb"),
        "clip_count": np.array([2, 0], np.int32),
        "genre_top": column("rock", None),
        "confidence": np.array([0.75, np.nan]),
        "top_k": column((("rock", 0.75), ("folk", 0.25)), None),
        "duration_seconds": np.array([30.0, np.nan]),
        "seconds_listened": np.array([29.5, np.nan]),
        "tolerance_seconds": np.array([0.0, np.nan]),
        "bandwidth_hz": np.array([16000.0, np.nan]),
        "decoder": column("soundfile", None),
        "damage": column("truncated", None),
        "error_kind": column(None, "not_audio"),
        "error_message": column(None, "no decoder finds audio in it"),
        "error_offset": column(None, 17),
        "tries": np.array([0, 2], np.int32),
    }


def test_a_labelled_row_and_a_quarantined_one() -> None:
    table = labels_rows(batch(), LINEAGE, AT)
    assert table.schema.equals(schema.LABELS, check_metadata=True)
    always = {"model_id": "0123456789ab", "features_id": "ba9876543210", "run_id": "run-1", "labeled_at": AT}
    nothing = dict.fromkeys(schema.LABELS.names)
    assert table.to_pylist() == [
        nothing
        | always
        | {
            "track_id": "a",
            "uri": "s3://m/a.mp3",
            "content_tag": "ta",
            "status": "labeled",
            "genre_top": "rock",
            "confidence": 0.75,
            "top_k": [{"genre": "rock", "probability": 0.75}, {"genre": "folk", "probability": 0.25}],
            "duration_seconds": 30.0,
            "seconds_listened": 29.5,
            "tolerance_seconds": 0.0,
            "bandwidth_hz": 16000.0,
            "decoder": "soundfile",
            "damage": "truncated",
            "tries": 1,
        },
        nothing
        | always
        | {
            "track_id": "b",
            "uri": "s3://m/b.mp3",
            "content_tag": "tb",
            "status": "quarantined",
            "error_kind": "not_audio",
            "error_message": "no decoder finds audio in it",
            "error_offset": 17,
            "tries": 3,
        },
    ]


def test_no_rows() -> None:
    table = labels_rows({name: values[:0] for name, values in batch().items()}, LINEAGE, AT)
    assert table.num_rows == 0
    assert table.schema.equals(schema.LABELS)


@pytest.mark.parametrize(("name", "value", "track"), [("genre_top", None, "a"), ("genre_top", "rock", "b")])
def test_a_row_with_neither_answer_nor_error_or_with_both_is_refused(name: str, value: Any, track: str) -> None:
    given = batch()
    given[name][0 if track == "a" else 1] = value
    with pytest.raises(LabelsError, match=f"track {track} has both an answer and an error, or neither"):
        labels_rows(given, LINEAGE, AT)


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        labels_rows(batch(), LINEAGE, AT.replace(tzinfo=None))


def embeddings(*vectors: list[float] | None) -> dict[str, np.ndarray]:
    values = column(*(None if vector is None else np.array(vector, np.float32) for vector in vectors))
    return batch() | {"embedding": values, "windows": np.array([2, 0], np.int32)}


def test_embeddings_beside_labels() -> None:
    given = embeddings([1.5, -2.0], None)
    both = with_embeddings(labels_rows(given, LINEAGE, AT), given)
    assert both.select(schema.LABELS.names).equals(labels_rows(batch(), LINEAGE, AT))
    table = embeddings_rows(both, EARS)
    assert table.schema.equals(schema.EMBEDDINGS, check_metadata=True)
    first, second = table.to_pylist()
    assert (first["embedding"], first["windows"], first["error_kind"]) == ([1.5, -2.0], 2, None)
    assert (second["embedding"], second["windows"], second["error_kind"]) == (None, None, "not_audio")
    for row, label in zip((first, second), labels_rows(batch(), LINEAGE, AT).to_pylist(), strict=True):
        assert (row.pop("model_id"), row.pop("run_id"), row.pop("embedded_at")) == ("ears", "run-2", AT)
        assert {name: label[name] for name in row if name in label} == {
            name: row[name] for name in row if name in label
        }


def test_a_track_that_was_heard_and_found_to_be_no_music_has_an_embedding() -> None:
    """Whether it is music, the words of a bundle decide, and the embeddings do not depend on these."""
    given = embeddings([1.5, -2.0], [3.0, 4.0]) | {"windows": np.array([2, 5], np.int32)}
    labels = with_embeddings(labels_rows(given, LINEAGE, AT), given)
    assert labels["error_kind"].to_pylist() == [None, "not_audio"]
    table = embeddings_rows(labels, EARS)
    assert table["embedding"].to_pylist() == [[1.5, -2.0], [3.0, 4.0]]
    assert table["windows"].to_pylist() == [2, 5]
    for name in ("error_kind", "error_message", "error_offset", "next_try_at"):
        assert table[name].to_pylist() == [None, None], name


def test_an_embedding_of_what_is_no_music_is_sound_too() -> None:
    given = embeddings([1.5, -2.0], [3.0, float("nan")])
    with pytest.raises(LabelsError, match="track b "):
        with_embeddings(labels_rows(given, LINEAGE, AT), given)


@pytest.mark.parametrize("vector", [None, [1.0, float("nan")], [float("inf")], [-1e10]])
def test_a_label_without_a_sound_embedding_is_a_bug(vector: list[float] | None) -> None:
    given = embeddings(vector, None)
    with pytest.raises(LabelsError, match="track a "):
        with_embeddings(labels_rows(given, LINEAGE, AT), given)
