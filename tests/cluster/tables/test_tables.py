"""Catalog and features as Parquet, on the local disk and in a real object store."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.storage import files
from cluster.storage.uri import Uri, join
from cluster.tables.catalog import load_catalog, read_catalog, write_catalog
from cluster.tables.features import FeaturesWriter, features_done, read_features, read_roster
from cluster.tables.parquet import is_parquet, open_parquet, write_part
from mgc import schema
from mgc.datasets.protocols import GivenSplits
from mgc.errors import CatalogError, FeaturesError, LabelsError, MgcError, StorageError
from mgc.schema import FeaturesFacts
from tests.support.object_store import ObjectStore

FRONT_END = {"kind": "mel", "n_mels": 2}
SHAPE = (2, 3)
FACTS = FeaturesFacts(FRONT_END, "f1", SHAPE)
REQUIRED = {
    "track_id": pa.array(["b", "a"]),
    "uri": pa.array(["s3://m/b.mp3", "s3://m/a.mp3"]),
    "size_bytes": pa.array([2, 1], pa.int64()),
    "content_tag": pa.array(["2", "1"]),
}


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.cluster)])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place: a folder, or a bucket."""
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("bucket_uri")


FULL = pa.Table.from_pylist(pa.table(REQUIRED).to_pylist(), schema=schema.CATALOG)


