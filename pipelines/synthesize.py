"""`mgc synthesize --out FOLDER`: a corpus of MP3 files that are made by rule, to try the other jobs on.

FOLDER/audio holds the files, FOLDER/metadata.parquet genre and artist of each, for `mgc catalog --metadata`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq
import ray
from pydantic import ValidationError

from cluster.session.connect import connect, data_context
from cluster.session.profiles import Profile
from cluster.session.progress import watched
from mgc.configuration import short_hash, to_json
from mgc.datasets.synthetic import SYNTHETIC_NOTICE, SyntheticConfig, TrackPlan, encode, metadata_table, plan_corpus
from mgc.errors import ConfigError
from pipelines.command.job import Summary, describe, main, say


class _Render:
    """Stage: plans of tracks → files on disk."""

    def __init__(self, folder: str, progress: Any) -> None:
        self._folder = Path(folder)
        self._progress = progress

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        for row in batch["plan"]:
            plan = TrackPlan(**row)
            path = self._folder / plan.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(plan))
            self._progress.add.remote({"files": 1})
        return {"path": [row["path"] for row in batch["plan"]]}


def make_corpus(folder: Path, config: SyntheticConfig, limit: int | None, profile: Profile) -> int:
    """Write the corpus's files and `metadata.parquet`, unless they are there already.

    Returns the number of files written.
    """
    plans = plan_corpus(config)[:limit]
    marker = folder / "complete"
    key = short_hash([to_json(config), limit])
    if marker.exists() and marker.read_text() == key:
        say(f"the synthetic corpus is there already: {len(plans)} files in {folder / 'audio'}")
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    with watched("making MP3s", "files", len(plans)) as progress:
        data_context(profile)
        rows = ray.data.from_items(
            [{"plan": dataclasses.asdict(plan)} for plan in plans], override_num_blocks=profile.cores * 4
        )
        made = rows.map_batches(
            _Render,
            fn_constructor_kwargs={"folder": str(folder / "audio"), "progress": progress},
            batch_size=4,
            compute=ray.data.ActorPoolStrategy(size=max(2, profile.cores)),
            num_cpus=profile.decode_cpus,
        )
        written = sum(len(batch["path"]) for batch in made.iter_batches(batch_size=None))
    pq.write_table(metadata_table(plans), folder / "metadata.parquet")
    marker.write_text(key)
    return written


@click.command("synthesize")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the corpus.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Another seed is another corpus.")
@click.option("--most", type=int, default=80, show_default=True, help="Tracks of the first of the eight genres.")
@click.option("--fewest", type=int, default=8, show_default=True, help="Tracks of the last; those between fall evenly.")
@click.option("--seconds", type=(float, float), default=(10.0, 15.0), show_default=True, help="Shortest and longest.")
@click.option("--damaged", type=int, default=6, show_default=True, help="Further tracks whose files are damaged.")
@click.option("--limit", type=click.IntRange(1), help="Only the first N tracks of the corpus.")
@click.option("--dry-run", is_flag=True, help="Say what would be made.")
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
    """Make a synthetic corpus of MP3 files: eight genres by rule, artists of a few tracks each.

    It says nothing about real music. It is for trying the other jobs, at any size.
    """
    shortest, longest = seconds
    try:
        config = SyntheticConfig(
            seed=seed,
            largest_genre_tracks=most,
            smallest_genre_tracks=fewest,
            shortest_seconds=shortest,
            longest_seconds=longest,
            damaged_tracks=damaged,
        )
    except ValidationError as error:
        fault = error.errors()[0]
        named = ".".join(map(str, fault["loc"]))
        raise ConfigError(f"there is no such corpus: {named + ': ' if named else ''}{fault['msg']}.") from None
    if dry_run:
        describe({**to_json(config), "tracks by genre": config.genre_tracks, "would write": str(out)})
        return Summary("dry_run")
    with connect() as profile:
        made = make_corpus(out, config, limit, profile)
    say(f"{made} files made -> {out}. {SYNTHETIC_NOTICE}")
    folder = {"audio": str(out / "audio"), "metadata": str(out / "metadata.parquet")}
    return Summary("done" if made else "up_to_date", {"files_made": made}, folder)


if __name__ == "__main__":
    main(command)
