"""Make a synthetic corpus: MP3 files made by rule, and a table with the genre and artist of each."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import ray

from cluster.session.connect import connect, data_context
from cluster.session.counts import ProgressHandle
from cluster.session.lifetime import end_with_node
from cluster.session.profiles import Profile
from cluster.session.progress import watch_progress
from mgc.configuration import short_hash, to_json
from mgc.datasets.synthetic import SYNTHETIC_NOTICE, SyntheticConfig, TrackPlan, encode, metadata_table, plan_corpus
from mgc.errors import ConfigError
from mgc.units import format_count
from pipelines.command.job import Summary, describe, say


@dataclass(frozen=True)
class SynthesisRequest:
    """The corpus to make.

    Attributes:
        folder: folder of the corpus; `audio/` and `metadata.parquet` are written below it.
        seed: seed of everything random in the corpus.
        most: tracks of the first, and largest, of the eight genres.
        fewest: tracks of the last genre; the numbers between fall evenly.
        shortest_seconds: duration of the shortest track.
        longest_seconds: duration of the longest track.
        damaged: number of additional tracks whose files are damaged.
        limit: number of tracks to make, starting with the first; None for all.
        dry_run: whether only to print what would be made.
    """

    folder: Path
    seed: int = 0
    most: int = 80
    fewest: int = 8
    shortest_seconds: float = 10.0
    longest_seconds: float = 15.0
    damaged: int = 6
    limit: int | None = None
    dry_run: bool = False


class _Render:
    """Stage: turn plans of tracks into files on disk."""

    def __init__(self, folder: str, progress: ProgressHandle) -> None:
        end_with_node()
        self._folder = Path(folder)
        self._progress = progress

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        for row in batch["plan"]:
            plan = TrackPlan(**row)
            path = self._folder / plan.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(plan))
            self._progress.add({"files": 1})
        return {"path": [row["path"] for row in batch["plan"]]}


def synthesize(request: SynthesisRequest) -> Summary:
    """Make a corpus, unless it is there already.

    Raises:
        ConfigError: a corpus with these numbers is impossible.
    """
    config = _configure(request)
    if request.dry_run:
        genres = {"tracks by genre": config.genre_tracks, "would write": str(request.folder)}
        describe({**to_json(config), **genres})
        return Summary("dry_run")
    with connect() as profile:
        made = make_corpus(request.folder, config, request.limit, profile)
    say(f"{format_count(made, 'file')} made -> {request.folder}. {SYNTHETIC_NOTICE}")
    outputs = {"audio": str(request.folder / "audio"), "metadata": str(request.folder / "metadata.parquet")}
    return Summary("done" if made else "up_to_date", {"files_made": made}, outputs)


def _configure(request: SynthesisRequest) -> SyntheticConfig:
    if request.fewest > request.most:
        raise ConfigError(f"--fewest {request.fewest} is more than --most {request.most}; lower it.")
    if request.shortest_seconds > request.longest_seconds:
        raise ConfigError(
            f"--seconds {request.shortest_seconds:g} {request.longest_seconds:g}: give the shorter first."
        )
    return SyntheticConfig(
        seed=request.seed,
        largest_genre_tracks=request.most,
        smallest_genre_tracks=request.fewest,
        shortest_seconds=request.shortest_seconds,
        longest_seconds=request.longest_seconds,
        damaged_tracks=request.damaged,
    )


def make_corpus(folder: Path, config: SyntheticConfig, limit: int | None, profile: Profile) -> int:
    """Write the files of a corpus and its `metadata.parquet`, unless they are there already.

    Args:
        folder: folder of the corpus.
        config: configuration of the corpus.
        limit: number of tracks to make, starting with the first; None for all.
        profile: available resources.

    Returns:
        The number of files written.
    """
    plans = plan_corpus(config)[:limit]
    marker = folder / "complete"
    key = short_hash([to_json(config), limit])
    if marker.exists() and marker.read_text() == key:
        say(f"the synthetic corpus is there already: {format_count(len(plans), 'file')} in {folder / 'audio'}")
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    with watch_progress("making MP3s", "files", len(plans)) as progress:
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
