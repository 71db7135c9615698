"""What a training reads: features that were prepared, or a catalog whose tracks are heard on the way."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow.compute as pc
import pyarrow.dataset as pads
from ray.data import Dataset

from cluster.session.epoch_counter import EpochCounter
from cluster.session.profiles import Profile
from cluster.session.progress import ProgressHandle
from cluster.storage.failures import redact
from cluster.storage.uri import join
from cluster.streams.catalog_feed import CatalogFeed, FailedTracks, feed_catalog, write_plan
from cluster.streams.feed import EpochDraw, feed
from cluster.tables.catalog import write_catalog
from cluster.tables.features import read_features, read_roster
from cluster.tables.parquet import ROW_GROUP
from cluster.training.job import TrainingJob
from mgc import schema
from mgc.configuration import short_hash, to_json
from mgc.datasets.protocols import name_of
from mgc.datasets.roster import Roster, count_rows, on_side
from mgc.datasets.splits import TRAIN, VALIDATION
from mgc.errors import ConfigError, FeaturesError
from mgc.experiment import Experiment
from mgc.features.front_end import describe_features, features_id
from mgc.schema import FeaturesFacts
from pipelines.catalogs.sources import open_tracks
from pipelines.command.job import say
from pipelines.training import prepared

SAMPLE_TRACKS: Final = 512
"""Training tracks of a catalog that are heard before the training, to measure normalization and clips a track."""


@dataclass(frozen=True)
class Opened:
    """What there is to train on.

    Attributes:
        measured: features from which the normalization is taken; of a catalog, those of a sample.
        facts: of the features.
        counts: training clips of each genre; of a catalog, about.
        training: function that returns the stream of training clips.
        validation: stream of validation clips.
        failed: tracks that gave no features; None where all were prepared before.
    """

    measured: pads.Dataset
    facts: FeaturesFacts
    counts: dict[str, int]
    training: Callable[[EpochCounter, ProgressHandle], Dataset]
    validation: Dataset
    failed: FailedTracks | None = None

    def quarantined(self) -> dict[str, str]:
        """Why a track gave no features, by its id."""
        return {} if self.failed is None else self.failed.read()


class Source(abc.ABC):
    """What a training reads, before Ray is there.

    Attributes:
        where: for messages.
        facts: of the features, as `read_features` gives them.
        notices: go with every figure.
        fingerprint: of what is read.
        roster: who stands on which side.
        unit: what it counts, `clips` or `tracks`.
    """

    where: str
    facts: FeaturesFacts
    notices: list[str]
    fingerprint: str
    roster: Roster
    unit: str

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Of what it counts, by genre, of training and of validation."""
        return {split: self.roster.class_counts(split) for split in (TRAIN, VALIDATION)}

    @property
    def totals(self) -> dict[str, Any]:
        """The same of all genres, for a summary."""
        return {f"{split}_{self.unit}": sum(found.values()) for split, found in self.counts.items()}

    @property
    def unvalidated(self) -> list[str]:
        """Genres trained on, but missing from a validation that there is: nothing says how well they do."""
        counts = self.counts
        return sorted(set(counts[TRAIN]) - set(counts[VALIDATION])) if counts[VALIDATION] else []

    @abc.abstractmethod
    def open(self, at: Profile, folder: str) -> Opened:
        """The streams.

        Args:
            at: of the session.
            folder: for what has to be written first.
        """


class PreparedFeatures(Source):
    """What `mgc prepare` wrote.

    Args:
        uri: where.
        experiment: protocol and seed.
        limit: most tracks of each side.
    """

    def __init__(self, uri: str, experiment: Experiment, limit: int | None) -> None:
        self.where = redact(uri)
        self._dataset, self.facts = read_features(uri)
        self._experiment = experiment
        self.notices = list(schema.notices_of(self._dataset.schema))
        # Names of feature files are unique: the same names are the same features.
        self.fingerprint = short_hash([self.facts.features_id, sorted(self._dataset.files)])
        self.roster = read_roster(self._dataset, experiment.protocol).limited(limit, (TRAIN, VALIDATION))
        self._only: Mapping[str, pc.Expression | None] = {
            split: None if limit is None else self.roster.only(split) for split in (TRAIN, VALIDATION)
        }
        self.unit = "clips"

    def plain(self, split: str, at: Profile) -> Dataset:
        """The clips of a side, each once, as they lie."""
        return feed(self._dataset, split, at, self._experiment, self._only[split])

    def streams(self, job: TrainingJob, epoch: EpochCounter) -> tuple[Dataset, Dataset]:
        """Of training and validation, for a job that trains on these clips in a way of its own.

        Args:
            job: with its experiment and its profile.
            epoch: counter of the training.
        """
        counts = self.roster.class_counts(TRAIN)
        training = feed(self._dataset, TRAIN, job.profile, job.experiment, self._only[TRAIN], EpochDraw(counts, epoch))
        return training, self.plain(VALIDATION, job.profile)

    def open(self, at: Profile, folder: str) -> Opened:
        """The streams."""
        dataset, only, counts = self._dataset, self._only, self.roster.class_counts(TRAIN)

        def training(epoch: EpochCounter, progress: ProgressHandle) -> Dataset:
            return feed(dataset, TRAIN, at, self._experiment, only[TRAIN], EpochDraw(counts, epoch))

        return Opened(
            dataset if only[TRAIN] is None else dataset.filter(only[TRAIN]),
            self.facts,
            counts,
            training,
            self.plain(VALIDATION, at),
        )


