"""Features of a catalog's tracks: those that are missing are computed."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.session.connect import connect
from cluster.session.profiles import Profile
from cluster.session.progress import watch_progress
from cluster.storage import files
from cluster.storage.failures import redact
from cluster.storage.uri import join
from cluster.streams.listening import ListenRequest, write_features
from cluster.tables.duckdb import query
from cluster.tables.features import FeaturesWriter, features_done
from cluster.tables.parquet import open_parquet
from mgc import schema
from mgc.errors import FeaturesError
from mgc.experiment import Experiment
from mgc.features.front_end import describe_features, features_id
from pipelines.catalogs.sources import open_tracks
from pipelines.command.job import Summary, describe, say

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
    front_end_id = features_id(experiment.front_end)
    missing = todo(tracks, out, front_end_id)
    counts = {"tracks": tracks.num_rows, "up_to_date": tracks.num_rows - missing.num_rows}
    outputs = {"features": redact(out)}
    if dry_run:
        size = sum(missing["size_bytes"].to_pylist())
        describe({**experiment.dotted(), **counts, "to prepare": missing.num_rows, "bytes to read": size})
        return Summary("dry_run", counts)
    if not missing.num_rows:
        say(f"all {tracks.num_rows} tracks are prepared already: {redact(out)}")
        return Summary("up_to_date", counts, outputs)
    writer = FeaturesWriter(out, describe_features(experiment.front_end), notices)
    plan_uri = join(out, "_plan.parquet")
    total = missing.num_rows

    def work(at: Profile) -> None:
        nonlocal missing
        for _ in range(_MOST_PASSES):
            sink = pa.BufferOutputStream()
            pq.write_table(missing, sink)
            files.write_bytes(plan_uri, sink.getvalue().to_pybytes())
            with watch_progress("preparing", "tracks", missing.num_rows) as progress:
                request = ListenRequest(plan_uri, missing.num_rows, schema.CATALOG, experiment)
                write_features(request, writer, at, progress)
            missing = todo(tracks, out, front_end_id)
            if not missing.num_rows:
                return
        raise FeaturesError(
            f"{redact(out)}: {missing.num_rows} tracks gave neither features nor a reject, for example "
            f"{missing['track_id'][0].as_py()!r}; submit the job again."
        )

    with connect(profile=profile) as at:
        work(at)
    files.delete(plan_uri)
    rejects = _rejects(out)
    counts |= {"prepared": total, "rejected": rejects}
    say(f"{total} tracks prepared, {rejects} of all rejected -> {redact(out)}")
    return Summary("done", counts, outputs)


def _rejects(out: str) -> int:
    folder = join(out, "rejects")
    if not files.exists(folder):
        return 0
    return int(open_parquet(folder, "", FeaturesError).count_rows())
