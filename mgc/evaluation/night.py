"""What a labels run did and left behind, as its report shows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mgc.evaluation.alarms import Alarm, Observed, Thresholds, alarms, watched
from mgc.labeling.throughput import Throughput

CONFIDENCE_BINS: Final = 20
"""Equal bins of a confidence histogram over 0 to 1; each holds its lower edge, the last one also 1."""


@dataclass(frozen=True)
class TrackCounts:
    """What a labels run did, in tracks.

    Attributes:
        planned: to be labeled in this run: new, changed, labeled by another model, or to be tried again.
        labeled: given a genre by this run.
        quarantined: found without usable audio by this run.
        up_to_date: left as they were.
        pending: planned but not reached before the run was told to stop.
        removed: no longer in the catalog.
        new: of the planned, those that the table did not have.
        changed: of the planned, those whose bytes or place changed.
        stale: of the planned, those labeled by another model.
        retried: of the planned, those quarantined before whose error was worth another try.
        waiting: quarantined, to be tried again on a later night.
        corrected: not heard by this run, but given a curator's genre, another one, or the model's own again.
        unknown_overrides: corrections of tracks that neither the table nor the catalog has.
    """

    planned: int
    labeled: int
    quarantined: int
    up_to_date: int
    pending: int = 0
    removed: int = 0
    new: int = 0
    changed: int = 0
    stale: int = 0
    retried: int = 0
    waiting: int = 0
    corrected: int = 0
    unknown_overrides: int = 0


@dataclass(frozen=True)
class QuarantineRow:
    """One track without a label, and why."""

    track_id: str
    uri: str
    error_kind: str
    error_message: str


@dataclass(frozen=True)
class Confidence:
    """How sure a model was of some tracks. Tracks whose genre is a curator's are left out.

    Attributes:
        counts: tracks in each of `CONFIDENCE_BINS` bins.
        mean: of the confidence, 0 to 1; None where there is no track.
    """

    counts: tuple[int, ...]
    mean: float | None

    @property
    def tracks(self) -> int:
        """How many."""
        return sum(self.counts)


@dataclass(frozen=True)
class Flip:
    """A track whose genre changed, with the confidence of either answer, 0 to 1."""

    track_id: str
    before: str
    after: str
    confidence_before: float | None
    confidence_after: float | None


@dataclass(frozen=True)
class Flips:
    """What the run changed its mind about: tracks that had a label before it and got one from it.

    Tracks whose genre is a curator's, before or after, are left out: see `Overrides`.

    Attributes:
        compared: such tracks.
        flipped: those of them with another genre.
        compared_same_bytes: those compared whose bytes had not changed.
        flipped_same_bytes: those of them with another genre.
        pairs: (genre before, genre after, tracks), most frequent first; the caller caps it.
        examples: flips of which both answers were the surest; the caller caps it.
    """

    compared: int
    flipped: int
    compared_same_bytes: int = 0
    flipped_same_bytes: int = 0
    pairs: Sequence[tuple[str, str, int]] = ()
    examples: Sequence[Flip] = ()


@dataclass(frozen=True)
class Override:
    """A curator's correction. `model_genre` is None where the model has no answer: the track could not be heard."""

    track_id: str
    genre: str
    model_genre: str | None
    by: str
    reason: str | None


@dataclass(frozen=True)
class Overrides:
    """The curators' corrections in the whole table, held against the model.

    Attributes:
        total: tracks whose genre is a curator's.
        agreed: those to which the model gives the same genre.
        disagreed: those to which it gives another.
        unanswered: those that it could not hear.
        pairs: (the model's genre, the curator's genre, tracks) where they differ, most frequent first; the caller caps
            it.
        examples: of those where they differ, and where the model has no answer; the caller caps it.
    """

    total: int
    agreed: int
    disagreed: int
    unanswered: int = 0
    pairs: Sequence[tuple[str, str, int]] = ()
    examples: Sequence[Override] = ()


