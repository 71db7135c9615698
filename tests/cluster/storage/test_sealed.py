"""A flipped bit in a sealed Parquet file: the reader notices, or reads what was written."""

from __future__ import annotations

import random
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from cluster.storage import files, sealed
from cluster.storage.sealed import DamageError
from cluster.storage.uri import Uri
from cluster.tables.parquet import CHECKED
from tests.support.damage import flip_bit
from tests.support.draws import draws

ROWS = 300
TABLE = pa.table(
    {
        "track_id": [f"{number:05}" for number in range(ROWS)],
        "genre": pa.array(["Rock", "Jazz", None] * (ROWS // 3)).dictionary_encode().cast(pa.string()),
        "number": pa.array([None if number % 7 == 0 else number * 37 for number in range(ROWS)], pa.int32()),
        "share": [number / 7 for number in range(ROWS)],
        "genres": [["Rock", "Pop"][: number % 3] for number in range(ROWS)],
        "clip": [random.Random(number).randbytes(40) for number in range(ROWS)],
    }
)
LOCAL = pyarrow.fs.LocalFileSystem()


@pytest.mark.draws
def test_no_bit_can_be_flipped_unnoticed() -> None:
    data = sealed.encode(TABLE, 128)
    assert sealed.decode(data).equals(TABLE)
    for seed in range(draws(500)):
        with pytest.raises(DamageError):
            sealed.decode(flip_bit(data, seed))


@pytest.mark.draws
def test_a_reader_of_parts_notices_or_reads_what_was_written(tmp_path: Path) -> None:
    """It reads the footer and the pages of some columns, as the readers of features do."""
    data = sealed.encode(TABLE, 128)
    path = tmp_path / "x.parquet"
    found = {"damaged": 0, "same": 0}
    for seed in range(draws(600)):
        # Half of the bits lie in the pages, which are small here beside the footer.
        path.write_bytes(flip_bit(data, seed, 0 if seed % 2 else data.find(b"mgcseal1")))
        try:
            sealed.check_footer(LOCAL, str(path))
            rows = CHECKED.make_fragment(str(path), LOCAL).to_table(TABLE.schema)
        except (DamageError, pa.ArrowException, OSError):
            found["damaged"] += 1
        else:
            assert rows.equals(TABLE), seed
            found["same"] += 1
    assert min(found.values()) > draws(600) / 60, found


@pytest.mark.parametrize("columns", [1, 2000], ids=["a short footer", "a footer of 200 KB"])
def test_a_footer_of_any_length_is_checked(columns: int, tmp_path: Path) -> None:
    table = pa.table({f"a column of number {number}": [number] for number in range(columns)})
    data, path = sealed.encode(table), tmp_path / "x.parquet"
    path.write_bytes(data)
    sealed.check_footer(LOCAL, str(path))
    place = data.rfind(b"a column of number 0")
    path.write_bytes(data[:place] + b"A" + data[place + 1 :])
    with pytest.raises(DamageError):
        sealed.check_footer(LOCAL, str(path))


def test_a_footer_whose_length_is_damaged_is_not_taken_for_another_program_s(tmp_path: Path) -> None:
    data, path = sealed.encode(TABLE), tmp_path / "x.parquet"
    for bit in range(16):
        tail = (int.from_bytes(data[-8:-4], "little") ^ 1 << bit).to_bytes(4, "little")
        path.write_bytes(data[:-8] + tail + data[-4:])
        with pytest.raises(DamageError):
            sealed.check_footer(LOCAL, str(path))


@pytest.mark.parametrize("size", [0, 1, 8, 40, 300, 2000])
def test_what_is_cut_off_is_damaged(size: int, tmp_path: Path) -> None:
    data, path = sealed.encode(TABLE), tmp_path / "x.parquet"
    with pytest.raises(DamageError):
        sealed.decode(data[:size])
    with pytest.raises(DamageError):
        sealed.decode(data[-size - 1 :])
    path.write_bytes(data[:size])
    sealed.check_footer(LOCAL, str(path))
    with pytest.raises((pa.ArrowException, OSError)):
        CHECKED.make_fragment(str(path), LOCAL).to_table(TABLE.schema)


def test_other_programs_read_a_sealed_file_and_theirs_pass(tmp_path: Path) -> None:
    uri = Uri.of_path(tmp_path / "x.parquet")
    files.write_table(uri, TABLE, 128)
    assert files.read_table(uri).equals(TABLE)
    assert pq.read_table(uri.local).equals(TABLE)
    assert pq.read_metadata(uri.local).num_row_groups == 3
    with duckdb.connect() as connection:
        assert connection.sql(f"SELECT count(*), max(number) FROM '{uri.local}'").fetchall() == [(ROWS, 299 * 37)]
    theirs = tmp_path / "y.parquet"
    pq.write_table(TABLE, theirs)
    sealed.check_footer(LOCAL, str(theirs))
    with pytest.raises(DamageError):
        sealed.decode(theirs.read_bytes())
