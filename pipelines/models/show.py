"""`mgc show BUNDLE`: print what a bundle is, and the words that it knows."""

from __future__ import annotations

from collections import defaultdict

import click
from pydantic import JsonValue
from rich.table import Table

from cluster.bundles import open_bundle
from mgc.bundle import Bundle
from mgc.bundle_facts import describe_model
from mgc.bundle_names import BundleName
from mgc.labeling.tag_maps import shipped_maps
from mgc.units import format_count
from pipelines.command.console import plain, show
from pipelines.command.job import Summary, describe
from pipelines.models.requests import ShowBundleRequest


def show_bundle(request: ShowBundleRequest) -> Summary:
    """Print facts about a bundle, the taxonomies that come with mgc for it, and what its outputs mean."""
    place = request.place.resolved if isinstance(request.place, BundleName) else request.place
    bundle = open_bundle(place)
    known, maps = bundle.vocabulary, shipped_maps(bundle.vocabulary)
    counts: dict[str, JsonValue] = {"genres": len(bundle.taxonomy), "tags": len(known.tags), "taxonomies": list(maps)}
    describe(
        {
            "place": str(place),
            **describe_model(bundle),
            "taxonomies": f"{', '.join(maps) or 'none comes with mgc for these words'}, or a CSV file",
        }
    )
    outputs = {"bundle": str(place), "bundle_id": bundle.id}
    if request.dry_run:
        return Summary("dry_run", counts, outputs)
    click.echo()
    show(_words(bundle, request))
    return Summary("done", counts, outputs)


def _words(bundle: Bundle, request: ShowBundleRequest) -> Table:
    """Return a table of the network's outputs, in their order, and the genres that they speak for."""
    known, speaks = bundle.vocabulary, defaultdict(list)
    for genre, tag, weight in () if bundle.tags is None else bundle.tags.evidence:
        speaks[tag].append((genre, weight))
    wanted = request.genre
    tags = [tag for tag in known.tags if wanted is None or wanted in (tag, *(genre for genre, _ in speaks[tag]))]
    shown = tags[: request.limit]
    some = "" if len(shown) == len(known.tags) else f"{len(shown)} of "
    table = Table(
        title=f"{some}{format_count(len(known.tags), 'tag')} ({known.name})", title_justify="left", show_edge=False
    )
    table.add_column("tag", overflow="fold")
    table.add_column("is")
    table.add_column("speaks for", overflow="fold")
    kinds = {**dict.fromkeys(known.music, "music"), **dict.fromkeys(known.silence, "silence")}
    if bundle.tags is None:
        speaks |= {genre: [(genre, 1.0)] for genre in known.tags}
    for tag in shown:
        genres = ", ".join(genre if weight == 1 else f"{genre} ({weight:g})" for genre, weight in speaks[tag])
        table.add_row(plain(tag), kinds.get(tag, ""), plain(genres))
    return table
