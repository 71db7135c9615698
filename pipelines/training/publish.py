"""What a trained model is told of itself before it is saved: adjustment, sides and leaks, figures, versions."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ray.data import Dataset

import mgc
from cluster.bundles import save_bundle
from cluster.streams.scoring import clip_answers
from cluster.training.job import TrainingJob
from mgc.bundle import Bundle
from mgc.configuration import to_json
from mgc.datasets.protocols import SIDES, name_of
from mgc.datasets.roster import Roster
from mgc.datasets.splits import TRAIN, VALIDATION
from mgc.evaluation.answers import answers
from mgc.evaluation.leakage import TrainedGroups, find_crossing, measure_overlap, warn_of_overlap
from mgc.experiment import Experiment
from mgc.labeling.adjust import PriorAdjustment, macro_f1_by_tau
from mgc.metrics import AdjustmentFacts, DataFacts, DivisionLeakage, SideFacts
from mgc.training.course import Row, kept_row
from pipelines.command.job import say
from pipelines.training.source import Source


def adjusted(bundle: Bundle, validation: Dataset, job: TrainingJob) -> Bundle:
    """The bundle with the adjustment of its logits that the experiment asks for, see `TrainingConfig.adjust_after`.

    Args:
        bundle: not adjusted.
        validation: its clips, see `feed`.
        job: the training of the bundle.
    """
    taus, counts = bundle.experiment.training.adjust_after, job.class_counts
    if not taus:
        return bundle
    if bundle.experiment.protocol.refit:
        # There is one value, and no validation to try it on.
        return _adjust(bundle, taus[0], counts, {})
    clips = clip_answers(validation, bundle, job.shape, job.profile)
    given = answers(clips, bundle.taxonomy, bundle.experiment.protocol.unit)
    # Logarithms of probabilities are logits.
    logits_NG = np.log(np.maximum(given.probabilities_NG, np.finfo(np.float64).tiny))
    found = macro_f1_by_tau(taus, logits_NG, given.truth_N, counts)
    tau = max(found, key=found.__getitem__)
    say(f"logits adjusted by tau {tau:g}: validation macro-F1 {found[tau]:.3f} of {given.unit}")
    return _adjust(bundle, tau, counts, found)


def _adjust(bundle: Bundle, tau: float, counts: Sequence[int], tried: Mapping[float, float]) -> Bundle:
    """Return the bundle with its logits adjusted by `tau`, and with a note of the macro-F1 of all that was tried."""
    noted = AdjustmentFacts(tau=tau, validation_macro_f1={f"{each:g}": f1 for each, f1 in tried.items()})
    return dataclasses.replace(
        bundle,
        adjustment=PriorAdjustment.from_counts(tau, counts) if tau else None,
        training=bundle.training.updated(adjustment=noted),
    )


def division(roster: Roster, experiment: Experiment) -> dict[str, str]:
    """What stands on each side of a protocol, and what leaks, in words."""
    trained_on = TrainedGroups.of(roster)
    lines = {"protocol": name_of(experiment.protocol)}
    for split in SIDES:
        size = roster.size(split)
        words = f"{size.tracks} tracks, {size.clips} clips, {size.artists} artists"
        if size.tracks_of_unknown_artist:
            words += f" ({size.tracks_of_unknown_artist} tracks of unknown artist)"
        if split != TRAIN:
            found = measure_overlap(roster, split, trained_on)
            words += f"; of these tracks {found.tracks_heard} are trained on, {found.artists_heard} if by artist"
        lines[split] = words
    tracks, artists = find_crossing(roster, "track"), find_crossing(roster, "artist")
    return {**lines, "on more than one side": f"{tracks.count} tracks, {artists.count} artists"}


def publish(
    bundle: Bundle, history: Sequence[Row], source: Source, key: str, totals: Mapping[str, Any], out: str
) -> tuple[Row, str]:
    """Note in a trained bundle what it was trained on and what that gave, and save it.

    Args:
        bundle: trained, adjusted; it says with how many workers it was made.
        history: of its training.
        source: what it was trained on.
        key: names the training.
        totals: of the source, and how much of it failed.
        out: folder of the bundle.

    Returns:
        The row of the epoch that was kept, and the bundle's id.
    """
    protocol, roster, counts = bundle.experiment.protocol, source.roster, source.counts
    trained_on = TrainedGroups.of(roster)
    overlap = measure_overlap(roster, VALIDATION, trained_on)
    best = kept_row(bundle.experiment.training, history)
    total = sum(counts[TRAIN].values())
    training = bundle.training.updated(
        training_key=key,
        history=tuple(history),
        validation=best,
        data=DataFacts(
            features=source.where,
            clips=dict(totals),
            genres_without_validation=tuple(source.unvalidated),
            genre_clips=counts[TRAIN],
            genre_share={genre: count / total for genre, count in counts[TRAIN].items()},
            protocol=name_of(protocol),
            sides={split: SideFacts.from_json(to_json(roster.size(split))) for split in SIDES},
            leakage=DivisionLeakage(
                asked_for=protocol.leak,
                tracks_on_two_sides=find_crossing(roster, "track").count,
                artists_on_two_sides=find_crossing(roster, "artist").count,
                validation=overlap,
                says=warn_of_overlap(overlap, VALIDATION, protocol.unit),
            ),
        ),
        notices=tuple(source.notices),
        made_with=bundle.training.made_with.updated(
            mgc=mgc.__version__, torch=torch.__version__, machine=platform.machine()
        ),
    )
    bundle = dataclasses.replace(bundle, trained_on=trained_on, training=training)
    return best, save_bundle(bundle, out)


def figures_of(row: Row) -> dict[str, Any]:
    """The figures of an epoch that a summary has; none where nothing was held out."""
    names = ("validation_accuracy", "validation_macro_f1")
    return {name: round(row[name], 4) for name in names if name in row}