class UnpreparedCatalog(Source):
    """A catalog, of which only the validation tracks and a sample of the others are prepared.

    Args:
        uri: where.
        experiment: front end, listening plan, protocol and seed.
        limit: most tracks of each side.

    Raises:
        ConfigError: the protocol divides clips, which are not known yet.
    """

    def __init__(self, uri: str, experiment: Experiment, limit: int | None) -> None:
        if experiment.protocol.kind == "clip_random":
            raise ConfigError(
                "protocol.kind clip_random divides clips, and a track's are not known before it is heard: prepare the "
                "features (`mgc prepare`), or take another protocol."
            )
        self.where = redact(uri)
        self._tracks, notices = open_tracks(uri)
        self._experiment = experiment
        self.notices = list(notices)
        self.facts = describe_features(experiment.front_end)
        content = [self._tracks[name].to_pylist() for name in ("track_id", "content_tag", "genre_top", "split")]
        self.fingerprint = short_hash([self.facts.features_id, to_json(experiment.listening), content])
        batches = self._tracks.to_batches(max_chunksize=ROW_GROUP)
        self.roster = count_rows(batches, experiment.protocol).limited(limit, (TRAIN, VALIDATION))
        self.unit = "tracks"

    def open(self, at: Profile, folder: str) -> Opened:
        """Hear what has to be known first, then the streams."""
        experiment, tracks = self._experiment, self._tracks
        first, catalog = join(folder, "first"), join(folder, "first.parquet")
        sample = self.roster.limited(SAMPLE_TRACKS, (TRAIN,))
        before = tracks.filter(sample.only(TRAIN) | self.roster.only(VALIDATION))
        say(
            f"hearing {self.roster.size(VALIDATION).tracks} validation tracks, and {sample.size(TRAIN).tracks} of the "
            f"training tracks to measure; all {self.roster.size(TRAIN).tracks} of these are heard in each epoch"
        )
        write_catalog(catalog, [before.cast(schema.CATALOG)], self.notices)
        prepared.build(catalog, first, experiment, at)
        dataset, facts = read_features(first)
        found = read_roster(dataset, experiment.protocol)
        for split in (TRAIN, VALIDATION):
            if self.roster.class_counts(split) and not found.class_counts(split):
                raise FeaturesError(
                    f"{self.where}: none of the {split} tracks that were heard gave features; see why in "
                    f"{redact(first)}/rejects."
                )
        clips_a_track = found.size(TRAIN).clips / sample.size(TRAIN).tracks
        counts = {
            genre: max(1, round(count * clips_a_track)) for genre, count in self.roster.class_counts(TRAIN).items()
        }
        mine = tracks.filter(on_side(tracks, TRAIN, experiment.protocol)).filter(self.roster.only(TRAIN))
        plan = join(folder, "tracks")
        write_plan(plan, mine)
        clip_bytes = facts.clip_bytes
        failed = FailedTracks.start()

        def training(epoch: EpochCounter, progress: ProgressHandle) -> Dataset:
            draw = EpochDraw(counts, epoch)
            return feed_catalog(CatalogFeed(plan, mine.num_rows, clip_bytes, experiment, draw, failed), at, progress)

        validation = feed(dataset, VALIDATION, at, experiment)
        return Opened(dataset, facts, counts, training, validation, failed)


def open_source(features: str | None, catalog: str | None, experiment: Experiment, limit: int | None) -> Source:
    """What `--features` or `--catalog` names.

    Raises:
        ConfigError: both are given, or neither.
    """
    if features is not None and catalog is None:
        return PreparedFeatures(features, experiment, limit)
    if catalog is not None and features is None:
        return UnpreparedCatalog(catalog, experiment, limit)
    raise ConfigError("give --features FEATURES (from `mgc prepare`), or --catalog CATALOG to decode on the way.")


def check(source: Source, experiment: Experiment) -> None:
    """Refuse features that do not fit the recipe, or cannot be trained on; say which genres validation lacks.

    Raises:
        FeaturesError: says which and what to do.
    """
    facts, counts, where = source.facts, source.counts, source.where
    wanted = features_id(experiment.front_end)
    if facts.features_id != wanted:
        raise FeaturesError(
            f"{where}: these features were computed by another front end ({facts.front_end.get('kind')} "
            f"{facts.features_id}) than "
            f"recipe {experiment.recipe} has ({experiment.front_end.kind} {wanted}); prepare features with this "
            f"recipe, or set its "
            f"--front_end fields (for example --front_end.kind {facts.front_end.get('kind')})."
        )
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
        raise FeaturesError(
            f"{where}: only one genre ({', '.join(counts[TRAIN])}) to train on; two at least are needed."
        )
    strange = sorted(set(counts[VALIDATION]) - set(counts[TRAIN]))
    if strange:
        raise FeaturesError(
            f"{where}: the genre(s) {', '.join(strange)} are in validation, but not in train; add training tracks of "
            "them, or leave them out of the catalog."
        )
    if unheld := source.unvalidated:
        say(f"{where}: no validation {source.unit} of {', '.join(unheld)}: the best epoch is chosen without them.")
