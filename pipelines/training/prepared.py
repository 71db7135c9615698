"""Compute the features of a catalog's tracks. Skips tracks that already have features."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import JsonValue

from cluster.session.connect import connect
from cluster.session.profiles import Profile
from cluster.session.progress import watch_progress
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.streams.listening import ListenRequest, write_features
from cluster.tables.catalog import total_bytes
from cluster.tables.duckdb import query
from cluster.tables.features import FeaturesWriter, features_done, read_facts, set_aside_damaged
from cluster.tables.parquet import open_parquet
from mgc import schema
from mgc.configuration import to_json
from mgc.errors import FeaturesError
from mgc.features.front_end import describe_features, features_id
from mgc.units import GIB, format_count
from pipelines.catalogs.sources import open_tracks
from pipelines.catalogs.surveys import count_survey
from pipelines.command.job import Summary, describe, say
from pipelines.training.requests import PrepareRequest

_MOST_PASSES: Final = 3
"""Most passes over tracks that give neither features nor rejects."""

_KINDS: Final = {
    "gone": "that the catalog lacks",
    "content_tag": "whose file has changed",
    **{name: f"with another {name}" for name in ("genre_top", "artist_id", "split")},
}
"""Ways in which features can differ from the catalog, in words."""

_DIFFERENCES: Final = """
SELECT * FROM (
    SELECT
        h.track_id,
        t.track_id IS NULL AS gone,
        NOT gone AND h.content_tag IS DISTINCT FROM t.content_tag AS content_tag,
        NOT gone AND nullif(h.genre_top, '') IS DISTINCT FROM nullif(t.genre_top, '') AS genre_top,
        NOT gone AND nullif(h.artist_id, '') IS DISTINCT FROM nullif(t.artist_id, '') AS artist_id,
        NOT gone AND nullif(h.split, '') IS DISTINCT FROM nullif(t.split, '') AS split
    FROM held h LEFT JOIN tracks t USING (track_id)
) WHERE gone OR content_tag OR genre_top OR artist_id OR split ORDER BY track_id
"""


def find_missing(tracks: pa.Table, out: Uri, front_end_id: str) -> pa.Table:
    """Return the tracks for which `out` holds neither features nor a reject of the same content.

    Raises:
        FeaturesError: `out` holds features from another front end.
    """
    done = features_done(out, front_end_id)
    if done is None:
        return tracks
    sql = "SELECT t.* FROM tracks t ANTI JOIN done USING (track_id, content_tag) ORDER BY track_id"
    return query(sql, tracks=tracks, done=done).cast(schema.CATALOG)


def check_held(request: PrepareRequest, tracks: pa.Table) -> None:
    """Refuse to add to features that were heard otherwise, or whose tracks have other facts in the catalog.

    These features would stay as they are, and a training would take them.

    Args:
        request: request of the job. With a selection, the features may be of further tracks.
        tracks: all tracks of the catalog.

    Raises:
        FeaturesError: some features do not fit; the message counts their tracks.
    """
    out = request.out
    there = read_facts(out)
    if there is None:
        return
    held, facts = there
    request.experiment.check_listening(facts, str(out), "give another --out, or set the plan of these features")
    found = query(_DIFFERENCES, held=held, tracks=tracks)
    if request.selection:
        found = found.filter(pc.invert(found["gone"]))
    counts = {words: pc.count_distinct(found.filter(found[name])["track_id"]).as_py() for name, words in _KINDS.items()}
    said = "; ".join(f"{words}: {count:,}" for words, count in counts.items() if count)
    if said:
        raise FeaturesError(
            f"{out}: these features do not fit {request.catalog} any more (tracks {said}; for example "
            f"{found['track_id'][0].as_py()!r}); prepare into another --out, or delete this folder and prepare again."
        )


def prepare_features(request: PrepareRequest) -> Summary:
    """Write the missing features.

    Connects to Ray unless the request has the profile of an open session.

    Raises:
        FeaturesError: `out` holds features that do not fit the experiment or the catalog, or tracks gave neither
            features nor rejects.
    """
    experiment, out = request.experiment, request.out
    tracks, catalog = open_tracks(request.catalog, request.allow_roots, request.selection)
    seen = {} if catalog.survey is None else count_survey(catalog.survey)
    listed, tracks = tracks, tracks if request.limit is None else tracks.slice(0, request.limit)
    if not request.dry_run:
        for line in set_aside_damaged(out):
            say(line)
    front_end_id = features_id(experiment.front_end)
    missing = find_missing(tracks, out, front_end_id)
    check_held(request, listed)
    total = missing.num_rows
    counts: dict[str, JsonValue] = {**seen, "tracks": tracks.num_rows, "up_to_date": tracks.num_rows - total}
    outputs = {"features": str(out)}
    if request.dry_run:
        size = total_bytes(missing)
        describe({**experiment.dotted(), **counts, "to prepare": total, "bytes to read": size})
        return Summary("dry_run", counts)
    if not total:
        say(f"{format_count(tracks.num_rows, 'track')} already prepared: {out}")
        return Summary("up_to_date", counts, outputs)
    facts = replace(describe_features(experiment.front_end), listening=to_json(experiment.listening))
    writer = FeaturesWriter(out, facts, catalog.notices)
    before = _count_rejects(out)
    with connect(profile=request.profile) as profile:
        _write_missing(request, tracks, missing, writer, profile)
    rejects = _count_rejects(out)
    counts |= {"prepared": total, "rejected": rejects}
    say(f"{format_count(total, 'track')} prepared, {rejects} of all rejected -> {out}")
    alarms = []
    if rejects - before >= total:
        alarms.append(f"Of {format_count(total, 'track')} none gave features; the reasons are in {out / 'rejects'}.")
        say(alarms[0])
    return Summary("done", counts, outputs, alarms)


def _write_missing(
    request: PrepareRequest, tracks: pa.Table, missing: pa.Table, writer: FeaturesWriter, profile: Profile
) -> None:
    """Write the features of the missing tracks, in several passes if necessary.

    Args:
        request: request of the job.
        tracks: all tracks.
        missing: tracks that have no features yet.
        writer: writer of features and rejects.
        profile: resources.

    Raises:
        FeaturesError: tracks still gave neither features nor rejects in the last pass.
    """
    out, plan = request.out, request.out / "_plan.parquet"
    front_end_id = features_id(request.experiment.front_end)
    for _ in range(_MOST_PASSES):
        files.write_table(plan, missing)
        rows = missing.num_rows
        with watch_progress("preparing", "tracks", rows) as progress:
            hearing = replace(request.experiment.hearing, max_file_bytes=request.max_file_gib * GIB)
            listen = ListenRequest(plan, rows, schema.CATALOG, hearing)
            write_features(listen, writer, profile, progress)
        missing = find_missing(tracks, out, front_end_id)
        if not missing.num_rows:
            files.delete(plan)
            return
    raise FeaturesError(
        f"{out}: {format_count(missing.num_rows, 'track')} gave neither features nor a reject, for example "
        f"{missing['track_id'][0].as_py()!r}; run the job again."
    )


def _count_rejects(out: Uri) -> int:
    folder = out / "rejects"
    if not files.exists(folder):
        return 0
    return int(open_parquet(folder, "", FeaturesError).count_rows())
