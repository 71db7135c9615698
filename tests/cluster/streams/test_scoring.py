"""What goes into training and scoring of a features table. The stage itself runs in test_way_through."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cluster.streams.feed_rows import select_columns
from mgc.evaluation.answers import logits_column

ROWS = pa.table(
    {
        "track_id": ["a", "b"],
        "clip_index": [0, 0],
        "genre_top": ["folk", "jazz"],
        "features": [b"1", b"2"],
        "split": ["test", "test"],
    }
)


@pytest.mark.parametrize(
    "artists",
    [
        None,
        pa.array([None, None], pa.null()),
        pa.array([None, None], pa.string()),
        pa.array(["", None], pa.large_string()),
        pa.array([None, None], pa.string()).dictionary_encode(),
    ],
)
def test_unknown_artists_have_one_type(artists: pa.Array | None) -> None:
    """Blocks of one stream come from files of other programs, and all must have the same schema."""
    table = ROWS if artists is None else ROWS.append_column("artist_id", artists)
    rows = select_columns(table)
    assert rows.column_names == ["track_id", "clip_index", "genre_top", "features", "artist_id"]
    assert rows["artist_id"].type == pa.string()
    assert rows["artist_id"].to_pylist() == ["", ""]
    assert select_columns(table.filter(pc.equal(table["track_id"], "none"))).schema == rows.schema


def test_known_artists_stay() -> None:
    artists = pa.array(["x", None]).dictionary_encode()
    assert select_columns(ROWS.append_column("artist_id", artists))["artist_id"].to_pylist() == ["x", ""]


def test_columns_of_logits() -> None:
    assert [logits_column(share) for share in (0.0, 0.25, 0.5)] == ["logits", "logits_zeroed_0.25", "logits_zeroed_0.5"]
