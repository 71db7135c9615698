"""`mgc learn`: tags → embeddings → probe → labels for the untagged, and a report of tags against ears."""

from __future__ import annotations

import contextlib
import io
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import JsonValue

from cluster.bundles import open_bundle
from cluster.embeddings.table import EmbeddingsTable
from cluster.embeddings.vectors import Model
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.tables.spreadsheet import write_csv
from mgc.bundle import Bundle
from mgc.bundle_names import LAST_FILE
from mgc.errors import BundleError, ConfigError, TrainingError
from mgc.labeling.guard import Breach
from mgc.training.probe import FEWEST_TRACKS
from mgc.units import format_count
from pipelines.catalogs.index import index_source
from pipelines.catalogs.requests import CatalogRequest
from pipelines.catalogs.sources import Catalog, open_catalog
from pipelines.command.job import Summary, say
from pipelines.learning.guard import describe_losses, find_losses
from pipelines.learning.labels import BY_EARS, BY_TAG, answer_embeddings, disagreements, label_catalog
from pipelines.learning.report import Findings, render
from pipelines.learning.requests import LearnRequest
from pipelines.nights.embed import embed
from pipelines.nights.requests import EmbedRequest
from pipelines.training.probe import HONEST, train_probe
from pipelines.training.requests import PROBE, ProbeRequest

CATALOG: Final = "catalog"
EMBEDDINGS: Final = "embeddings"
BUNDLE: Final = "bundle"
LABELS: Final = "labels.parquet"
AGAINST: Final = "tags_against_ears.csv"
REPORT: Final = "report.html"

FEWEST_GENRES: Final = 2


def learn(request: LearnRequest) -> Summary:
    """Learn from the tags of a source's files, and label those without a genre.

    Each step does only what is new, so the same command goes on where it was stopped.

    Raises:
        TrainingError: fewer than two genres have tracks, so there is nothing to learn.
    """
    out, place = request.out, request.out / CATALOG
    _refuse_other_bundle(out / BUNDLE)
    say("[1/4] the files' own tags")
    teaching = _Teaching()
    listed = index_source(
        CatalogRequest(request.source, place, tags=request.tags, selection=request.selection, dry_run=request.dry_run),
        teaching.add,
    )
    teaching.require(request.source)
    breaches = find_losses(out / LABELS, teaching.track_ids, accepted=request.accepted)
    if breaches:
        return _refuse(breaches, out)
    if request.dry_run:
        return listed
    catalog = open_catalog(place)
    say("[2/4] embeddings")
    embedded = embed(EmbedRequest(place, out / EMBEDDINGS, request.bundle, profile=request.profile))
    say("[3/4] probe")
    trained = train_probe(
        ProbeRequest(out / EMBEDDINGS, place, out / BUNDLE, request.bundle, request.hidden, overwrite=True)
    )
    say("[4/4] labels")
    bundle = open_bundle(out / BUNDLE)
    labels, honest = _label(out, catalog, bundle)
    unlabelled = labels.filter(pc.is_null(labels["genre_top"]))["track_id"].combine_chunks()
    breaches = find_losses(out / LABELS, labels["track_id"].combine_chunks(), unlabelled, request.accepted)
    if breaches:
        return _refuse(breaches, out)
    counts, outputs = _write(request, bundle, labels, honest)
    statuses = {embedded.status, trained.status}
    counts = {**counts, **{name: trained.counts[name] for name in ("accuracy", "macro_f1") if name in trained.counts}}
    status = "partial" if "partial" in statuses else "up_to_date" if statuses == {"up_to_date"} else "done"
    return Summary(status, counts, outputs, embedded.alarms)


def _refuse_other_bundle(place: Uri) -> None:
    """Refuse to replace a bundle that is no probe. A damaged one is replaced."""
    if not files.exists(place / LAST_FILE):
        return
    with contextlib.suppress(BundleError):
        recipe = open_bundle(place).experiment.recipe
        if recipe != PROBE:
            raise ConfigError(f"{place}: a bundle of the recipe {recipe} lies here; choose another --out.")


