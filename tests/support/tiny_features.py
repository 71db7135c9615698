"""A small features table with artists, and an experiment that is trained on it in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from cluster.storage.uri import Uri
from cluster.tables.features import FeaturesWriter
from mgc import schema
from mgc.audio.excerpts import ListeningPlan
from mgc.bundle import Bundle
from mgc.configuration import to_json
from mgc.datasets.protocols import ProtocolConfig
from mgc.evaluation.leakage import TrainedGroups
from mgc.experiment import Experiment
from mgc.features.front_end import describe_features
from mgc.features.mel import LogMelConfig
from mgc.features.normalization import Normalization
from mgc.models.architecture import build_model
from mgc.models.house import HouseCnnConfig
from mgc.taxonomy import Taxonomy
from mgc.training.loop import TrainingConfig

SHAPE = (16, 32)
GENRES = ("folk", "rock")
TRACKS, CLIPS, TRACKS_OF_AN_ARTIST = 48, 4, 4

EXPERIMENT = Experiment(
    recipe="tiny",
    front_end=LogMelConfig(n_mels=16, clip_seconds=1.0, frames=32),
    listening=ListeningPlan(),
    model=HouseCnnConfig(channels=(4, 6), blocks=0),
    training=TrainingConfig(epochs=2, batch_size=8, precision="float32"),
)

FIELDS = {
    "front_end.kind": "log_mel",
    "front_end.n_mels": 16,
    "front_end.clip_seconds": 1.0,
    "front_end.frames": 32,
    "model.channels": "4,6",
    "model.blocks": 0,
    "training.epochs": 2,
    "training.batch_size": 8,
    "training.precision": "float32",
}
"""The options that make the recipe `house` as small, and let it take these features."""


def rows() -> pa.Table:
    """48 tracks of four clips by twelve artists, two genres that an ear could tell apart; artists stay on one side."""
    rng = np.random.default_rng(0)
    table = []
    for number in range(TRACKS):
        artist = number // TRACKS_OF_AN_ARTIST
        for clip in range(CLIPS):
            picture_FT = rng.integers(0, 200, SHAPE, dtype=np.uint8)
            picture_FT[: 8 + artist % 4] += 40 * (artist % 2)
            row = {"track_id": f"t{number:02d}", "clip_index": clip, "features": picture_FT.tobytes()}
            sides = {"split": ("train", "train", "train", "train", "validation", "test")[artist // 2]}
            table.append({**row, **sides, "genre_top": GENRES[artist % 2], "artist_id": f"a{artist:02d}"})
    known = {"content_tag": "1", "start_seconds": 0.0}
    return pa.Table.from_pylist([known | row for row in table], schema=schema.FEATURES)


def catalog(folder: Path) -> pa.Table:
    """A catalog of the tracks, as if their files lay in a folder."""
    tracks = [
        {
            **{name: row.get(name) for name in schema.CATALOG.names},
            "uri": f"{folder}/{row['track_id']}",
            "size_bytes": 1,
        }
        for row in rows().drop_columns("features").to_pylist()
        if row["clip_index"] == 0
    ]
    return pa.Table.from_pylist(tracks, schema=schema.CATALOG)


def write(folder: Path, table: pa.Table | None = None, plan: ListeningPlan | None = None) -> str:
    """Write the table as two files, which say the listening plan if there is one; returns its URI."""
    table = rows() if table is None else table
    facts = replace(describe_features(EXPERIMENT.front_end), listening=None if plan is None else to_json(plan))
    writer = FeaturesWriter(Uri.of_path(folder), facts, ["Noise, not music."])
    for start in (0, 100):
        writer.write(table.slice(start, 100), schema.REJECTS.empty_table())
    return str(folder)


def under(protocol: ProtocolConfig) -> Experiment:
    """The experiment under a protocol."""
    return replace(EXPERIMENT, protocol=protocol)


def bundle(experiment: Experiment, trained_on: TrainedGroups | None) -> Bundle:
    """An untrained model that says what it was trained on."""
    model = build_model(experiment.model, SHAPE, len(GENRES)).eval()
    normalization = Normalization((100.0,) * SHAPE[0], (50.0,) * SHAPE[0])
    return Bundle(experiment, Taxonomy.flat(GENRES), normalization, model, trained_on=trained_on)
