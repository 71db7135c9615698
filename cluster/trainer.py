"""Ray Train around the loop of mgc: features streamed to data-parallel workers, checkpoints under any URI.

Axes: B batch, F mel bins, T frames.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import ray
import ray.train
import torch
from ray.data import Dataset, FileShuffleConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device, prepare_model
from safetensors.torch import load_file, save_file

from cluster import storage
from cluster.epochs import AskEpoch
from cluster.profiles import Profile
from cluster.session import data_context
from cluster.tables import columns_of
from mgc.bundle import Bundle
from mgc.datasets.protocols import ProtocolConfig
from mgc.datasets.roster import on_side
from mgc.datasets.splits import TRAIN
from mgc.errors import ConfigError, FeaturesError
from mgc.experiment import Experiment
from mgc.features.normalization import Normalization, extremes
from mgc.models.architecture import build_model
from mgc.models.blocks import Classifier, parameter_count
from mgc.models.guess import Guess
from mgc.taxonomy import Taxonomy
from mgc.training.figures import EpochFigures
from mgc.training.loop import Batch, Learner
from mgc.training.sampling import Resample, Sampling
from mgc.training.seeds import derive_seed
from mgc.training.stages import next_epoch

NORMALIZATION_CLIPS: Final = 4096
"""Training clips from which mean and deviation are measured, at most. Minimum and maximum are those of all clips."""

SHUFFLE_CLIPS: Final = 4096
"""Clips that a worker mixes before it makes batches: 64 MiB of 128 x 128 features."""

_FEED: Final = ["track_id", "clip_index", "genre_top", "features"]


@dataclass(frozen=True)
class TrainingJob:
    """What every worker needs to know; small and picklable.

    Attributes:
        experiment: the whole configuration.
        taxonomy: genres by logit.
        normalization: of the features.
        shape: of a clip's features.
        dtype: of a clip's features, as stored.
        train_clips: training clips there are; an epoch may have more, see `steps`.
        threads: of each worker.
        class_counts: training clips of each genre, in the order of the taxonomy.
    """

    experiment: Experiment
    taxonomy: Taxonomy
    normalization: Normalization
    shape: tuple[int, ...]
    dtype: str
    train_clips: int
    threads: int
    class_counts: tuple[int, ...]

    def model(self) -> Classifier:
        """The untrained network, the same on every worker."""
        torch.manual_seed(self.experiment.training.seed)
        model = build_model(self.experiment.model, self.shape, len(self.taxonomy))
        if isinstance(model, Guess):
            model.set_counts(self.class_counts)
        return model

    def sampling(self) -> Sampling:
        """How often clips of each genre are given."""
        return self.experiment.training.sampling(dict(zip(self.taxonomy.names, self.class_counts, strict=True)))

    def steps(self, epoch: int) -> int:
        """Expected batches of an epoch; what a remainder has beyond whole batches is left out."""
        return self.sampling().rows(epoch) // self.experiment.training.batch_size

    def clips(self) -> int:
        """Expected clips of all epochs, over all workers, if patience ends none of them early."""
        training = self.experiment.training
        epochs = range(training.epochs + training.head_epochs)
        return sum(map(self.steps, epochs)) * training.batch_size


def plan_training(
    dataset: pads.Dataset, facts: dict[str, Any], counts: dict[str, int], experiment: Experiment, profile: Profile
) -> TrainingJob:
    """Measure what training needs to know beforehand.

    Raises:
        ConfigError: the batch does not divide among the workers, or holds more clips than there are.
    """
    training = experiment.training
    clips = sum(counts.values())
    if training.batch_size % profile.train_workers:
        raise ConfigError(
            f"training.batch_size {training.batch_size} does not divide among {profile.train_workers} workers."
        )
    if training.batch_size > clips:
        raise ConfigError(
            f"training.batch_size {training.batch_size} is more than the {clips} training clips; set "
            f"--training.batch_size."
        )
    shape, dtype = tuple(int(side) for side in facts["shape"]), np.dtype(facts["dtype"])
    whole = experiment.scaling.method == "min_max"
    stride = 1 if whole else max(1, clips // NORMALIZATION_CLIPS)
    sample: list[np.ndarray] = []
    seen = 0
    for batch in dataset.to_batches(columns=["features", *columns_of(dataset)]):
        rows = pa.Table.from_batches([batch])
        mine = rows["features"].filter(on_side(rows, TRAIN, experiment.protocol))
        found = [mine[place].as_py() for place in range(-seen % stride, len(mine), stride)]
        seen += len(mine)
        if any(len(clip) != math.prod(shape) * dtype.itemsize for clip in found):
            side = " x ".join(map(str, shape))
            raise FeaturesError(f"features: a clip is not {side} numbers of {dtype}, as their metadata says.")
        if found:
            part = np.frombuffer(b"".join(found), dtype).reshape(-1, *shape)
            sample.append(extremes(part) if whole else part)
    normalization = Normalization.measure(np.concatenate(sample), experiment.scaling)
    threads = max(1, profile.cores // profile.train_workers)
    taxonomy = Taxonomy.flat(counts)
    class_counts = tuple(counts[name] for name in taxonomy.names)
    return TrainingJob(experiment, taxonomy, normalization, shape, dtype.name, clips, threads, class_counts)


class _Take:
    """Stage: the labelled rows of a split, without its column."""

    def __init__(self, split: str, protocol: ProtocolConfig, only: pc.Expression | None) -> None:
        self._split = split
        self._protocol = protocol
        self._only = only

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = table.filter(on_side(table, self._split, self._protocol))
        return _fed(rows if self._only is None else rows.filter(self._only))


def _fed(table: pa.Table) -> pa.Table:
    """The columns of a feed. An unknown artist is "": a block without any artist is typed like its neighbours."""
    unknown = pa.nulls(table.num_rows, pa.string())
    artists = table["artist_id"].cast(pa.string()) if "artist_id" in table.column_names else unknown
    return table.select(_FEED).append_column("artist_id", artists.fill_null(""))


def feed(
    dataset: pads.FileSystemDataset,
    split: str,
    profile: Profile,
    counts: dict[str, int] | None,
    experiment: Experiment,
    only: pc.Expression | None = None,
    epoch: Any = None,
) -> Dataset:
    """The clips of a split: `track_id`, `clip_index`, `genre_top`, `features`, and `artist_id`, "" where unknown.

    Args:
        dataset: a features table.
        split: which rows, as the protocol of the experiment divides them.
        profile: resources of the reading tasks.
        counts: of the genres, for a training stream: its rows are shuffled by file and repeated for balance,
            differently in each epoch. None for a plain one.
        experiment: protocol, balance and seed.
        only: what else must hold of a row; see `Roster.only`.
        epoch: a handle of `epochs.start`, for a training stream.
    """
    data_context(profile)
    training = experiment.training
    rows: Dataset = ray.data.read_parquet(
        dataset.files,
        filesystem=dataset.filesystem,
        shuffle=FileShuffleConfig(seed=training.seed) if counts else None,
    )
    # No resources are stated: equal ones let Ray fuse these stages and the read into one task.
    rows = rows.map_batches(_Take(split, experiment.protocol, only), batch_format="pyarrow", batch_size=None)
    if counts is None or (training.balance == "natural" and not training.head_epochs):
        return rows
    resample: Any = Resample(training.sampling(counts), training.seed, AskEpoch(epoch))
    return rows.map_batches(resample, batch_format="numpy", batch_size=1024)


def train(
    job: TrainingJob,
    training: Dataset,
    validation: Dataset,
    profile: Profile,
    checkpoints_uri: str,
    run_name: str,
    progress: Any = None,
    epoch: Any = None,
) -> tuple[Bundle, list[dict[str, Any]]]:
    """Train, and return the best model by validation (`training.select`) with the history of all epochs.

    Where the classifier is re-trained, the best is one of these last epochs; they are numbered from
    `training.epochs` + 1 on.

    A run that was killed goes on from its last checkpoint when it is called again with the same name.

    Args:
        job: from `plan_training`.
        training: stream of training clips.
        validation: stream of validation clips.
        profile: workers and their resources.
        checkpoints_uri: folder of the checkpoints of all runs.
        run_name: names this run.
        progress: a handle of `progress.watched`, or None.
        epoch: the handle that the training stream was given.
    """
    location = storage.locate(checkpoints_uri)
    if not storage.is_remote(checkpoints_uri):
        Path(location.path).mkdir(parents=True, exist_ok=True)
    trainer = TorchTrainer(
        _work,
        train_loop_config={"job": job, "progress": progress, "epoch": epoch},
        torch_config=TorchConfig(backend="nccl" if profile.gpus else "gloo", timeout_s=int(profile.stall_seconds)),
        scaling_config=ray.train.ScalingConfig(
            num_workers=profile.train_workers,
            use_gpu=profile.gpus > 0,
            resources_per_worker={"CPU": profile.train_cpus, **({"GPU": 1} if profile.gpus else {})},
        ),
        run_config=ray.train.RunConfig(
            name=run_name,
            storage_path=location.path,
            storage_filesystem=location.filesystem,
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            # Workers that cannot be placed are waited for a minute a time; Ray's default is to do so for ever.
            failure_config=ray.train.FailureConfig(  # type: ignore[call-arg]  # mypy sees the first Ray Train's
                max_failures=2, controller_failure_limit=max(0, int(profile.stall_seconds // 60) - 1)
            ),
        ),
        # Validation rows are the same in every epoch: read once, kept in the object store, which spills to disk.
        datasets={"train": training, "validation": validation.materialize()},
        # Validation is not split: rows that do not divide evenly would be dropped.
        dataset_config=ray.train.DataConfig(datasets_to_split=["train"]),
    )
    result = trainer.fit()
    if result.checkpoint is None:
        raise FeaturesError("training ended without a checkpoint; nothing was learned.")
    with result.checkpoint.as_directory() as folder:
        state = json.loads((Path(folder) / "state.json").read_text())
        model = job.model()
        model.load_state_dict(load_file(Path(folder) / "best.safetensors"))
    return Bundle(job.experiment, job.taxonomy, job.normalization, model.eval()), state["history"]


def _work(config: dict[str, Any]) -> None:
    """What one worker does."""
    job: TrainingJob = config["job"]
    progress = config["progress"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    device = get_device()
    if device.type == "cpu":
        torch.set_num_threads(job.threads)
    training = job.experiment.training
    model = job.model()
    state: dict[str, Any] = {"epoch": -1, "best": None, "stale": 0, "history": []}
    best: dict[str, torch.Tensor] = {}
    optimizer: dict[str, torch.Tensor] = {}
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            state = json.loads((Path(folder) / "state.json").read_text())
            model.load_state_dict(load_file(Path(folder) / "model.safetensors"))
            best = load_file(Path(folder) / "best.safetensors")
            optimizer = load_file(Path(folder) / "optimizer.safetensors")
    if training.retrains(state["epoch"]):
        model.keep_embedding(model.state_dict())
    learner = _learner(job, model, device)
    if optimizer:
        learner.load_optimizer_tensors(optimizer)
    shard = ray.train.get_dataset_shard("train")
    held_out = ray.train.get_dataset_shard("validation")
    local_batch = training.batch_size // world

    def on_step(clips: int, loss: float) -> None:
        if progress is not None:
            progress.add.remote({"clips": clips}, {"loss": loss})

    while (epoch := next_epoch(training, state["epoch"], state["stale"])) is not None:
        if training.retrains(epoch) and not training.retrains(state["epoch"]):
            # The best embedding, with a head as it was before all training.
            model = job.model()
            model.keep_embedding(best)
            learner = _learner(job, model, device)
            state |= {"best": None, "stale": 0}
        if config["epoch"] is not None and rank == 0:
            ray.get(config["epoch"].begin.remote(epoch))
        rows = shard.iter_batches(
            batch_size=local_batch,
            batch_format="pyarrow",
            drop_last=True,
            local_shuffle_buffer_size=SHUFFLE_CLIPS // world,
            local_shuffle_seed=derive_seed(training.seed, epoch) % 2**31,
        )
        figures = _together(learner.train_epoch(_batches(rows, job), epoch, job.steps(epoch), rank, on_step))
        rows = held_out.iter_batches(batch_size=256, batch_format="pyarrow")
        mine = (batch for number, batch in enumerate(_batches(rows, job)) if number % world == rank)
        _share_buffers(model)
        held = _together(learner.validate(mine))
        row = {
            "epoch": epoch + 1,
            "train_loss": figures.loss,
            "train_accuracy": figures.accuracy,
            "validation_loss": held.loss,
            "validation_accuracy": held.accuracy,
            "validation_macro_f1": held.macro_f1,
        }
        score = training.validation_score(held.loss, held.macro_f1)
        better = state["best"] is None or score > state["best"]
        if better:
            best = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
        state = {
            "epoch": epoch,
            "best": score if better else state["best"],
            "stale": 0 if better else state["stale"] + 1,
            "history": [*state["history"], row],
        }
        if progress is not None and rank == 0:
            shown = {"validation accuracy": held.accuracy, "validation macro-F1": held.macro_f1}
            progress.add.remote({"epochs": 1}, shown)
        _report(row, learner, model, best, state, rank)


def _learner(job: TrainingJob, model: Classifier, device: torch.device) -> Learner:
    """A learner of what is not frozen of a model, which is wrapped for data-parallel training."""
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # There is nothing to share of a model without parameters, and data-parallel training refuses it.
    wrapped = prepare_model(model) if parameter_count(model) else model.to(device)
    return Learner(wrapped, job.experiment.training, job.normalization, len(job.taxonomy), device, job.class_counts)


def _report(
    row: dict[str, Any],
    learner: Learner,
    model: Classifier,
    best: dict[str, torch.Tensor],
    state: dict[str, Any],
    rank: int,
) -> None:
    """Every worker reports; the first one saves. Safetensors and JSON, with the best weights beside the last."""
    if rank:
        ray.train.report(row)
        return
    with tempfile.TemporaryDirectory() as folder:
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, Path(folder, "model.safetensors"))
        save_file(best, Path(folder, "best.safetensors"))
        save_file(learner.optimizer_tensors(), Path(folder, "optimizer.safetensors"))
        Path(folder, "state.json").write_text(json.dumps(state))
        ray.train.report(row, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _batches(tables: Iterator[pa.Table], job: TrainingJob) -> Iterator[Batch]:
    index = {name: number for number, name in enumerate(job.taxonomy.names)}
    for table in tables:
        joined = bytearray(b"".join(table["features"].to_pylist()))
        features_BFT = torch.frombuffer(joined, dtype=getattr(torch, job.dtype)).reshape(-1, *job.shape)
        genre_B = torch.tensor([index[name] for name in table["genre_top"].to_pylist()])
        yield Batch(features_BFT, genre_B, table["track_id"].to_pylist())


def _share_buffers(model: Classifier) -> None:
    """Give every worker the first one's running statistics of batch normalisation: they are what is saved."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)


def _together(figures: EpochFigures) -> EpochFigures:
    """The figures of all workers, summed."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return figures
    device = get_device()
    sums = torch.tensor([float(figures.clips), figures.loss_sum], dtype=torch.float64, device=device)
    confusion_GG = figures.confusion_GG.to(device)
    torch.distributed.all_reduce(sums)
    torch.distributed.all_reduce(confusion_GG)
    return EpochFigures(int(sums[0]), float(sums[1]), confusion_GG.cpu())