class _Teaching:
    """The tracks of a catalog, and what it teaches: tracks by genre, and whether they are by more than one artist."""

    def __init__(self) -> None:
        self._ids: list[pa.Array] = []
        self._genres: Counter[str] = Counter()
        self._artists: set[str | None] = set()

    def add(self, tracks: pa.Table) -> None:
        """Count rows of `schema.CATALOG`."""
        self._ids += tracks["track_id"].cast(pa.string()).chunks
        for genre, artist in zip(tracks["genre_top"].to_pylist(), tracks["artist_id"].to_pylist(), strict=True):
            if genre:
                self._genres[genre] += 1
                if len(self._artists) < 2:
                    self._artists.add(artist)

    @property
    def track_ids(self) -> pa.Array:
        """The ids of all tracks."""
        return pa.concat_arrays([pa.array([], pa.string()), *self._ids])

    def require(self, source: Uri) -> None:
        """Refuse a catalog that teaches nothing, before anything is heard.

        Raises:
            TrainingError: fewer than two genres have tracks, none has two, or all tracks are by one artist.
        """
        found, tracks = self._genres, self._genres.total()
        if len(found) < FEWEST_GENRES:
            what = ", ".join(f"{genre}: {count}" for genre, count in found.items()) or "none"
            raise TrainingError(
                f"{source}: the tags name fewer than two genres that mgc knows ({what}), so there is nothing to learn. "
                "Tag a few tracks of each genre, or say with --aliases what the tags mean."
            )
        if max(found.values()) < FEWEST_TRACKS or (len(self._artists) == 1 and None not in self._artists):
            fault = "no genre has two tracks" if max(found.values()) < FEWEST_TRACKS else "all are by one artist"
            raise TrainingError(
                f"{source}: {format_count(tracks, 'track')} with a genre, but {fault}; tag more of them."
            )


def _refuse(breaches: Sequence[Breach], out: Uri) -> Summary:
    seen: dict[str, JsonValue] = {f"refused_{breach.name}": breach.tracks for breach in breaches}
    return Summary("refused", seen, refused=[describe_losses(breaches, out)])


def _label(out: Uri, catalog: Catalog, bundle: Bundle) -> tuple[pa.Table, pa.Table]:
    """Return the labels of a catalog, and the answers of cross-validation."""
    table = EmbeddingsTable(out / EMBEDDINGS)
    answers = answer_embeddings(table, Model(bundle.embedding_id, bundle.features_id), bundle)
    honest = pq.read_table(io.BytesIO(files.read_bytes(out / BUNDLE / HONEST)))
    return label_catalog(catalog.tracks, table, answers, honest), honest


def _write(
    request: LearnRequest, bundle: Bundle, labels: pa.Table, honest: pa.Table
) -> tuple[dict[str, JsonValue], dict[str, str]]:
    """Write labels, disagreements and report."""
    out = request.out
    differ = disagreements(labels, honest)
    by = Counter(labels["labelled_by"].to_pylist())
    counts: dict[str, JsonValue] = {
        "tracks": labels.num_rows,
        "by_tag": by[BY_TAG],
        "by_ears": by[BY_EARS],
        "without_label": by[None],
        "disagree": differ.num_rows,
    }
    places = {name: out / name for name in (LABELS, AGAINST, REPORT)}
    sink = io.BytesIO()
    pq.write_table(labels, sink)
    files.write_bytes(places[LABELS], sink.getvalue())
    against = write_csv(differ.select(["track_id", "tag_genre", "ears_genre", "confidence", "uri"]))
    files.write_bytes(places[AGAINST], against)
    findings = Findings(str(request.source), bundle, labels, differ, counts)
    files.write_bytes(places[REPORT], render(findings).encode())
    say(
        f"{format_count(by[BY_TAG], 'track')} with the tag's genre, {by[BY_EARS]:,} with one by ear, {by[None]:,} "
        f"without any -> {places[LABELS]}"
    )
    say(
        f"tags against ears: {format_count(differ.num_rows, 'disagreement')}, the most certain first -> "
        f"{places[REPORT]}"
    )
    source, bundle_place = (shlex.quote(str(place)) for place in (request.source, out / BUNDLE))
    say(f"new files get the same genres by `mgc label {source} --bundle {bundle_place} --labels LABELS`")
    names = {LABELS: "labels", AGAINST: "tags_against_ears", REPORT: "report"}
    outputs = {name: str(places[file]) for file, name in names.items()}
    return counts, outputs | {"bundle": str(out / BUNDLE), "bundle_id": bundle.id}
