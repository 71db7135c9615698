"""Thumbnails of FMA-small that others have computed, read as features.

Such a file has one row per track: `track_id`, `genre_top`, `artist_id`, `split` (train, test or null) and `mel_u8`, 128
× 128 bytes, mel bin ascending × time. These are pictures as `features.thumbnail` computes them from audio, with all 128
bins, but stretched from the lowest to the highest value of the clip. In 99 of 100 the lowest is 80 dB below the
highest, so they are the same. Only the bins that the front end keeps are taken.

Rows without a split are left out: their artist is unknown and might be in the test set too. Part of the training
artists become the validation set.

FMA: M. Defferrard, K. Benzi, P. Vandergheynst, X. Bresson, FMA: A Dataset for Music Analysis, ISMIR 2017. The audio
    is each artist's, under Creative Commons licences of several kinds, some non-commercial.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from mgc import schema
from mgc.datasets.splits import TRAIN, VALIDATION, place
from mgc.errors import FeaturesError
from mgc.features.thumbnail import ThumbnailConfig

FRONT_END: Final = ThumbnailConfig()
VALIDATION_SHARE: Final = 0.12
"""Share of the training artists used for validation."""

SEED: Final = 0
"""Seed that chooses the validation artists."""

NEEDED: Final = ("track_id", "genre_top", "artist_id", "split", "mel_u8")

NOTICE: Final = (
    "Trained on mel pictures of 7,904 FMA-small tracks of known artists. The music is each artist's, "
    "under Creative Commons licences of "
    "several kinds, some non-commercial."
)


def features(batches: Iterator[pa.RecordBatch], where: str) -> Iterator[pa.Table]:
    """Yield rows with the schema `schema.FEATURES`, batch by batch.

    Args:
        batches: rows with the columns `NEEDED`.
        where: the file, for messages.

    Raises:
        FeaturesError: a column is missing or a picture has another size.
    """
    bins, frames = FRONT_END.n_mels, FRONT_END.columns
    for batch in batches:
        missing = [name for name in NEEDED if name not in batch.schema.names]
        if missing:
            raise FeaturesError(
                f"{where}: lacks the column(s) {', '.join(missing)}; a file of mels has "
                f"{', '.join(NEEDED)}; write it again."
            )
        rows = pa.table(batch).filter(batch["split"].is_valid())
        tracks = [str(track) for track in rows["track_id"].to_pylist()]
        artists = [str(artist) for artist in rows["artist_id"].to_pylist()]
        mels = rows["mel_u8"].to_pylist()
        for track, mel in zip(tracks, mels, strict=True):
            if mel is None or len(mel) != bins * frames:
                raise FeaturesError(
                    f"{where}: the mel of track {track} has {len(mel or b'')} bytes, not {bins} x {frames}; "
                    "write the file again."
                )
        splits = [
            VALIDATION if split == TRAIN and place(artist, SEED) < VALIDATION_SHARE else split
            for split, artist in zip(rows["split"].to_pylist(), artists, strict=True)
        ]
        size = len(tracks)
        columns = {
            "track_id": pa.array(tracks),
            "content_tag": pa.array([""] * size),
            "clip_index": pa.array([0] * size, pa.int32()),
            "start_seconds": pa.array([0.0] * size),
            # Row by row, the lowest bin first.
            "features": pa.array([mel[: FRONT_END.bins * frames] for mel in mels], pa.binary()),
            "genre_top": rows["genre_top"],
            "artist_id": pa.array(artists),
            "split": pa.array(splits),
        }
        arrays = [
            columns[field.name].cast(field.type) if field.name in columns else pa.nulls(size, field.type)
            for field in schema.FEATURES
        ]
        yield pa.table(arrays, schema=schema.FEATURES)
