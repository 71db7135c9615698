"""`mgc train --recipe RECIPE --features FEATURES --out BUNDLE`: train a model and save it as a bundle."""

from __future__ import annotations

import dataclasses
import json
import platform
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from ray.data import Dataset

import mgc
from cluster import epochs, storage, training_journal
from cluster.profiles import Profile
from cluster.progress import watched
from cluster.scoring import clip_answers
from cluster.session import connect
from cluster.trainer import check_room, train
from cluster.training_journal import JournalPlan
from cluster.training_plan import TrainingJob, check_batch, plan_training
from mgc.bundle import FILES, TRAINED_ON, Bundle, load_bundle
from mgc.configuration import short_hash, to_json
from mgc.datasets.protocols import SIDES, name_of
from mgc.datasets.roster import Roster
from mgc.datasets.splits import TRAIN, VALIDATION
from mgc.errors import BundleError
from mgc.evaluation.leakage import Groups, check_division, crossing, heard, says
from mgc.experiment import Experiment
from mgc.labeling.adjust import PriorAdjustment, macro_f1_by_tau
from mgc.models.blocks import parameter_count
from mgc.recipes.catalogue import find
from mgc.taxonomy import Taxonomy
from mgc.training.course import Row, kept_row
from pipelines.answers import answers
from pipelines.job import OVERRIDES, PROFILE, URI, Summary, describe, main, overrides, say
from pipelines.training_source import Source, check, open_source


def open_bundle(uri: str) -> Bundle:
    """A bundle from the same storage that the jobs use.

    Raises:
        BundleError: see `mgc.load_bundle`.
        StorageError: the place cannot be reached.
    """
    if not storage.is_remote(uri):
        return load_bundle(uri)
    location = storage.locate(uri)
    if not storage.exists(uri):
        raise BundleError(f"{storage.redact(uri)}: there is no bundle here. Train one with `mgc train --out BUNDLE`.")
    return load_bundle(location.path, location.filesystem)


def save_bundle(bundle: Bundle, uri: str) -> str:
    """Write a bundle to any URI; returns its id."""
    with tempfile.TemporaryDirectory() as folder:
        bundle_id = bundle.save(folder)
        # In the order of FILES, the experiment last: a bundle that has one is whole.
        for name in (TRAINED_ON, *FILES) if bundle.trained_on else FILES:
            storage.write_bytes(storage.join(uri, name), Path(folder, name).read_bytes())
    if bundle.trained_on is None:
        storage.delete(storage.join(uri, TRAINED_ON))
    return bundle_id


def adjusted(bundle: Bundle, validation: Dataset, job: TrainingJob) -> Bundle:
    """The bundle with the adjustment of its logits that the experiment asks for, see `TrainingConfig.adjust_after`.

    Args:
        bundle: not adjusted.
        validation: its clips, see `feed`.
        job: the training of the bundle.
    """
    taus, counts = bundle.experiment.training.adjust_after, job.class_counts
    if not taus:
        return bundle
    if bundle.experiment.protocol.refit:
        # There is one value, and no validation to try it on.
        bundle.metrics["adjustment"] = {"tau": taus[0], "validation_macro_f1": {}}
        adjustment = PriorAdjustment.from_counts(taus[0], counts) if taus[0] else None
        return dataclasses.replace(bundle, adjustment=adjustment)
    clips = clip_answers(validation, bundle, job.shape, job.profile)
    given = answers(clips, bundle, bundle.experiment.protocol.unit)
    # Logarithms of probabilities are logits.
    logits_NG = np.log(np.maximum(given.probabilities_NG, np.finfo(np.float64).tiny))
    found = macro_f1_by_tau(taus, logits_NG, given.truth_N, counts)
    tau = max(found, key=found.__getitem__)
    bundle.metrics["adjustment"] = {"tau": tau, "validation_macro_f1": {f"{each:g}": f1 for each, f1 in found.items()}}
    say(f"logits adjusted by tau {tau:g}: validation macro-F1 {found[tau]:.3f} of {given.unit}")
    return dataclasses.replace(bundle, adjustment=PriorAdjustment.from_counts(tau, counts) if tau else None)


