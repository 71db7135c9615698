"""`mgc import-mels … --long-tail`: a features folder with an unbalanced training split, and nothing else changed."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.storage.uri import Uri
from cluster.tables.features import read_features, read_roster
from mgc import schema
from mgc.datasets.protocols import GivenSplits
from mgc.datasets.splits import TRAIN, VALIDATION
from pipelines import import_mels
from pipelines.command.job import run


@pytest.fixture(scope="module")
def mels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four genres of 60 tracks to train on and 10 to test, one artist a track; some tracks have no split."""
    random = np.random.default_rng(0)
    rows = [
        {
            "track_id": f"{genre}-{number}",
            "genre_top": genre,
            "artist_id": f"artist of {genre}-{number}",
            "split": "train" if number < 60 else "test" if number < 70 else None,
            "mel_u8": random.integers(0, 256, 128 * 128, np.uint8).tobytes(),
        }
        for number in range(72)
        for genre in ("folk", "jazz", "pop", "rock")
    ]
    path = tmp_path_factory.mktemp("mels") / "mels.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def imported(mels: Path, out: Path, *options: str) -> Path:
    assert run(import_mels.command, [str(mels), "--out", str(out), *options]) == 0
    return out


def test_only_the_training_split_is_thinned_and_the_notice_says_so(mels: Path, tmp_path: Path) -> None:
    whole, _ = read_features(Uri.of_path(imported(mels, tmp_path / "whole")))
    thin, facts = read_features(Uri.of_path(imported(mels, tmp_path / "thin", "--long-tail", "10")))
    all_of_them, kept_ones = read_roster(whole, GivenSplits()), read_roster(thin, GivenSplits())
    before, after = all_of_them.class_counts(TRAIN), kept_ones.class_counts(TRAIN)
    order = sorted(before, key=lambda genre: (-before[genre], genre))
    largest = before[order[0]]
    assert [after[genre] for genre in order] == [
        min(before[genre], round(largest * 10 ** (-rank / 3))) for rank, genre in enumerate(order)
    ]
    assert set(kept_ones.tracks(TRAIN)) < set(all_of_them.tracks(TRAIN))
    for split in (VALIDATION, "test"):
        assert kept_ones.tracks(split) == all_of_them.tracks(split) != []
    assert Counter(kept_ones.class_counts("test").values()) == {10: 4}
    (_, said) = schema.notices_of(thin.schema)
    kept, tracks = sum(after.values()), sum(before.values())
    assert re.findall(r"\d+", said)[:2] == [str(kept), str(tracks)]
    assert len(schema.notices_of(whole.schema)) == 1
    assert facts.shape == (104, 128)


def test_a_ratio_below_one_is_refused(mels: Path, tmp_path: Path) -> None:
    assert run(import_mels.command, [str(mels), "--out", str(tmp_path / "x"), "--long-tail", "0.5"]) == 2
