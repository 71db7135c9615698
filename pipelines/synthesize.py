"""`mgc synthesize --out FOLDER`: a corpus of MP3 files that are made by rule, to try the other jobs on.

FOLDER/audio holds the files, FOLDER/metadata.parquet the genre and artist of each, for `mgc catalog --metadata`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from pipelines.command.job import Summary, main

# The ranges of `SyntheticConfig`, whose module is slow to import.
_TRACKS: Final = click.IntRange(3, 100_000)
_SECONDS: Final = click.FloatRange(1, 600)


@click.command("synthesize")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the corpus.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the corpus.")
@click.option("--most", type=_TRACKS, default=80, show_default=True, help="Tracks of the first of the eight genres.")
@click.option(
    "--fewest", type=_TRACKS, default=8, show_default=True, help="Tracks of the last; those between fall evenly."
)
@click.option(
    "--seconds",
    type=(_SECONDS, _SECONDS),
    default=(10.0, 15.0),
    show_default=True,
    help="Shortest and longest duration.",
)
@click.option(
    "--damaged",
    type=click.IntRange(0, 10_000),
    default=6,
    show_default=True,
    help="Additional tracks whose files are damaged.",
)
@click.option("--limit", type=click.IntRange(1), help="Take only the first N tracks of the corpus.")
@click.option("--dry-run", is_flag=True, help="Print what would be made.")
def command(
    out: Path,
    seed: int,
    most: int,
    fewest: int,
    seconds: tuple[float, float],
    damaged: int,
    limit: int | None,
    dry_run: bool,
) -> Summary:
    """Make a synthetic corpus of MP3 files: eight genres by rule, artists with a few tracks each.

    It says nothing about real music. Use it to try the other jobs, at any size.
    """
    from pipelines.catalogs.synthesis import SynthesisRequest, synthesize

    return synthesize(SynthesisRequest(out, seed, most, fewest, *seconds, damaged, limit, dry_run))


if __name__ == "__main__":
    main(command)