def put(uri: str, table: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    files.write_bytes(uri, sink.getvalue().to_pybytes())
    return uri


def refusal(action: Callable[..., object], *args: Any, error: type[MgcError] = CatalogError) -> str:
    """The one line of an error."""
    with pytest.raises(error) as caught:
        action(*args)
    line = str(caught.value)
    assert "\n" not in line
    assert "  " not in line
    assert line == line.strip()
    assert len(line) < 700
    return line


def clips(*rows: tuple[str, str, str | None, str | None], start: int = 0) -> pa.Table:
    """Features from track id, content tag, genre, split."""
    return pa.Table.from_pylist(
        [
            {
                "track_id": track,
                "content_tag": tag,
                "clip_index": start + index,
                "start_seconds": 3.0 * index,
                "features": bytes(6),
                "genre_top": genre,
                "split": split,
            }
            for index, (track, tag, genre, split) in enumerate(rows)
        ],
        schema=schema.FEATURES,
    )


def rejects(*tracks: str) -> pa.Table:
    rows = [
        {"track_id": track, "uri": "u", "content_tag": "1", "error_kind": "empty", "error_message": "no bytes"}
        for track in tracks
    ]
    return pa.Table.from_pylist(rows, schema=schema.REJECTS)


NONE = rejects()


class TestCatalog:
    def test_there_and_back(self, anywhere: str) -> None:
        uri = join(anywhere, "catalog")
        row = {"uri": "u", "size_bytes": 7, "content_tag": "t"}
        first = pa.Table.from_pylist([{"track_id": "b", **row}, {"track_id": "ä", **row}], schema=schema.CATALOG)
        last = pa.Table.from_pylist(
            [{"track_id": "a", "genres": ["Rock", "Folk"], "duration_seconds": 2.5, **row}], schema=schema.CATALOG
        )
        assert write_catalog(uri, iter([first, last]), ["Synthetic."]) == 3
        assert files.list_uris(anywhere) == [Uri.parse(uri) / "catalog.parquet"]
        for where in (uri, join(uri, "catalog.parquet"), uri + "/"):
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
        write_catalog(uri, [FULL])
        assert [path.name for path in tmp_path.iterdir()] == ["my songs.PARQUET"]
        assert read_catalog(str(tmp_path)).count_rows() == 2

    def test_a_writer_that_fails_leaves_what_was_there(self, anywhere: str) -> None:
        def tables() -> Any:
            yield FULL.take(pa.array([0] * 140_000))
            raise CatalogError("listing broke off.")

        uri = join(anywhere, "c.parquet")
        refusal(write_catalog, uri, tables())
        assert files.list_uris(anywhere) == []
        write_catalog(uri, [FULL])
        refusal(write_catalog, uri, tables())
        assert files.list_uris(anywhere) == [Uri.parse(uri)]
        assert read_catalog(uri).count_rows() == 2

    def test_in_row_groups_whatever_comes(self, tmp_path: Path) -> None:
        """As large as DuckDB reads them side by side, also where rows come in dribs and drabs."""
        some = [pa.table({**FULL.slice(0, 1).to_pydict(), "track_id": [f"{n:06d}"]}, schema.CATALOG) for n in range(50)]
        write_catalog(str(tmp_path / "c.parquet"), [*some, FULL.take(pa.array([0] * 280_000))])
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
        more = {name: pa.array(["c"]) for name in ("track_id", "uri", "content_tag", "genre_top")}
        put(str(tmp_path / "deep" / "2.pq"), pa.table(more | {"size_bytes": pa.array([3], pa.int32())}))
        for hidden in ("_tmp/x.parquet", ".x.parquet", "notes.txt"):
            files.write_bytes(str(tmp_path / hidden), b"not Parquet")
        table = load_catalog(read_catalog(str(tmp_path)))
        assert table["track_id"].to_pylist() == ["a", "b", "c"]
        assert table["genre_top"].to_pylist() == [None, None, "c"]
        put(str(tmp_path / "3.parquet"), pa.table({"track_id": ["d"]}))
        line = refusal(read_catalog, str(tmp_path))
        assert line.startswith(f"{tmp_path}/3.parquet: a catalog needs the column(s) uri, size_bytes, content_tag")

    def test_nothing_there(self, anywhere: str) -> None:
        uri = join(anywhere, "none")
        line = refusal(read_catalog, uri)
        assert line == f"{uri}: there is nothing here. Write a catalog with `mgc catalog SOURCE --out CATALOG`."
        files.write_bytes(join(uri, "a.mp3"), b"x")
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
        assert refusal(read_catalog, uri) == f"{uri}: 1 rows have no {name}; every row of a catalog needs one."

    def test_a_track_stands_there_twice(self, tmp_path: Path) -> None:
        uri = str(tmp_path)
        put(f"{uri}/1.parquet", pa.table(REQUIRED))
        put(f"{uri}/2.parquet", pa.table(REQUIRED).slice(0, 1))
        line = refusal(read_catalog, uri)
        assert line.startswith(f"{uri}: track_id 'b' stands in 2 rows; a track has exactly one")
        # In order, with neighbours alike, in one file or across two.
        put(f"{uri}/1.parquet", pa.table(REQUIRED).sort_by("track_id"))
        assert "'b' stands in 2 rows" in refusal(read_catalog, uri)
        put(f"{uri}/1.parquet", pa.concat_tables([FULL.slice(1), FULL.slice(0, 1), FULL.slice(0, 1)]))
        assert "'b' stands in 2 rows" in refusal(read_catalog, f"{uri}/1.parquet")

    @pytest.mark.parametrize(
        ("name", "column", "says"),
        [
            ("track_id", pa.array([2, 1]), "column track_id is int64, a catalog has string there"),
            ("size_bytes", pa.array(["2", "1"]), "column size_bytes is string, a catalog has int64 there"),
            ("genres", pa.array(["Rock", "Jazz"]), "column genres is string, a catalog has list<"),
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
        uri = put(join(anywhere, "c.parquet"), pa.table(REQUIRED))
        data = files.read_bytes(uri)
        damaged = {
            "text": b"track_id,uri\na,b\n",
            "empty": b"",
            "half": data[: len(data) // 2],
            "footer": data[: (at := len(data) - 8 - int.from_bytes(data[-8:-4], "little"))]
            + bytes(32)
            + data[at + 32 :],
            "pages": data[:4] + bytes(60) + data[64:],
        }[damage]
        files.write_bytes(uri, damaged)
        line = refusal(read_catalog, uri)
        assert line.startswith(f"{uri}: cannot be read as Parquet (")
        assert line.endswith("Write a catalog with `mgc catalog SOURCE --out CATALOG`.")


class TestFeatures:
    def test_there_and_back(self, anywhere: str) -> None:
        uri = join(anywhere, "features of mine")
        assert features_done(uri, "f1") is None
        writer = FeaturesWriter(uri, FACTS, ["Synthetic."])
        writer.write(clips(("a", "1", "Rock", "training"), ("a", "1", "Rock", "training")), NONE)
        writer.write(clips(("b", "2", None, None)), rejects("x", "y"))
        writer.write(clips(), NONE)
        names = [each.parent.name for each in files.list_uris(uri)]
        assert names == ["features", "features", "rejects"]
        for where in (uri, join(uri, "features")):
            dataset, facts = read_features(where)
            assert facts == FACTS
            assert schema.notices_of(dataset.schema) == ("Synthetic.",)
            assert schema.read_features_facts(dataset.schema, "x") == facts
            assert dataset.schema.equals(schema.FEATURES)
            assert sorted(dataset.to_table()["track_id"].to_pylist()) == ["a", "a", "b"]
            assert len(dataset.files) == 2
        done = features_done(uri, "f1")
        assert done is not None
        pairs = zip(done["track_id"].to_pylist(), done["content_tag"].to_pylist(), strict=True)
        assert sorted(pairs) == [("a", "1"), ("b", "2"), ("x", "1"), ("y", "1")]

    def test_what_is_written_twice_is_there_once(self, anywhere: str) -> None:
        first, again = (FeaturesWriter(anywhere, FACTS) for _ in range(2))
        rows = clips(("a", "1", "Rock", "training"), ("b", "1", "Jazz", "training"))
        first.write(rows, rejects("x"))
        names = files.list_uris(anywhere)
        again.write(rows, rejects("x"))
        assert files.list_uris(anywhere) == names
        # Another clip of the same track, other content, another front end or another order: another file.
        for other in (
            clips(("a", "1", "Rock", "training")),
            clips(("a", "2", "Rock", "training"), ("b", "1", "Jazz", "training")),
            rows.take([1, 0]),
            rows.set_column(rows.column_names.index("clip_index"), "clip_index", pa.array([1, 0], pa.int32())),
        ):
            before = len(files.list_uris(anywhere))
            again.write(other, NONE)
            assert len(files.list_uris(anywhere)) == before + 1
        FeaturesWriter(anywhere, replace(FACTS, features_id="f2")).write(rows, NONE)
        assert len(files.list_uris(anywhere)) == before + 2

    def test_only_rejects(self, tmp_path: Path) -> None:
        FeaturesWriter(str(tmp_path), FACTS).write(clips(), rejects("x"))
        done = features_done(str(tmp_path), "f1")
        assert done is not None
        assert done.to_pydict() == {"track_id": ["x"], "content_tag": ["1"]}
        line = refusal(read_features, str(tmp_path), error=FeaturesError)
        assert line.startswith(f"{tmp_path} holds rejects only: no track gave features.")

    def test_the_leavings_of_a_killed_writer_do_no_harm(self, tmp_path: Path) -> None:
        files.write_bytes(str(tmp_path / "features" / ".mgc-0123456789abcdef.tmp"), b"half")
        assert features_done(str(tmp_path), "f1") is None

    def test_nothing_there(self, tmp_path: Path) -> None:
        uri = str(tmp_path / "none")
        line = refusal(read_features, uri, error=FeaturesError)
        assert line == f"{uri}: there is nothing here. Write features with `mgc prepare CATALOG --out FEATURES`."

    def test_of_another_front_end(self, tmp_path: Path) -> None:
        uri = str(tmp_path)
        FeaturesWriter(uri, FACTS).write(clips(("a", "1", None, None)), NONE)
        line = refusal(features_done, uri, "f2", error=FeaturesError)
        assert line.startswith(f"{uri} holds features f1 of the front end ")
        assert line.endswith("not f2; give another --out, or remove it.")
        assert json.dumps(FRONT_END) in line

    def test_of_several_front_ends(self, anywhere: str) -> None:
        for number in range(6):
            FeaturesWriter(anywhere, FACTS).write(clips((str(number), "1", None, None)), NONE)
        FeaturesWriter(anywhere, FeaturesFacts({"kind": "thumbnail"}, "f2", SHAPE)).write(
            clips(("z", "1", None, None)), NONE
        )
        for line in (
            refusal(read_features, anywhere, error=FeaturesError),
            refusal(features_done, anywhere, "f1", error=FeaturesError),
        ):
            assert line.startswith(f"{anywhere}/features/part-")
            assert "features of several front ends cannot be mixed" in line
            assert sorted(re.findall(r"holds (?:features )?(f\d)", line)) == ["f1", "f2"]

    def test_notices_of_all_files(self, tmp_path: Path) -> None:
        for track, notice in (("a", "CC BY-NC."), ("b", "Synthetic."), ("c", "CC BY-NC.")):
            writer = FeaturesWriter(str(tmp_path), FACTS, [notice])
            writer.write(clips((track, "1", None, None)), NONE)
        dataset, _ = read_features(str(tmp_path))
        assert sorted(schema.notices_of(dataset.schema)) == ["CC BY-NC.", "Synthetic."]

    def test_foreign_parquet(self, tmp_path: Path) -> None:
        uri = put(str(tmp_path / "x.parquet"), pa.table({"title": ["x"]}))
        line = refusal(read_features, uri, error=FeaturesError)
        assert line.startswith(
            f"{uri}: this is no features table: it lacks the column(s) track_id, clip_index, features"
        )
        put(uri, clips(("a", "1", None, None)))
        assert "it does not say which front end computed it" in refusal(read_features, uri, error=FeaturesError)
        for facts in (
            b"{",
            b"[]",
            b'"x"',
            b'{"features_id": "f1"}',
            b'{"front_end": {}, "features_id": "f1", "shape": 3}',
        ):
            put(uri, clips(("a", "1", None, None)).replace_schema_metadata({b"mgc_front_end": facts}))
            refusal(read_features, uri, error=FeaturesError)
        proper = schema.features_schema(FACTS)
        texts = clips(("a", "1", None, None)).set_column(4, "features", pa.array(["text"]))
        put(uri, texts.replace_schema_metadata(proper.metadata))
        assert "features are string of uint8, and should be binary" in refusal(read_features, uri, error=FeaturesError)
        newer = {**proper.metadata, b"mgc_format_version": b"2"}
        put(uri, clips(("a", "1", None, None)).replace_schema_metadata(newer))
        assert "format version 2" in refusal(read_features, uri, error=FeaturesError)
        files.write_bytes(uri, b"hello")
        assert "cannot be read as Parquet" in refusal(read_features, uri, error=FeaturesError)

    def test_what_others_write_is_read(self, tmp_path: Path) -> None:
        """The needed columns only, in the types of another library."""
        table = pa.table(
            {
                "features": pa.array([bytes(6)], pa.large_binary()),
                "track_id": pa.array(["a"], pa.large_string()),
                "clip_index": pa.array([0], pa.int64()),
                "genre_top": pa.array(["Rock"]).dictionary_encode(),
                "extra": [1.5],
            }
        )
        metadata = schema.features_schema(FACTS).metadata
        dataset, facts = read_features(put(str(tmp_path / "x.parquet"), table.replace_schema_metadata(metadata)))
        read = dataset.to_table()
        assert read.schema.equals(schema.FEATURES)
        assert read.to_pylist()[0]["features"] == bytes(6)
        assert read.to_pylist()[0]["split"] is None
        assert facts.features_id == "f1"
        assert read_roster(dataset, GivenSplits()).tracks("training") == []

    def test_a_rejects_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        files.write_bytes(str(tmp_path / "rejects" / "part-1.parquet"), b"hello")
        line = refusal(features_done, str(tmp_path), "f1", error=FeaturesError)
        assert line.startswith(f"{tmp_path}/rejects: cannot be read as Parquet (")
        assert line.endswith("Remove it, or give another --out.")


class TestParts:
    def test_each_part_is_a_file_of_its_own(self, anywhere: str) -> None:
        folder = join(anywhere, "staged")
        for _ in range(3):
            write_part(folder, pa.table(REQUIRED))
        assert len(files.list_uris(folder)) == 3
        assert open_parquet(folder, "", LabelsError).count_rows() == 6

    def test_a_message_without_a_remedy(self, tmp_path: Path) -> None:
        assert refusal(open_parquet, f"{tmp_path}/x", "", LabelsError, error=LabelsError).endswith("nothing here.")

    def test_is_parquet(self) -> None:
        assert all(map(is_parquet, ("a.parquet", "s3://b/a.PARQUET", "a.pq", "a.parquet/")))
        assert not any(map(is_parquet, ("a", "parquet", "a.parquet.tmp", "a.csv", "a.parquet/b")))