def division(roster: Roster, experiment: Experiment) -> dict[str, str]:
    """What stands on each side of a protocol, and what leaks, in words."""
    trained_on = Groups.of(roster)
    lines = {"protocol": name_of(experiment.protocol)}
    for split in SIDES:
        size = roster.size(split)
        words = f"{size.tracks} tracks, {size.clips} clips, {size.artists} artists"
        if size.tracks_of_unknown_artist:
            words += f" ({size.tracks_of_unknown_artist} tracks of unknown artist)"
        if split != TRAIN:
            found = heard(roster, split, trained_on)
            words += f"; of these tracks {found.tracks_heard} are trained on, {found.artists_heard} if by artist"
        lines[split] = words
    tracks, artists = crossing(roster, "track"), crossing(roster, "artist")
    return {**lines, "on more than one side": f"{tracks.count} tracks, {artists.count} artists"}


def build(
    experiment: Experiment,
    features: str | None,
    out: str,
    checkpoints: str | None = None,
    profile: Profile | str | None = None,
    workers: int = 1,
    limit: int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    catalog: str | None = None,
    setting: Mapping[str, Any] | None = None,
    tensorboard: str | None = None,
    mlflow: str | None = None,
) -> Summary:
    """Train and save the bundle; connects to Ray unless it is given the profile of a session.

    Args:
        experiment: what to train.
        features: that were prepared; or else `catalog`.
        out: of the bundle.
        checkpoints: their folder, which is kept; by default inside of `out`, and deleted at the end.
        profile: of a session, or the name of one.
        workers: data-parallel.
        limit: most tracks of each split.
        overwrite: another bundle at `out`.
        dry_run: print what would be done.
        catalog: of tracks that are decoded on the way.
        setting: fields of the profile that are not to be as they are.
        tensorboard: folder of event files; by default inside of `out`.
        mlflow: server to log to.
    """
    source = open_source(features, catalog, experiment, limit)
    check(source, experiment)
    where, protocol, counts, totals = source.where, experiment.protocol, source.counts, source.totals
    setting = dict(setting or {})
    parts = setting.get("accumulation", 1)
    # The number of parts changes what is trained only where there are some: runs of before keep their keys.
    key = short_hash([experiment.to_json(), source.fingerprint, limit, workers, *([parts] if parts > 1 else [])])
    if dry_run:
        describe(
            {
                **experiment.dotted(),
                **totals,
                "genres": counts[TRAIN],
                **division(source.roster, experiment),
                "run": key,
                "would write": storage.redact(out),
            }
        )
    check_division(source.roster, protocol.leak, protocol.kind, where)
    if dry_run:
        return Summary("dry_run", totals)
    events = tensorboard or storage.join(out, "tensorboard")
    outputs = {"bundle": storage.redact(out)}
    if storage.exists(storage.join(out, "experiment.json")):
        if open_bundle(out).metrics.get("training_key") == key:
            say(f"{storage.redact(out)}: this very model is trained already.")
            return Summary("up_to_date", totals, outputs)
        if not overwrite:
            raise BundleError(
                f"{storage.redact(out)}: there is another bundle here; give another --out, or --overwrite to replace "
                f"it."
            )
    folder = checkpoints or storage.join(out, "_checkpoints")
    plan = JournalPlan(
        name=f"{experiment.recipe}-{key}",
        key=key,
        settings=training_journal.settings_of(experiment),
        genres=Taxonomy.flat(counts[TRAIN]).names,
        tensorboard=events,
        mlflow=mlflow,
    )
    with connect(train_workers=workers, profile=profile) as at:
        bundle, history = _train(experiment, source, plan, folder, dataclasses.replace(at, **setting))
    if "quarantined" in bundle.metrics:
        totals["quarantined"] = sum(bundle.metrics["quarantined"].values())
    best, bundle_id = publish(bundle, history, source, key, totals, out)
    if checkpoints is None:
        storage.delete(folder)
    figures = figures_of(best)
    which = "last" if experiment.training.select == "last" else "best"
    held = ", no validation: it was trained on"
    if figures:
        held = ": validation accuracy {:.3f} of clips, macro-F1 {:.3f}".format(*figures.values())
    say(f"{which} epoch {best['epoch']}{held} -> {storage.redact(out)}")
    return Summary(
        "done",
        {**totals, "epochs": len(history), **figures},
        {**outputs, "bundle_id": bundle_id, "tensorboard": storage.redact(events)},
    )


