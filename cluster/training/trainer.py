"""Run mgc's training loop in Ray Train: stream features to data-parallel workers, keep checkpoints under any URI."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import ray
import ray.train
from ray.data import Dataset, ExecutionOptions
from ray.train.torch import TorchConfig, TorchTrainer

from cluster.session import ray_internals
from cluster.session.connect import may_start
from cluster.session.counts import ProgressSink
from cluster.session.epoch_counter import EpochCounter
from cluster.session.profiles import KEEPS_MEMORY, Profile
from cluster.storage.notice import notice
from cluster.storage.uri import Uri
from cluster.training.checkpoints import lines_set_aside, local_copy, repair_snapshot, stay_inside
from cluster.training.job import TrainingJob
from cluster.training.journal_writer import JournalHandle
from cluster.training.trained import load_trained
from cluster.training.worker import WorkerTask, work
from mgc.bundle import Bundle
from mgc.errors import FeaturesError, ResourceError
from mgc.training.course import Row, find_damage
from mgc.units import format_count

FAILURES: Final = 4
"""Number of worker failures after which a training fails. It can then be submitted again."""


_MOST_RUNS: Final = 3
"""Most runs of a training whose last checkpoint is damaged each time."""


@dataclass(frozen=True)
class TrainingRun:
    """One training over several workers, and its observers.

    Attributes:
        job: job from `plan_training`; its profile has the number of workers and their resources.
        training: stream of training clips.
        validation: stream of validation clips; None if there are none.
        checkpoints: folder of the checkpoints of all runs.
        name: name of this run.
        progress: counters of the job; None if its progress is not shown.
        epoch: counter from which the training stream reads the epoch, if it needs one.
        journal: journal to record each step and epoch in, if there is one.
        callbacks: Ray Train's callbacks, which receive the workers' reports.
    """

    job: TrainingJob
    training: Dataset
    validation: Dataset | None
    checkpoints: Uri
    name: str
    progress: ProgressSink | None = None
    epoch: EpochCounter | None = None
    journal: JournalHandle | None = None
    callbacks: Sequence[ray.train.UserCallback] = ()


def train(run: TrainingRun) -> tuple[Bundle, list[Row]]:
    """Train, and return the best model by validation (`training.select`) with the history of all epochs.

    If the classifier is re-trained, the best model comes from the epochs of the re-training. They are numbered from
    `training.epochs` + 1.

    A killed run continues from its last checkpoint that is not damaged when you call this again with the same name. It
    continues at the same step, with the same clips in the same order, if the number of workers is the same.

    Raises:
        FeaturesError: there was nothing to train on.
        ResourceError: there is no room for the workers, or one runs other software than the driver.
        StorageError: a file among the checkpoints has a name that leads out of its folder.
        TrainingError: the loss is not finite; the message names tracks of the batch.
        KeyboardInterrupt: SIGINT aborted the run. Its checkpoints stay.
    """
    check_room(run.job.profile)
    if not run.checkpoints.is_remote:
        run.checkpoints.local.mkdir(parents=True, exist_ok=True)
    folder = run.checkpoints / run.name
    stay_inside(folder)
    repair_snapshot(folder)
    known = lines_set_aside(folder)
    for left in reversed(range(_MOST_RUNS)):
        try:
            with _interruptible():
                result = _build_trainer(run).fit()
        finally:
            for line in lines_set_aside(folder):
                if line not in known:
                    known.append(line)
                    notice(line)
        refused = result.return_value  # type: ignore[attr-defined]  # mypy sees the first Ray Train's
        if refused is not None:
            raise ResourceError(str(refused))
        if result.checkpoint is None:
            raise FeaturesError("training ended without a checkpoint, so nothing was learned; submit the job again.")
        workers = int((result.metrics or {}).get("workers", run.job.profile.train_workers))
        with local_copy(result.checkpoint) as saved:
            # Of a damaged last checkpoint another run makes a sound one, from the one before.
            if not left or find_damage(saved) is None:
                return load_trained(saved, run.job, workers)
    raise AssertionError("the last run returns or raises")


def _build_trainer(run: TrainingRun) -> TorchTrainer:
    profile = run.job.profile
    waits = int(profile.stall_seconds / ray_internals.worker_start_seconds())
    task = WorkerTask(run.job, run.validation is not None, run.progress, run.epoch, run.journal)
    datasets: dict[str, Dataset | Callable[[], Dataset]] = {"train": run.training}
    if run.validation is not None:
        datasets["validation"] = run.validation
    return TorchTrainer(
        work,  # type: ignore[arg-type]  # mypy sees the first Ray Train's, whose loops return nothing
        train_loop_config={"task": task},
        torch_config=TorchConfig(backend="nccl" if profile.gpus else "gloo", timeout_s=int(profile.stall_seconds)),
        scaling_config=ray.train.ScalingConfig(
            num_workers=profile.train_workers  # type: ignore[arg-type]  # mypy sees the first Ray Train's
            if profile.fewest_workers is None
            else (profile.fewest_workers, profile.train_workers),
            use_gpu=profile.gpus > 0,
            resources_per_worker={"CPU": profile.train_cpus, **({"GPU": 1} if profile.gpus else {})},
        ),
        run_config=ray.train.RunConfig(
            name=run.name,
            worker_runtime_env={} if profile.gpus else {"env_vars": KEEPS_MEMORY},
            storage_path=run.checkpoints.path,
            storage_filesystem=run.checkpoints.filesystem,
            callbacks=list(run.callbacks),  # type: ignore[arg-type]  # mypy sees the first Ray Train's
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            # This is how often Ray waits for workers that cannot be placed; by default it waits forever. The first wait
            # after a node has died may be in vain, because Ray still counts on the node for a few seconds.
            failure_config=ray.train.FailureConfig(  # type: ignore[call-arg]  # mypy sees the first Ray Train's
                max_failures=FAILURES, controller_failure_limit=max(1, waits) - 1
            ),
        ),
        datasets=datasets,
        dataset_config=EqualShards(),
    )


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """End on SIGINT the way a job does, not the way Ray Train does.

    Ray Train's handler aborts the run, exits the process with 0, and stays installed.
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
        # Pass the signal to the job's own handler, which keeps a second Ctrl-C from disturbing the clean-up.
        signal.raise_signal(signal.SIGINT)
        raise KeyboardInterrupt


