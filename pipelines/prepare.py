"""`mgc prepare CATALOG --out FEATURES`: decode every track once and write what training reads."""

from __future__ import annotations

import click
import pyarrow as pa
import pyarrow.parquet as pq

from cluster import storage, streams
from cluster.profiles import Profile
from cluster.progress import watched
from cluster.queries import query
from cluster.session import connect
from cluster.tables import FeaturesWriter, features_done, open_parquet
from mgc import schema
from mgc.configuration import to_json
from mgc.errors import FeaturesError
from mgc.experiment import Experiment
from mgc.features.front_end import build_front_end, features_id
from mgc.recipes.catalogue import find
from pipelines.catalog import open_tracks
from pipelines.job import OVERRIDES, PROFILE, URI, Summary, describe, main, overrides, say

_MOST_PASSES = 3
"""Times that tracks are run which came back neither as features nor as rejects."""


def todo(tracks: pa.Table, out: str, front_end_id: str) -> pa.Table:
    """The tracks that neither features nor rejects under `out` hold with the same content."""
    done = features_done(out, front_end_id)
    if done is None:
        return tracks
    sql = "SELECT t.* FROM tracks t ANTI JOIN done USING (track_id, content_tag) ORDER BY track_id"
    return query(sql, tracks=tracks, done=done).cast(schema.CATALOG)


def build(
    catalog: str,
    out: str,
    experiment: Experiment,
    profile: Profile | str | None = None,
    limit: int | None = None,
    dry_run: bool = False,
) -> Summary:
    """Write the features that are missing; connects to Ray unless it is given the profile of a session."""
    tracks, notices = open_tracks(catalog)
    tracks = tracks if limit is None else tracks.slice(0, limit)
    front_end = build_front_end(experiment.front_end)
    front_end_id = features_id(experiment.front_end)
    missing = todo(tracks, out, front_end_id)
    counts = {"tracks": tracks.num_rows, "up_to_date": tracks.num_rows - missing.num_rows}
    outputs = {"features": storage.redact(out)}
    if dry_run:
        size = sum(missing["size_bytes"].to_pylist())
        describe({**experiment.dotted(), **counts, "to prepare": missing.num_rows, "bytes to read": size})
        return Summary("dry_run", counts)
    if not missing.num_rows:
        say(f"all {tracks.num_rows} tracks are prepared already: {storage.redact(out)}")
        return Summary("up_to_date", counts, outputs)
    configuration = to_json(experiment.front_end)
    writer = FeaturesWriter(out, configuration, front_end_id, front_end.shape, notices, front_end.dtype)
    plan_uri = storage.join(out, "_plan.parquet")
    total = missing.num_rows

    def work(at: Profile) -> None:
        nonlocal missing
        for _ in range(_MOST_PASSES):
            sink = pa.BufferOutputStream()
            pq.write_table(missing, sink)
            storage.write_bytes(plan_uri, sink.getvalue().to_pybytes())
            with watched("preparing", "tracks", missing.num_rows) as progress:
                streams.prepare(plan_uri, missing.num_rows, schema.CATALOG, experiment, writer, at, progress)
            missing = todo(tracks, out, front_end_id)
            if not missing.num_rows:
                return
        raise FeaturesError(
            f"{storage.redact(out)}: {missing.num_rows} tracks gave neither features nor a reject, for example "
            f"{missing['track_id'][0].as_py()!r}; submit the job again."
        )

    with connect(profile=profile) as at:
        work(at)
    storage.delete(plan_uri)
    rejects = _rejects(out)
    counts |= {"prepared": total, "rejected": rejects}
    say(f"{total} tracks prepared, {rejects} of all rejected -> {storage.redact(out)}")
    return Summary("done", counts, outputs)


def _rejects(out: str) -> int:
    folder = storage.join(out, "rejects")
    if not storage.exists(folder):
        return 0
    return int(open_parquet(folder, "", FeaturesError).count_rows())


@click.command("prepare", context_settings=OVERRIDES)
@click.argument("catalog", type=URI)
@click.option("--out", type=URI, required=True, help="Folder of the features.")
@click.option("--recipe", default="house", show_default=True, help="Whose front end computes them.")
@PROFILE
@click.option("--limit", type=click.IntRange(1), help="Only the first N tracks.")
@click.option("--dry-run", is_flag=True, help="Print the configuration and what would be done.")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED)
def command(
    catalog: str,
    out: str,
    recipe: str,
    profile: str | None,
    limit: int | None,
    dry_run: bool,
    fields: tuple[str, ...],
) -> Summary:
    """Compute the features of a catalog's tracks (or of SOURCE, listed now) for training.

    Any field of the recipe can be set by its dotted name, for example --front_end.n_mels 96.
    """
    return build(catalog, out, find(recipe).build().override(overrides(fields)), profile, limit, dry_run)


if __name__ == "__main__":
    main(command)
