"""A training that wants a node for each worker, and goes on with one: `FEATURES CHECKPOINTS WORKERS`."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

from cluster.session.connect import connect
from cluster.session.epoch_counter import EpochCounter
from cluster.storage.uri import Uri
from cluster.streams.feed import EpochDraw, feed
from cluster.tables.features import read_features, read_roster
from cluster.training.job import plan_training
from cluster.training.trainer import TrainingRun, train
from mgc.datasets.splits import TRAIN, VALIDATION
from mgc.models.house import HouseCnnConfig
from mgc.training.config import TrainingConfig
from tests.support.tiny_features import EXPERIMENT

TRAIN_CLIPS = 128

EXACT = replace(
    EXPERIMENT,
    model=HouseCnnConfig(channels=(4, 6), blocks=1, dropout=0.0, normalization="group"),
    training=TrainingConfig(epochs=4, batch_size=TRAIN_CLIPS, balance="natural", l2=1e-3, gradient_clip=1.0),
)
"""Each step is the whole set, so the order of clips does not matter, nor who has which."""


def main(features: str, checkpoints: str, workers: int) -> None:
    """Train, and print the history."""
    with connect(train_workers=workers) as at:
        profile = replace(at, train_cpus=1.2, fewest_workers=1)
        dataset, facts = read_features(Uri.parse(features))
        counts = read_roster(dataset, EXACT.protocol).class_counts(TRAIN)
        epoch = EpochCounter.start()
        streams = (
            feed(dataset, TRAIN, profile, EXACT, None, EpochDraw(counts, epoch)),
            feed(dataset, VALIDATION, profile, EXACT),
        )
        job = plan_training(dataset, facts, counts, EXACT, profile)
        bundle, history = train(TrainingRun(job, *streams, Uri.parse(checkpoints), "run", epoch=epoch))
    print(json.dumps({"workers": bundle.training.made_with.workers, "history": history}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
