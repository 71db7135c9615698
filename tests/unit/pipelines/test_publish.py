"""What a bundle says of its training data, in the unit that was counted. No Ray is started."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from cluster.bundles import open_bundle
from cluster.storage.uri import Uri
from cluster.tables.catalog import write_catalog
from mgc import schema
from mgc.bundle import Bundle
from mgc.bundle_facts import describe_model
from mgc.bundle_start import Start
from pipelines.training.publish import publish_bundle
from pipelines.training.source import PreparedFeatures, TrainingData, UnpreparedCatalog
from tests.support import tiny_features
from tests.support.tiny_features import EXPERIMENT

HISTORY = [{"epoch": 1, "train_loss": 0.7, "validation_accuracy": 0.5, "validation_macro_f1": 0.5}]


def catalog_of_features(path: Path) -> Uri:
    """The tracks of the tiny features as a catalog: 48 of them, 32 to train on."""
    rows = tiny_features.rows().to_pylist()
    tracks = {row["track_id"]: {**row, "uri": f"/music/{row['track_id']}.mp3", "size_bytes": 1} for row in rows}
    table = pa.Table.from_pylist(list(tracks.values()), schema=schema.CATALOG)
    write_catalog(Uri.of_path(path), [table], source=Uri.parse("/music"))
    return Uri.of_path(path)


def publish(data: TrainingData, out: Path, start: Start | None = None) -> Bundle:
    bundle = tiny_features.bundle(EXPERIMENT, None)
    publish_bundle(bundle, HISTORY, data, "key", data.totals, Uri.of_path(out), start)
    return open_bundle(Uri.of_path(out))


def test_a_bundle_trained_from_a_catalog_counts_tracks(tmp_path: Path) -> None:
    data = UnpreparedCatalog(catalog_of_features(tmp_path / "catalog.parquet"), EXPERIMENT, None)
    bundle = publish(data, tmp_path / "bundle")
    facts = bundle.training.data
    assert facts.tracks == {"train_tracks": 32, "validation_tracks": 8}
    assert facts.genre_tracks == {"folk": 16, "rock": 16}
    assert (facts.clips, facts.genre_clips) == ({}, {})
    assert "train_tracks: 32" in describe_model(bundle)["trained on"]
    assert facts.genre_counts == facts.genre_tracks, "an evaluation groups the genres by it"


def test_a_bundle_trained_on_features_counts_clips(tmp_path: Path) -> None:
    features = Uri.parse(tiny_features.write(tmp_path / "features"))
    facts = publish(PreparedFeatures(features, EXPERIMENT, None), tmp_path / "bundle").training.data
    assert facts.clips == {"train_clips": 128, "validation_clips": 32}
    assert facts.genre_clips == {"folk": 64, "rock": 64}
    assert (facts.tracks, facts.genre_tracks) == ({}, {})
    assert facts.genre_share == pytest.approx({"folk": 0.5, "rock": 0.5})


def test_a_bundle_repeats_the_notices_of_its_start_once(tmp_path: Path) -> None:
    data = PreparedFeatures(Uri.parse(tiny_features.write(tmp_path / "features")), EXPERIMENT, None)
    start = Start("070695bd5426", {}, (), None, ("Weights: somebody's.", *data.notices))
    facts = publish(data, tmp_path / "bundle", start).training
    assert facts.started_from == "070695bd5426"
    assert facts.notices == (*data.notices, "Weights: somebody's.")
