"""Data for a training: prepared features, or a catalog whose tracks are decoded during the training."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import pyarrow.compute as pc
import pyarrow.dataset as pads
from ray.data import Dataset

from cluster.session.counts import ProgressHandle
from cluster.session.epoch_counter import EpochCounter
from cluster.session.profiles import Profile
from cluster.storage.uri import Uri
from cluster.streams.catalog_feed import CatalogFeed, feed_catalog, write_plan
from cluster.streams.failed_tracks import FailedTracks
from cluster.streams.feed import EpochDraw, feed
from cluster.tables.catalog import write_catalog
from cluster.tables.features import fingerprint_features, read_features, read_roster
from cluster.tables.parquet import ROW_GROUP
from cluster.training.job import TrainingJob
from mgc import schema
from mgc.configuration import short_hash, to_json
from mgc.datasets.protocols import name_of
from mgc.datasets.roster import Roster, count_rows, digest_facts, on_side
from mgc.datasets.splits import TRAIN, VALIDATION
from mgc.errors import ConfigError, FeaturesError
from mgc.experiment import Experiment
from mgc.features.front_end import describe_features, features_id
from mgc.schema import FeaturesFacts
from mgc.units import format_count
from pipelines.catalogs.sources import open_tracks
from pipelines.command.job import say
from pipelines.training.prepared import prepare_features
from pipelines.training.requests import PrepareRequest

SAMPLE_TRACKS: Final = 512
"""Training tracks of a catalog to decode before the training, to measure normalisation and clips per track."""


@dataclass(frozen=True)
class TrainingStreams:
    """The clips of a training, in an open Ray session.

    Attributes:
        sample: features from which the normalisation is measured; for a catalog, those of some tracks.
        facts: facts of the features, as `read_features` returns them.
        counts: training clips of each genre; for a catalog, an estimate.
        start_training: function that makes the stream of training clips from the epoch counter and the progress.
        validation: stream of validation clips.
        failed: tracks that gave no features; None if all tracks were prepared before.
    """

    sample: pads.FileSystemDataset
    facts: FeaturesFacts
    counts: dict[str, int]
    start_training: Callable[[EpochCounter, ProgressHandle], Dataset]
    validation: Dataset
    failed: FailedTracks | None = None

    def read_failed(self) -> dict[str, str]:
        """Return the kind of error of each track that gave no features, by track id."""
        return {} if self.failed is None else self.failed.read()


class TrainingData(abc.ABC):
    """Data for a training, as known before Ray starts.

    Attributes:
        where: place of the data, for messages.
        facts: facts of the features, as `read_features` returns them.
        notices: notices that go with every figure.
        fingerprint: hash of the data, and of the labels and sides of the tracks.
        roster: sides of the tracks.
        unit: unit of `counts` and `totals`. The clips of a catalog's tracks are not known beforehand.
    """

    where: str
    facts: FeaturesFacts
    notices: list[str]
    fingerprint: str
    roster: Roster
    unit: Literal["clips", "tracks"]

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Clips or tracks by split and genre, of training and validation."""
        return {split: self.roster.class_counts(split) for split in (TRAIN, VALIDATION)}

    @property
    def totals(self) -> dict[str, int]:
        """Clips or tracks of all genres, named `train_clips` and so on."""
        return {f"{split}_{self.unit}": sum(found.values()) for split, found in self.counts.items()}

    @property
    def unvalidated(self) -> list[str]:
        """Training genres without validation data, if there is a validation. No score covers them."""
        counts = self.counts
        return sorted(set(counts[TRAIN]) - set(counts[VALIDATION])) if counts[VALIDATION] else []

    @abc.abstractmethod
    def open(self, profile: Profile, folder: Uri) -> TrainingStreams:
        """Return the streams.

        Args:
            profile: resources of the session.
            folder: folder for files that must be written first.
        """


