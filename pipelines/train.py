"""`mgc train --recipe RECIPE --features FEATURES --out BUNDLE`: train a model and save it as a bundle."""

from __future__ import annotations

import platform
import tempfile
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import click
import torch

import mgc
from cluster import storage
from cluster.profiles import Profile
from cluster.progress import watched
from cluster.session import connect
from cluster.tables import class_counts, read_features, some_tracks, tracks_of
from cluster.trainer import feed, plan_training, train
from mgc import schema
from mgc.bundle import FILES, Bundle, load_bundle
from mgc.configuration import short_hash
from mgc.datasets.splits import TRAIN, VALIDATION
from mgc.errors import BundleError, FeaturesError
from mgc.experiment import Experiment
from mgc.features.front_end import features_id
from mgc.models.blocks import parameter_count
from mgc.recipes.catalogue import find
from pipelines.job import OVERRIDES, URI, Summary, describe, main, overrides, say


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
        for name in FILES:
            storage.write_bytes(storage.join(uri, name), Path(folder, name).read_bytes())
    return bundle_id


def check(experiment: Experiment, facts: dict[str, Any], counts: dict[str, dict[str, int]], where: str) -> None:
    """Refuse features that do not fit the recipe, or cannot be trained on.

    Raises:
        FeaturesError: says which and what to do.
    """
    wanted = features_id(experiment.front_end)
    if facts["features_id"] != wanted:
        raise FeaturesError(
            f"{where}: these features were computed by another front end ({facts['front_end'].get('kind')} "
            f"{facts['features_id']}) than "
            f"recipe {experiment.recipe} has ({experiment.front_end.kind} {wanted}); prepare features with this "
            f"recipe, or set its "
            f"--front_end fields (for example --front_end.kind {facts['front_end'].get('kind')})."
        )
    for split, found in counts.items():
        if not found:
            raise FeaturesError(
                f"{where}: no labelled clips in the split {split!r}; give the catalog splits with "
                "`mgc catalog … --metadata FILE` or `--split-by artist_id`."
            )
    if len(counts[TRAIN]) < 2:
        raise FeaturesError(
            f"{where}: only one genre ({', '.join(counts[TRAIN])}) to train on; two at least are needed."
        )
    strange = sorted(set(counts[VALIDATION]) - set(counts[TRAIN]))
    if strange:
        raise FeaturesError(f"{where}: the genre(s) {', '.join(strange)} are in validation, but not in train.")


def build(
    experiment: Experiment,
    features: str,
    out: str,
    checkpoints: str | None = None,
    profile: Profile | None = None,
    workers: int = 1,
    limit: int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Summary:
    """Train and save the bundle; connects to Ray when a profile is not given."""
    where = storage.redact(features)
    dataset, facts = read_features(features)
    notices = list(schema.notices_of(dataset.schema))
    # Names of feature files are unique: the same names are the same features.
    fingerprint = short_hash([facts["features_id"], sorted(dataset.files)])
    only = None
    if limit is not None:
        only = reduce(or_, (some_tracks(tracks_of(dataset, split), limit) for split in (TRAIN, VALIDATION)))
        dataset = dataset.filter(only)
    counts = {split: class_counts(dataset, split) for split in (TRAIN, VALIDATION)}
    check(experiment, facts, counts, where)
    key = short_hash([experiment.to_json(), fingerprint, limit, workers])
    totals: dict[str, Any] = {f"{split}_clips": sum(found.values()) for split, found in counts.items()}
    if dry_run:
        describe(
            {**experiment.dotted(), **totals, "genres": counts[TRAIN], "run": key, "would write": storage.redact(out)}
        )
        return Summary("dry_run", totals)
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

    def work(at: Profile) -> tuple[Bundle, list[dict[str, Any]]]:
        job = plan_training(dataset, facts, counts[TRAIN], experiment, at)
        training = feed(dataset, TRAIN, at, counts[TRAIN], experiment, only)
        validation = feed(dataset, VALIDATION, at, None, experiment, only)
        steps = totals["train_clips"] // experiment.training.batch_size
        say(
            f"training {experiment.recipe}: {parameter_count(job.model()):,} parameters, {totals['train_clips']} "
            f"clips, "
            f"{len(job.taxonomy)} genres, at most {experiment.training.epochs} epochs of {steps} steps, "
            f"{at.train_workers} worker(s)"
        )
        with watched(
            "training", "clips", experiment.training.epochs * steps * experiment.training.batch_size
        ) as progress:
            return train(job, training, validation, at, folder, key, progress)

    if profile is None:
        with connect(train_workers=workers) as at:
            bundle, history = work(at)
    else:
        bundle, history = work(profile)
    select = experiment.training.validation_score
    best = max(history, key=lambda row: select(row["validation_loss"], row["validation_macro_f1"]))
    total = sum(counts[TRAIN].values())
    bundle.metrics.update(
        {
            "training_key": key,
            "history": history,
            "validation": best,
            "data": {
                "features": where,
                "clips": totals,
                "genre_share": {g: n / total for g, n in counts[TRAIN].items()},
            },
            "notices": notices,
            "made_with": {
                "mgc": mgc.__version__,
                "torch": torch.__version__,
                "machine": platform.machine(),
                "workers": workers,
            },
        }
    )
    bundle_id = save_bundle(bundle, out)
    if checkpoints is None:
        storage.delete(folder)
    say(
        f"best epoch {best['epoch']}: validation accuracy {best['validation_accuracy']:.3f} of clips, "
        f"macro-F1 {best['validation_macro_f1']:.3f} -> {storage.redact(out)}"
    )
    figures = {name: round(best[name], 4) for name in ("validation_accuracy", "validation_macro_f1")}
    return Summary("done", {**totals, "epochs": len(history), **figures}, {**outputs, "bundle_id": bundle_id})


@click.command("train", context_settings=OVERRIDES)
@click.option("--recipe", default="house", show_default=True, help="What to train; `mgc recipes` lists them.")
@click.option("--features", type=URI, required=True, help="Folder that `mgc prepare` wrote.")
@click.option("--out", type=URI, required=True, help="Folder of the bundle.")
@click.option(
    "--checkpoints", type=URI, help="Folder of the checkpoints, kept; by default inside BUNDLE, and deleted at the end."
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Data-parallel workers.")
@click.option("--limit", type=click.IntRange(2), help="Only N tracks of each split, spread over it.")
@click.option("--overwrite", is_flag=True, help="Replace another bundle at --out.")
@click.option("--dry-run", is_flag=True, help="Print the configuration and what would be done.")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED)
def command(
    recipe: str,
    features: str,
    out: str,
    checkpoints: str | None,
    workers: int,
    limit: int | None,
    overwrite: bool,
    dry_run: bool,
    fields: tuple[str, ...],
) -> Summary:
    """Train a recipe on prepared features and save the best model by validation.

    The best is that of the highest macro-F1, or of the lowest loss where the recipe says so (--training.select).

    Any field of the recipe can be set by its dotted name, for example --training.epochs 3 or --model.channels 16,32,64.
    """
    experiment = find(recipe).build().override(overrides(fields))
    return build(experiment, features, out, checkpoints, None, workers, limit, overwrite, dry_run)


if __name__ == "__main__":
    main(command)
