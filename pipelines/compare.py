"""`mgc compare FIRST SECOND --features FEATURES`: two bundles on the same tracks, and how sure the difference is."""

from __future__ import annotations

import json
from typing import Any

import click
import numpy as np

from cluster.bundles import open_bundle
from cluster.session.connect import connect
from cluster.session.profiles import Profile
from cluster.storage import files
from cluster.storage.failures import redact
from cluster.storage.uri import Uri
from cluster.streams.feed import feed
from cluster.streams.scoring import clip_answers
from cluster.tables.features import read_features, read_roster
from mgc.bundle import Bundle
from mgc.bundle_facts import override_protocol
from mgc.datasets.protocols import name_of
from mgc.datasets.roster import Roster
from mgc.errors import FeaturesError
from mgc.evaluation.answers import Answers, answers
from mgc.evaluation.comparison import Comparison, Difference, compare
from mgc.evaluation.intervals import ResamplingGroups
from mgc.evaluation.leakage import check_overlap, measure_overlap
from mgc.experiment import Experiment
from pipelines.command.job import BUNDLE, OVERRIDES, URI, Summary, describe, main, overrides, say


def build(
    bundles: tuple[str, str],
    features: tuple[str, ...],
    split: str = "test",
    out: str | None = None,
    profile: Profile | None = None,
    fields: dict[str, str] | None = None,
    dry_run: bool = False,
) -> Summary:
    """Compare; connects to Ray when a profile is not given.

    Args:
        bundles: URIs of both.
        features: of the first bundle, and of the second one where its front end is another.
        split: whose tracks are answered, as the first bundle's protocol divides the rows.
        out: URI of a JSON file to write.
        profile: of a session that is there.
        fields: of the protocol, by dotted name.
        dry_run: say what would be done.
    """
    opened = [open_bundle(uri) for uri in bundles]
    experiment = override_protocol(opened[0], fields or {})
    tables = (features * 2)[:2] if len(features) == 1 else features
    checked = [_checked(bundle, uri, split, experiment) for bundle, uri in zip(opened, tables, strict=True)]
    facts: dict[str, Any] = {"first": opened[0].id, "second": opened[1].id, "split": split}
    facts["protocol"] = name_of(experiment.protocol)
    counts: dict[str, Any] = {"tracks": checked[0][2].size(split).tracks}
    if dry_run:
        describe({**facts, **counts})
        return Summary("dry_run", counts)

    def work(at: Profile) -> list[Answers]:
        given = []
        for bundle, (dataset, shape, _) in zip(opened, checked, strict=True):
            clips = clip_answers(feed(dataset, split, at, experiment), bundle, shape, at)
            given.append(answers(clips, bundle.taxonomy))
        return given

    if profile is None:
        with connect() as at:
            given = work(at)
    else:
        given = work(profile)
    found = paired(given, opened)
    missed = sum(len(each.track_ids) for each in given) - 2 * found.tracks
    if missed:
        say(f"{missed} tracks stand in one of the features tables alone: they are left out.")
    describe({**facts, **words(found)})
    if out is not None:
        files.write_bytes(out, (json.dumps({**facts, **found.to_json()}, indent=2) + "\n").encode())
    counts |= {"tracks": found.tracks, "accuracy_difference": round(found.accuracy.difference, 4)}
    counts |= {"macro_f1_difference": round(found.macro_f1.difference, 4), "mcnemar_p": round(found.mcnemar_p, 6)}
    return Summary("done", counts, {} if out is None else {"comparison": redact(out)})


def paired(given: list[Answers], bundles: list[Bundle]) -> Comparison:
    """The comparison of what two bundles say, on the tracks that both were asked about.

    Args:
        given: the answers of each, in the order of its own taxonomy; units are tracks.
        bundles: whose answers they are.

    Raises:
        FeaturesError: the tables do not agree on a track's true genre, or have no track in common.
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
            f"comparison: {len(torn)} tracks have another true genre in the second table ({torn[0]}: {first} and "
            f"{second}); prepare both from one catalog."
        )
    index = given[0].groups.index_N
    return compare(
        np.array([rows[0][track][0] for track in common], np.int64),
        np.array([rows[0][track][1] for track in common], np.int64),
        np.array([rows[1][track][1] for track in common], np.int64),
        ResamplingGroups.of([int(index[place[track]]) for track in common], given[0].groups.kind),
    )


def words(found: Comparison) -> dict[str, str]:
    """A comparison for a person to read."""
    return {
        "tracks": f"{found.tracks} of {found.groups} {found.group_kind}",
        "accuracy": _words(found.accuracy),
        "macro-F1": _words(found.macro_f1),
        "right": f"both {found.both_right}, the first alone {found.only_first}, the second alone {found.only_second}, "
        f"neither {found.neither}",
        "McNemar": f"p {found.mcnemar_p:.3g} (exact; takes tracks as independent)",
    }


def _words(each: Difference) -> str:
    text = f"{each.first:.3f} and {each.second:.3f}: the second {each.difference:+.3f}"
    if each.interval is None:
        return f"{text} (no interval)"
    sure = "" if each.interval.low <= 0 <= each.interval.high else ", which does not hold 0"
    return f"{text} (95 % interval {each.interval.low:+.3f} to {each.interval.high:+.3f}{sure})"


def _checked(bundle: Bundle, uri: str, split: str, experiment: Experiment) -> tuple[Any, tuple[int, ...], Roster]:
    """The features table of a bundle, the shape of its clips and who stands where.

    Raises:
        BundleError: the bundle does not fit the table.
        FeaturesError: there is nothing to answer.
        LeakageError: the bundle was trained on what it would answer.
    """
    where = redact(uri)
    dataset, facts = read_features(uri)
    bundle.check_features(facts.features_id, where)
    roster = read_roster(dataset, experiment.protocol)
    if not roster.size(split).tracks:
        protocol = name_of(experiment.protocol)
        raise FeaturesError(
            f"{where}: no labelled clips in the split {split!r} (protocol {protocol}); name another --split."
        )
    bundle.check_taxonomy(list(roster.class_counts(split)), where)
    if bundle.trained_on is None:
        say(f"bundle {bundle.id}: leakage could not be checked; it does not say what it was trained on.")
    else:
        check_overlap(measure_overlap(roster, split, bundle.trained_on), experiment.protocol.leak, split, where)
    return dataset, facts.shape, roster


@click.command("compare", context_settings=OVERRIDES)
@click.argument("first", type=BUNDLE)
@click.argument("second", type=BUNDLE)
@click.option(
    "--features",
    type=URI,
    required=True,
    multiple=True,
    help="Folder that `mgc prepare` wrote; given twice where the second bundle has another front end.",
)
@click.option("--split", default="test", show_default=True)
@click.option("--out", type=URI, help="JSON file to write.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED)
def command(
    first: str,
    second: str,
    features: tuple[Uri, ...],
    split: str,
    out: Uri | None,
    dry_run: bool,
    fields: tuple[str, ...],
) -> Summary:
    """Compare two bundles on the same tracks: the differences of accuracy and macro-F1, second less first.

    The 95 % intervals of the differences are by a paired bootstrap over artists: both models are scored on the same
    artists drawn anew. The rows are divided by the protocol of the FIRST bundle; another is set by its fields, for
    example --protocol.kind given.
    """
    if len(features) > 2:
        raise click.UsageError("--features is given once, or twice: there are two bundles.")
    places = tuple(place.text for place in features)
    return build((first, second), places, split, out.text if out else None, None, overrides(fields), dry_run)


if __name__ == "__main__":
    main(command)
