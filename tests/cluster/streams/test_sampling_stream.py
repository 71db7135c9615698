"""What the workers of a training really see of each class, through Ray's stream and its split among them."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
from scipy.stats import chi2

from cluster.session.epoch_counter import EpochCounter
from cluster.session.profiles import Profile
from cluster.storage.uri import Uri
from cluster.streams.feed import EpochDraw, feed
from cluster.tables.features import FeaturesWriter, read_features
from cluster.training.batches import read_training_batches
from cluster.training.job import TrainingJob, plan_training
from cluster.training.trainer import EqualShards
from mgc import schema
from mgc.datasets.splits import TRAIN
from mgc.experiment import Experiment
from mgc.features.front_end import describe_features
from mgc.training.sampling import Balance
from tests.support.tiny_features import EXPERIMENT, SHAPE

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

COUNTS = {"blues": 700, "folk": 260, "jazz": 90, "pop": 40, "rock": 10}
KINDS: tuple[Balance, ...] = ("natural", "class_balanced", "square_root", "repeat_factor", "progressive")
ALWAYS = (("class_balanced", 2), ("progressive", 2))
EPOCHS = 2
BATCH = 20


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sorted by genre, in files of very different lengths: what a shard holds is no fair sample."""
    uri, config = str(tmp_path_factory.mktemp("features")), EXPERIMENT.front_end
    random = np.random.default_rng(0)
    rows = [
        {
            "track_id": f"{genre}{number:03}",
            "content_tag": "1",
            "clip_index": 0,
            "start_seconds": 0.0,
            "features": random.bytes(SHAPE[0] * SHAPE[1]),
            "genre_top": genre,
            "split": TRAIN,
        }
        for genre, count in COUNTS.items()
        for number in range(count)
    ]
    table = pa.Table.from_pylist(rows, schema=schema.FEATURES)
    writer = FeaturesWriter(Uri.parse(uri), describe_features(config), ("made in a test",))
    ends = [0, 500, 730, 1000, 1075, 1096, table.num_rows]
    for start, end in itertools.pairwise(ends):
        writer.write(table.slice(start, end - start), schema.REJECTS.empty_table())
    return uri


@ray.remote(num_cpus=0.1)
def _read(shard: Any, job: TrainingJob, epoch: int, rank: int, world: int) -> list[list[str]]:
    """Tracks of each batch, read as a worker of a training does."""
    return [batch.track_ids for batch in read_training_batches(shard, job, epoch, rank, world)]


class Ranks:
    """The workers of one training."""

    def __init__(self, features: str, profile: Profile, made: Experiment, world: int) -> None:
        dataset, facts = read_features(Uri.parse(features))
        self._world = world
        self._epoch = EpochCounter.start()
        stream = feed(dataset, TRAIN, profile, made, None, EpochDraw(COUNTS, self._epoch))
        self._job = plan_training(dataset, facts, COUNTS, made, replace(profile, train_workers=world))
        self._shards = [shard["train"] for shard in EqualShards().configure({"train": stream}, world)]

    def read(self, epoch: int) -> list[list[list[str]]]:
        """Of each worker the tracks of its batches."""
        self._epoch.begin(epoch)
        read: list[list[list[str]]] = ray.get(
            [_read.remote(shard, self._job, epoch, rank, self._world) for rank, shard in enumerate(self._shards)]
        )
        return read


def sampled(balance: Balance) -> Experiment:
    training = replace(EXPERIMENT.training, balance=balance, batch_size=BATCH, epochs=EPOCHS, seed=3)
    return replace(EXPERIMENT, training=training)


def distance(seen: Counter[str], wanted: dict[str, float]) -> float:
    """Pearson's chi-square of counts against shares."""
    total, whole = sum(seen.values()), sum(wanted.values())
    return sum((seen[name] - total * share / whole) ** 2 / (total * share / whole) for name, share in wanted.items())


def wanted(balance: Balance) -> dict[str, float]:
    """Clips of each class over all epochs."""
    sampling = sampled(balance).training.sampling(COUNTS)
    rates = [sampling.rates(epoch) for epoch in range(EPOCHS)]
    return {name: sum(rate[name] for rate in rates) * count for name, count in COUNTS.items()}


@pytest.mark.parametrize(
    ("balance", "world"),
    [
        pytest.param(balance, world, marks=[] if (balance, world) in ALWAYS else [pytest.mark.drill])
        for balance in KINDS
        for world in (1, 2, 4)
    ],
)
def test_classes_come_as_often_as_wanted_and_every_worker_gets_as_many_batches(
    balance: Balance, world: int, features: str, ray_session: Profile
) -> None:
    workers = Ranks(features, ray_session, sampled(balance), world)
    read = [workers.read(epoch) for epoch in range(EPOCHS)]
    for epoch in read:
        assert len({len(batches) for batches in epoch}) == 1
        assert {len(batch) for batches in epoch for batch in batches} == {BATCH // world}
    tracks = [[track for batches in epoch for batch in batches for track in batch] for epoch in read]
    seen = Counter(track[:-3] for epoch in tracks for track in epoch)
    bound = chi2.ppf(0.999, len(COUNTS) - 1)
    assert distance(seen, wanted(balance)) < bound
    for other in KINDS:
        # It tells the kinds apart. Progressive lies halfway to balanced after the second epoch of two.
        if other != balance:
            assert distance(seen, wanted(other)) > bound, other
    # Whatever was dropped at the end is less than a step, and one row a worker.
    expected = [sampled(balance).training.sampling(COUNTS).rows(epoch) for epoch in range(EPOCHS)]
    for epoch, rows in zip(tracks, expected, strict=True):
        assert len(epoch) == pytest.approx(rows, abs=BATCH + world + (0 if balance == "natural" else 60))
    # Another order in each epoch, and but for the natural one other clips.
    assert tracks[0] != tracks[1]
    if balance in ("class_balanced", "square_root"):
        assert Counter(tracks[0]) != Counter(tracks[1])


def test_an_epoch_comes_again_as_it_was_to_the_same_worker_in_the_same_order(
    features: str, ray_session: Profile
) -> None:
    """Asked for twice, out of turn, and by workers that were started anew, as after a kill."""
    first = Ranks(features, ray_session, sampled("class_balanced"), 2)
    late, early = first.read(1), first.read(0)
    assert first.read(1) == late
    again = Ranks(features, ray_session, sampled("class_balanced"), 2)
    assert again.read(1) == late
    assert again.read(0) == early
    # Mixed: a global batch holds clips from all over the table, though that is sorted by genre. What one worker has
    # of so small a table depends on its files' names, which are random.
    steps = [[track for batch in parts for track in batch] for parts in zip(*early, strict=True)]
    assert np.mean([len({track[:-3] for track in step}) for step in steps]) > 4.5
