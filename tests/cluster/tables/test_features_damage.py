"""Damaged files of features: refused by training, set aside by `prepare`, and never read as something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.storage.uri import Uri
from cluster.streams.clip_source import ClipRows
from cluster.tables.features import FeaturesWriter, features_done, read_batches, read_features, set_aside_damaged
from mgc import schema
from mgc.errors import FeaturesError
from mgc.features.front_end import describe_features
from mgc.features.mel import LogMelConfig
from tests.cluster.tables.table_files import refusal
from tests.support.damage import flip_bit
from tests.support.draws import draws

CONFIG = LogMelConfig(n_mels=8, clip_seconds=1.0, frames=4)
FACTS = describe_features(CONFIG)
COLUMNS = schema.FEATURES.names


def clips(*tracks: str) -> pa.Table:
    rng = np.random.default_rng(0)
    rows = [
        {
            "track_id": track, "content_tag": "1", "clip_index": clip, "start_seconds": 3.0 * clip,
            "features": rng.integers(0, 256, FACTS.clip_bytes, dtype=np.uint8).tobytes(), "genre_top": "Rock",
            "genres": ["Rock", "Pop"], "artist_id": f"by {track}", "split": "train",
        }
        for track in tracks
        for clip in range(5)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schema.FEATURES)


@pytest.fixture
def written(tmp_path: Path) -> list[Path]:
    """Two files of features."""
    writer = FeaturesWriter(Uri.of_path(tmp_path), FACTS, ["Noise."])
    for names in ("abc", "def"):
        writer.write(clips(*names), schema.REJECTS.empty_table())
    return sorted((tmp_path / "features").iterdir())


def tracks_of(path: Path) -> set[str]:
    return set(pq.read_table(path, columns=["track_id"], partitioning=None)["track_id"].to_pylist())


def read_all(folder: Path) -> tuple[pa.Table, schema.FeaturesFacts]:
    """As the driver of a training reads them."""
    dataset, facts = read_features(Uri.of_path(folder))
    return pa.Table.from_batches(read_batches(dataset, COLUMNS)), facts


def read_in_tasks(folder: Path) -> pa.Table:
    """As its tasks read them, which Ray would run elsewhere."""
    dataset, _ = read_features(Uri.of_path(folder))
    source = ClipRows(dataset, COLUMNS, lambda rows: iter([rows]), None)
    return pa.concat_tables(table for task in source.get_read_tasks(1) for table in task())


@pytest.mark.draws
def test_a_flipped_bit_is_noticed_or_alters_nothing(written: list[Path], tmp_path: Path) -> None:
    good, facts = read_all(tmp_path)
    seen = {"damaged": 0, "same": 0}
    for seed in range(draws(300)):
        victim = written[seed % 2]
        data = victim.read_bytes()
        # Half of the bits lie in the pages, which are small here beside the footer.
        victim.write_bytes(flip_bit(data, seed, 0 if seed % 4 < 2 else data.rfind(b"mgcseal1")))
        lines = []
        for read in (lambda: read_all(tmp_path), lambda: (read_in_tasks(tmp_path), facts)):
            try:
                found, said = read()
            except FeaturesError as error:
                lines.append(str(error))
            else:
                assert found.equals(good), seed
                assert said == facts, seed
        assert len(lines) in (0, 2), (seed, lines)
        assert all(f"{victim}: " in line for line in lines), lines
        seen["damaged" if lines else "same"] += 1
        victim.write_bytes(data)
    assert min(seen.values()) > draws(300) / 30, seen


def test_a_damaged_clip_is_an_error_that_names_the_file(written: list[Path], tmp_path: Path) -> None:
    group = pq.read_metadata(written[1]).row_group(0)
    chunk = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == "features")
    data = bytearray(written[1].read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size - 9] ^= 1
    written[1].write_bytes(data)
    # Its small columns are sound, and tell which tracks it has.
    assert set_aside_damaged(Uri.of_path(tmp_path)) == []
    for read in (read_all, read_in_tasks):
        line = refusal(read, tmp_path, error=FeaturesError)
        assert f"{written[1]}: " in line
        assert "mgc prepare" in line


@pytest.mark.draws
def test_prepare_sets_aside_what_it_cannot_trust(written: list[Path], tmp_path: Path) -> None:
    tracks = {path: tracks_of(path) for path in written}
    for seed in range(draws(200)):
        victim, other = written[seed % 2], written[1 - seed % 2]
        data = victim.read_bytes()
        victim.write_bytes(flip_bit(data, seed))
        lines = set_aside_damaged(Uri.of_path(tmp_path))
        done = features_done(Uri.of_path(tmp_path), FACTS.features_id)
        assert done is not None
        known = set(done["track_id"].to_pylist())
        if lines:
            [line] = lines
            aside = tmp_path / "_set_aside" / "features" / victim.name
            assert f"{victim}: " in line
            assert str(aside) in line
            assert known == tracks[other], seed
            assert aside.read_bytes() == flip_bit(data, seed)
            aside.unlink()
        else:
            assert known == tracks[victim] | tracks[other], seed
        victim.write_bytes(data)


def test_when_all_are_damaged_all_are_computed_anew(written: list[Path], tmp_path: Path) -> None:
    FeaturesWriter(Uri.of_path(tmp_path), FACTS).write(clips(), rejected())
    for path in (*written, *(tmp_path / "rejects").iterdir()):
        path.write_bytes(path.read_bytes()[:200])
    assert "cannot be read" in refusal(features_done, Uri.of_path(tmp_path), FACTS.features_id, error=FeaturesError)
    assert len(set_aside_damaged(Uri.of_path(tmp_path))) == 3
    assert features_done(Uri.of_path(tmp_path), FACTS.features_id) is None
    writer = FeaturesWriter(Uri.of_path(tmp_path), FACTS)
    writer.write(clips("a"), schema.REJECTS.empty_table())
    assert set(read_all(tmp_path)[0]["track_id"].to_pylist()) == {"a"}


def test_features_of_another_program_are_read_as_before(tmp_path: Path) -> None:
    table = clips("a", "b")
    pq.write_table(table.cast(schema.features_schema(FACTS)), tmp_path / "theirs.parquet")
    assert read_all(tmp_path)[0].equals(table)


def rejected() -> pa.Table:
    row = {"track_id": "x", "uri": "u", "content_tag": "1", "error_kind": "empty", "error_message": "no bytes"}
    return pa.Table.from_pylist([row], schema=schema.REJECTS)
