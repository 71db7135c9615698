"""Ray Tune over a space: searchers and schedulers, resources, and a search that goes on where it was killed."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from ray import tune
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.basic_variant import BasicVariantGenerator

from cluster.session.connect import at_hand
from cluster.session.profiles import FEWEST_LOGICAL_CPUS, Profile, fit
from cluster.storage import files
from cluster.storage.uri import Location, is_remote, join, locate
from cluster.training.job import TrainingJob
from mgc.configuration import STRICT
from mgc.errors import ConfigError, said
from mgc.experiment import Experiment
from mgc.recipes.space import Choice, Integer, Space
from tune.progress import Watch, watched
from tune.records import TrialRecord
from tune.spaces import for_ray, kept_inside, mutations, point_of
from tune.trial import Held, Streamed, alone, together

Searcher = Literal["random", "grid", "tpe"]
Scheduler = Literal["fifo", "asha", "hyperband", "pbt"]
Metric = Literal["macro_f1", "accuracy", "loss"]

PAUSING: Final = ("hyperband", "pbt")
"""Schedulers that lay trials by: those do not count as running ones, so only resources may limit how many run."""


@dataclass(frozen=True, config=STRICT)
class SearchConfig:
    """How to search.

    Attributes:
        searcher: how points are drawn: at `random`, every point of a `grid`, or by Optuna's `tpe` (tree-structured
            Parzen estimators, Bergstra et al. 2011), which learns from the trials before.
        scheduler: what ends trials early: nothing (`fifo`), `asha` (asynchronous successive halving, Li et al. 2020),
            `hyperband` (Li et al. 2018), or `pbt` (population-based training, Jaderberg et al. 2017), which ends none,
            but copies the better ones over the worse in the middle of the training.
        trials: how many points; of a grid all, so None there.
        metric: of the validation split at the epoch that is kept.
        seconds: after which no epoch is waited for any more; None without a limit. Of each submission.
        grace_epochs: epochs that each trial is given before `asha` may end it; those between two changes of `pbt`.
        reduction: `asha` and `hyperband` go on with one of so many trials.
        seed: of the points.
    """

    searcher: Searcher = "random"
    scheduler: Scheduler = "asha"
    trials: Annotated[int, Field(ge=1, le=100_000)] | None = None
    metric: Metric = "macro_f1"
    seconds: Annotated[float, Field(gt=0.0)] | None = None
    grace_epochs: Annotated[int, Field(ge=1)] = 1
    reduction: Annotated[int, Field(ge=2, le=100)] = 3
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.searcher == "grid") != (self.trials is None):
            raise ValueError("a grid has all its points, other searchers want a number of trials")
        if self.scheduler == "pbt" and self.searcher != "random":
            raise ValueError("pbt moves its points itself and starts from random ones; take the searcher random")
        return self

    @property
    def falls(self) -> bool:
        """Whether a lower score is the better one."""
        return self.metric == "loss"

    @property
    def score(self) -> str:
        """The score's name in what trials report."""
        return f"kept_validation_{self.metric}"


@plain_dataclass(frozen=True)
class Places:
    """What runs side by side, and with what.

    Attributes:
        at_once: trials.
        cpus: logical CPUs that each of them takes.
        gpus: GPUs that each of them takes.
        profile: a trial's own part.
    """

    at_once: int
    cpus: float
    gpus: float
    profile: Profile


