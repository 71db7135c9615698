"""`mgc learn SOURCE --out FOLDER`: learn genres from the files' own tags, and label the untagged files."""

from __future__ import annotations

import click

from cluster.storage.selection import Selection
from cluster.storage.uri import Uri
from mgc.bundle_names import BundleName
from pipelines.catalogs.requests import TagsRequest
from pipelines.command.job import Summary, main
from pipelines.command.options import BUNDLE, PROFILE, URI
from pipelines.command.selecting import choosing_files
from pipelines.learning.requests import LearnRequest


@click.command("learn")
@click.argument("source", type=URI)
@click.option("--out", type=URI, required=True, help="Folder of all that is written.")
@click.option(
    "--bundle",
    type=BUNDLE,
    help="Bundle whose ears listen. The default is the one that made the embeddings in --out, or else the best that is "
    "there.",
)
@click.option("--aliases", type=URI, help="CSV of spelling,genre that adds to mgc's own, or replaces its lines.")
@click.option("--whitelist", type=URI, help="Text file of the only genres to keep, one a line.")
@click.option("--tree", type=URI, help="CSV of genre,parent. A genre becomes its nearest ancestor on the whitelist.")
@click.option(
    "--hidden",
    type=click.IntRange(0, 65_536),
    default=0,
    show_default=True,
    help="Units of a hidden layer of the head; 0 for a linear one.",
)
@choosing_files
@PROFILE
@click.option(
    "--accept",
    multiple=True,
    type=click.Choice(["removed", "stale"]),
    help="Let go of labels of the last run whose tracks left SOURCE (removed), or got no genre this time (stale).",
)
@click.option("--dry-run", is_flag=True, help="Read the tags, count them, and write nothing.")
def command(
    source: Uri,
    out: Uri,
    bundle: Uri | BundleName | None,
    aliases: Uri | None,
    whitelist: Uri | None,
    tree: Uri | None,
    hidden: int,
    selection: Selection,
    profile: str | None,
    accept: tuple[str, ...],
    dry_run: bool,
) -> Summary:
    """Learn genres from the tags of the files in SOURCE, and label the files without one.

    Reads genre and artist from the tags, embeds every track, trains a head on the tagged ones and answers for the
    others. The report lists where a tag and a confident answer disagree. Run it again when files or tags have changed:
    it does only what is new. If many labels of the last run would be lost, it stops, and they stay: see --accept.

    Writes into FOLDER: labels.parquet, report.html, tags_against_ears.csv, and catalog, embeddings and bundle.
    """
    if tree and not whitelist:
        raise click.UsageError("--tree leads from a genre to one of --whitelist; give both.")
    request = LearnRequest(
        source, out, bundle, TagsRequest(aliases, whitelist, tree), hidden, profile, selection, accept, dry_run
    )
    from pipelines.learning.learn import learn

    return learn(request)


if __name__ == "__main__":
    main(command)