class EqualShards(ray.train.DataConfig):
    """Distributes the rows of both streams to the workers as they arrive.

    All workers get the same number of training rows, in the same order after a resume; the last few rows are dropped.
    Each validation row goes to one worker, and none is dropped.
    """

    def __init__(self) -> None:
        # Keep the order, even if tasks end in a different order than they began.
        super().__init__(execution_options=ExecutionOptions(preserve_order=True))

    def configure(
        self, datasets: dict[str, Dataset], world_size: int, *arguments: Any, **named: Any
    ) -> list[dict[str, Any]]:
        """Return the part of each stream for each worker."""
        shards: list[dict[str, Any]] = [{} for _ in range(world_size)]
        for name, dataset in datasets.items():
            stream = dataset.copy(dataset)
            stream.context.execution_options = ray_internals.execution_options(self, name)
            for shard, part in zip(shards, stream.streaming_split(world_size, equal=name == "train"), strict=True):
                shard[name] = part
        return shards


def check_room(profile: Profile) -> None:
    """Refuse more workers than there is room for, because Ray would wait for nodes that never start.

    If an autoscaler may start nodes, nothing is refused. Resources that other work holds count as free, because the
    workers wait for them.

    Raises:
        ResourceError: there are too many workers; the message says how many fit.
    """
    fewest = profile.fewest_workers or profile.train_workers
    if fewest > profile.train_workers:
        raise ResourceError(
            f"--fewest-workers {fewest} is more than the {profile.train_workers} workers asked for; lower it."
        )
    if may_start():
        return
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    places = [int(node.get("CPU", 0.0) / profile.train_cpus + 1e-9) for node in nodes]
    if profile.gpus:
        places = [min(place, int(node.get("GPU", 0.0))) for place, node in zip(places, nodes, strict=True)]
    if sum(places) < fewest:
        wants = f"{profile.train_cpus:g} CPUs" + (" and a GPU" if profile.gpus else "")
        raise ResourceError(
            f"{format_count(fewest, 'training worker')}, each with {wants} on one node, do not fit: the cluster has "
            f"room for {sum(places)}; ask for fewer (--workers), or add nodes."
        )
