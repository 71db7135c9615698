"""What a training refuses, or warns of, before Ray is started: one clear line each."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cluster.storage.uri import Uri
from cluster.tables.catalog import write_catalog
from cluster.tables.features import FeaturesWriter
from mgc import schema
from mgc.audio.excerpts import ListeningPlan
from mgc.errors import ConfigError, FeaturesError
from mgc.experiment import Experiment
from mgc.features.front_end import describe_features
from mgc.models.mobilenet import MobileNetConfig
from mgc.models.musicnn import MusicnnConfig
from pipelines import train
from pipelines.command.job import MISUSED, run
from pipelines.training.requests import TrainRequest
from pipelines.training.source import open_training_data
from pipelines.training.train import train_bundle
from tests.support import tiny_features
from tests.support.tiny_features import EXPERIMENT


def written(folder: Path, left_out: pc.Expression) -> str:
    table: pa.Table = tiny_features.rows().filter(~left_out)
    config = EXPERIMENT.front_end
    writer = FeaturesWriter(Uri.of_path(folder), describe_features(config))
    writer.write(table, schema.REJECTS.empty_table())
    return str(folder)


def of(split: str, genre: str) -> pc.Expression:
    return (pc.field("split") == split) & (pc.field("genre_top") == genre)


def plan(features: str, experiment: Experiment = EXPERIMENT) -> None:
    """A dry run: what is refused is refused before Ray starts."""
    train_bundle(TrainRequest(experiment, Uri.parse("/nowhere"), Uri.parse(features), dry_run=True))


def test_a_genre_without_training_clips_is_refused(tmp_path: Path) -> None:
    features = written(tmp_path, of("train", "rock"))
    with pytest.raises(FeaturesError, match="genre"):
        plan(features)
    three = tiny_features.rows()
    place = three.schema.get_field_index("genre_top")
    validation = pc.and_(pc.equal(three["split"], "validation"), pc.equal(three["genre_top"], "rock"))
    jazz = pc.if_else(validation, "jazz", three["genre_top"])
    writer = FeaturesWriter(Uri.of_path(tmp_path / "jazz"), describe_features(EXPERIMENT.front_end))
    writer.write(three.set_column(place, schema.FEATURES.field("genre_top"), jazz), schema.REJECTS.empty_table())
    with pytest.raises(FeaturesError, match=r"jazz.*validation.*train"):
        plan(str(tmp_path / "jazz"))


def test_a_genre_without_validation_clips_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = written(tmp_path, of("validation", "rock"))
    plan(features)
    said = [line for line in capsys.readouterr().err.splitlines() if "validation" in line]
    [line] = said
    assert line.startswith(f"{features}: ")
    assert re.search(r"validation.*\brock\b", line)


def test_zero_workers_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = tiny_features.write(tmp_path / "features")
    out = str(tmp_path / "bundle")
    assert run(train.command, ["--features", features, "--out", out, "--workers", "0"]) == MISUSED
    assert re.search(r"--workers.*\b0 .*>=1", capsys.readouterr().err)


def test_features_or_a_catalog_but_not_both() -> None:
    for features, catalog in ((None, None), (Uri.parse("/a"), Uri.parse("/b"))):
        with pytest.raises(ConfigError, match="--features"):
            open_training_data(features, catalog, EXPERIMENT, None)


@pytest.mark.parametrize("network", [MobileNetConfig(freeze=2), MusicnnConfig(freeze=5)])
def test_untrained_layers_are_not_frozen(network: MobileNetConfig | MusicnnConfig, tmp_path: Path) -> None:
    features = tiny_features.write(tmp_path / "features")
    with pytest.raises(ConfigError, match=rf"model\.freeze {network.freeze}: .*--init"):
        plan(features, replace(EXPERIMENT, model=network))


def corrected(table: pa.Table, column: str) -> pa.Table:
    """The table with another genre, artist or split of its first track."""
    other = {"genre_top": "rock", "artist_id": "a02", "split": "validation"}[column]
    values = pc.if_else(pc.equal(table["track_id"], "t00"), other, table[column])
    return table.set_column(table.schema.get_field_index(column), column, values)


@pytest.mark.parametrize("column", ["genre_top", "artist_id", "split"])
def test_corrected_features_are_other_data(column: str, tmp_path: Path) -> None:
    def fingerprint(table: pa.Table) -> str:
        shutil.rmtree(tmp_path, ignore_errors=True)
        tiny_features.write(tmp_path, table)
        return open_training_data(Uri.of_path(tmp_path), None, EXPERIMENT, None).fingerprint

    rows = tiny_features.rows()
    first = fingerprint(rows)
    assert fingerprint(rows) == first
    assert fingerprint(corrected(rows, column)) != first


@pytest.mark.parametrize("column", ["genre_top", "artist_id", "split"])
def test_a_corrected_catalog_is_other_data(column: str, tmp_path: Path) -> None:
    def fingerprint(table: pa.Table) -> str:
        write_catalog(place, [table])
        return open_training_data(None, place, EXPERIMENT, None).fingerprint

    place, rows = Uri.of_path(tmp_path / "catalog.parquet"), tiny_features.catalog(tmp_path)
    first = fingerprint(rows)
    assert fingerprint(rows) == first
    assert fingerprint(corrected(rows, column)) != first


def test_features_of_another_listening_plan_are_refused(tmp_path: Path) -> None:
    plan(tiny_features.write(tmp_path / "same", plan=EXPERIMENT.listening))
    other = ListeningPlan(windows=1)
    features = tiny_features.write(tmp_path / "other", plan=other)
    with pytest.raises(FeaturesError, match=r"other: .*--listening.windows 1, not --listening.windows 3; "):
        plan(features)
    plan(features, replace(EXPERIMENT, listening=other))
