"""`mgc train --recipe RECIPE --features FEATURES --out BUNDLE`: train a model and save it as a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click
from click.core import ParameterSource

from cluster.storage.uri import Uri
from mgc.bundle_names import BundleName
from pipelines.command.job import Summary, main
from pipelines.command.options import ALLOW_ROOTS, BUNDLE, OVERRIDES, PROFILE, URI, overrides
from pipelines.training.requests import PROBE, ProbeRequest, TrainRequest

PROBE_FIELDS: Final = ("model.hidden", "training.seed")
OF_NETWORKS: Final = (
    *("workers", "profile", "fewest_workers", "accumulation", "float32", "compiled", "prefetch", "limit"),
    *("checkpoints", "tensorboard", "mlflow", "init_network"),
)
LARGEST_FIELD: Final = 65_536


@click.command("train", context_settings=OVERRIDES)
@click.option(
    "--recipe",
    default="house",
    show_default=True,
    help="Recipe to train; `mgc recipes` lists them, and `probe` is a head on embeddings.",
)
@click.option("--features", type=URI, help="Folder that `mgc prepare` wrote, or embeddings for a probe.")
@click.option(
    "--catalog",
    type=URI,
    help="Instead of features: a catalog whose tracks are decoded in every epoch. For a probe, one with genres.",
)
@ALLOW_ROOTS
@click.option("--out", type=URI, required=True, help="Folder of the bundle.")
@click.option(
    "--checkpoints",
    type=URI,
    help="Folder of the checkpoints, which is kept. By default they lie inside the bundle and are deleted at the end.",
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Data-parallel workers.")
@PROFILE
@click.option(
    "--fewest-workers", type=click.IntRange(1), help="Keep training with as few as N workers when nodes are lost."
)
@click.option(
    "--accumulation",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Parts in which a worker computes its share of a batch. More parts take less memory.",
)
@click.option("--float32", is_flag=True, help="Compute in float32 even if the recipe allows bfloat16.")
@click.option("--compile", "compiled", is_flag=True, help="Compile the network. Every node needs a C++ compiler.")
@click.option("--prefetch", type=click.IntRange(0), help="Batches that a worker fetches ahead.")
@click.option("--limit", type=click.IntRange(2), help="Take only N tracks of each split, spread over it.")
@click.option(
    "--tensorboard",
    type=URI,
    help="Folder of TensorBoard event files; each training has its own subfolder. The default is BUNDLE/tensorboard.",
)
@click.option(
    "--mlflow",
    envvar="MLFLOW_TRACKING_URI",
    help="MLflow server to log to. The default is MLFLOW_TRACKING_URI, if it is set. Needs the extra mgc[mlflow].",
)
@click.option("--init", type=BUNDLE, help="Bundle whose weights the training starts from, instead of untrained ones.")
@click.option(
    "--init-network", type=click.IntRange(1), metavar="N", help="Take the N-th network, if that bundle is an ensemble."
)
@click.option("--overwrite", is_flag=True, help="Replace another bundle at --out.")
@click.option("--dry-run", is_flag=True, help="Print the configuration and what would be done.")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED)
def command(
    recipe: str,
    features: Uri | None,
    catalog: Uri | None,
    allow_roots: tuple[Uri, ...],
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
    init: Uri | BundleName | None,
    init_network: int | None,
    overwrite: bool,
    dry_run: bool,
    fields: tuple[str, ...],
) -> Summary:
    """Train a recipe on prepared features, or on a catalog, and save the best model as a bundle.

    The recipe `probe` trains a small head on embeddings in seconds: give --features EMBEDDINGS, which `mgc embed`
    wrote, and a --catalog with genres and artists. Its score comes from cross-validation over artists.

    The best model has the highest validation macro-F1, or the lowest validation loss if the recipe says so
    (--training.select).

    Set any field of the recipe by its dotted name, for example --training.epochs 3 or --model.channels 16,32,64.
    """
    if init_network is not None and init is None:
        raise click.UsageError("--init-network says which network of --init; give --init too.")
    changes = overrides(fields)
    if recipe == PROBE:
        _refuse_options()
        from pipelines.training.probe import train_probe

        return train_probe(_read_probe(features, catalog, out, init, overwrite, dry_run, allow_roots, changes))

    from mgc.recipes.catalogue import find
    from pipelines.training.train import train_bundle

    return train_bundle(
        TrainRequest(
            experiment=find(recipe).build().override(changes),
            out=out,
            features=features,
            catalog=catalog,
            checkpoints=checkpoints,
            tensorboard=tensorboard,
            mlflow=mlflow or None,
            workers=workers,
            limit=limit,
            profile=profile,
            fewest_workers=fewest_workers,
            accumulation=accumulation,
            float32=float32,
            compile=compiled,
            prefetch_batches=prefetch,
            overwrite=overwrite,
            dry_run=dry_run,
            allow_roots=allow_roots,
            init=init,
            init_network=init_network,
        )
    )


def _refuse_options() -> None:
    """Refuse options that say nothing about a probe."""
    context = click.get_current_context()
    for name in OF_NETWORKS:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = "compile" if name == "compiled" else name.replace("_", "-")
            raise click.UsageError(f"--{option} is for networks; a probe is trained in this process, on all labels.")


def _read_probe(
    embeddings: Uri | None,
    catalog: Uri | None,
    out: Uri,
    init: Uri | BundleName | None,
    overwrite: bool,
    dry_run: bool,
    allow_roots: tuple[Uri, ...],
    changes: Mapping[str, str],
) -> ProbeRequest:
    """Return the request for a probe, which has only two fields to set."""
    if embeddings is None or catalog is None:
        raise click.UsageError("a probe learns from embeddings and genres; give --features EMBEDDINGS and --catalog.")
    strange = sorted(set(changes) - set(PROBE_FIELDS))
    if strange:
        raise click.UsageError(f"a probe has no field {strange[0]}; its fields are {', '.join(PROBE_FIELDS)}.")
    numbers = {}
    for name in PROBE_FIELDS:
        text = changes.get(name, "0")
        if not text.isdecimal() or int(text) > LARGEST_FIELD:
            raise click.UsageError(f"--{name} {text}: it is a whole number from 0 to {LARGEST_FIELD}.")
        numbers[name] = int(text)
    hidden, seed = (numbers[name] for name in PROBE_FIELDS)
    return ProbeRequest(embeddings, catalog, out, init, hidden, seed, overwrite, dry_run, allow_roots)


if __name__ == "__main__":
    main(command)