def places(profile: Profile, workers: int, at_once: int | None) -> Places:
    """Share a machine or a cluster out among trials, so that none waits for what another holds.

    A trial of one worker takes its whole share of the logical CPUs, and needs nothing beside it: features are in the
    object store before the search begins. A trial of several is a driver that takes little; its trainer, workers and
    streams fit in its part, which has eight logical CPUs at least (see `profiles`).

    Args:
        profile: of what is there.
        workers: of each trial.
        at_once: trials at a time, at most; by default one a core or a GPU.

    Raises:
        ConfigError: so many do not fit.
    """
    if workers == 1:
        most = profile.gpus or profile.cores
    else:
        most = int(profile.logical_cpus // FEWEST_LOGICAL_CPUS)
        most = min(most, profile.gpus // workers) if profile.gpus else most
        most = max(1, most)
    if at_once is not None and at_once > most:
        of = f"{profile.gpus} GPUs" if profile.gpus else f"{profile.cores} cores, {profile.logical_cpus:g} logical CPUs"
        raise ConfigError(f"--at-once {at_once}: {most} trials of {workers} worker(s) fit at a time ({of}).")
    parts = at_once or most
    # Ray counts in ten-thousandths; rounded up, the last trial would not fit.
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
    """Refuse what cannot be searched, before anything runs.

    Raises:
        ConfigError: one line.
    """
    space.check(experiment)
    if experiment.protocol.refit:
        raise ConfigError("protocol.refit leaves no validation to compare trials by; search without it, then --refit.")
    if config.searcher == "grid":
        next(space.points())
    if config.scheduler == "pbt":
        mutations(space)
    if workers > 1 and config.scheduler in PAUSING:
        raise ConfigError(
            f"--scheduler {config.scheduler} lays trials by, and those of {workers} workers cannot be; take asha or "
            "fifo, or one worker."
        )


def most_epochs(space: Space, experiment: Experiment) -> int:
    """Epochs of the longest trial."""
    found = {name: getattr(experiment.training, name) for name in ("epochs", "head_epochs")}
    for name in found:
        dimension = space.dimensions.get(f"training.{name}")
        if isinstance(dimension, Choice):
            found[name] = max(int(value) for value in dimension.values if isinstance(value, int))
        elif isinstance(dimension, Integer):
            found[name] = dimension.high
    return sum(found.values())


def search(
    config: SearchConfig,
    space: Space,
    job: TrainingJob,
    data: Held | Streamed,
    at: Places,
    uri: str,
    key: str,
) -> list[TrialRecord]:
    """Search; a search of the same key that was killed goes on where it stopped.

    Args:
        config: how.
        space: over what.
        job: of the recipe as it is, with a trial's own profile.
        data: clips.
        at: resources.
        uri: folder of searches; trials and checkpoints lie in the one named by the key.
        key: names the search.

    Returns:
        Every trial, in the order in which they were drawn.
    """
    # Ctrl-C ends the job as it ends every other; what is needed to go on is saved all the time.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    # Failed trials are in the records; Tune would print their tracebacks.
    os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    location = locate(uri)
    if not is_remote(uri):
        Path(location.path).mkdir(parents=True, exist_ok=True)
    function = alone if isinstance(data, Held) else together
    trainable = tune.with_resources(
        tune.with_parameters(function, space=space, job=job, data=data),
        {"CPU": at.cpus, **({"GPU": at.gpus} if at.gpus else {})},
    )
    path = f"{location.path}/{key}"
    began = time.monotonic()
    if _begun(join(uri, key)):
        tuner = tune.Tuner.restore(path, trainable=trainable, storage_filesystem=location.filesystem)
    else:
        tuner = _tuner(trainable, config, space, job, at, location, key, isinstance(data, Held))
    total = config.trials or space.size
    with (
        watched(config.metric, config.score, config.falls, total) as seen,
        # Tune prints a box and a line for each failure, however silent it is told to be.
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        results = tuner.fit()
    prefix = "s3://" if is_remote(uri) else ""
    timed_out = config.seconds is not None and time.monotonic() - began >= config.seconds
    return [
        _record(number, trial, result, space, config, timed_out, prefix)
        for number, (trial, result) in enumerate(zip(seen, list(results), strict=True), 1)  # type: ignore[call-overload]  # it has no types
    ]


def _begun(uri: str) -> bool:
    """Whether there is a search to go on with: one that was killed before it saved itself begins anew."""
    names = [each.rpartition("/")[2] for each in files.list_uris(uri)]
    return "tuner.pkl" in names and any(name.startswith("experiment_state-") for name in names)


def _tuner(
    trainable: Any,
    config: SearchConfig,
    space: Space,
    job: TrainingJob,
    at: Places,
    location: Location,
    key: str,
    reuse: bool,
) -> tune.Tuner:
    # Population-based training draws from Python's own generator.
    random.seed(config.seed)
    return tune.Tuner(
        trainable,
        param_space=for_ray(space, grid=config.searcher == "grid"),
        tune_config=tune.TuneConfig(
            metric=config.score,
            mode="min" if config.falls else "max",
            search_alg=_searcher(config, at),
            scheduler=_scheduler(config, space, most_epochs(space, job.experiment)),
            num_samples=config.trials or 1,
            time_budget_s=config.seconds,
            # A process that has imported everything takes the next trial. A driver of trainers begins afresh.
            reuse_actors=reuse,
        ),
        run_config=tune.RunConfig(
            name=key,
            storage_path=location.path,
            storage_filesystem=location.filesystem,
            # A worker or a node that died is made good for from the last checkpoint; what fails twice, has failed.
            failure_config=tune.FailureConfig(max_failures=1),
            # Population-based training may still want the checkpoint before the last.
            checkpoint_config=tune.CheckpointConfig(num_to_keep=4 if config.scheduler == "pbt" else 2),
            callbacks=[Watch(space)],
            verbose=0,
        ),
    )


def _searcher(config: SearchConfig, at: Places) -> Any:
    at_once = 0 if config.scheduler in PAUSING else at.at_once
    if config.searcher != "tpe":
        return BasicVariantGenerator(max_concurrent=at_once, random_state=config.seed)
    # Only a search that asks for it pays the second of this import.
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    startup = min(10, max(2, (config.trials or 10) // 3))
    # Trials that run count as bad ones, so that those beside them look elsewhere.
    sampler = optuna.samplers.TPESampler(seed=config.seed, n_startup_trials=startup, constant_liar=True)
    found = OptunaSearch(sampler=sampler)
    return ConcurrencyLimiter(found, at_once) if at_once else found


def _scheduler(config: SearchConfig, space: Space, epochs: int) -> TrialScheduler:
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
                hyperparam_mutations=mutations(space),
                custom_explore_fn=lambda point: kept_inside(space, point),
                log_config=False,
            )


def _record(
    number: int, trial: Any, result: tune.Result, space: Space, config: SearchConfig, timed_out: bool, prefix: str
) -> TrialRecord:
    last: Mapping[str, Any] = trial.last_result or {}
    if trial.status == "ERROR" or result.error is not None:
        status, reason = "failed", said(result.error) if result.error else "the trial ended without a word"
    elif last.get("over"):
        status, reason = "done", ""
    else:
        status, reason = "unfinished" if timed_out and not last.get("done") else "stopped", ""
    path = result.checkpoint.path if result.checkpoint else last.get("checkpoint_path")
    return TrialRecord(
        number=number,
        trial_id=trial.trial_id,
        point=point_of(space, trial.config),
        status=status,  # type: ignore[arg-type]  # one of the four
        reason=reason,
        score=last.get(config.score),
        epochs=int(last.get("epoch", 0)),
        seconds=float(last.get("time_total_s", 0.0)),
        history=_history(result, config),
        checkpoint=f"{prefix}{path}" if path else None,
    )


def _history(result: tune.Result, config: SearchConfig) -> list[dict[str, Any]]:
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