class PreparedFeatures(TrainingData):
    """Features that `mgc prepare` wrote.

    Args:
        uri: folder of the features.
        experiment: protocol and seed.
        limit: number of tracks of each side; None for all.
    """

    def __init__(self, uri: Uri, experiment: Experiment, limit: int | None) -> None:
        self.where = str(uri)
        self._dataset, self.facts = read_features(uri)
        self._experiment = experiment
        self.notices = list(schema.notices_of(self._dataset.schema))
        self.fingerprint = fingerprint_features(self._dataset, self.facts.features_id)
        self.roster = read_roster(self._dataset, experiment.protocol).limited(limit, (TRAIN, VALIDATION))
        self._only: Mapping[str, pc.Expression | None] = {
            split: None if limit is None else self.roster.only(split) for split in (TRAIN, VALIDATION)
        }
        self.unit = "clips"

    def stream_split(self, split: str, profile: Profile) -> Dataset:
        """Return the clips of a split, each once, in the order of the files."""
        return feed(self._dataset, split, profile, self._experiment, self._only[split])

    def stream_job(self, job: TrainingJob, epoch: EpochCounter) -> tuple[Dataset, Dataset]:
        """Return the training and validation streams of a job that trains on these clips in its own way.

        Args:
            job: job with its experiment and its profile.
            epoch: epoch counter of its training.
        """
        counts = self.roster.class_counts(TRAIN)
        training = feed(self._dataset, TRAIN, job.profile, job.experiment, self._only[TRAIN], EpochDraw(counts, epoch))
        return training, self.stream_split(VALIDATION, job.profile)

    def open(self, profile: Profile, folder: Uri) -> TrainingStreams:
        """Return the streams. Writes nothing."""
        dataset, only, counts = self._dataset, self._only, self.roster.class_counts(TRAIN)

        def start_training(epoch: EpochCounter, progress: ProgressHandle) -> Dataset:
            return feed(dataset, TRAIN, profile, self._experiment, only[TRAIN], EpochDraw(counts, epoch))

        return TrainingStreams(
            dataset if only[TRAIN] is None else dataset.filter(only[TRAIN]),
            self.facts,
            counts,
            start_training,
            self.stream_split(VALIDATION, profile),
        )


class UnpreparedCatalog(TrainingData):
    """A catalog. Only its validation tracks and a sample of its training tracks are prepared.

    Args:
        uri: the catalog.
        experiment: front end, listening plan, protocol and seed.
        limit: number of tracks of each side; None for all.
        allow_roots: places below which the tracks may lie; without any, those of the catalog's own SOURCE.

    Raises:
        ConfigError: the protocol divides clips, which are not known yet.
    """

    def __init__(self, uri: Uri, experiment: Experiment, limit: int | None, allow_roots: tuple[Uri, ...] = ()) -> None:
        if experiment.protocol.kind == "clip_random":
            raise ConfigError(
                "protocol.kind clip_random divides clips, and the clips of a track are not known before it is "
                "decoded; prepare the features (`mgc prepare`), or choose another protocol."
            )
        self.where = str(uri)
        self._tracks, catalog = open_tracks(uri, allow_roots)
        self._roots = catalog.roots
        self._experiment = experiment
        self.notices = list(catalog.notices)
        self.facts = describe_features(experiment.front_end)
        batches = self._tracks.to_batches(max_chunksize=ROW_GROUP)
        content = [self._tracks[name].to_pylist() for name in ("track_id", "content_tag")]
        heard = [self.facts.features_id, to_json(experiment.listening), content]
        self.fingerprint = short_hash([*heard, digest_facts(batches)])
        self.roster = count_rows(batches, experiment.protocol).limited(limit, (TRAIN, VALIDATION))
        self.unit = "tracks"

    def open(self, profile: Profile, folder: Uri) -> TrainingStreams:
        """Decode the validation tracks and a sample of the training tracks, then return the streams.

        Raises:
            FeaturesError: none of the tracks of a split gave features.
        """
        experiment = self._experiment
        sample = self.roster.limited(SAMPLE_TRACKS, (TRAIN,))
        dataset, facts = self._prepare_first(sample, profile, folder)
        found = read_roster(dataset, experiment.protocol)
        for split in (TRAIN, VALIDATION):
            if self.roster.class_counts(split) and not found.class_counts(split):
                raise FeaturesError(
                    f"{self.where}: none of the decoded {split} tracks gave features; the reasons are in "
                    f"{folder / 'first' / 'rejects'}."
                )
        clips_a_track = found.size(TRAIN).clips / sample.size(TRAIN).tracks
        counts = {
            genre: max(1, round(count * clips_a_track)) for genre, count in self.roster.class_counts(TRAIN).items()
        }
        tracks = self._tracks.filter(on_side(self._tracks, TRAIN, experiment.protocol))
        tracks = tracks.filter(self.roster.only(TRAIN))
        plan = folder / "tracks"
        write_plan(plan, tracks)
        clip_bytes = facts.clip_bytes
        failed = FailedTracks.start()

        def start_training(epoch: EpochCounter, progress: ProgressHandle) -> Dataset:
            draw = EpochDraw(counts, epoch)
            catalog_feed = CatalogFeed(plan, tracks.num_rows, clip_bytes, experiment, draw, failed)
            return feed_catalog(catalog_feed, profile, progress)

        validation = feed(dataset, VALIDATION, profile, experiment)
        return TrainingStreams(dataset, facts, counts, start_training, validation, failed)

    def _prepare_first(
        self, sample: Roster, profile: Profile, folder: Uri
    ) -> tuple[pads.FileSystemDataset, FeaturesFacts]:
        """Prepare the training tracks of a sample and all validation tracks; return their features."""
        validation, training = self.roster.size(VALIDATION).tracks, self.roster.size(TRAIN).tracks
        say(
            f"decoding {format_count(validation, 'validation track')}, and {sample.size(TRAIN).tracks:,} of "
            f"{format_count(training, 'training track')} "
            f"as a sample; every epoch decodes all {training:,}"
        )
        catalog, features = folder / "first.parquet", folder / "first"
        tracks = self._tracks.filter(sample.only(TRAIN) | self.roster.only(VALIDATION))
        write_catalog(catalog, [tracks.cast(schema.CATALOG)], self.notices, roots=self._roots)
        prepare_features(PrepareRequest(catalog, features, self._experiment, profile))
        return read_features(features)


