"""What `mgc prepare` does with features that are in its folder already, before Ray is started."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cluster.storage.selection import Selection
from cluster.storage.uri import Uri
from cluster.tables.catalog import write_catalog
from mgc.audio.excerpts import ListeningPlan
from mgc.errors import FeaturesError
from pipelines.command.job import Summary
from pipelines.training.prepared import prepare_features
from pipelines.training.requests import PrepareRequest
from tests.support import tiny_features
from tests.support.tiny_features import EXPERIMENT, TRACKS


def prepare(folder: Path, tracks: pa.Table, held: pa.Table | None = None, limit: int | None = None) -> Summary:
    """A dry run over a catalog of these tracks, into a folder that holds these features."""
    catalog = Uri.of_path(folder / "catalog.parquet")
    write_catalog(catalog, [tracks])
    features = Uri.of_path(folder / "features")
    tiny_features.write(folder / "features", held)
    return prepare_features(PrepareRequest(catalog, features, EXPERIMENT, limit=limit, dry_run=True))


def changed(tracks: pa.Table, column: str, **values: str | None) -> pa.Table:
    """The table with other values of a column, by track id."""
    ids = tracks["track_id"].to_pylist()
    mended = [values.get(track, old) for track, old in zip(ids, tracks[column].to_pylist(), strict=True)]
    return tracks.set_column(
        tracks.schema.get_field_index(column), tracks.schema.field(column), pa.array(mended, pa.string())
    )


def test_the_same_catalog_is_up_to_date(tmp_path: Path) -> None:
    tracks = tiny_features.catalog(tmp_path)
    assert prepare(tmp_path, tracks).counts["up_to_date"] == TRACKS
    # A limited catalog lacks no track.
    assert prepare(tmp_path, tracks, limit=3).counts == {"tracks": 3, "up_to_date": 3}


def test_an_empty_artist_is_an_unknown_one(tmp_path: Path) -> None:
    tracks = tiny_features.catalog(tmp_path)
    ids = tracks["track_id"].to_pylist()
    held = changed(tiny_features.rows(), "artist_id", **dict.fromkeys(ids))
    tracks = changed(tracks, "artist_id", **dict.fromkeys(ids, ""))
    assert prepare(tmp_path, tracks, held).counts["up_to_date"] == TRACKS


def test_an_unfinished_folder_is_continued(tmp_path: Path) -> None:
    held = tiny_features.rows().filter(pc.field("track_id") < "t40")
    assert prepare(tmp_path, tiny_features.catalog(tmp_path), held).counts["up_to_date"] == 40


@pytest.mark.parametrize(
    ("column", "value"),
    [("genre_top", "rock"), ("genre_top", None), ("artist_id", "a02"), ("split", "test"), ("content_tag", "2")],
)
def test_other_facts_are_refused(column: str, value: str | None, tmp_path: Path) -> None:
    tracks = changed(tiny_features.catalog(tmp_path), column, t01=value, t02=value)
    for limit in (None, 1):
        with pytest.raises(FeaturesError) as caught:
            prepare(tmp_path, tracks, limit=limit)
        line = str(caught.value)
        assert line.startswith(f"{tmp_path}/features: ")
        assert ("whose file has changed: 2;" if column == "content_tag" else f"another {column}: 2;") in line
        assert "'t01'" in line
        assert "--out" in line


def test_tracks_that_left_the_catalog_are_refused(tmp_path: Path) -> None:
    tracks = tiny_features.catalog(tmp_path)
    with pytest.raises(FeaturesError, match=r"that the catalog lacks: 47; with another split: 1; .*'t00'"):
        prepare(tmp_path, changed(tracks, "split", t05="test").filter(pc.field("track_id") == "t05"))


def test_a_selection_of_files_is_not_the_whole_source(tmp_path: Path) -> None:
    source = tmp_path / "music"
    source.mkdir()
    for name in ("a.mp3", "b.mp3"):
        (source / name).write_bytes(name.encode())
    tiny_features.write(tmp_path / "features")
    request = PrepareRequest(
        Uri.of_path(source),
        Uri.of_path(tmp_path / "features"),
        EXPERIMENT,
        dry_run=True,
        selection=Selection(include=("a*",)),
    )
    assert prepare_features(request).counts["up_to_date"] == 0


def test_features_of_another_listening_plan_are_refused(tmp_path: Path) -> None:
    tracks = tiny_features.catalog(tmp_path)
    for plan in (None, EXPERIMENT.listening):
        tiny_features.write(tmp_path / "features", plan=plan)
        assert prepare(tmp_path, tracks).counts["up_to_date"] == TRACKS
    tiny_features.write(tmp_path / "features", plan=ListeningPlan(windows=1))
    features = Uri.of_path(tmp_path / "features")
    request = PrepareRequest(Uri.of_path(tmp_path / "catalog.parquet"), features, EXPERIMENT, dry_run=True)
    with pytest.raises(FeaturesError, match=r"features: .*--listening.windows 1, not --listening.windows 3; .*--out"):
        prepare_features(request)
