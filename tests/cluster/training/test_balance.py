"""Balanced training on a real Ray: what each epoch's stream holds; for `make drills`, a fall while re-training.

That the classifier is trained again, on two workers, `test_way_through.py` shows on every run.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import ray
import torch
from safetensors.torch import load_file

from cluster.session.epoch_counter import EpochCounter
from cluster.session.profiles import Profile
from cluster.storage.uri import Uri
from cluster.streams.feed import EpochDraw, feed
from cluster.tables.features import FeaturesWriter, read_features, read_roster
from cluster.training.job import plan_training
from cluster.training.trainer import TrainingRun, train
from mgc import schema
from mgc.datasets.splits import TRAIN, VALIDATION
from mgc.experiment import Experiment
from mgc.features.front_end import build_front_end, describe_features
from mgc.recipes.catalogue import find
from mgc.training.sampling import Resample
from tests.support.tripwire import Tripwire

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

COUNTS = {"folk": 60, "jazz": 12, "pop": 2}
SMALL = {
    "model.channels": "4,6",
    "training.batch_size": "12",
    "training.precision": "float32",
    "training.balance": "progressive",
}


def experiment(**fields: str) -> Experiment:
    return find("house-thumbnail").build().override({**SMALL, **fields})


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Unbalanced training clips, two a track, in three files; six clips a genre to validate and to test."""
    uri = str(tmp_path_factory.mktemp("features"))
    front_end = experiment().front_end
    shape = build_front_end(front_end).shape
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = [
        {
            "track_id": f"{split}-{genre}-{number // 2}",
            "content_tag": "1",
            "clip_index": number % 2,
            "start_seconds": 0.0,
            # Each genre is loud elsewhere.
            "features": (random.integers(0, 100, shape) + 150 * (np.arange(shape[0]) * 3 // shape[0] == place)[:, None])
            .astype(np.uint8)
            .tobytes(),
            "genre_top": genre,
            "split": split,
        }
        for split in (TRAIN, VALIDATION, "test")
        for place, (genre, count) in enumerate(COUNTS.items())
        for number in range(count if split == TRAIN else 6)
    ]
    random.shuffle(rows)  # type: ignore[arg-type]
    writer = FeaturesWriter(Uri.parse(uri), describe_features(front_end), ("made in a test",))
    table = pa.Table.from_pylist(rows, schema=schema.FEATURES)
    for start in range(0, table.num_rows, 40):
        writer.write(table.slice(start, 40), schema.REJECTS.empty_table())
    return uri


def seen(rows: Any) -> Counter[tuple[str, int]]:
    """How often each clip came."""
    return Counter((row["track_id"], row["clip_index"]) for row in rows)


def test_each_epoch_s_stream_is_what_the_stage_alone_gives(features: str, ray_session: Profile) -> None:
    """One plan, run again and again: the epoch that was begun decides, not how often it ran, nor who reads it."""
    made = experiment(**{"training.epochs": "4", "training.head_epochs": "1"})
    dataset, _ = read_features(Uri.parse(features))
    counts = read_roster(dataset, made.protocol).class_counts(TRAIN)
    epoch = EpochCounter.start()
    stream = feed(dataset, TRAIN, ray_session, made, None, EpochDraw(counts, epoch))
    whole = dataset.to_table(columns=["track_id", "clip_index", "genre_top"], filter=pc.field("split") == TRAIN)
    batch = {name: np.array(whole[name].to_pylist(), dtype=object) for name in whole.column_names}

    def alone(number: int) -> Counter[tuple[str, int]]:
        given = Resample(made.training.sampling(counts), made.training.seed, lambda: number)(batch)
        return Counter(zip(given["track_id"], given["clip_index"], strict=True))

    # After a resume the first pass is of a later epoch.
    for number in (2, 0):
        epoch.begin(number)
        assert seen(stream.iter_rows()) == alone(number)
    assert set(alone(0).values()) == {1}
    assert sum(alone(0).values()) == sum(COUNTS.values())
    assert alone(2) != alone(3)

    # Dealt out to two workers.
    epoch.begin(3)
    first, second = stream.streaming_split(2, equal=False)
    parts = ray.get([_read.remote(first), _read.remote(second)])
    assert parts[0] + parts[1] == alone(3)


@ray.remote(num_cpus=0.1)
def _read(shard: Any) -> Counter[tuple[str, int]]:
    return seen(shard.iter_rows())


def trained(
    features: str, folder: Path, profile: Profile, made: Experiment, progress: Any = None
) -> tuple[Any, list[dict[str, Any]]]:
    dataset, facts = read_features(Uri.parse(features))
    counts = read_roster(dataset, made.protocol).class_counts(TRAIN)
    epoch = EpochCounter.start()
    streams = (
        feed(dataset, TRAIN, profile, made, None, EpochDraw(counts, epoch)),
        feed(dataset, VALIDATION, profile, made),
    )
    job = plan_training(dataset, facts, counts, made, profile)
    assert job.class_counts == tuple(COUNTS.values())
    return train(TrainingRun(job, *streams, Uri.of_path(folder), "run", progress, epoch))


@pytest.mark.drill
def test_the_classifier_is_trained_again_with_two_workers_and_after_a_fall(
    features: str, ray_session: Profile, tmp_path: Path
) -> None:
    """The second group of workers takes the training up inside of the second stage."""
    made = experiment(**{"training.epochs": "1", "training.head_epochs": "3"})
    flag = tmp_path / "tripped"
    two = replace(ray_session, train_workers=2)
    bundle, history = trained(features, tmp_path / "checkpoints", two, made, Tripwire(flag, epochs=3))
    assert flag.exists()
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    best = max(history[1:], key=lambda row: row["validation_macro_f1"])
    earlier, later = sorted((tmp_path / "checkpoints").glob("run/checkpoint_*/model.safetensors"))
    before, after = load_file(earlier), load_file(later)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}
    state = json.loads((later.parent / "state.json").read_text())
    assert (state["epoch"], state["best"]) == (3, best["validation_macro_f1"])
    # The bundle has the head of the best epoch on the one embedding of the second stage.
    own = bundle.model.state_dict()
    assert all(torch.equal(own[name], after[name]) for name in after if name not in changed)
    chosen = load_file(later.parent / "best.safetensors")
    assert all(torch.equal(own[name], chosen[name]) for name in chosen)
