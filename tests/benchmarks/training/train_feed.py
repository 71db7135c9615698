"""The training loop on a real stream of features, over the same loop on one cached batch: clips a second.

    python -m tests.benchmarks.training.train_feed

One training in which every second epoch takes its batches from the stream (Parquet, Ray Data, balance, shuffling,
tensors), and the epochs between take the first batch of it again and again. All else is the same in both: the worker,
the network, its checkpoints, its journal, the cores. A ratio is that of an epoch and the next one; their median is the
result. An epoch is timed from its beginning, so that the start of the stream counts.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import pyarrow as pa

from cluster.session.connect import connect
from cluster.session.counts import ProgressHandle
from cluster.session.epoch_counter import EpochCounter
from cluster.session.profiles import Profile
from cluster.storage.uri import Uri
from cluster.streams.feed import EpochDraw, feed
from cluster.tables.features import FeaturesWriter, read_features, read_roster
from cluster.training import trainer, worker
from cluster.training.job import plan_training
from cluster.training.journal import JournalPlan
from cluster.training.journal_writer import JournalHandle
from mgc import schema
from mgc.datasets.splits import TRAIN, VALIDATION
from mgc.experiment import Experiment
from mgc.features.front_end import build_front_end, describe_features
from mgc.recipes.catalogue import find
from mgc.training.loop import Batch
from tests.benchmarks.result import Result, hand_over, say
from tests.support import events

GENRES: Final = 8
VALIDATION_CLIPS: Final = 64
WARM_UP: Final = 2
"""Epochs that are not counted: one of each kind."""


def write_features(folder: Path, experiment: Experiment, clips: int) -> str:
    """A features table of so many training clips, a clip a track; smooth pictures, which compress as music does."""
    front_end = experiment.front_end
    shape = build_front_end(front_end).shape
    random = np.random.default_rng(0)
    writer = FeaturesWriter(Uri.of_path(folder), describe_features(front_end), ("made in a benchmark",))
    for start in range(0, clips + VALIDATION_CLIPS, 512):
        numbers = range(start, min(start + 512, clips + VALIDATION_CLIPS))
        rows = [
            {
                "track_id": f"t{number:06d}",
                "content_tag": "1",
                "clip_index": 0,
                "start_seconds": 0.0,
                "features": picture(random, shape).tobytes(),
                "genre_top": f"genre{number % GENRES}",
                "split": TRAIN if number < clips else VALIDATION,
            }
            for number in numbers
        ]
        writer.write(pa.Table.from_pylist(rows, schema=schema.FEATURES), schema.REJECTS.empty_table())
    return str(folder)


def picture(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Coarse noise, enlarged, and a little fine noise: uint8."""
    coarse = random.integers(20, 200, (shape[0] // 8, shape[1] // 8))
    return (np.kron(coarse, np.ones((8, 8), int)) + random.integers(0, 8, shape)).astype(np.uint8)


def work(config: dict[str, worker.WorkerTask]) -> None:
    """What a worker of Ray Train does here: as ever, but every second epoch is of one batch."""
    stream, progress = worker.read_training_batches, config["task"].progress
    cached: list[Batch] = []
    steps = [0]

    def alternating(shard: Any, job: Any, epoch: int, *rest: Any) -> Iterator[Batch]:
        if epoch % 2:
            return itertools.repeat(cached[0], steps[0])
        return streamed(shard, job, epoch, *rest)

    def streamed(shard: Any, job: Any, epoch: int, *rest: Any) -> Iterator[Batch]:
        begun = time.perf_counter()
        steps[0] = 0
        for batch in stream(shard, job, epoch, *rest):
            if not steps[0]:
                cached[:] = [batch]
                progress.add({}, {str(epoch): time.perf_counter() - begun})
            steps[0] += 1
            yield batch

    worker.read_training_batches = alternating
    worker.work(config)


def measure(at: Profile, folder: Path, experiment: Experiment, features: str) -> Result:
    """`train_feed_ratio`."""
    dataset, facts = read_features(Uri.parse(features))
    roster = read_roster(dataset, experiment.protocol)
    counts = roster.class_counts(TRAIN)
    job = plan_training(dataset, facts, counts, experiment, at)
    epoch = EpochCounter.start()
    training = feed(dataset, TRAIN, at, experiment, None, EpochDraw(counts, epoch))
    validation = feed(dataset, VALIDATION, at, experiment)
    plan = JournalPlan("feed", "feed", {}, (), Uri.of_path(folder / "runs"))
    told = JournalHandle.start(plan)
    progress = ProgressHandle.start()
    trainer.work = work
    checkpoints = Uri.of_path(folder / "checkpoints")
    trainer.train(trainer.TrainingRun(job, training, validation, checkpoints, "feed", progress, epoch, told))
    for problem in told.close(None):
        say(problem)
    _, first_batch, _ = progress.read()
    rates = [rate for _, rate in events.read(f"{plan.tensorboard}/{plan.name}").scalars["epoch/clips_per_second"]]
    for number, rate in enumerate(rates):
        kind = "cached" if number % 2 else f"streamed (first batch after {first_batch[str(number)]:.2f} s)"
        say(f"epoch {number + 1}: {kind} {rate:.1f} clips/s")
    streamed, cached = rates[WARM_UP::2], rates[WARM_UP + 1 :: 2]
    ratios = [one / other for one, other in zip(streamed, cached, strict=True)]
    waited = statistics.median(first_batch[str(number)] for number in range(WARM_UP, len(rates), 2))
    return Result(
        "train_feed_ratio",
        statistics.median(ratios),
        "at least 0.95",
        f"{statistics.median(streamed):.1f} over {statistics.median(cached):.1f} clips/s, {experiment.recipe} in "
        f"{experiment.training.precision}, {at.train_workers} worker, {at.cores} cores, epochs of {job.train_clips} "
        f"clips; rounds {min(ratios):.3f} to {max(ratios):.3f}; the first batch after {waited:.2f} s",
    )


@click.command()
@click.option("--recipe", default="house", show_default=True, help="Of pictures of bytes.")
@click.option(
    "--features", help="A features table of that recipe; without it, one is made, which compresses as music does."
)
@click.option("--clips", type=click.IntRange(256), default=3072, show_default=True, help="Training clips to make.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Pairs of epochs that count.")
def main(recipe: str, features: str | None, clips: int, rounds: int) -> None:
    """Clips a second of training, from the stream over from memory. The last line is JSON."""
    fields = {"training.epochs": str(2 * rounds + WARM_UP), "training.patience": "0"}
    experiment = find(recipe).build().override(fields)
    with tempfile.TemporaryDirectory(prefix="mgc-train-feed-") as name:
        folder = Path(name)
        table = features or write_features(folder / "features", experiment, clips)
        with connect() as at:
            result = measure(at, folder, experiment, table)
    hand_over([result])


if __name__ == "__main__":
    main()
