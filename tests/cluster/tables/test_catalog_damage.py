"""Flipped bits in catalogs, which mgc seals, and in the parts of a listing."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pyarrow.fs
import pytest

from cluster.storage import files, sealed
from cluster.storage.listing import Sieve
from cluster.storage.listing.parts import FACTS, trusted_parts, write_part
from cluster.storage.sealed import DamageError
from cluster.storage.uri import Uri
from cluster.tables.catalog import load_catalog, read_catalog, write_catalog
from cluster.tables.parquet import CHECKED
from mgc import schema
from mgc.errors import CatalogError
from tests.support.damage import flip_bit
from tests.support.draws import draws
from tests.support.nights import catalog

TRACKS = catalog({f"{number:04}": f"tag {number * 37}" for number in range(800)})
LOCAL = pyarrow.fs.LocalFileSystem()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "catalog.parquet"
    write_catalog(Uri.of_path(path), [TRACKS], roots=[Uri.parse("s3://music")])
    return path


@pytest.mark.draws
def test_a_reader_notices_or_reads_what_was_written(written: Path) -> None:
    good = written.read_bytes()
    assert sealed.decode(good).num_rows == TRACKS.num_rows
    damaged = 0
    for seed in range(draws(1000)):
        written.write_bytes(flip_bit(good, seed))
        with pytest.raises(DamageError):
            sealed.decode(written.read_bytes())
        try:
            sealed.check_footer(LOCAL, str(written))
            rows = CHECKED.make_fragment(str(written), LOCAL).to_table(schema.CATALOG)
        except (DamageError, pa.ArrowException, OSError):
            damaged += 1
        else:
            assert rows.equals(TRACKS), seed
    assert damaged > draws(1000) / 2


def test_a_damaged_catalog_is_refused(written: Path) -> None:
    good = written.read_bytes()
    place = good.find(b"tag 3")
    for at in (good.find(b"mgcseal1") - 40, len(good) - 300) if place < 0 else (place, len(good) - 300):
        bad = bytearray(good)
        bad[at] ^= 4
        written.write_bytes(bad)
        with pytest.raises(CatalogError, match=written.name):
            load_catalog(read_catalog(Uri.of_path(written)))


@pytest.mark.draws
def test_a_damaged_part_of_a_listing_is_listed_again(tmp_path: Path) -> None:
    folder = Uri.of_path(tmp_path / "listing")
    rows = TRACKS.select(FACTS.names)
    part = write_part(folder, rows, "", None, time.time(), rows.num_rows, Sieve(""))
    assert trusted_parts(folder) == ([part], 0)
    good = files.read_bytes(part.uri)
    for seed in range(draws(300)):
        part.uri.local.write_bytes(flip_bit(good, seed))
        assert trusted_parts(folder) == ([], 0), seed
