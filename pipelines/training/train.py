"""Train a model and save it as a bundle."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import mgc
from cluster.bundles import open_start
from cluster.session.connect import connect
from cluster.session.epoch_counter import EpochCounter
from cluster.session.profiles import Profile
from cluster.session.progress import watch_progress
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.training.job import TrainingJob, check_batch, plan_training
from cluster.training.journal import JournalPlan
from cluster.training.journal_writer import JournalHandle, collect_settings
from cluster.training.trainer import TrainingRun, check_room, train
from mgc.bundle import Bundle
from mgc.bundle_start import Start
from mgc.configuration import short_hash, what_differs
from mgc.datasets.splits import TRAIN, VALIDATION
from mgc.errors import ConfigError
from mgc.evaluation.leakage import check_division
from mgc.experiment import Experiment
from mgc.models.blocks import parameter_count
from mgc.models.mobilenet import MobileNetConfig
from mgc.models.musicnn import MusicnnConfig
from mgc.taxonomy import Taxonomy
from mgc.training.course import Row, kept_row
from mgc.units import format_count
from pipelines.command.job import Summary, describe, say
from pipelines.training.publish import adjust_logits, describe_sides, publish_bundle, validation_figures
from pipelines.training.requests import TrainRequest
from pipelines.training.source import TrainingData, check_training_data, open_training_data
from pipelines.training.trained_before import find_trained


def train_bundle(request: TrainRequest) -> Summary:
    """Train a model and save it as a bundle, unless the same model is already there.

    Connects to Ray unless the request has the profile of an open session.

    Raises:
        BundleError: another bundle is there.
        ConfigError: the requested training is impossible.
        FeaturesError: the features do not fit the recipe.
        LeakageError: the sides leak more than the protocol allows.
    """
    experiment, out = request.experiment, request.out
    data = open_training_data(request.features, request.catalog, experiment, request.limit, request.allow_roots)
    check_training_data(data, experiment)
    start = None if request.init is None else open_start(request.init, request.init_network)
    _check_frozen(experiment, start)
    key = _training_key(request, data, start)
    if request.dry_run:
        sides = describe_sides(data.roster, experiment)
        facts = {**experiment.dotted(), **data.totals, "genres": data.counts[TRAIN], **sides}
        describe({**facts, "run": key, "would write": str(out)})
    check_division(data.roster, experiment.protocol.leak, experiment.protocol.kind, data.where)
    if request.dry_run:
        return Summary("dry_run", data.totals)
    outputs = {"bundle": str(out)}
    if find_trained(out, key, request.overwrite) is not None:
        say(f"{out}: this model is already trained.")
        return Summary("up_to_date", data.totals, outputs)
    events = request.tensorboard or out / "tensorboard"
    checkpoints = request.checkpoints or out / "_checkpoints"
    plan = JournalPlan(
        name=f"{experiment.recipe}-{key}",
        key=key,
        settings=collect_settings(experiment),
        genres=Taxonomy.flat(data.counts[TRAIN]).names,
        tensorboard=events,
        mlflow=request.mlflow,
    )
    with connect(train_workers=request.workers, profile=request.profile) as profile:
        bundle, history = _train_watched(request, data, plan, checkpoints, _adapt_profile(profile, request), start)
    totals = dict(data.totals)
    if bundle.training.quarantined is not None:
        totals["quarantined"] = sum(bundle.training.quarantined.values())
    best, bundle_id = publish_bundle(bundle, history, data, key, totals, out, start)
    if request.checkpoints is None:
        files.delete(checkpoints)
    figures = validation_figures(best)
    _say_result(request, best, figures)
    counts = {**totals, "epochs": len(history), **figures}
    return Summary("done", counts, {**outputs, "bundle_id": bundle_id, "tensorboard": str(events)})


def _check_frozen(experiment: Experiment, start: Start | None) -> None:
    """Refuse to freeze layers that nobody has trained.

    Raises:
        ConfigError: layers are frozen, and there are no weights to start from.
    """
    network = experiment.model
    if start is None and isinstance(network, MobileNetConfig | MusicnnConfig) and network.freeze:
        raise ConfigError(
            f"model.freeze {network.freeze}: these layers are untrained, and would stay so; name a bundle to start "
            "from with --init, or set --model.freeze 0."
        )


def _training_key(request: TrainRequest, data: TrainingData, start: Start | None) -> str:
    """Return a name for the training. The same training always has the same name."""
    parts = [what_differs(request.experiment), data.fingerprint, request.limit, request.workers]
    # Only an accumulation above 1 changes a training. Leaving out 1 keeps earlier keys valid.
    if request.accumulation > 1:
        parts.append(request.accumulation)
    if start is not None:
        parts.append(start.name)
    return short_hash(parts)


def _adapt_profile(profile: Profile, request: TrainRequest) -> Profile:
    """Return the profile with the settings that the request changes."""
    if request.fewest_workers is not None:
        profile = replace(profile, fewest_workers=request.fewest_workers)
    if request.accumulation > 1:
        profile = replace(profile, accumulation=request.accumulation)
    if request.float32:
        profile = replace(profile, precision="float32")
    if request.compile:
        profile = replace(profile, compile=True)
    if request.prefetch_batches is not None:
        profile = replace(profile, prefetch_batches=request.prefetch_batches)
    return profile


def _train_watched(
    request: TrainRequest,
    data: TrainingData,
    plan: JournalPlan,
    checkpoints: Uri,
    profile: Profile,
    start: Start | None,
) -> tuple[Bundle, list[Row]]:
    """Train in an open session, and keep the journal.

    Args:
        request: what to train.
        data: clips to train on.
        plan: plan of the journal; its key names the run below the checkpoints.
        checkpoints: folder of the checkpoints.
        profile: resources of the session.
        start: weights to start from.

    Returns:
        The bundle, its logits adjusted, and the history.
    """
    experiment = request.experiment
    check_batch(experiment, profile)
    check_room(profile)
    journal = JournalHandle.start(plan)
    streams = data.open(profile, checkpoints / f"{plan.key}-data")
    job = replace(plan_training(streams.sample, streams.facts, streams.counts, experiment, profile), start=start)
    job.model()  # refuses weights of another network, before any worker starts
    _say_start(job, data, plan)
    for problem in journal.problems():
        say(f"{problem} Training goes on.")
    epoch = EpochCounter.start()
    try:
        with watch_progress("training", "clips", job.clips()) as progress:
            training = streams.start_training(epoch, progress)
            validation = streams.validation if data.counts[VALIDATION] else None
            run = TrainingRun(job, training, validation, checkpoints, plan.key, progress, epoch, journal)
            bundle, history = train(run)
        bundle = adjust_logits(bundle, streams.validation, job)
    except BaseException:
        journal.close(None, patience_seconds=10.0)
        raise
    tags = {"bundle_id": bundle.id, "mgc": mgc.__version__}
    for problem in journal.close(kept_row(experiment.training, history), tags):
        say(problem)
    failed = streams.read_failed()
    if failed:
        kinds = dict(sorted(Counter(failed.values()).items()))
        bundle = replace(bundle, training=bundle.training.updated(quarantined=kinds))
        named = ", ".join(sorted(failed)[:3]) + (", …" if len(failed) > 3 else "")
        say(f"{format_count(len(failed), 'training track')} gave no features ({named}): {json.dumps(kinds)}")
    return bundle, history


def _say_start(job: TrainingJob, data: TrainingData, plan: JournalPlan) -> None:
    experiment = job.experiment
    say(
        f"training {experiment.recipe}: {parameter_count(job.model()):,} parameters, "
        f"{data.totals[f'{TRAIN}_{data.unit}']} {data.unit}, {format_count(len(job.taxonomy), 'genre')}, "
        f"up to {format_count(experiment.training.epochs, 'epoch')} of {format_count(job.steps(0), 'step')}, "
        f"{job.profile.train_workers} worker(s)"
    )
    if plan.tensorboard:
        say(f"to watch: tensorboard --logdir {plan.tensorboard}")


def _say_result(request: TrainRequest, best: Row, figures: dict[str, float]) -> None:
    which = "last" if request.experiment.training.select == "last" else "best"
    score = "; no score, because the validation tracks were trained on too"
    if figures:
        score = ": validation accuracy {:.3f} of clips, macro-F1 {:.3f}".format(*figures.values())
    say(f"{which} epoch {best['epoch']}{score} -> {request.out}")