def _train(
    experiment: Experiment, source: Source, plan: JournalPlan, folder: str, at: Profile
) -> tuple[Bundle, list[Row]]:
    """A session's part of a training: the bundle, adjusted, and the history; the journal is told of both.

    Args:
        experiment: what to train.
        source: on what.
        plan: of the journal; its key names the run among the checkpoints.
        folder: of the checkpoints.
        at: of the session.
    """
    check_batch(experiment, at)
    check_room(at)
    journal = training_journal.start(plan)
    opened = source.open(at, storage.join(folder, f"{plan.key}-data"))
    job = plan_training(opened.measured, opened.facts, opened.counts, experiment, at)
    say(
        f"training {experiment.recipe}: {parameter_count(job.model()):,} parameters, "
        f"{source.totals[f'{TRAIN}_{source.unit}']} {source.unit}, "
        f"{len(job.taxonomy)} genres, at most {experiment.training.epochs} epochs of {job.steps(0)} steps, "
        f"{at.train_workers} worker(s)"
    )
    if plan.tensorboard:
        say(f"to watch: tensorboard --logdir {storage.redact(plan.tensorboard)}")
    for problem in training_journal.problems(journal):
        say(f"{problem} Training goes on.")
    epoch = epochs.start()
    try:
        with watched("training", "clips", job.clips()) as progress:
            training = opened.training(epoch, progress)
            held_out = opened.validation if source.counts[VALIDATION] else None
            bundle, history = train(job, training, held_out, at, folder, plan.key, progress, epoch, journal)
        bundle = adjusted(bundle, opened.validation, job)
    except BaseException:
        training_journal.finish(journal, None, patience_seconds=10.0)
        raise
    tags = {"bundle_id": bundle.id, "mgc": mgc.__version__}
    for problem in training_journal.finish(journal, kept_row(experiment.training, history), tags):
        say(problem)
    failed = opened.quarantined()
    if failed:
        kinds = dict(sorted(Counter(failed.values()).items()))
        bundle.metrics["quarantined"] = kinds
        named = ", ".join(sorted(failed)[:3]) + (", …" if len(failed) > 3 else "")
        say(f"{len(failed)} training tracks gave no features ({named}): {json.dumps(kinds)}")
    return bundle, history


def publish(
    bundle: Bundle, history: Sequence[Row], source: Source, key: str, totals: Mapping[str, Any], out: str
) -> tuple[Row, str]:
    """Note in a trained bundle what it was trained on and what that gave, and save it.

    Args:
        bundle: trained, adjusted; its metrics say with how many workers it was made.
        history: of its training.
        source: what it was trained on.
        key: names the training.
        totals: of the source, and how much of it failed.
        out: folder of the bundle.

    Returns:
        The row of the epoch that was kept, and the bundle's id.
    """
    protocol, roster, counts = bundle.experiment.protocol, source.roster, source.counts
    trained_on = Groups.of(roster)
    bundle = dataclasses.replace(bundle, trained_on=trained_on)
    leak = heard(roster, VALIDATION, trained_on)
    best = kept_row(bundle.experiment.training, history)
    total = sum(counts[TRAIN].values())
    bundle.metrics.update(
        {
            "training_key": key,
            "history": list(history),
            "validation": best,
            "data": {
                "features": source.where,
                "clips": totals,
                "genres_without_validation": source.unvalidated,
                "genre_clips": counts[TRAIN],
                "genre_share": {g: n / total for g, n in counts[TRAIN].items()},
                "protocol": name_of(protocol),
                "sides": {split: to_json(roster.size(split)) for split in SIDES},
                "leakage": {
                    "asked_for": protocol.leak,
                    "tracks_on_two_sides": crossing(roster, "track").count,
                    "artists_on_two_sides": crossing(roster, "artist").count,
                    VALIDATION: leak.to_json(),
                    "says": says(leak, VALIDATION, protocol.unit),
                },
            },
            "notices": source.notices,
            "made_with": {
                "mgc": mgc.__version__,
                "torch": torch.__version__,
                "machine": platform.machine(),
                **bundle.metrics["made_with"],
            },
        }
    )
    return best, save_bundle(bundle, out)


