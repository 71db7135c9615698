"""Ray Train around the loop of mgc: features streamed to data-parallel workers, checkpoints under any URI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray.train
from ray.data import Dataset
from ray.train.torch import TorchConfig, TorchTrainer

from cluster import storage
from cluster.profiles import Profile
from cluster.training_plan import TrainingJob
from cluster.training_worker import work
from mgc.bundle import Bundle
from mgc.errors import FeaturesError
from mgc.training.course import Row, read_best


def train(
    job: TrainingJob,
    training: Dataset,
    validation: Dataset,
    profile: Profile,
    checkpoints_uri: str,
    run_name: str,
    progress: Any = None,
    epoch: Any = None,
    journal: Any = None,
) -> tuple[Bundle, list[Row]]:
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
        journal: a handle of `training_journal.start`, or None.
    """
    location = storage.locate(checkpoints_uri)
    if not storage.is_remote(checkpoints_uri):
        Path(location.path).mkdir(parents=True, exist_ok=True)
    trainer = TorchTrainer(
        work,
        train_loop_config={"job": job, "progress": progress, "epoch": epoch, "journal": journal},
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
        weights, history = read_best(Path(folder))
    model = job.model()
    model.load_state_dict(weights)
    return Bundle(job.experiment, job.taxonomy, job.normalization, model.eval()), history
