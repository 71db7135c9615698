"""Turn a trained model into a saved bundle: adjust its logits, and note its data, leaks, figures and versions."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from ray.data import Dataset

import mgc
from cluster.bundles import save_bundle
from cluster.storage.uri import Uri
from cluster.streams.scoring import ScoreRequest, answer_clips
from cluster.training.job import TrainingJob
from mgc.bundle import Bundle
from mgc.bundle_start import Start
from mgc.configuration import to_json
from mgc.datasets.protocols import SIDES, ProtocolConfig, name_of
from mgc.datasets.roster import Roster
from mgc.datasets.splits import TRAIN, VALIDATION
from mgc.evaluation.answers import answers
from mgc.evaluation.leakage import Overlap, TrainedGroups, find_crossing, measure_overlap, warn_of_overlap
from mgc.experiment import Experiment
from mgc.labeling.adjust import PriorAdjustment, macro_f1_by_tau
from mgc.metrics import AdjustmentFacts, DataFacts, DivisionLeakage, SideFacts
from mgc.training.course import Row, kept_row
from mgc.units import format_count
from pipelines.command.job import say
from pipelines.training.source import TrainingData


def adjust_logits(bundle: Bundle, validation: Dataset, job: TrainingJob) -> Bundle:
    """Return the bundle with its logits adjusted as the experiment asks.

    See `TrainingConfig.adjust_after`.

    Args:
        bundle: bundle without an adjustment.
        validation: stream of validation clips, see `feed`.
        job: training that the bundle comes from.
    """
    taus, counts = bundle.experiment.training.adjust_after, job.class_counts
    if not taus:
        return bundle
    if bundle.experiment.protocol.refit:
        # Take the only value, because there is no validation split to try others on.
        return _adjust(bundle, taus[0], counts, {})
    clips = answer_clips(validation, bundle, ScoreRequest(job.shape), job.profile)
    given = answers(clips, bundle.taxonomy, bundle.experiment.protocol.unit)
    # Logarithms of probabilities are logits.
    logits_NG = np.log(np.maximum(given.probabilities_NG, np.finfo(np.float64).tiny))
    found = macro_f1_by_tau(taus, logits_NG, given.truth_N, counts)
    tau = max(found, key=found.__getitem__)
    say(f"logits adjusted by tau {tau:g}: validation macro-F1 {found[tau]:.3f} of {given.unit}")
    return _adjust(bundle, tau, counts, found)


def _adjust(bundle: Bundle, tau: float, counts: Sequence[int], tried: Mapping[float, float]) -> Bundle:
    """Return the bundle with its logits adjusted by `tau`, and with a note of the macro-F1 of each tried value."""
    noted = AdjustmentFacts(tau=tau, validation_macro_f1={f"{each:g}": f1 for each, f1 in tried.items()})
    return dataclasses.replace(
        bundle,
        adjustment=PriorAdjustment.from_counts(tau, counts) if tau else None,
        training=bundle.training.updated(adjustment=noted),
    )


def describe_sides(roster: Roster, experiment: Experiment) -> dict[str, str]:
    """Describe the data on each side of the protocol, and any leaks, in words."""
    trained_on = TrainedGroups.of(roster)
    lines = {"protocol": name_of(experiment.protocol)}
    for split in SIDES:
        size = roster.size(split)
        words = ", ".join(
            format_count(count, noun)
            for count, noun in ((size.tracks, "track"), (size.clips, "clip"), (size.artists, "artist"))
        )
        if size.tracks_of_unknown_artist:
            words += f" ({format_count(size.tracks_of_unknown_artist, 'track')} of unknown artist)"
        if split != TRAIN:
            found = measure_overlap(roster, split, trained_on)
            words += (
                f"; of these tracks {found.tracks_heard} are trained on, {found.artists_heard} by artists trained on"
            )
        lines[split] = words
    tracks, artists = find_crossing(roster, "track"), find_crossing(roster, "artist")
    return {
        **lines,
        "on more than one side": f"{format_count(tracks.count, 'track')}, {format_count(artists.count, 'artist')}",
    }


def publish_bundle(
    bundle: Bundle,
    history: Sequence[Row],
    data: TrainingData,
    key: str,
    totals: Mapping[str, int],
    out: Uri,
    start: Start | None = None,
) -> tuple[Row, str]:
    """Note the training data and the results in a trained bundle, and save it.

    Args:
        bundle: trained and adjusted bundle, which includes the number of workers.
        history: rows of the training, one for each epoch.
        data: data that the bundle was trained on.
        key: name of the training.
        totals: totals of the data, and the number of failed tracks.
        out: folder of the bundle.
        start: what the training started from; its tracks and artists count as trained on, and its notices are
            kept.

    Returns:
        The row of the epoch that was kept, and the bundle's id.
    """
    trained_on = TrainedGroups.of(data.roster)
    if start is not None and start.trained_on is not None:
        trained_on |= start.trained_on
    overlap = measure_overlap(data.roster, VALIDATION, trained_on)
    best = kept_row(bundle.experiment.training, history)
    training = bundle.training.updated(
        training_key=key,
        history=tuple(history),
        validation=best,
        data=_describe_data(bundle.experiment.protocol, data, totals, overlap),
        notices=tuple(dict.fromkeys([*data.notices, *(() if start is None else start.notices)])),
        started_from=None if start is None else start.name,
        made_with=bundle.training.made_with.updated(
            mgc=mgc.__version__, torch=torch.__version__, machine=platform.machine()
        ),
    )
    bundle = dataclasses.replace(bundle, trained_on=trained_on, training=training)
    return best, save_bundle(bundle, out)


def _describe_data(
    protocol: ProtocolConfig, data: TrainingData, totals: Mapping[str, int], overlap: Overlap
) -> DataFacts:
    """Return the facts about the training data for a bundle, in the unit in which the data are counted."""
    genres, roster = data.counts[TRAIN], data.roster
    total = sum(genres.values())
    facts = DataFacts(
        features=data.where,
        genres_without_validation=tuple(data.unvalidated),
        genre_share={genre: count / total for genre, count in genres.items()},
        protocol=name_of(protocol),
        sides={split: SideFacts.from_json(to_json(roster.size(split))) for split in SIDES},
        leakage=DivisionLeakage(
            asked_for=protocol.leak,
            tracks_on_two_sides=find_crossing(roster, "track").count,
            artists_on_two_sides=find_crossing(roster, "artist").count,
            validation=overlap,
            says=warn_of_overlap(overlap, VALIDATION, protocol.unit),
        ),
    )
    if data.unit == "tracks":
        return facts.updated(tracks=dict(totals), genre_tracks=genres)
    return facts.updated(clips=dict(totals), genre_clips=genres)


def validation_figures(row: Row) -> dict[str, float]:
    """Return the validation figures of an epoch for a summary; none without validation data."""
    names = ("validation_accuracy", "validation_macro_f1")
    return {name: round(row[name], 4) for name in names if name in row}
