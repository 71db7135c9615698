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
from mgc.evaluation.leakage import Groups, crossing, heard, says
from mgc.experiment import Experiment
from mgc.labeling.adjust import PriorAdjustment, macro_f1_by_tau
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
        bundle.metrics["adjustment"] = {"tau": taus[0], "validation_macro_f1": {}}
        adjustment = PriorAdjustment.from_counts(taus[0], counts) if taus[0] else None
        return dataclasses.replace(bundle, adjustment=adjustment)
    clips = clip_answers(validation, bundle, job.shape, job.profile)
    given = answers(clips, bundle.taxonomy, bundle.experiment.protocol.unit)
    # Logarithms of probabilities are logits.
    logits_NG = np.log(np.maximum(given.probabilities_NG, np.finfo(np.float64).tiny))
    found = macro_f1_by_tau(taus, logits_NG, given.truth_N, counts)
    tau = max(found, key=found.__getitem__)
    bundle.metrics["adjustment"] = {"tau": tau, "validation_macro_f1": {f"{each:g}": f1 for each, f1 in found.items()}}
    say(f"logits adjusted by tau {tau:g}: validation macro-F1 {found[tau]:.3f} of {given.unit}")
    return dataclasses.replace(bundle, adjustment=PriorAdjustment.from_counts(tau, counts) if tau else None)


def division(roster: Roster, experiment: Experiment) -> dict[str, str]:
    """What stands on each side of a protocol, and what leaks, in words."""
    trained_on = Groups.of(roster)
    lines = {"protocol": name_of(experiment.protocol)}
    for split in SIDES:
        size = roster.size(split)
        words = f"{size.tracks} tracks, {size.clips} clips, {size.artists} artists"
        if size.tracks_of_unknown_artist:
            words += f" ({size.tracks_of_unknown_artist} tracks of unknown artist)"
        if split != TRAIN:
            found = heard(roster, split, trained_on)
            words += f"; of these tracks {found.tracks_heard} are trained on, {found.artists_heard} if by artist"
        lines[split] = words
    tracks, artists = crossing(roster, "track"), crossing(roster, "artist")
    return {**lines, "on more than one side": f"{tracks.count} tracks, {artists.count} artists"}


def publish(
    bundle: Bundle, history: Sequence[Row], source: Source, key: str, totals: Mapping[str, Any], out: str
) -> tuple[Row, str]:
    """Note in a trained bundle what it was trained on and what that gave, and save it.

    Args:
        bundle: trained, adjusted; its metrics say with how many workers it was made.
        history: of its training.
        source: what it was trained on.
        key: names the training.
        totals: of the source, and how much of it failed.
        out: folder of the bundle.

    Returns:
        The row of the epoch that was kept, and the bundle's id.
    """
    protocol, roster, counts = bundle.experiment.protocol, source.roster, source.counts
    trained_on = Groups.of(roster)
    bundle = dataclasses.replace(bundle, trained_on=trained_on)
    leak = heard(roster, VALIDATION, trained_on)
    best = kept_row(bundle.experiment.training, history)
    total = sum(counts[TRAIN].values())
    bundle.metrics.update(
        {
            "training_key": key,
            "history": list(history),
            "validation": best,
            "data": {
                "features": source.where,
                "clips": totals,
                "genres_without_validation": source.unvalidated,
                "genre_clips": counts[TRAIN],
                "genre_share": {g: n / total for g, n in counts[TRAIN].items()},
                "protocol": name_of(protocol),
                "sides": {split: to_json(roster.size(split)) for split in SIDES},
                "leakage": {
                    "asked_for": protocol.leak,
                    "tracks_on_two_sides": crossing(roster, "track").count,
                    "artists_on_two_sides": crossing(roster, "artist").count,
                    VALIDATION: leak.to_json(),
                    "says": says(leak, VALIDATION, protocol.unit),
                },
            },
            "notices": source.notices,
            "made_with": {
                "mgc": mgc.__version__,
                "torch": torch.__version__,
                "machine": platform.machine(),
                **bundle.metrics["made_with"],
            },
        }
    )
    return best, save_bundle(bundle, out)


def figures_of(row: Row) -> dict[str, Any]:
    """The figures of an epoch that a summary has; none where nothing was held out."""
    names = ("validation_accuracy", "validation_macro_f1")
    return {name: round(row[name], 4) for name in names if name in row}
