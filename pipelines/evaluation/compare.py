"""Compare two bundles on the same tracks, with intervals for the differences."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow.dataset as pads

from cluster.bundles import open_bundle
from cluster.session.connect import connect
from cluster.session.profiles import Profile
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.streams.feed import feed
from cluster.streams.scoring import ScoreRequest, answer_clips
from cluster.tables.features import read_features, read_roster
from mgc.bundle import Bundle
from mgc.bundle_facts import override_protocol
from mgc.configuration import JsonObject
from mgc.datasets.protocols import name_of
from mgc.errors import FeaturesError
from mgc.evaluation.answers import Answers, answers
from mgc.evaluation.comparison import Comparison, Difference, compare
from mgc.evaluation.intervals import ResamplingGroups
from mgc.evaluation.leakage import check_overlap, measure_overlap
from mgc.experiment import Experiment
from mgc.units import format_count
from pipelines.command.job import Summary, describe, say
from pipelines.evaluation.requests import CompareRequest


@dataclass(frozen=True)
class _Side:
    """A bundle and the features that it predicts from.

    Attributes:
        bundle: the bundle.
        dataset: features table.
        shape: shape of a clip.
        tracks: number of tracks of the split.
    """

    bundle: Bundle
    dataset: pads.FileSystemDataset
    shape: tuple[int, ...]
    tracks: int


def compare_bundles(request: CompareRequest) -> Summary:
    """Compare two bundles. The differences are second minus first.

    Connects to Ray unless the request has the profile of an open session.

    Raises:
        BundleError: a bundle does not fit its features.
        FeaturesError: the tables do not agree, or there is nothing to compare.
        LeakageError: a bundle was trained on tracks of the split.
    """
    bundles = [open_bundle(uri) for uri in request.bundles]
    split = request.split
    experiment = override_protocol(bundles[0], request.fields)
    pairs = zip(bundles, request.features, strict=True)
    sides = [_open_side(bundle, uri, split, experiment) for bundle, uri in pairs]
    facts: JsonObject = {"first": bundles[0].id, "second": bundles[1].id, "split": split}
    facts["protocol"] = name_of(experiment.protocol)
    counts: JsonObject = {"tracks": sides[0].tracks}
    if request.dry_run:
        describe({**facts, **counts})
        return Summary("dry_run", counts)
    with connect(profile=request.profile) as profile:
        given = [_answer_side(side, split, experiment, profile) for side in sides]
    found = pair_answers(given, bundles)
    missed = sum(len(each.track_ids) for each in given) - 2 * found.tracks
    if missed:
        say(f"left out, since only one of the features tables has them: {format_count(missed, 'track')}")
    describe({**facts, **describe_comparison(found)})
    if request.out is not None:
        files.write_bytes(request.out, (json.dumps({**facts, **found.to_json()}, indent=2) + "\n").encode())
    counts |= {"tracks": found.tracks, "accuracy_difference": round(found.accuracy.difference, 4)}
    counts |= {"macro_f1_difference": round(found.macro_f1.difference, 4), "mcnemar_p": round(found.mcnemar_p, 6)}
    return Summary("done", counts, {} if request.out is None else {"comparison": str(request.out)})


def _answer_side(side: _Side, split: str, experiment: Experiment, profile: Profile) -> Answers:
    clips = feed(side.dataset, split, profile, experiment)
    return answers(answer_clips(clips, side.bundle, ScoreRequest(side.shape), profile), side.bundle.taxonomy)


def pair_answers(given: list[Answers], bundles: list[Bundle]) -> Comparison:
    """Return the comparison of two bundles on the tracks that both have answered.

    Args:
        given: answers of each bundle, in the order of its own taxonomy; units are tracks.
        bundles: bundles that answered.

    Raises:
        FeaturesError: the tables disagree on a track's true genre, or have no track in common.
    """
    names = list(dict.fromkeys(name for bundle in bundles for name in bundle.taxonomy.names))
    rows = []
    for each, bundle in zip(given, bundles, strict=True):
        number_G = np.array([names.index(name) for name in bundle.taxonomy.names])
        truth_N, answer_N = number_G[each.truth_N], number_G[each.probabilities_NG.argmax(axis=1)]
        rows.append(dict(zip(each.track_ids, zip(truth_N, answer_N, strict=True), strict=True)))
    place = {track: number for number, track in enumerate(given[0].track_ids)}
    common = [track for track in given[0].track_ids if track in rows[1]]
    torn = [track for track in common if rows[0][track][0] != rows[1][track][0]]
    if torn:
        first, second = (names[each[torn[0]][0]] for each in rows)
        raise FeaturesError(
            f"comparison: {format_count(len(torn), 'track')} with a different true genre in the second table "
            f"({torn[0]}: {first} and {second}); prepare both from one catalog."
        )
    index = given[0].groups.index_N
    return compare(
        np.array([rows[0][track][0] for track in common], np.int64),
        np.array([rows[0][track][1] for track in common], np.int64),
        np.array([rows[1][track][1] for track in common], np.int64),
        ResamplingGroups.of([int(index[place[track]]) for track in common], given[0].groups.kind),
    )


def describe_comparison(found: Comparison) -> dict[str, str]:
    """Return a comparison as readable text."""
    return {
        "tracks": f"{found.tracks} of {found.groups} {found.group_kind}",
        "accuracy": _describe_difference(found.accuracy),
        "macro-F1": _describe_difference(found.macro_f1),
        "right": f"both {found.both_right}, the first alone {found.only_first}, the second alone {found.only_second}, "
        f"neither {found.neither}",
        "McNemar": f"p {found.mcnemar_p:.3g} (exact; treats tracks as independent)",
    }


def _describe_difference(each: Difference) -> str:
    text = f"{each.first:.3f} and {each.second:.3f}: the second {each.difference:+.3f}"
    if each.interval is None:
        return f"{text} (no interval)"
    sure = "" if each.interval.low <= 0 <= each.interval.high else ", which excludes 0"
    return f"{text} (95 % interval {each.interval.low:+.3f} to {each.interval.high:+.3f}{sure})"


def _open_side(bundle: Bundle, uri: Uri, split: str, experiment: Experiment) -> _Side:
    """Return a bundle with the features that it predicts from.

    Raises:
        BundleError: the bundle does not fit the table.
        FeaturesError: there is nothing to compare.
        LeakageError: the bundle was trained on tracks of the split.
    """
    where = str(uri)
    dataset, facts = read_features(uri)
    bundle.check_features(facts.features_id, where)
    bundle.experiment.check_listening(facts, where, "prepare features with the plan of the bundle")
    roster = read_roster(dataset, experiment.protocol)
    tracks = roster.size(split).tracks
    if not tracks:
        protocol = name_of(experiment.protocol)
        raise FeaturesError(
            f"{where}: no labelled clips in the split {split!r} (protocol {protocol}); choose another --split."
        )
    bundle.check_taxonomy(list(roster.class_counts(split)), where)
    if bundle.trained_on is None:
        say(f"bundle {bundle.id} does not say what it was trained on, so leakage could not be checked.")
    else:
        check_overlap(measure_overlap(roster, split, bundle.trained_on), experiment.protocol.leak, split, where)
    return _Side(bundle, dataset, facts.shape, tracks)
