"""Catalogs as Parquet, on the local disk and in a real object store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.tables import catalog
from cluster.tables.catalog import load_catalog, write_catalog
from mgc import schema
from mgc.errors import CatalogError, StorageError
from tests.cluster.tables.table_files import FULL, REQUIRED, put, refusal
from tests.support.object_store import ObjectStore


def read_catalog(uri: str) -> pads.Dataset:
    return catalog.read_catalog(Uri.parse(uri), [Uri.parse("s3://m")])


class TestCatalog:
    def test_there_and_back(self, anywhere: str) -> None:
        uri = f"{anywhere}/catalog"
        row = {"uri": "s3://m/u", "size_bytes": 7, "content_tag": "t"}
        first = pa.Table.from_pylist([{"track_id": "b", **row}, {"track_id": "ä", **row}], schema=schema.CATALOG)
        last = pa.Table.from_pylist(
            [{"track_id": "a", "genres": ["Rock", "Folk"], "duration_seconds": 2.5, **row}], schema=schema.CATALOG
        )
        assert write_catalog(Uri.parse(uri), iter([first, last]), ["Synthetic."]) == 3
        assert files.list_uris(Uri.parse(anywhere)) == [Uri.parse(uri) / "catalog.parquet"]
        for where in (uri, f"{uri}/catalog.parquet", uri + "/"):
            dataset = read_catalog(where)
            assert schema.notices_of(dataset.schema) == ("Synthetic.",)
            table = load_catalog(dataset)
            assert table.schema.equals(schema.CATALOG)
            assert table["track_id"].to_pylist() == ["a", "b", "ä"]
            assert table["genres"].to_pylist() == [["Rock", "Folk"], None, None]
            assert load_catalog(dataset, 2)["track_id"].to_pylist() == ["a", "b"]
            assert load_catalog(dataset, 9).num_rows == 3

    def test_a_file_of_any_name(self, tmp_path: Path) -> None:
        uri = str(tmp_path / "my songs.PARQUET")
        write_catalog(Uri.parse(uri), [FULL])
        assert [path.name for path in tmp_path.iterdir()] == ["my songs.PARQUET"]
        assert read_catalog(str(tmp_path)).count_rows() == 2

    def test_a_writer_that_fails_leaves_what_was_there(self, anywhere: str) -> None:
        def tables() -> Any:
            yield FULL.take(pa.array([0] * 140_000))
            raise CatalogError("listing broke off.")

        uri = f"{anywhere}/c.parquet"
        refusal(write_catalog, Uri.parse(uri), tables())
        assert files.list_uris(Uri.parse(anywhere)) == []
        write_catalog(Uri.parse(uri), [FULL])
        refusal(write_catalog, Uri.parse(uri), tables())
        assert files.list_uris(Uri.parse(anywhere)) == [Uri.parse(uri)]
        assert read_catalog(uri).count_rows() == 2

    def test_in_row_groups_whatever_comes(self, tmp_path: Path) -> None:
        """As large as DuckDB reads them side by side, also where rows come in dribs and drabs."""
        some = [pa.table({**FULL.slice(0, 1).to_pydict(), "track_id": [f"{n:06d}"]}, schema.CATALOG) for n in range(50)]
        write_catalog(Uri.of_path(tmp_path / "c.parquet"), [*some, FULL.take(pa.array([0] * 280_000))])
        groups = pq.ParquetFile(tmp_path / "c.parquet").metadata
        assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [131_072, 131_072, 17_906]

    @pytest.mark.parametrize(
        "other",
        [
            {"track_id": pa.array(["b", "a"], pa.large_string())},
            {"track_id": pa.array(["b", "a"]).dictionary_encode()},
            {"size_bytes": pa.array([2.0, 1.0])},
            {"size_bytes": pa.array([2, 1], pa.uint32())},
            {"genre_top": pa.nulls(2)},
            {"duration_seconds": pa.array([3, None], pa.int32())},
            {"genres": pa.array([["x"], None], pa.large_list(pa.large_string()))},
            {"mood": pa.array([1, 2]), "énergie": pa.array([{"a": 1}, None])},
        ],
        ids=lambda other: "-".join(other),
    )
    def test_what_others_write_is_read(self, other: dict[str, pa.Array], tmp_path: Path) -> None:
        """Types of pandas, Polars and DuckDB, and columns of their own."""
        table = load_catalog(read_catalog(put(str(tmp_path / "c.parquet"), pa.table(REQUIRED | other))))
        assert table.schema.equals(schema.CATALOG)
        assert table.select(list(REQUIRED)).to_pylist() == [
            {"track_id": "a", "uri": "s3://m/a.mp3", "size_bytes": 1, "content_tag": "1"},
            {"track_id": "b", "uri": "s3://m/b.mp3", "size_bytes": 2, "content_tag": "2"},
        ]

    def test_several_files_are_one_catalog(self, tmp_path: Path) -> None:
        put(str(tmp_path / "1.parquet"), pa.table(REQUIRED))
        more = {name: pa.array(["c"]) for name in ("track_id", "content_tag", "genre_top")}
        more["uri"] = pa.array(["s3://m/c"])
        put(str(tmp_path / "deep" / "2.pq"), pa.table(more | {"size_bytes": pa.array([3], pa.int32())}))
        for hidden in ("_tmp/x.parquet", ".x.parquet", "notes.txt"):
            files.write_bytes(Uri.of_path(tmp_path / hidden), b"not Parquet")
        table = load_catalog(read_catalog(str(tmp_path)))
        assert table["track_id"].to_pylist() == ["a", "b", "c"]
        assert table["genre_top"].to_pylist() == [None, None, "c"]
        put(str(tmp_path / "3.parquet"), pa.table({"track_id": ["d"]}))
        line = refusal(read_catalog, str(tmp_path))
        assert line.startswith(f"{tmp_path}/3.parquet: a catalog needs the column(s) uri, size_bytes, content_tag")

    def test_nothing_there(self, anywhere: str) -> None:
        uri = f"{anywhere}/none"
        line = refusal(read_catalog, uri)
        assert line == f"{uri}: there is nothing here. Write a catalog with `mgc catalog SOURCE --out CATALOG`."
        files.write_bytes(Uri.parse(f"{uri}/a.mp3"), b"x")
        assert refusal(read_catalog, uri).startswith(f"{uri}: no Parquet file in this folder. Write a catalog")

    @pytest.mark.cluster
    def test_missing_bucket_and_no_right(
        self, bucket_uri: str, s3_environment: ObjectStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        uri = put(f"{bucket_uri}/c.parquet", pa.table(REQUIRED))
        assert "the bucket does not exist" in refusal(read_catalog, "s3://no-such-bucket-here/c", error=StorageError)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_environment.guest_access_key)
        assert "access is denied" in refusal(read_catalog, uri, error=StorageError)

    @pytest.mark.parametrize("name", list(schema.CATALOG_REQUIRED))
    def test_a_needed_column_is_missing_or_null(self, name: str, tmp_path: Path) -> None:
        uri = str(tmp_path / "c.parquet")
        table = pa.table(REQUIRED)
        put(uri, table.drop_columns(name))
        line = refusal(read_catalog, uri)
        assert line.startswith(f"{uri}: a catalog needs the column(s) {name}; found ")
        assert "Write one with `mgc catalog SOURCE --out CATALOG`." in line
        column = table[name].to_pylist()
        put(uri, pa.table({**REQUIRED, name: pa.array([column[0], None], table[name].type)}))
        assert refusal(read_catalog, uri) == f"{uri}: 1 row without {name}; every row of a catalog needs one."

    def test_a_track_stands_there_twice(self, tmp_path: Path) -> None:
        uri = str(tmp_path)
        put(f"{uri}/1.parquet", pa.table(REQUIRED))
        put(f"{uri}/2.parquet", pa.table(REQUIRED).slice(0, 1))
        line = refusal(read_catalog, uri)
        assert line.startswith(f"{uri}: track_id 'b' is in 2 rows; a track has exactly one")
        # In order, with neighbours alike, in one file or across two.
        put(f"{uri}/1.parquet", pa.table(REQUIRED).sort_by("track_id"))
        assert "'b' is in 2 rows" in refusal(read_catalog, uri)
        put(f"{uri}/1.parquet", pa.concat_tables([FULL.slice(1), FULL.slice(0, 1), FULL.slice(0, 1)]))
        assert "'b' is in 2 rows" in refusal(read_catalog, f"{uri}/1.parquet")

    @pytest.mark.parametrize(
        ("name", "column", "says"),
        [
            ("track_id", pa.array([2, 1]), "column track_id is int64; in a catalog it is string"),
            ("size_bytes", pa.array(["2", "1"]), "column size_bytes is string; in a catalog it is int64"),
            ("genres", pa.array(["Rock", "Jazz"]), "column genres is string; in a catalog it is list<"),
            ("duration_seconds", pa.array(["1:30", "2:00"]), "column duration_seconds is string"),
            ("size_bytes", pa.array([2.5, 1.0]), "cannot be read as Parquet (Float value 2.5"),
            ("size_bytes", pa.array([float("nan"), 1.0]), "cannot be read as Parquet (Float value nan"),
        ],
    )
    def test_a_column_of_another_type(self, name: str, column: pa.Array, says: str, tmp_path: Path) -> None:
        uri = put(str(tmp_path / "c.parquet"), pa.table(REQUIRED | {name: column}))
        line = refusal(read_catalog, uri)
        assert line.startswith(f"{uri}: ")
        assert says in line

    def test_a_newer_format(self, tmp_path: Path) -> None:
        table = pa.table(REQUIRED).replace_schema_metadata({"mgc_format_version": "2"})
        uri = put(str(tmp_path / "c.parquet"), table)
        assert refusal(read_catalog, uri) == f"{uri}: format version 2, this mgc reads up to 1; upgrade mgc."

    def test_no_track_at_all(self, tmp_path: Path) -> None:
        uri = put(str(tmp_path / "c.parquet"), pa.table(REQUIRED).slice(0, 0))
        assert refusal(read_catalog, uri).startswith(f"{uri}: this catalog holds no track.")

    @pytest.mark.parametrize("damage", ["text", "empty", "half", "footer", "pages"])
    def test_no_parquet(self, damage: str, anywhere: str) -> None:
        uri = put(f"{anywhere}/c.parquet", pa.table(REQUIRED))
        data = files.read_bytes(Uri.parse(uri))
        damaged = {
            "text": b"track_id,uri\na,b\n",
            "empty": b"",
            "half": data[: len(data) // 2],
            "footer": data[: (at := len(data) - 8 - int.from_bytes(data[-8:-4], "little"))]
            + bytes(32)
            + data[at + 32 :],
            "pages": data[:4] + bytes(60) + data[64:],
        }[damage]
        files.write_bytes(Uri.parse(uri), damaged)
        line = refusal(read_catalog, uri)
        assert line.startswith(f"{uri}: cannot be read as Parquet (")
        assert line.endswith("Write a catalog with `mgc catalog SOURCE --out CATALOG`.")
