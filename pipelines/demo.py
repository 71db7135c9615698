"""`make demo`: the whole way on a synthetic corpus, on this machine.

Files → catalog → features → model → score → labels.
"""

from __future__ import annotations

import time
from typing import Final

import click

from cluster.session.connect import connect
from cluster.storage.uri import Uri
from mgc.datasets.synthetic import SYNTHETIC_NOTICE, SyntheticConfig, plan_corpus
from mgc.recipes.house import house
from mgc.shipped_bundle import ShippedBundle
from pipelines.catalogs.index import index_source
from pipelines.catalogs.requests import CatalogRequest, MetadataRequest
from pipelines.catalogs.synthesis import make_corpus
from pipelines.command.job import OVERRIDES, URI, Summary, describe, main, overrides, say
from pipelines.evaluation.evaluate import evaluate_bundle
from pipelines.evaluation.requests import EvaluateRequest
from pipelines.nights.label import label
from pipelines.nights.requests import LabelRequest, NightRequest, ShowRequest
from pipelines.nights.show import show
from pipelines.training.prepared import prepare_features
from pipelines.training.requests import PrepareRequest, TrainRequest
from pipelines.training.train import train_bundle

CORPUS: Final = SyntheticConfig(seed=1, shortest_seconds=8.0, longest_seconds=12.0)


def build(out: Uri, limit: int | None, fields: dict[str, str], dry_run: bool) -> Summary:
    """Run every job in one Ray session."""
    root = out.local
    # A small corpus makes short epochs: twice as many of them.
    experiment = house().override({"training.epochs": "16", **fields})
    corpus, table = root / "corpus", out / "catalog.parquet"
    features, bundle, labels = out / "features", out / "bundle", out / "labels"
    if dry_run:
        describe({**experiment.dotted(), "tracks": len(plan_corpus(CORPUS)[:limit]), "would write": str(root)})
        return Summary("dry_run")
    started = time.monotonic()

    def step(number: int, title: str) -> None:
        say(f"\n[{number}/6] {title} ({time.monotonic() - started:.0f} s)")

    say("starting a local Ray (about 10 s)")
    with connect() as profile:
        step(1, f"a small synthetic corpus of MP3 files. {SYNTHETIC_NOTICE}")
        made = make_corpus(corpus, CORPUS, limit, profile)
        step(2, "catalog: index the files")
        index_source(
            CatalogRequest(
                Uri.of_path(corpus / "audio"),
                table,
                MetadataRequest((Uri.of_path(corpus / "metadata.parquet"),)),
                notices=(SYNTHETIC_NOTICE,),
            )
        )
        step(3, "prepare: decode, log-mel, features")
        prepare_features(PrepareRequest(table, features, experiment, profile))
        step(4, "train: a small CNN, every genre seen equally often")
        trained = train_bundle(TrainRequest(experiment, bundle, features, profile=profile, overwrite=True))
        step(5, "evaluate: score it on artists that it has never heard")
        if trained.status == "up_to_date":
            say("scored already")
        else:
            evaluate_bundle(EvaluateRequest(bundle, features, profile=profile))
        step(6, "label: every file of the catalog, in one commit")
        night = NightRequest(table, labels, bundle)
        labeled = label(LabelRequest(night, profile))
    say("")
    show(ShowRequest(labels, 8, rows=False))
    click.echo(
        f"\nThis corpus is synthetic: its figures say nothing about real music. With the model shipped in mgc "
        f"(`--bundle {ShippedBundle.DEFAULT}`),"
    )
    click.echo("label your own:  mgc label ~/Music --labels ./outputs/labels")
    click.echo(f"labels table  {labels}\nHTML report   {root / 'labels' / '_reports' / 'latest.html'}")
    if labeled.status == "up_to_date":
        click.echo("Everything was up to date: no track was labelled anew.")
    outputs = {"catalog": str(table), "features": str(features), "bundle": str(bundle), **labeled.outputs}
    return Summary(labeled.status, {"files_made": made, **labeled.counts}, outputs)


@click.command("demo", context_settings=OVERRIDES)
@click.option("--out", type=URI, default="demo", show_default=True, help="Folder for everything.")
@click.option("--limit", type=click.IntRange(1), help="Only the first N tracks of the corpus.")
@click.option("--dry-run", is_flag=True, help="Print the configuration.")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED)
def command(out: Uri, limit: int | None, dry_run: bool, fields: tuple[str, ...]) -> Summary:
    """The whole way on a synthetic corpus: make MP3s, catalog, prepare, train, evaluate, label."""
    return build(out, limit, overrides(fields), dry_run)


if __name__ == "__main__":
    main(command)