def open_training_data(
    features: Uri | None,
    catalog: Uri | None,
    experiment: Experiment,
    limit: int | None,
    allow_roots: tuple[Uri, ...] = (),
) -> TrainingData:
    """Return the data that `--features` or `--catalog` names.

    Args:
        features: prepared features.
        catalog: catalog whose tracks are decoded during the training.
        experiment: protocol and seed, and for a catalog front end and listening plan.
        limit: number of tracks of each side; None for all.
        allow_roots: places below which the catalog's tracks may lie; without any, those of its own SOURCE.

    Raises:
        ConfigError: both are given, or neither.
    """
    if features is not None and catalog is None:
        return PreparedFeatures(features, experiment, limit)
    if catalog is not None and features is None:
        return UnpreparedCatalog(catalog, experiment, limit, allow_roots)
    raise ConfigError("give --features FEATURES (from `mgc prepare`), or --catalog CATALOG to decode in every epoch.")


def check_training_data(data: TrainingData, experiment: Experiment) -> None:
    """Refuse data that do not fit the recipe or cannot be trained on. Print the genres that the validation lacks.

    Raises:
        FeaturesError: the data are refused; the message says why and what to do.
    """
    facts, counts, where = data.facts, data.counts, data.where
    wanted = features_id(experiment.front_end)
    if facts.features_id != wanted:
        kind = facts.front_end.get("kind")
        raise FeaturesError(
            f"{where}: these features come from another front end ({kind} {facts.features_id}) than that of recipe "
            f"{experiment.recipe} ({experiment.front_end.kind} {wanted}); prepare features with this recipe, or set "
            f"its --front_end fields (for example --front_end.kind {kind})."
        )
    experiment.check_listening(facts, where, "prepare features with this recipe, or set the plan of these features")
    for split, found in counts.items():
        if not found and not (split == VALIDATION and experiment.protocol.refit):
            way_out = (
                "divide here (--protocol.kind artist), or give the catalog splits (`mgc catalog … --metadata FILE`)"
            )
            if experiment.protocol.kind != "given":
                way_out = "set other shares or another --protocol.seed"
            protocol = name_of(experiment.protocol)
            raise FeaturesError(f"{where}: no labelled clips in the split {split!r} (protocol {protocol}); {way_out}.")
    if len(counts[TRAIN]) < 2:
        raise FeaturesError(f"{where}: there is only one genre to train on ({', '.join(counts[TRAIN])}); add another.")
    strange = sorted(set(counts[VALIDATION]) - set(counts[TRAIN]))
    if strange:
        raise FeaturesError(
            f"{where}: the genre(s) {', '.join(strange)} are in validation, but not in train; add training tracks of "
            "them, or leave them out of the catalog."
        )
    if data.unvalidated:
        genres = ", ".join(data.unvalidated)
        say(f"{where}: there are no validation {data.unit} of {genres}; the best epoch is chosen without them.")
