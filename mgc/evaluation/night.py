"""The contents of a label run's report: what the run did, and the table that it left."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mgc.errors import ErrorKind
from mgc.evaluation.alarms import Alarm, Observed, Thresholds, Unwatched, alarms, unwatched, watched
from mgc.labeling.throughput import Throughput

CONFIDENCE_BINS: Final = 20
"""Number of equal bins of a confidence histogram over 0 to 1. Each includes its lower edge, and the last also 1."""


@dataclass(frozen=True)
class TrackCounts:
    """Tracks by what a label run did with them.

    Attributes:
        planned: tracks to label in this run: new, changed, labelled by another model, or to be tried again.
        labeled: tracks with a label from this run.
        quarantined: tracks that this run could not label and that never had a label.
        up_to_date: tracks with a current label, which the run left alone.
        pending: tracks left for a later run.
        removed: tracks that left the catalog.
        new: planned tracks that the table did not have.
        changed: planned tracks whose bytes or location changed.
        other_model: planned tracks that another model had labelled.
        retried: planned tracks that were quarantined and due for another try.
        waiting: quarantined tracks whose next try is on a later night.
        corrected: tracks that were not labelled again but whose correction was added, changed or withdrawn.
        unknown_overrides: corrections of tracks that neither the table nor the catalog has.
        held: tracks whose change a rollback undid, and which the run therefore left alone.
        kept: tracks that this run could not label and that keep an earlier label, now stale.
        unseen: tracks of the table that the catalog lacks because their folder could not be read; they stay as they
            are.
    """

    planned: int
    labeled: int
    quarantined: int
    up_to_date: int
    pending: int = 0
    removed: int = 0
    new: int = 0
    changed: int = 0
    other_model: int = 0
    retried: int = 0
    waiting: int = 0
    corrected: int = 0
    unknown_overrides: int = 0
    held: int = 0
    kept: int = 0
    unseen: int = 0


@dataclass(frozen=True)
class QuarantineRow:
    """A track without a label, and the reason."""

    track_id: str
    uri: str
    error_kind: str
    error_message: str


@dataclass(frozen=True)
class Confidence:
    """A model's confidence in some tracks, without those whose genre is a curator's.

    Attributes:
        counts: number of tracks in each of `CONFIDENCE_BINS` bins.
        mean: mean confidence, 0 to 1; None where there are no tracks.
    """

    counts: tuple[int, ...]
    mean: float | None

    @property
    def tracks(self) -> int:
        """Number of tracks."""
        return sum(self.counts)


@dataclass(frozen=True)
class Flip:
    """A track whose genre changed, with the confidence of both answers, 0 to 1."""

    track_id: str
    before: str
    after: str
    confidence_before: float | None
    confidence_after: float | None


@dataclass(frozen=True)
class Flips:
    """Tracks that had a label before the run and got a new one from it.

    Tracks whose genre is a curator's, before or after, are left out. See `Overrides`.

    Attributes:
        compared: number of such tracks.
        flipped: number of these whose genre changed.
        compared_same_bytes: number of compared tracks whose bytes are unchanged.
        flipped_same_bytes: number of these whose genre changed.
        pairs: (genre before, genre after, tracks), most frequent first. The caller limits their number.
        examples: flips with the highest confidence in both answers. The caller limits their number.
    """

    compared: int
    flipped: int
    compared_same_bytes: int = 0
    flipped_same_bytes: int = 0
    pairs: Sequence[tuple[str, str, int]] = ()
    examples: Sequence[Flip] = ()


@dataclass(frozen=True)
class Override:
    """A curator's correction. `model_genre` is None where the track could not be decoded."""

    track_id: str
    genre: str
    model_genre: str | None
    by: str
    reason: str | None


@dataclass(frozen=True)
class Overrides:
    """The curators' corrections in the whole table, compared with the model.

    Attributes:
        total: number of tracks whose genre is a curator's.
        agreed: number of these to which the model gives the same genre.
        disagreed: number of these to which the model gives another genre.
        unanswered: number of these that could not be decoded.
        pairs: (the model's genre, the curator's genre, tracks) where they differ, most frequent first. The caller
            limits their number.
        examples: corrections that differ from the model, or of tracks without an answer. The caller limits their
            number.
    """

    total: int
    agreed: int
    disagreed: int
    unanswered: int = 0
    pairs: Sequence[tuple[str, str, int]] = ()
    examples: Sequence[Override] = ()


