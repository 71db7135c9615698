"""Ray Train around the loop of mgc: features streamed to data-parallel workers, checkpoints under any URI."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import ray
import ray.train
from ray.data import Dataset, ExecutionOptions
from ray.train.torch import TorchConfig, TorchTrainer

from cluster.session import ray_internals
from cluster.session.epoch_counter import EpochCounter
from cluster.session.profiles import KEEPS_MEMORY, Profile
from cluster.session.progress import ProgressSink
from cluster.storage.uri import is_remote, locate
from cluster.training.job import TrainingJob
from cluster.training.journal import JournalHandle
from cluster.training.trained import load_trained
from cluster.training.worker import work
from mgc.bundle import Bundle
from mgc.errors import FeaturesError, ResourceError
from mgc.training.course import Row

FAILURES: Final = 4
"""Times that workers may die before a training is given up; it can be submitted again then."""


def train(
    job: TrainingJob,
    training: Dataset,
    validation: Dataset | None,
    profile: Profile,
    checkpoints_uri: str,
    run_name: str,
    progress: ProgressSink | None = None,
    epoch: EpochCounter | None = None,
    journal: JournalHandle | None = None,
    callbacks: Sequence[Any] = (),
) -> tuple[Bundle, list[Row]]:
    """Train, and return the best model by validation (`training.select`) with the history of all epochs.

    Where the classifier is re-trained, the best is one of these last epochs; they are numbered from
    `training.epochs` + 1 on.

    A run that was killed goes on from its last checkpoint when it is called again with the same name: at the same step,
    with the same clips in the same order, as long as there are as many workers.

    Args:
        job: from `plan_training`.
        training: stream of training clips.
        validation: stream of validation clips; None where there are none.
        profile: workers and their resources.
        checkpoints_uri: folder of the checkpoints of all runs.
        run_name: names this run.
        progress: counters of the job, if anybody watches.
        epoch: counter that the training stream asks.
        journal: is told of each step and epoch.
        callbacks: Ray Train's `UserCallback`s, told what the workers report.

    Raises:
        ResourceError: there is no place for the workers.
        TrainingError: the loss is not finite; names tracks of the batch.
        KeyboardInterrupt: by SIGINT; the run is aborted, its checkpoints stay.
    """
    check_room(profile)
    location = locate(checkpoints_uri)
    if not is_remote(checkpoints_uri):
        Path(location.path).mkdir(parents=True, exist_ok=True)
    waits = int(profile.stall_seconds / ray_internals.worker_start_seconds())
    trainer = TorchTrainer(
        work,
        train_loop_config={
            "job": job,
            "progress": progress,
            "epoch": epoch,
            "validates": validation is not None,
            "journal": journal,
        },
        torch_config=TorchConfig(backend="nccl" if profile.gpus else "gloo", timeout_s=int(profile.stall_seconds)),
        scaling_config=ray.train.ScalingConfig(
            num_workers=profile.train_workers  # type: ignore[arg-type]  # mypy sees the first Ray Train's
            if profile.fewest_workers is None
            else (profile.fewest_workers, profile.train_workers),
            use_gpu=profile.gpus > 0,
            resources_per_worker={"CPU": profile.train_cpus, **({"GPU": 1} if profile.gpus else {})},
        ),
        run_config=ray.train.RunConfig(
            name=run_name,
            worker_runtime_env={} if profile.gpus else {"env_vars": KEEPS_MEMORY},
            storage_path=location.path,
            storage_filesystem=location.filesystem,
            callbacks=list(callbacks),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            # Workers that cannot be placed are waited for so often; Ray's default is to do so for ever. The first time
            # after a node has died may be in vain: Ray counts on it for some seconds more.
            failure_config=ray.train.FailureConfig(  # type: ignore[call-arg]  # mypy sees the first Ray Train's
                max_failures=FAILURES, controller_failure_limit=max(1, waits) - 1
            ),
        ),
        datasets={"train": training} if validation is None else {"train": training, "validation": validation},
        dataset_config=EqualShards(),
    )
    with _interruptible():
        result = trainer.fit()
    if result.checkpoint is None:
        raise FeaturesError("training ended without a checkpoint; nothing was learned.")
    workers = int((result.metrics or {}).get("workers", profile.train_workers))
    with result.checkpoint.as_directory() as folder:
        return load_trained(Path(folder), job, workers)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Turn Ray Train's way of ending on SIGINT into that of a job.

    Its own handler aborts the run, exits the process with 0, and stays installed.
    """
    handler = signal.getsignal(signal.SIGINT)
    interrupted = False
    try:
        yield
    except SystemExit:
        interrupted = True
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
    if interrupted:
        # The job's own handler has to know: it keeps a second Ctrl-C from disturbing the clean-up.
        signal.raise_signal(signal.SIGINT)
        raise KeyboardInterrupt


class EqualShards(ray.train.DataConfig):
    """Both streams are dealt out to the workers as they come.

    Of the training stream all get the same number of rows, in the same order after a resume: the last few are dropped.
    Of the validation stream each row goes to one of them, and none is dropped.
    """

    def __init__(self) -> None:
        # In order: also of tasks that end in another order than they were begun in.
        super().__init__(execution_options=ExecutionOptions(preserve_order=True))

    def configure(
        self, datasets: dict[str, Dataset], world_size: int, *arguments: Any, **named: Any
    ) -> list[dict[str, Any]]:
        """For each worker its part of each stream."""
        shards: list[dict[str, Any]] = [{} for _ in range(world_size)]
        for name, dataset in datasets.items():
            stream = dataset.copy(dataset)
            stream.context.execution_options = ray_internals.execution_options(self, name)
            for shard, part in zip(shards, stream.streaming_split(world_size, equal=name == "train"), strict=True):
                shard[name] = part
        return shards


def check_room(profile: Profile) -> None:
    """Refuse more workers than there is place for; Ray would wait for nodes that nobody starts.

    Not where an autoscaler may start some. What other work holds now is no matter: that is waited for.

    Raises:
        ResourceError: says how many would fit.
    """
    fewest = profile.fewest_workers or profile.train_workers
    if fewest > profile.train_workers:
        raise ResourceError(
            f"at least {fewest} workers are more than the {profile.train_workers} asked for; lower --fewest-workers."
        )
    if ray_internals.node_groups():
        return
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    places = [int(node.get("CPU", 0.0) / profile.train_cpus + 1e-9) for node in nodes]
    if profile.gpus:
        places = [min(place, int(node.get("GPU", 0.0))) for place, node in zip(places, nodes, strict=True)]
    if sum(places) < fewest:
        wants = f"{profile.train_cpus:g} CPUs" + (" and a GPU" if profile.gpus else "")
        raise ResourceError(
            f"{fewest} training workers want {wants} each on one node, the cluster has place for {sum(places)}; "
            "ask for fewer (--workers), or add nodes."
        )
