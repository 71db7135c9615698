"""Features as Parquet, on the local disk and in a real object store."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.tables.features import FeaturesWriter, features_done, read_features, read_roster
from mgc import schema
from mgc.datasets.protocols import GivenSplits
from mgc.errors import FeaturesError
from mgc.schema import FeaturesFacts
from tests.cluster.tables.table_files import put, refusal

FRONT_END = {"kind": "mel", "n_mels": 2}


SHAPE = (2, 3)


FACTS = FeaturesFacts(FRONT_END, "f1", SHAPE)


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


class TestFeatures:
    def test_there_and_back(self, anywhere: str) -> None:
        uri = f"{anywhere}/features of mine"
        assert features_done(Uri.parse(uri), "f1") is None
        writer = FeaturesWriter(Uri.parse(uri), FACTS, ["Synthetic."])
        writer.write(clips(("a", "1", "Rock", "training"), ("a", "1", "Rock", "training")), NONE)
        writer.write(clips(("b", "2", None, None)), rejects("x", "y"))
        writer.write(clips(), NONE)
        names = [each.parent.name for each in files.list_uris(Uri.parse(uri))]
        assert names == ["features", "features", "rejects"]
        for where in (uri, f"{uri}/features"):
            dataset, facts = read_features(Uri.parse(where))
            assert facts == FACTS
            assert schema.notices_of(dataset.schema) == ("Synthetic.",)
            assert schema.read_features_facts(dataset.schema, "x") == facts
            assert dataset.schema.equals(schema.FEATURES)
            assert sorted(dataset.to_table()["track_id"].to_pylist()) == ["a", "a", "b"]
            assert len(dataset.files) == 2
        done = features_done(Uri.parse(uri), "f1")
        assert done is not None
        pairs = zip(done["track_id"].to_pylist(), done["content_tag"].to_pylist(), strict=True)
        assert sorted(pairs) == [("a", "1"), ("b", "2"), ("x", "1"), ("y", "1")]

    def test_what_is_written_twice_is_there_once(self, anywhere: str) -> None:
        first, again = (FeaturesWriter(Uri.parse(anywhere), FACTS) for _ in range(2))
        rows = clips(("a", "1", "Rock", "training"), ("b", "1", "Jazz", "training"))
        first.write(rows, rejects("x"))
        names = files.list_uris(Uri.parse(anywhere))
        again.write(rows, rejects("x"))
        assert files.list_uris(Uri.parse(anywhere)) == names
        # Another clip of the same track, other content, another front end or another order: another file.
        for other in (
            clips(("a", "1", "Rock", "training")),
            clips(("a", "2", "Rock", "training"), ("b", "1", "Jazz", "training")),
            rows.take([1, 0]),
            rows.set_column(rows.column_names.index("clip_index"), "clip_index", pa.array([1, 0], pa.int32())),
        ):
            before = len(files.list_uris(Uri.parse(anywhere)))
            again.write(other, NONE)
            assert len(files.list_uris(Uri.parse(anywhere))) == before + 1
        FeaturesWriter(Uri.parse(anywhere), replace(FACTS, features_id="f2")).write(rows, NONE)
        assert len(files.list_uris(Uri.parse(anywhere))) == before + 2

    def test_only_rejects(self, tmp_path: Path) -> None:
        FeaturesWriter(Uri.of_path(tmp_path), FACTS).write(clips(), rejects("x"))
        done = features_done(Uri.of_path(tmp_path), "f1")
        assert done is not None
        assert done.to_pydict() == {"track_id": ["x"], "content_tag": ["1"]}
        line = refusal(read_features, Uri.of_path(tmp_path), error=FeaturesError)
        assert line.startswith(f"{tmp_path} holds rejects only: no track gave features.")

    def test_the_leavings_of_a_killed_writer_do_no_harm(self, tmp_path: Path) -> None:
        files.write_bytes(Uri.of_path(tmp_path / "features" / ".mgc-0123456789abcdef.tmp"), b"half")
        assert features_done(Uri.of_path(tmp_path), "f1") is None

    def test_nothing_there(self, tmp_path: Path) -> None:
        uri = str(tmp_path / "none")
        line = refusal(read_features, Uri.parse(uri), error=FeaturesError)
        assert line == f"{uri}: there is nothing here. Write features with `mgc prepare CATALOG --out FEATURES`."

    def test_of_another_front_end(self, tmp_path: Path) -> None:
        uri = str(tmp_path)
        FeaturesWriter(Uri.parse(uri), FACTS).write(clips(("a", "1", None, None)), NONE)
        line = refusal(features_done, Uri.parse(uri), "f2", error=FeaturesError)
        assert line.startswith(f"{uri} holds features f1 of the front end ")
        assert line.endswith("not f2; give another --out, or remove it.")
        assert json.dumps(FRONT_END) in line

    def test_of_several_front_ends(self, anywhere: str) -> None:
        for number in range(6):
            FeaturesWriter(Uri.parse(anywhere), FACTS).write(clips((str(number), "1", None, None)), NONE)
        FeaturesWriter(Uri.parse(anywhere), FeaturesFacts({"kind": "thumbnail"}, "f2", SHAPE)).write(
            clips(("z", "1", None, None)), NONE
        )
        for line in (
            refusal(read_features, Uri.parse(anywhere), error=FeaturesError),
            refusal(features_done, Uri.parse(anywhere), "f1", error=FeaturesError),
        ):
            assert line.startswith(f"{anywhere}/features/part-")
            assert "features of several front ends cannot be mixed" in line
            assert sorted(re.findall(r"holds (?:features )?(f\d)", line)) == ["f1", "f2"]

    def test_of_several_listening_plans(self, tmp_path: Path) -> None:
        place = Uri.of_path(tmp_path)
        for track, plan in (("a", None), ("b", {"windows": 1}), ("c", None), ("d", {"windows": 1})):
            FeaturesWriter(place, replace(FACTS, listening=plan)).write(clips((track, "1", None, None)), NONE)
        assert read_features(place)[1] == replace(FACTS, listening={"windows": 1})
        FeaturesWriter(place, replace(FACTS, listening={"windows": 3})).write(clips(("e", "1", None, None)), NONE)
        assert "different listening plans" in refusal(read_features, place, error=FeaturesError)

    def test_notices_of_all_files(self, tmp_path: Path) -> None:
        for track, notice in (("a", "CC BY-NC."), ("b", "Synthetic."), ("c", "CC BY-NC.")):
            writer = FeaturesWriter(Uri.of_path(tmp_path), FACTS, [notice])
            writer.write(clips((track, "1", None, None)), NONE)
        dataset, _ = read_features(Uri.of_path(tmp_path))
        assert sorted(schema.notices_of(dataset.schema)) == ["CC BY-NC.", "Synthetic."]

    def test_foreign_parquet(self, tmp_path: Path) -> None:
        uri = put(str(tmp_path / "x.parquet"), pa.table({"title": ["x"]}))
        line = refusal(read_features, Uri.parse(uri), error=FeaturesError)
        assert line.startswith(
            f"{uri}: this is not a features table: it lacks the column(s) track_id, clip_index, features"
        )
        put(uri, clips(("a", "1", None, None)))
        assert "it does not say which front end computed it" in refusal(
            read_features, Uri.parse(uri), error=FeaturesError
        )
        for facts in (
            b"{",
            b"[]",
            b'"x"',
            b'{"features_id": "f1"}',
            b'{"front_end": {}, "features_id": "f1", "shape": 3}',
            b'{"front_end": {}, "features_id": "f1", "shape": [3], "dtype": "uint8", "listening": 3}',
        ):
            put(uri, clips(("a", "1", None, None)).replace_schema_metadata({b"mgc_front_end": facts}))
            refusal(read_features, Uri.parse(uri), error=FeaturesError)
        proper = schema.features_schema(FACTS)
        texts = clips(("a", "1", None, None)).set_column(4, "features", pa.array(["text"]))
        put(uri, texts.replace_schema_metadata(proper.metadata))
        assert "features are string of uint8, but should be binary" in refusal(
            read_features, Uri.parse(uri), error=FeaturesError
        )
        newer = {**proper.metadata, b"mgc_format_version": b"2"}
        put(uri, clips(("a", "1", None, None)).replace_schema_metadata(newer))
        assert "format version 2" in refusal(read_features, Uri.parse(uri), error=FeaturesError)
        files.write_bytes(Uri.parse(uri), b"hello")
        assert "cannot be read as Parquet" in refusal(read_features, Uri.parse(uri), error=FeaturesError)

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
        dataset, facts = read_features(
            Uri.parse(put(str(tmp_path / "x.parquet"), table.replace_schema_metadata(metadata)))
        )
        read = dataset.to_table()
        assert read.schema.equals(schema.FEATURES)
        assert read.to_pylist()[0]["features"] == bytes(6)
        assert read.to_pylist()[0]["split"] is None
        assert facts.features_id == "f1"
        assert read_roster(dataset, GivenSplits()).tracks("training") == []

    def test_a_rejects_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        files.write_bytes(Uri.of_path(tmp_path / "rejects" / "part-1.parquet"), b"hello")
        line = refusal(features_done, Uri.of_path(tmp_path), "f1", error=FeaturesError)
        assert line.startswith(f"{tmp_path}/rejects: cannot be read as Parquet (")
        assert line.endswith("Remove it, or give another --out.")