def figures_of(row: Row) -> dict[str, Any]:
    """The figures of an epoch that a summary has; none where nothing was held out."""
    names = ("validation_accuracy", "validation_macro_f1")
    return {name: round(row[name], 4) for name in names if name in row}


@click.command("train", context_settings=OVERRIDES)
@click.option("--recipe", default="house", show_default=True, help="What to train; `mgc recipes` lists them.")
@click.option("--features", type=URI, help="Folder that `mgc prepare` wrote.")
@click.option("--catalog", type=URI, help="In place of features: tracks to fetch and decode on the way, in each epoch.")
@click.option("--out", type=URI, required=True, help="Folder of the bundle.")
@click.option(
    "--checkpoints", type=URI, help="Folder of the checkpoints, kept; by default inside BUNDLE, and deleted at the end."
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Data-parallel workers.")
@PROFILE
@click.option("--fewest-workers", type=click.IntRange(1), help="With which it goes on where nodes are lost.")
@click.option(
    "--accumulation",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Parts in which a worker computes its share of a batch: more take less memory.",
)
@click.option("--float32", is_flag=True, help="In float32, also where the recipe takes bfloat16.")
@click.option("--compile", "compiled", is_flag=True, help="Compile the network: needs a C++ compiler on each node.")
@click.option("--prefetch", type=click.IntRange(0), help="Batches that a worker fetches ahead.")
@click.option("--limit", type=click.IntRange(2), help="Only N tracks of each split, spread over it.")
@click.option(
    "--tensorboard",
    type=URI,
    help="Folder of TensorBoard's event files, where each training has a folder; by default BUNDLE/tensorboard.",
)
@click.option(
    "--mlflow",
    envvar="MLFLOW_TRACKING_URI",
    help="MLflow server to log to [default: MLFLOW_TRACKING_URI, else none]; wants the extra mgc[mlflow].",
)
@click.option("--overwrite", is_flag=True, help="Replace another bundle at --out.")
@click.option("--dry-run", is_flag=True, help="Print the configuration and what would be done.")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED)
def command(
    recipe: str,
    features: str | None,
    catalog: str | None,
    out: str,
    checkpoints: str | None,
    workers: int,
    profile: str | None,
    fewest_workers: int | None,
    accumulation: int,
    float32: bool,
    compiled: bool,
    prefetch: int | None,
    limit: int | None,
    tensorboard: str | None,
    mlflow: str | None,
    overwrite: bool,
    dry_run: bool,
    fields: tuple[str, ...],
) -> Summary:
    """Train a recipe on prepared features, or on a catalog, and save the best model by validation.

    The best is that of the highest macro-F1, or of the lowest loss where the recipe says so (--training.select).

    Any field of the recipe can be set by its dotted name, for example --training.epochs 3 or --model.channels 16,32,64.
    """
    experiment = find(recipe).build().override(overrides(fields))
    asked = {
        "fewest_workers": fewest_workers,
        "accumulation": accumulation if accumulation > 1 else None,
        "precision": "float32" if float32 else None,
        "compile": compiled or None,
        "prefetch_batches": prefetch,
    }
    setting = {name: value for name, value in asked.items() if value is not None}
    return build(
        experiment, features, out, checkpoints, profile, workers, limit, overwrite, dry_run, catalog, setting,
        tensorboard, mlflow or None,
    )  # fmt: skip


if __name__ == "__main__":
    main(command)
