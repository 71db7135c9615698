"""`mgc train --recipe RECIPE --features FEATURES --out BUNDLE`: train a model and save it as a bundle."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import click

import mgc
from cluster.bundles import open_bundle
from cluster.session.connect import connect
from cluster.session.epoch_counter import EpochCounter
from cluster.session.profiles import Profile
from cluster.session.progress import watch_progress
from cluster.storage import files
from cluster.storage.failures import redact
from cluster.storage.uri import Uri, join
from cluster.training.job import check_batch, plan_training
from cluster.training.journal import JournalHandle, JournalPlan, settings_of
from cluster.training.trainer import check_room, train
from mgc.bundle import Bundle
from mgc.configuration import short_hash
from mgc.datasets.splits import TRAIN, VALIDATION
from mgc.errors import BundleError
from mgc.evaluation.leakage import check_division
from mgc.experiment import Experiment
from mgc.models.blocks import parameter_count
from mgc.recipes.catalogue import find
from mgc.taxonomy import Taxonomy
from mgc.training.course import Row, kept_row
from pipelines.command.job import OVERRIDES, PROFILE, URI, Summary, describe, main, overrides, say
from pipelines.training.publish import adjusted, division, figures_of, publish
from pipelines.training.source import Source, check, open_source


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
                "would write": redact(out),
            }
        )
    check_division(source.roster, protocol.leak, protocol.kind, where)
    if dry_run:
        return Summary("dry_run", totals)
    events = tensorboard or join(out, "tensorboard")
    outputs = {"bundle": redact(out)}
    if files.exists(join(out, "experiment.json")):
        if open_bundle(out).training.training_key == key:
            say(f"{redact(out)}: this very model is trained already.")
            return Summary("up_to_date", totals, outputs)
        if not overwrite:
            raise BundleError(
                f"{redact(out)}: there is another bundle here; give another --out, or --overwrite to replace it."
            )
    folder = checkpoints or join(out, "_checkpoints")
    plan = JournalPlan(
        name=f"{experiment.recipe}-{key}",
        key=key,
        settings=settings_of(experiment),
        genres=Taxonomy.flat(counts[TRAIN]).names,
        tensorboard=events,
        mlflow=mlflow,
    )
    with connect(train_workers=workers, profile=profile) as at:
        bundle, history = _train(experiment, source, plan, folder, dataclasses.replace(at, **setting))
    if bundle.training.quarantined is not None:
        totals["quarantined"] = sum(bundle.training.quarantined.values())
    best, bundle_id = publish(bundle, history, source, key, totals, out)
    if checkpoints is None:
        files.delete(folder)
    figures = figures_of(best)
    which = "last" if experiment.training.select == "last" else "best"
    held = ", no validation: it was trained on"
    if figures:
        held = ": validation accuracy {:.3f} of clips, macro-F1 {:.3f}".format(*figures.values())
    say(f"{which} epoch {best['epoch']}{held} -> {redact(out)}")
    return Summary(
        "done",
        {**totals, "epochs": len(history), **figures},
        {**outputs, "bundle_id": bundle_id, "tensorboard": redact(events)},
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
    told = JournalHandle.start(plan)
    opened = source.open(at, join(folder, f"{plan.key}-data"))
    job = plan_training(opened.measured, opened.facts, opened.counts, experiment, at)
    say(
        f"training {experiment.recipe}: {parameter_count(job.model()):,} parameters, "
        f"{source.totals[f'{TRAIN}_{source.unit}']} {source.unit}, "
        f"{len(job.taxonomy)} genres, at most {experiment.training.epochs} epochs of {job.steps(0)} steps, "
        f"{at.train_workers} worker(s)"
    )
    if plan.tensorboard:
        say(f"to watch: tensorboard --logdir {redact(plan.tensorboard)}")
    for problem in told.problems():
        say(f"{problem} Training goes on.")
    epoch = EpochCounter.start()
    try:
        with watch_progress("training", "clips", job.clips()) as progress:
            training = opened.training(epoch, progress)
            held_out = opened.validation if source.counts[VALIDATION] else None
            bundle, history = train(job, training, held_out, at, folder, plan.key, progress, epoch, told)
        bundle = adjusted(bundle, opened.validation, job)
    except BaseException:
        told.close(None, patience_seconds=10.0)
        raise
    tags = {"bundle_id": bundle.id, "mgc": mgc.__version__}
    for problem in told.close(kept_row(experiment.training, history), tags):
        say(problem)
    failed = opened.quarantined()
    if failed:
        kinds = dict(sorted(Counter(failed.values()).items()))
        bundle = dataclasses.replace(bundle, training=bundle.training.updated(quarantined=kinds))
        named = ", ".join(sorted(failed)[:3]) + (", …" if len(failed) > 3 else "")
        say(f"{len(failed)} training tracks gave no features ({named}): {json.dumps(kinds)}")
    return bundle, history


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
    features: Uri | None,
    catalog: Uri | None,
    out: Uri,
    checkpoints: Uri | None,
    workers: int,
    profile: str | None,
    fewest_workers: int | None,
    accumulation: int,
    float32: bool,
    compiled: bool,
    prefetch: int | None,
    limit: int | None,
    tensorboard: Uri | None,
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
    read, listed, kept, watched_at = (
        place.text if place else None for place in (features, catalog, checkpoints, tensorboard)
    )
    return build(
        experiment, read, out.text, kept, profile, workers, limit, overwrite, dry_run, listed, setting,
        watched_at, mlflow or None,
    )  # fmt: skip


if __name__ == "__main__":
    main(command)
