"""The facts that a training needs before it begins: genres, counts, normalization, steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import torch

from cluster.session.profiles import Profile
from cluster.tables.features import columns_of, read_batches
from mgc.bundle_start import Start
from mgc.datasets.roster import on_side
from mgc.datasets.splits import TRAIN
from mgc.errors import ConfigError
from mgc.experiment import Experiment
from mgc.features.clips import read_clips
from mgc.features.normalization import Normalization, extremes
from mgc.models.architecture import build_model
from mgc.models.blocks import Classifier
from mgc.models.guess import Guess
from mgc.schema import FeaturesFacts
from mgc.taxonomy import Taxonomy
from mgc.training.config import TrainingConfig
from mgc.training.ghost import sharing_workers
from mgc.training.loop import SMALLEST_BATCH
from mgc.training.sampling import Sampling
from mgc.units import format_count

NORMALIZATION_CLIPS: Final = 4096
"""Most training clips to measure mean and deviation from. Minimum and maximum are taken over all clips."""


@dataclass(frozen=True)
class TrainingJob:
    """The facts that every worker needs; picklable, and small but for weights to start from.

    Attributes:
        experiment: the whole configuration.
        taxonomy: genres by logit.
        normalization: normalization of the features.
        shape: shape of a clip.
        dtype: stored type of a clip's numbers.
        train_clips: number of training clips; an epoch may have more, see `steps`.
        class_counts: number of training clips of each genre, in the order of the taxonomy.
        profile: number of workers, and the resources of each.
        start: weights that the training starts from; None for untrained ones.
    """

    experiment: Experiment
    taxonomy: Taxonomy
    normalization: Normalization
    shape: tuple[int, ...]
    dtype: str
    train_clips: int
    class_counts: tuple[int, ...]
    profile: Profile
    start: Start | None = None

    @property
    def threads(self) -> int:
        """Threads of each worker."""
        return max(1, self.profile.cores // self.profile.train_workers)

    @property
    def at_once(self) -> int:
        """Clips whose gradients a worker computes at once, even if there are fewer workers than asked for."""
        return self.experiment.training.batch_size // (self.profile.train_workers * self.profile.accumulation)

    @property
    def training(self) -> TrainingConfig:
        """Training settings of the recipe, in float32 if the profile requires it."""
        training = self.experiment.training
        return replace(training, precision="float32") if self.profile.precision == "float32" else training

    def model(self) -> Classifier:
        """Return the network before its first step, the same on every worker.

        Raises:
            ConfigError: the weights to start from are of another network.
        """
        torch.manual_seed(self.experiment.training.seed)
        model = build_model(self.experiment.model, self.shape, len(self.taxonomy))
        if isinstance(model, Guess):
            model.set_counts(self.class_counts)
        if self.start is not None:
            model.start_from(self.start.weights_for(self.taxonomy.names))
        return model

    def sampling(self) -> Sampling:
        """Return how often the clips of each genre are drawn."""
        return self.experiment.training.sampling(dict(zip(self.taxonomy.names, self.class_counts, strict=True)))

    def steps(self, epoch: int) -> int:
        """Return the expected batches of an epoch. Clips that do not fill a batch are left out."""
        return self.sampling().rows(epoch) // self.experiment.training.batch_size

    def of(self, experiment: Experiment) -> TrainingJob:
        """Return a job for another network, or another training, on the same clips.

        Raises:
            ConfigError: see `plan_training`.
        """
        check_batch(experiment, self.profile)
        _check_clips(experiment, self.train_clips)
        return replace(self, experiment=experiment)

    def clips(self) -> int:
        """Return the expected clips of all epochs over all workers, if patience does not end the training early."""
        training = self.experiment.training
        epochs = range(training.epochs + training.head_epochs)
        return sum(map(self.steps, epochs)) * training.batch_size


def check_batch(experiment: Experiment, profile: Profile) -> None:
    """Refuse a number of workers among which the global batch cannot be divided.

    Raises:
        ConfigError: the batch does not divide, or the workers cannot normalise over the recipe's number of clips.
    """
    training, workers, parts = experiment.training, profile.train_workers, profile.accumulation
    at_once, rest = divmod(training.batch_size, workers * parts)
    if rest:
        among = format_count(workers, "worker") + (f" that take {parts} parts each" if parts > 1 else "")
        raise ConfigError(
            f"training.batch_size {training.batch_size} does not divide among {among}; choose other --workers, or set "
            "--training.batch_size."
        )
    if at_once < SMALLEST_BATCH:
        raise ConfigError(
            f"training.batch_size {training.batch_size} leaves a worker {at_once} clip at once, and it needs at least "
            f"{SMALLEST_BATCH}; take fewer workers, or less accumulation."
        )
    sharing = sharing_workers(training.normalization_batch, at_once, workers, profile.gpus > 0)
    if sharing > 1 and profile.fewest_workers not in (None, workers):
        raise ConfigError(
            f"training.normalization_batch {training.normalization_batch} is shared by {sharing} workers, so their "
            "number must not change; leave out --fewest-workers."
        )


def _check_clips(experiment: Experiment, clips: int) -> None:
    if experiment.training.batch_size > clips:
        raise ConfigError(
            f"training.batch_size {experiment.training.batch_size} is more than "
            f"{format_count(clips, 'training clip')}; set "
            f"--training.batch_size."
        )


def plan_training(
    dataset: pads.FileSystemDataset,
    facts: FeaturesFacts,
    counts: dict[str, int],
    experiment: Experiment,
    profile: Profile,
) -> TrainingJob:
    """Measure the facts that a training needs before it begins.

    Args:
        dataset: features, from which the normalisation is measured.
        facts: facts of the features.
        counts: training clips of each genre.
        experiment: what to train.
        profile: resources of the training.

    Raises:
        ConfigError: the batch does not divide among the workers, or holds more clips than there are.
        FeaturesError: a clip has a different size than the facts say.
    """
    clips = sum(counts.values())
    check_batch(experiment, profile)
    _check_clips(experiment, clips)
    sample = _sample_clips(dataset, facts, experiment)
    normalization = Normalization.measure(sample, experiment.scaling)
    taxonomy = Taxonomy.flat(counts)
    class_counts = tuple(counts[name] for name in taxonomy.names)
    shape, dtype = facts.shape, np.dtype(facts.dtype).name
    return TrainingJob(experiment, taxonomy, normalization, shape, dtype, clips, class_counts, profile)


def _sample_clips(dataset: pads.FileSystemDataset, facts: FeaturesFacts, experiment: Experiment) -> np.ndarray:
    """Return training clips to measure a normalisation from, (N, *shape), or the extremes of each part of them."""
    whole = experiment.scaling.method == "min_max"
    # Of a catalog, the dataset has the clips of a few tracks only. So what is here is counted, not what an epoch has.
    stride = 1 if whole else max(1, math.ceil(_count_clips(dataset, experiment) / NORMALIZATION_CLIPS))
    sample: list[np.ndarray] = []
    seen = 0
    for batch in read_batches(dataset, ["features", *columns_of(dataset)]):
        rows = pa.Table.from_batches([batch])
        mine = rows["features"].filter(on_side(rows, TRAIN, experiment.protocol))
        # The clips are copies, so they do not keep the whole batch in memory.
        found = mine.take(pa.array(range(-seen % stride, len(mine), stride), pa.int64()))
        seen += len(mine)
        if len(found):
            part = read_clips(found, facts.shape, facts.dtype)
            sample.append(extremes(part) if whole else part)
    return np.concatenate(sample)


def _count_clips(dataset: pads.FileSystemDataset, experiment: Experiment) -> int:
    """Return the number of training clips of a dataset."""
    batches = (pa.Table.from_batches([batch]) for batch in read_batches(dataset, columns_of(dataset)))
    return sum(pc.sum(on_side(rows, TRAIN, experiment.protocol)).as_py() or 0 for rows in batches)