@dataclass(frozen=True)
class LabelsRun:
    """One run of the `label` job and the table that it left. Tracks gone from the catalog are not counted.

    Attributes:
        run_id: the run's key.
        started_at: ISO 8601.
        finished_at: ISO 8601.
        seconds: wall-clock time.
        catalog_uri: what was labeled.
        labels_uri: where the labels table lies.
        table_version: the table's version after the run.
        counts: what the run did.
        genre_counts: genre → labeled tracks in the whole table.
        training_genre_share: genre → share of the training tracks, 0 to 1; None where unknown.
        quarantine_by_kind: error kind → quarantined tracks in the whole table.
        quarantine: the tracks to list; the caller caps it.
        quarantine_total: quarantined tracks in the whole table, listed or not; None takes it from `quarantine_by_kind`.
        run_genre_counts: genre → tracks that this run labeled.
        previous_version: the table's version before the run; None where there was no table.
        previous_genre_counts: genre → labeled tracks before the run; None where there was no table.
        first_tries: error kind → tracks that this run tried for the first time and quarantined; and under "" those that
            it labeled.
        run_quarantine_by_kind: error kind → tracks quarantined by this run.
        quarantine_examples: error kind → a few tracks, those of this run first.
        throughput: of the run; None where it was not measured.
        confidence: of all labeled tracks; None where it was not counted.
        run_confidence: of the tracks labeled by this run.
        previous_confidence: of all labeled tracks before the run; None where there was no table.
        flips: None where there was no table before.
        overrides: None where there is none.
        limits: thresholds of the alarms.
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

    @property
    def quarantined(self) -> int:
        """Quarantined tracks in the whole table."""
        if self.quarantine_total is not None:
            return self.quarantine_total
        return max(sum(self.quarantine_by_kind.values()), len(self.quarantine))

    @property
    def observed(self) -> Observed:
        """What the alarms are made of."""
        mine, before, flips = self.run_confidence, self.previous_confidence, self.flips
        return Observed(
            genre_counts=self.genre_counts,
            previous_genre_counts=self.previous_genre_counts,
            run_genre_counts=self.run_genre_counts,
            training_genre_share=self.training_genre_share,
            first_tries=sum(self.first_tries.values()),
            quarantined=sum(tracks for kind, tracks in self.first_tries.items() if kind),
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
        """What a person should look at."""
        return alarms(self.observed, self.limits)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values; a number that is not finite stays what it is.

        Returns:
            - `run_id`, `started_at`, `finished_at` (ISO 8601), `seconds` (wall-clock time of the whole job),
              `catalog_uri`, `labels_uri`, `table_version`, `previous_version` (null on a first night)
            - `counts`: tracks: `planned` (of them `new`, `changed`, `stale`, `retried`), `labeled`, `quarantined`,
              `up_to_date`, `pending`, `removed`, `waiting`, `corrected`, `unknown_overrides`
            - `throughput`, or null: `tracks`, `seconds` (of the stages), `startup_seconds` (before them),
              `tracks_per_second`, `cores`, `gpus`, `size_bytes` (of the files), `bytes_read`, `audio_seconds`,
              `heard_seconds`, `stages` (name → `seconds` summed over workers and `share` of all stages, 0 to 1)
            - `alarms`: those raised: `name`, `value`, `threshold`, `message`
            - `watched`: name → the value of every alarm, raised or not; null where there were too few tracks to tell
            - `thresholds`: name → threshold; `mix_tracks` and `share_tracks` are the fewest tracks
            - `genre_counts`: genre → labeled tracks in the table; `previous_genre_counts` (null on a first night):
              before the run; `run_genre_counts`: labeled by the run
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
              labeled), `quarantine_examples` (error kind → rows) and `quarantine` (rows): `track_id`, `uri`,
              `error_kind`, `error_message`
        """
        values: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                "run_id", "started_at", "finished_at", "seconds", "catalog_uri", "labels_uri", "table_version",
                "previous_version",
            )
        }  # fmt: skip
        values["counts"] = dataclasses.asdict(self.counts)
        values["throughput"] = self.throughput and _throughput(self.throughput)
        values["alarms"] = [dataclasses.asdict(alarm) for alarm in self.alarms]
        values["watched"] = watched(self.observed, self.limits)
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


def _throughput(measured: Throughput) -> dict[str, Any]:
    values = dataclasses.asdict(measured)
    for stage in ("fetch_seconds", "listen_seconds", "predict_seconds"):
        del values[stage]
    values["tracks_per_second"] = measured.tracks_per_second
    values["stages"] = {name: {"seconds": spent, "share": share} for name, (spent, share) in measured.stages.items()}
    return values


def _confidence(of: Confidence | None) -> dict[str, Any] | None:
    return None if of is None else {"counts": list(of.counts), "tracks": of.tracks, "mean": of.mean}
