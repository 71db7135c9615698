"""The contents of a bundle's `metrics.json`: how a model was trained and how it scored.

Every field is optional: bundles of earlier versions lack some.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import Field

from mgc.configuration import JsonObject
from mgc.evaluation.facts import Facts
from mgc.evaluation.leakage import Overlap
from mgc.evaluation.scores import Scores

EpochFacts = dict[str, int | float]
"""One row of a training's history: `epoch`, counted from 1, and its figures by name."""

_EVALUATION: Final = "test"


class MadeWith(Facts):
    """Software and hardware that trained a model.

    Attributes:
        mgc: version of mgc.
        torch: version of PyTorch.
        machine: architecture of the processor.
        workers: number of data-parallel workers.
        accumulation: number of parts in which a worker computed its share of a batch.
        precision: number format of the computation, `float32` or `bf16`.
    """

    mgc: str | None = None
    torch: str | None = None
    machine: str | None = None
    workers: int | None = None
    accumulation: int | None = None
    precision: str | None = None


class SideFacts(Facts):
    """Size of one side of a division, see `mgc.datasets.roster.SideSize`."""

    tracks: int = 0
    clips: int = 0
    artists: int = 0
    tracks_of_unknown_artist: int = 0


class DivisionLeakage(Facts):
    """Groups on more than one side of the division that a model was trained on.

    Attributes:
        asked_for: leak that the protocol permits.
        tracks_on_two_sides: number of tracks.
        artists_on_two_sides: number of artists.
        validation: share of the validation tracks that was trained on.
        says: warning for reports; empty if nothing leaks.
    """

    asked_for: str | None = None
    tracks_on_two_sides: int = 0
    artists_on_two_sides: int = 0
    validation: Overlap | None = None
    says: str = ""


class DataFacts(Facts):
    """The data that a model was trained on.

    Attributes:
        features: URI, without credentials.
        clips: clips of each side and tracks left out, such as `train_clips`, if features were prepared first.
        tracks: tracks of each side and those left out, such as `train_tracks`, if training decoded a catalog.
        genres_without_validation: genres of the training side that validation lacks.
        genre_clips: training clips of each genre, if features were prepared first.
        genre_tracks: training tracks of each genre, if training decoded a catalog.
        genre_share: these numbers as shares of 1.
        protocol: name of the protocol that divided the rows.
        sides: size of each side.
        leakage: groups on more than one side.
    """

    features: str | None = None
    clips: dict[str, int] = Field(default_factory=dict)
    tracks: dict[str, int] = Field(default_factory=dict)
    genres_without_validation: tuple[str, ...] = ()
    genre_clips: dict[str, int] = Field(default_factory=dict)
    genre_tracks: dict[str, int] = Field(default_factory=dict)
    genre_share: dict[str, float] = Field(default_factory=dict)
    protocol: str | None = None
    sides: dict[str, SideFacts] = Field(default_factory=dict)
    leakage: DivisionLeakage | None = None

    @property
    def totals(self) -> dict[str, int]:
        """Clips or tracks of each side, whichever were counted."""
        return self.clips or self.tracks

    @property
    def genre_counts(self) -> dict[str, int]:
        """Training clips or tracks of each genre, whichever were counted."""
        return self.genre_clips or self.genre_tracks


class AdjustmentFacts(Facts):
    """The adjustment of the logits that was chosen after training.

    Attributes:
        tau: strength; 0 for none.
        validation_macro_f1: macro-F1, 0 to 1, of each strength that was tried; empty if there was no choice.
    """

    tau: float
    validation_macro_f1: dict[str, float] = Field(default_factory=dict)


class SearchFacts(Facts):
    """The search that a model comes from.

    Attributes:
        key: key of the search.
        trial: number of its best trial.
        point: value of each searched field.
    """

    key: str
    trial: int
    point: JsonObject


class MemberFacts(Facts):
    """One network of an ensemble.

    Attributes:
        bundle_id: id of its original bundle.
        seed: seed of its training.
        validation: figures of its best epoch.
        started_from: see `TrainingFacts`.
    """

    bundle_id: str
    seed: int
    validation: EpochFacts | None
    started_from: str | None = None


class TrainingFacts(Facts):
    """How a model was trained.

    Attributes:
        training_key: hash of experiment, data and number of workers; the same key means the same training.
        history: one row for each epoch; an ensemble has none.
        validation: row of the epoch whose weights were kept.
        data: data that the model was trained on.
        notices: sentences that go with every figure of the model, such as a licence or that the music is synthetic.
        made_with: software and hardware.
        adjustment: adjustment of the logits after training.
        quarantined: number of tracks that gave no features, by kind of error.
        search: search that found the model, if any.
        members: networks of an ensemble.
        started_from: id of the bundle whose weights the training started from, and the number of its network; None if
            it started from none.
    """

    training_key: str | None = None
    history: tuple[EpochFacts, ...] = ()
    validation: EpochFacts | None = None
    data: DataFacts = DataFacts()
    notices: tuple[str, ...] = ()
    made_with: MadeWith = MadeWith()
    adjustment: AdjustmentFacts | None = None
    quarantined: dict[str, int] | None = None
    search: SearchFacts | None = None
    members: tuple[MemberFacts, ...] = ()
    started_from: str | None = None

    @property
    def kept_epoch(self) -> int | None:
        """Epoch whose weights were kept, counted from 1; None if it was not recorded."""
        epoch = (self.validation or {}).get("epoch")
        return None if epoch is None else int(epoch)


class EvaluationLeakage(Overlap):
    """The part of the scored tracks that was trained on; the figures of `Overlap` are absent if it is unknown.

    Attributes:
        asked_for: leak that the protocol permits.
        checked: whether the bundle records which tracks it was trained on.
        says: warning for reports; empty if nothing leaks.
    """

    asked_for: str | None = None
    checked: bool = False
    says: str = ""


class EvaluationFacts(Facts):
    """The last evaluation of a model.

    Attributes:
        split: side that was scored.
        description: sentence about the scored data and its division.
        leakage: part of that data that was trained on.
        scores: see `Scores.to_json`; those of earlier versions have other fields.
        shots: see `shots_to_json`.
    """

    split: str
    description: str
    leakage: EvaluationLeakage = EvaluationLeakage()
    scores: JsonObject
    shots: tuple[JsonObject, ...] = ()

    def read_scores(self) -> Scores:
        """Return the scores.

        Raises:
            BundleError: no version of mgc writes scores of this form.
        """
        return Scores.from_json(self.scores)


def metrics_to_json(training: TrainingFacts, evaluation: EvaluationFacts | None) -> JsonObject:
    """Return the content of `metrics.json`."""
    values = training.to_json()
    return values if evaluation is None else values | {_EVALUATION: evaluation.to_json()}


def metrics_from_json(values: Mapping[str, object]) -> tuple[TrainingFacts, EvaluationFacts | None]:
    """Read the values of `metrics_to_json`.

    Raises:
        ValueError: a field does not have the type that this version expects; the message names it.
    """
    training = {name: value for name, value in values.items() if name != _EVALUATION}
    evaluation = values.get(_EVALUATION)
    return TrainingFacts.from_json(training), (
        None if evaluation is None else EvaluationFacts.from_json(evaluation, _EVALUATION)
    )
