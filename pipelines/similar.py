"""`mgc similar EMBEDDINGS TRACK`: what sounds like a track; `--duplicates`: which recordings are there twice."""

from __future__ import annotations

import click

from cluster.storage.uri import Uri
from pipelines.command.job import Summary, main
from pipelines.command.options import URI
from pipelines.nights.requests import SimilarRequest


@click.command("similar")
@click.argument("embeddings", type=URI)
@click.argument("track", required=False)
@click.option(
    "--top", type=click.IntRange(1), default=10, show_default=True, help="Tracks, or groups of duplicates, to print."
)
@click.option(
    "--duplicates", is_flag=True, help="List the recordings that are there several times, in whatever format."
)
@click.option(
    "--threshold",
    type=click.FloatRange(0.5, 1.0),
    default=0.98,
    show_default=True,
    help="Smallest cosine of the embeddings of duplicates.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.0, 3600.0),
    default=2.0,
    show_default=True,
    help="Largest difference of the durations of duplicates.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else.")
def command(
    embeddings: Uri, track: str | None, top: int, duplicates: bool, threshold: float, seconds: float, as_json: bool
) -> Summary:
    """Print the tracks whose embeddings are most like that of TRACK, a track id.

    With --duplicates, print groups of tracks that seem to be one recording: their embeddings are nearly the same, and
    so are their durations, where they are known. Nothing is deleted.
    """
    if (track is None) != duplicates:
        raise click.UsageError("name a TRACK, or ask for --duplicates; one of the two.")
    request = SimilarRequest(embeddings, track, top, threshold, seconds, as_json)
    from pipelines.nights.similar import similar

    return similar(request)


if __name__ == "__main__":
    main(command)
