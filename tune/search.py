"""Search a space with Ray Tune: searchers, schedulers, resources, and continuing a killed search."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pyarrow.fs as fs
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search import ConcurrencyLimiter, SearchAlgorithm, Searcher
from ray.tune.search.basic_variant import BasicVariantGenerator

from cluster.session.connect import at_hand
from cluster.session.profiles import FEWEST_LOGICAL_CPUS, Profile, fit
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.training.job import TrainingJob
from mgc.errors import ConfigError, said
from mgc.experiment import Experiment
from mgc.recipes.space import Alternatives, AnyDimension, Choice, Space, fields_of
from mgc.software import Software
from mgc.units import format_count
from tune.config import SearchConfig
from tune.progress import WatchTrials, watch_search
from tune.records import EpochScores, Status, TrialRecord
from tune.signed import SignedFiles
from tune.spaces import keep_inside, mutations, to_point, to_ray_space
from tune.trial import InMemoryData, StreamedData, train_alone, train_together

PAUSING: Final = ("hyperband", "pbt")
"""Schedulers that pause trials. Paused trials do not count as running, so resources alone must limit how many run."""

_EPOCHS: Final = ("training.epochs", "training.head_epochs")
"""Fields that say how long a trial is."""


@dataclass(frozen=True)
class Places:
    """Room for trials that run at the same time.

    Attributes:
        at_once: number of trials.
        cpus: logical CPUs of each trial.
        gpus: GPUs of each trial.
        profile: profile of each trial.
    """

    at_once: int
    cpus: float
    gpus: float
    profile: Profile


def share_out(profile: Profile, workers: int, at_once: int | None) -> Places:
    """Divide a machine or a cluster among trials, so that no trial waits for resources that another one holds.

    A trial of one worker takes its whole share of the logical CPUs. It needs nothing else, because the features are in
    the object store before the search begins. A trial of several workers is a small driver. Its trainer, workers and
    streams fit in its share, which has at least eight logical CPUs (see `profiles`).

    Args:
        profile: all resources.
        workers: number of workers of each trial.
        at_once: number of trials at the same time; None for one per core or GPU.

    Raises:
        ConfigError: `at_once` trials do not fit.
    """
    if workers == 1:
        most = profile.gpus or profile.cores
    else:
        most = int(profile.logical_cpus // FEWEST_LOGICAL_CPUS)
        most = min(most, profile.gpus // workers) if profile.gpus else most
        most = max(1, most)
    if at_once is not None and at_once > most:
        cores = f"{format_count(profile.cores, 'core')}, {profile.logical_cpus:g} logical CPUs"
        of = format_count(profile.gpus, "GPU") if profile.gpus else cores
        raise ConfigError(
            f"--at-once {at_once}: only {format_count(most, 'trial')} of {format_count(workers, 'worker')} can run at "
            f"the same time ({of})."
        )
    parts = at_once or most
    # Ray counts in ten-thousandths. If this were rounded up, the last trial would not fit.
    share = int(profile.logical_cpus / parts * 10_000) / 10_000
    part = fit(profile.name, max(1, profile.cores // parts), share, profile.gpus // parts, workers)
    own = replace(
        part,
        train_cpus=min(part.train_cpus, profile.train_cpus),
        stall_seconds=profile.stall_seconds,
        dashboard=profile.dashboard,
        accumulation=profile.accumulation,
        precision=profile.precision,
        compile=profile.compile,
        prefetch_batches=profile.prefetch_batches,
        checkpoint_steps=profile.checkpoint_steps,
    )
    if workers == 1:
        on_one_node = at_hand("the cluster").worker_cpus(profile.gpus > 0)
        return Places(parts, min(share, on_one_node), 1.0 if profile.gpus else 0.0, own)
    return Places(parts, min(0.25, share / 16), 0.0, own)


def check_search(config: SearchConfig, space: Space, experiment: Experiment, workers: int) -> None:
    """Refuse an impossible search before anything runs.

    Raises:
        ConfigError: the search is impossible; the message says why in one line.
    """
    space.check(experiment)
    if experiment.protocol.refit:
        raise ConfigError(
            "protocol.refit leaves no validation to compare trials by; search without it, then use --refit."
        )
    if config.searcher == "grid":
        next(space.points())
    if config.scheduler == "pbt":
        mutations(space)
    if workers > 1 and config.scheduler in PAUSING:
        raise ConfigError(
            f"--scheduler {config.scheduler} pauses trials, and trials of {workers} workers cannot be paused; choose "
            "asha or fifo, or one worker."
        )


def count_epochs(space: Space, experiment: Experiment) -> int:
    """Return the epochs of the longest trial."""
    training = experiment.training
    found = [{"training.epochs": training.epochs, "training.head_epochs": training.head_epochs}]
    for name, dimension in space.dimensions.items():
        if fields_of(name, dimension) & found[0].keys():
            found = [epochs | option for epochs in found for option in _epochs_of(name, dimension)]
    return max(sum(epochs.values()) for epochs in found)


def _epochs_of(name: str, dimension: AnyDimension) -> list[dict[str, int]]:
    """Return the numbers of epochs that a dimension sets, by field, for each of its options."""
    options: list[dict[str, Any]]
    match dimension:
        case Alternatives():
            options = [
                {name: option[name] for name in _EPOCHS if name in option} for option in dimension.options.values()
            ]
        case Choice():
            options = [{name: value} for value in dimension.values]
        case _:
            options = [{name: dimension.high}]
    return [{field: value for field, value in option.items() if isinstance(value, int)} for option in options]


@dataclass(frozen=True)
class Search:
    """A search that Ray Tune can run.

    Attributes:
        config: how to search.
        space: searched space.
        job: job of the unchanged recipe, with the profile of one trial.
        data: clips.
        places: resources.
        folder: folder of searches; trials and checkpoints go into the subfolder named by the key.
        key: name of the search.
    """

    config: SearchConfig
    space: Space
    job: TrainingJob
    data: InMemoryData | StreamedData
    places: Places
    folder: Uri
    key: str

    def run(self) -> list[TrialRecord]:
        """Search. A killed search with the same key continues where it stopped.

        Returns:
            All trials, in the order in which they were created.
        """
        # Ctrl-C ends this job like any other. Tune saves its state continuously, so the search can continue.
        os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
        # Failed trials are in the records; Tune would print their tracebacks.
        os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        if not self.folder.is_remote:
            self.folder.local.mkdir(parents=True, exist_ok=True)
        config = self.config
        began = time.monotonic()
        tuner = self._tuner()
        with (
            watch_search(config.metric, config.score, config.falls, config.trials or self.space.size) as trials,
            # Tune prints a box and a line for each failure, even when set to be silent.
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
        ):
            results = list(tuner.fit())  # type: ignore[call-overload]  # a ResultGrid has no types
        timed_out = config.seconds is not None and time.monotonic() - began >= config.seconds
        return [
            self._record(number, trial, result, timed_out)
            for number, (trial, result) in enumerate(zip(trials, results, strict=True), 1)
        ]

    def _tuner(self) -> tune.Tuner:
        """Return a tuner that begins the search, or continues it."""
        streamed = isinstance(self.data, StreamedData)
        function = train_together if streamed else train_alone
        trainable = tune.with_resources(
            tune.with_parameters(function, space=self.space, job=self.job, data=self.data, software=Software.here()),
            {"CPU": self.places.cpus, **({"GPU": self.places.gpus} if self.places.gpus else {})},
        )
        root = self.folder / self.key
        filesystem = fs.PyFileSystem(SignedFiles(root))
        if _is_begun(root):
            return tune.Tuner.restore(root.path, trainable=trainable, storage_filesystem=filesystem)
        config, space = self.config, self.space
        # Population-based training uses Python's global random generator.
        random.seed(config.seed)
        return tune.Tuner(
            trainable,
            param_space=to_ray_space(space, grid=config.searcher == "grid"),
            tune_config=tune.TuneConfig(
                metric=config.score,
                mode="min" if config.falls else "max",
                search_alg=_build_searcher(config, self.places),
                scheduler=_build_scheduler(config, space, count_epochs(space, self.job.experiment)),
                num_samples=config.trials or 1,
                time_budget_s=config.seconds,
                # A process that has imported everything takes the next trial. A driver of trainers starts a new one.
                reuse_actors=not streamed,
            ),
            run_config=tune.RunConfig(
                name=self.key,
                storage_path=self.folder.path,
                storage_filesystem=filesystem,
                # A trial whose worker or node died resumes from its last checkpoint; one that fails twice has failed.
                failure_config=tune.FailureConfig(max_failures=1),
                # Population-based training may still need earlier checkpoints.
                checkpoint_config=tune.CheckpointConfig(num_to_keep=4 if config.scheduler == "pbt" else 2),
                callbacks=[WatchTrials(space)],
                verbose=0,
            ),
        )

    def _record(self, number: int, trial: Trial, result: tune.Result, timed_out: bool) -> TrialRecord:
        last: Mapping[str, Any] = trial.last_result or {}
        status: Status
        if trial.status == "ERROR" or result.error is not None:
            status, reason = "failed", said(result.error) if result.error else "the trial ended without a reason"
        elif last.get("over"):
            status, reason = "done", ""
        else:
            status, reason = "unfinished" if timed_out and not last.get("done") else "stopped", ""
        path = result.checkpoint.path if result.checkpoint else last.get("checkpoint_path")
        return TrialRecord(
            number=number,
            trial_id=trial.trial_id,
            point=to_point(self.space, trial.config),
            status=status,
            reason=reason,
            score=last.get(self.config.score),
            epochs=int(last.get("epoch", 0)),
            seconds=float(last.get("time_total_s", 0.0)),
            history=_read_history(result, self.config),
            checkpoint=self._checkpoint(path) if path else None,
        )

    def _checkpoint(self, path: str) -> Uri:
        """Return the URI of a checkpoint from its path on the filesystem of the search."""
        if not self.folder.is_remote:
            return Uri.of_path(path)
        bucket, _, key = path.partition("/")
        return Uri.of_key(bucket, key)


def _is_begun(root: Uri) -> bool:
    """Return whether there is a search to continue. A search killed before it saved anything begins again."""
    names = [each.name for each in files.list_uris(root)]
    return "tuner.pkl" in names and any(name.startswith("experiment_state-") for name in names)


def _build_searcher(config: SearchConfig, places: Places) -> SearchAlgorithm | Searcher:
    at_once = 0 if config.scheduler in PAUSING else places.at_once
    if config.searcher != "tpe":
        return BasicVariantGenerator(max_concurrent=at_once, random_state=config.seed)
    # This import takes a second, so only a search that needs it pays for it.
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    startup = min(10, max(2, (config.trials or 10) // 3))
    # Running trials count as bad ones, so that concurrent trials try other points.
    sampler = optuna.samplers.TPESampler(seed=config.seed, n_startup_trials=startup, constant_liar=True)
    found = OptunaSearch(sampler=sampler)
    return ConcurrencyLimiter(found, at_once) if at_once else found


def _build_scheduler(config: SearchConfig, space: Space, epochs: int) -> TrialScheduler:
    match config.scheduler:
        case "fifo":
            return FIFOScheduler()
        case "asha":
            grace = min(config.grace_epochs, epochs)
            return ASHAScheduler("epoch", max_t=epochs, grace_period=grace, reduction_factor=config.reduction)
        case "hyperband":
            return HyperBandScheduler("epoch", max_t=epochs, reduction_factor=config.reduction)
        case "pbt":
            return PopulationBasedTraining(
                "epoch",
                perturbation_interval=config.grace_epochs,
                hyperparam_mutations={**mutations(space)},
                custom_explore_fn=lambda point: keep_inside(space, point),
                log_config=False,
            )


def _read_history(result: tune.Result, config: SearchConfig) -> list[EpochScores]:
    frame = result.metrics_dataframe
    if frame is None or config.score not in frame:
        return []
    names = [name for name in ("train_loss", "train_accuracy") if name in frame]
    names += [str(name) for name in frame if str(name).startswith("validation_")]
    rows = frame.drop_duplicates("epoch", keep="last").sort_values("epoch")
    return [
        {"epoch": int(row["epoch"]), **{name: float(row[name]) for name in names}, "score": float(row[config.score])}
        for row in rows.to_dict("records")
    ]
