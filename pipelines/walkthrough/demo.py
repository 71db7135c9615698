"""Run every job in turn on a small synthetic corpus: files → catalog → features → model → score → labels."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import click

from cluster.session.connect import connect
from cluster.session.profiles import Profile
from cluster.storage.uri import Uri
from mgc.bundle_names import BundleName
from mgc.datasets.synthetic import SYNTHETIC_NOTICE, SyntheticConfig, plan_corpus
from mgc.experiment import Experiment
from mgc.recipes.house import house
from pipelines.catalogs.index import index_source
from pipelines.catalogs.requests import CatalogRequest, MetadataRequest
from pipelines.catalogs.synthesis import make_corpus
from pipelines.command.job import Summary, describe, say
from pipelines.evaluation.evaluate import evaluate_bundle
from pipelines.evaluation.requests import EvaluateRequest
from pipelines.nights.label import label
from pipelines.nights.requests import LabelRequest, NightRequest, ShowRequest
from pipelines.nights.show import show
from pipelines.training.prepared import prepare_features
from pipelines.training.requests import PrepareRequest, TrainRequest
from pipelines.training.train import train_bundle

_CORPUS: Final = SyntheticConfig(seed=1, shortest_seconds=8.0, longest_seconds=12.0)

_SHOWN_GENRES: Final = 8


@dataclass(frozen=True)
class DemoRequest:
    """The demo to run.

    Attributes:
        out: local folder for all output of the jobs.
        limit: number of tracks of the corpus to use, starting with the first; None for all.
        fields: changes to the recipe, by dotted name.
        dry_run: whether only to print the configuration.
    """

    out: Uri
    limit: int | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    dry_run: bool = False


def run_demo(request: DemoRequest) -> Summary:
    """Run every job in one Ray session, and show the labels.

    Raises:
        StorageError: `out` is in object storage.
    """
    root = request.out.local
    # A small corpus makes short epochs, so the demo doubles their number.
    experiment = house().override({"training.epochs": "16", **request.fields})
    if request.dry_run:
        tracks = len(plan_corpus(_CORPUS)[: request.limit])
        describe({**experiment.dotted(), "tracks": tracks, "would write": str(root)})
        return Summary("dry_run")
    say("starting a local Ray (about 10 s)")
    with connect() as profile:
        summary = _run_jobs(request, experiment, profile)
    labels = request.out / "labels"
    say("")
    show(ShowRequest(labels, _SHOWN_GENRES, rows=False))
    click.echo("\nThis corpus is synthetic: its figures say nothing about real music.")
    click.echo(f"Label your own with the best model that is here (`--bundle {BundleName.DEFAULT}`):")
    click.echo("  mgc label ~/Music --labels ./outputs/labels")
    click.echo(f"labels table  {labels}\nHTML report   {labels / '_reports' / 'latest.html'}")
    if summary.status == "up_to_date":
        click.echo("Everything was up to date: no track was labelled again.")
    return summary


def _run_jobs(request: DemoRequest, experiment: Experiment, profile: Profile) -> Summary:
    started = time.monotonic()

    def announce(number: int, title: str) -> None:
        say(f"\n[{number}/6] {title} ({time.monotonic() - started:.0f} s)")

    corpus, table = request.out / "corpus", request.out / "catalog.parquet"
    features, bundle, labels = request.out / "features", request.out / "bundle", request.out / "labels"
    announce(1, f"synthesize: make a small corpus of MP3 files. {SYNTHETIC_NOTICE}")
    made = make_corpus(corpus.local, _CORPUS, request.limit, profile)
    announce(2, "catalog: index the files")
    metadata = MetadataRequest((corpus / "metadata.parquet",))
    index_source(CatalogRequest(corpus / "audio", table, metadata, notices=(SYNTHETIC_NOTICE,)))
    announce(3, "prepare: decode the files and compute their features")
    prepare_features(PrepareRequest(table, features, experiment, profile))
    announce(4, "train: train a small CNN that sees every genre equally often")
    trained = train_bundle(TrainRequest(experiment, bundle, features, profile=profile, overwrite=True))
    announce(5, "evaluate: score it on artists that it has never heard")
    if trained.status == "up_to_date":
        say("scored already")
    else:
        evaluate_bundle(EvaluateRequest(bundle, features, profile=profile))
    announce(6, "label: label every file of the catalog, in one commit")
    labeled = label(LabelRequest(NightRequest(table, labels, bundle), profile))
    outputs = {"catalog": str(table), "features": str(features), "bundle": str(bundle), **labeled.outputs}
    return Summary(labeled.status, {"files_made": made, **labeled.counts}, outputs)