@dataclass(frozen=True)
class LabelsRun:
    """A run of the `label` job, and the table that it left. Tracks that left the catalog are not counted.

    Attributes:
        run_id: key of the run.
        started_at: start of the job, ISO 8601.
        finished_at: end of the job, ISO 8601.
        seconds: wall-clock time of the job.
        catalog_uri: what was labelled, without credentials.
        labels_uri: folder of the labels table, without credentials.
        table_version: version of the table that the run made.
        counts: tracks by what the run did with them.
        genre_counts: genre → labelled tracks in the whole table.
        training_genre_share: genre → share of the training tracks, 0 to 1; None where unknown.
        quarantine_by_kind: error kind → quarantined tracks in the whole table.
        stale_by_kind: error kind of the last try → labels in the whole table that are stale.
        quarantine: quarantined tracks to list. The caller limits their number.
        quarantine_total: number of quarantined tracks in the whole table; None for the sum of `quarantine_by_kind`.
        run_genre_counts: genre → tracks that the run labelled.
        previous_version: version of the table before the run; None where there was no table.
        previous_genre_counts: genre → labelled tracks before the run; None where there was no table.
        first_tries: error kind → tracks that the run tried for the first time and quarantined. The key "" counts the
            tracks that it tried for the first time and labelled.
        run_quarantine_by_kind: error kind → tracks that the run quarantined.
        quarantine_examples: error kind → a few tracks, those of the run first.
        throughput: what the run took; None where it was not measured.
        confidence: confidence in all labelled tracks; None where it was not counted.
        run_confidence: confidence in the tracks that the run labelled.
        previous_confidence: confidence in all labelled tracks before the run; None where there was no table.
        flips: tracks that were labelled again; None where there was no table before.
        overrides: curators' corrections; None where there are none.
        limits: thresholds of the alarms.
        chosen: names of the thresholds that a person has set.
        refused: why the guard stopped the run before its commit; empty if it did not. Then the other figures describe
            the table that the commit would have left.
        passed_over: extension, or another kind → files of the source that are no tracks, most files first; None where
            the catalog does not say.
        unreadable: paths of files and folders of the source that could not be read.
    """

    run_id: str
    started_at: str
    finished_at: str
    seconds: float
    catalog_uri: str
    labels_uri: str
    table_version: int
    counts: TrackCounts
    genre_counts: Mapping[str, int]
    training_genre_share: Mapping[str, float] | None = None
    quarantine_by_kind: Mapping[str, int] = field(default_factory=dict)
    stale_by_kind: Mapping[str, int] = field(default_factory=dict)
    quarantine: Sequence[QuarantineRow] = ()
    quarantine_total: int | None = None
    run_genre_counts: Mapping[str, int] = field(default_factory=dict)
    previous_version: int | None = None
    previous_genre_counts: Mapping[str, int] | None = None
    first_tries: Mapping[str, int] = field(default_factory=dict)
    run_quarantine_by_kind: Mapping[str, int] = field(default_factory=dict)
    quarantine_examples: Mapping[str, Sequence[QuarantineRow]] = field(default_factory=dict)
    throughput: Throughput | None = None
    confidence: Confidence | None = None
    run_confidence: Confidence | None = None
    previous_confidence: Confidence | None = None
    flips: Flips | None = None
    overrides: Overrides | None = None
    limits: Thresholds = field(default_factory=Thresholds)
    chosen: Sequence[str] = ()
    refused: Sequence[str] = ()
    passed_over: Mapping[str, int] | None = None
    unreadable: Sequence[str] = ()

    @property
    def quarantined(self) -> int:
        """Number of quarantined tracks in the whole table."""
        if self.quarantine_total is not None:
            return self.quarantine_total
        return max(sum(self.quarantine_by_kind.values()), len(self.quarantine))

    @property
    def observed(self) -> Observed:
        """The values that the alarms compare."""
        mine, before, flips = self.run_confidence, self.previous_confidence, self.flips
        return Observed(
            genre_counts=self.genre_counts,
            previous_genre_counts=self.previous_genre_counts,
            run_genre_counts=self.run_genre_counts,
            training_genre_share=self.training_genre_share,
            first_tries=sum(self.first_tries.values()),
            quarantined=sum(tracks for kind, tracks in self.first_tries.items() if kind),
            no_music=sum(self.first_tries.get(kind, 0) for kind in ErrorKind if kind.is_finding),
            fetch_failed=self.first_tries.get("fetch_failed", 0),
            run_confidence=mine.mean if mine else None,
            run_confidences=mine.tracks if mine else 0,
            previous_confidence=before.mean if before else None,
            previous_confidences=before.tracks if before else 0,
            relabeled=flips.compared_same_bytes if flips else 0,
            flips=flips.flipped_same_bytes if flips else 0,
        )

    @property
    def alarms(self) -> list[Alarm]:
        """Values past their thresholds, which a person should look at."""
        return alarms(self.observed, self.limits, self.chosen)

    @property
    def watched(self) -> dict[str, float | None]:
        """The value of every alarm, raised or not; None where it was not watched."""
        return watched(self.observed, self.limits, self.chosen)

    @property
    def unwatched(self) -> list[Unwatched]:
        """Alarms that this run could not raise."""
        return unwatched(self.observed, self.limits, self.chosen)

    def to_json(self) -> dict[str, object]:
        """Return JSON-ready values. Numbers that are not finite are unchanged.

        Returns:
            - `run_id`, `started_at`, `finished_at` (ISO 8601), `seconds` (wall-clock time of the whole job),
              `catalog_uri`, `labels_uri`, `table_version`, `previous_version` (null on a first night)
            - `counts`: tracks: `planned` (of them `new`, `changed`, `other_model`, `retried`), `labeled`,
              `quarantined`, `up_to_date`, `pending`, `removed`, `waiting`, `corrected`, `unknown_overrides`, `held`,
              `kept`, `unseen`
            - `passed_over`, or null: extension, or another kind → files of the source that are no tracks
            - `unreadable`: paths of files and folders of the source that could not be read
            - `refused`: why the guard stopped the run before its commit; empty if it did not
            - `stale_by_kind`: error kind of the last try → labels in the table that are stale
            - `throughput`, or null: `tracks`, `seconds` (of the stages), `startup_seconds` (before them),
              `tracks_per_second`, `cores`, `gpus`, `size_bytes` (of the files), `bytes_read`, `audio_seconds`,
              `heard_seconds`, `stages` (name → `seconds` summed over workers and `share` of all stages, 0 to 1)
            - `alarms`: those raised: `name`, `value`, `threshold`, `message`
            - `watched`: name → the value of every alarm, raised or not; null where it was not watched
            - `unwatched`: name → why this alarm was not watched
            - `thresholds`: name → threshold; `mix_tracks` and `share_tracks` are the fewest tracks
            - `genre_counts`: genre → labelled tracks in the table; `previous_genre_counts` (null on a first night):
              before the run; `run_genre_counts`: labelled by the run
            - `training_genre_share`, or null: genre → share of the training tracks, 0 to 1
            - `confidence`, or null: `edges` (of the bins, 0 to 1), and for `table`, `run` and `previous` (null on a
              first night) `counts` (tracks in each bin), `tracks`, `mean` (null without tracks)
            - `flips`, or null on a first night: `compared`, `flipped`, `compared_same_bytes`, `flipped_same_bytes`,
              `pairs` (most frequent first: `before`, `after`, `tracks`), `examples` (`track_id`, `before`, `after`,
              `confidence_before`, `confidence_after`)
            - `overrides`, or null: `total`, `agreed`, `disagreed`, `unanswered`, `pairs` (`model_genre`, `genre`,
              `tracks`), `examples` (`track_id`, `genre`, `model_genre`, `by`, `reason`)
            - `quarantine_total`, `quarantine_by_kind` (error kind → tracks in the table), `run_quarantine_by_kind` (by
              this run), `first_tries` (error kind → tracks that the run tried for the first time; "" for those it
              labelled), `quarantine_examples` (error kind → rows) and `quarantine` (rows): `track_id`, `uri`,
              `error_kind`, `error_message`
        """
        values: dict[str, object] = {
            name: getattr(self, name)
            for name in (
                "run_id", "started_at", "finished_at", "seconds", "catalog_uri", "labels_uri", "table_version",
                "previous_version",
            )
        }  # fmt: skip
        values["refused"] = list(self.refused)
        values["stale_by_kind"] = dict(self.stale_by_kind)
        values["passed_over"] = None if self.passed_over is None else dict(self.passed_over)
        values["unreadable"] = list(self.unreadable)
        values["counts"] = dataclasses.asdict(self.counts)
        values["throughput"] = self.throughput and _throughput(self.throughput)
        values["alarms"] = [dataclasses.asdict(alarm) for alarm in self.alarms]
        values["watched"] = self.watched
        values["unwatched"] = {each.name: each.reason for each in self.unwatched}
        values["thresholds"] = dataclasses.asdict(self.limits)
        for name in ("genre_counts", "previous_genre_counts", "run_genre_counts", "training_genre_share"):
            mapping = getattr(self, name)
            values[name] = None if mapping is None else dict(mapping)
        values["confidence"] = self.confidence and {
            "edges": [place / CONFIDENCE_BINS for place in range(CONFIDENCE_BINS + 1)],
            "table": _confidence(self.confidence),
            "run": _confidence(self.run_confidence),
            "previous": _confidence(self.previous_confidence),
        }
        values["flips"] = self.flips and {
            **dataclasses.asdict(self.flips),
            "pairs": [{"before": a, "after": b, "tracks": n} for a, b, n in self.flips.pairs],
        }
        values["overrides"] = self.overrides and {
            **dataclasses.asdict(self.overrides),
            "pairs": [{"model_genre": a, "genre": b, "tracks": n} for a, b, n in self.overrides.pairs],
        }
        values["quarantine_total"] = self.quarantined
        for name in ("quarantine_by_kind", "run_quarantine_by_kind", "first_tries"):
            values[name] = dict(getattr(self, name))
        values["quarantine_examples"] = {
            kind: [dataclasses.asdict(row) for row in rows] for kind, rows in self.quarantine_examples.items()
        }
        values["quarantine"] = [dataclasses.asdict(row) for row in self.quarantine]
        return values


def _throughput(measured: Throughput) -> dict[str, object]:
    values: dict[str, object] = dataclasses.asdict(measured)
    for stage in ("fetch_seconds", "listen_seconds", "predict_seconds"):
        del values[stage]
    values["tracks_per_second"] = measured.tracks_per_second
    values["stages"] = {name: {"seconds": spent, "share": share} for name, (spent, share) in measured.stages.items()}
    return values


def _confidence(of: Confidence | None) -> dict[str, object] | None:
    return None if of is None else {"counts": list(of.counts), "tracks": of.tracks, "mean": of.mean}
