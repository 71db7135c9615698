"""`mgc evaluate --bundle BUNDLE --features FEATURES`: score a bundle on a split, and write its report."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Final

import click
import pyarrow as pa

from cluster.bundles import open_bundle
from cluster.session.connect import connect
from cluster.session.profiles import Profile
from cluster.storage import files
from cluster.storage.failures import redact
from cluster.storage.uri import Uri, join
from cluster.streams.feed import feed
from cluster.streams.scoring import clip_answers
from cluster.tables.features import read_features, read_roster
from mgc import schema
from mgc.bundle_facts import describe_model, list_history, list_leaks, override_protocol
from mgc.datasets.protocols import name_of
from mgc.errors import FeaturesError
from mgc.evaluation.answers import answers, map_of, robustness_of, scores_of
from mgc.evaluation.calibration import calibration
from mgc.evaluation.embedding_map import SHOWN, choose
from mgc.evaluation.leakage import check_overlap, measure_overlap, warn_of_overlap
from mgc.evaluation.report import ReportContent, render_report, report_json
from mgc.evaluation.robustness import SHARES
from mgc.evaluation.shots import shot_scores, shots_to_json
from mgc.metrics import EvaluationFacts, EvaluationLeakage
from pipelines.command.job import BUNDLE, OVERRIDES, PROFILE, URI, Summary, describe, main, overrides, say

WRITTEN: Final = ("metrics.json", "report.json", "report.html")


def build(
    bundle_uri: str,
    features: str,
    split: str = "test",
    out: str | None = None,
    profile: Profile | str | None = None,
    limit: int | None = None,
    dry_run: bool = False,
    fields: dict[str, str] | None = None,
    draw_map: bool = True,
    robustness: bool = False,
) -> Summary:
    """Score and write the report; connects to Ray unless it is given the profile of a session."""
    where = redact(features)
    bundle = open_bundle(bundle_uri)
    dataset, facts = read_features(features)
    bundle.check_features(facts.features_id, where)
    experiment = override_protocol(bundle, fields or {})
    protocol = experiment.protocol
    roster = read_roster(dataset, protocol).limited(limit, (split,))
    size = roster.size(split)
    if not size.tracks:
        raise FeaturesError(
            f"{where}: no labelled clips in the split {split!r} (protocol {name_of(protocol)}); name "
            "another --split, or divide otherwise (--protocol.kind artist, --protocol.test_share 0.3)."
        )
    bundle.check_taxonomy(list(roster.class_counts(split)), where)
    leakage = EvaluationLeakage(asked_for=protocol.leak, checked=bundle.trained_on is not None)
    found = None if bundle.trained_on is None else measure_overlap(roster, split, bundle.trained_on)
    if found is not None:
        leakage = leakage.updated(**found.to_json(), says=warn_of_overlap(found, split, protocol.unit))
    target = out or bundle_uri
    if target == "default":
        raise FeaturesError("the default bundle is part of the program; give --out for its report.")
    counts: dict[str, Any] = {"tracks": size.tracks}
    if protocol.unit == "clips":
        counts["clips"] = size.clips
    if dry_run:
        describe(
            {
                "bundle": bundle.id,
                "split": split,
                "protocol": name_of(protocol),
                **counts,
                "leakage": leakage.to_json(),
                "would write": ", ".join(redact(join(target, name)) for name in WRITTEN),
            }
        )
    if found is not None:
        check_overlap(found, protocol.leak, split, where)
    if dry_run:
        return Summary("dry_run", counts)
    shape = facts.shape
    shown = choose(roster.genres(split)) if draw_map else []
    zeroed = SHARES if robustness else ()

    def work(at: Profile) -> pa.Table:
        only = None if limit is None else roster.only(split)
        fed = feed(dataset, split, at, experiment, only)
        return clip_answers(fed, bundle, shape, at, shown, zeroed)

    with connect(profile=profile) as at:
        clips = work(at)
    unit = protocol.unit
    given = answers(clips, bundle.taxonomy, unit)
    scores = scores_of(given, bundle.taxonomy)
    if scores.tracks != counts[unit]:
        raise FeaturesError(f"{where}: {scores.tracks} of {counts[unit]} {unit} were scored; run it again.")
    how = "clips of a track averaged" if unit == "tracks" else f"of {size.tracks} tracks, each clip by itself"
    description = f"{scores.tracks} {unit} of {where}, {how}; protocol {name_of(protocol)}"
    notices = list(dict.fromkeys([*bundle.training.notices, *schema.notices_of(dataset.schema)]))
    if bundle.trained_on is None:
        notices.append("Leakage could not be checked: this bundle does not say which tracks it was trained on.")
    trained = bundle.training.data.genre_clips
    shots = shot_scores(scores.confusion, scores.genres, [trained.get(g, 0) for g in scores.genres]) if trained else ()
    evaluation = EvaluationFacts(
        split=split,
        description=description,
        leakage=leakage,
        scores=scores.to_json(),
        shots=tuple(shots_to_json(shots)),
    )
    bundle = dataclasses.replace(bundle, evaluation=evaluation)
    content = ReportContent(
        title=f"{bundle.experiment.recipe}: score on {split}",
        notices=notices,
        leaks=list_leaks(bundle),
        model=describe_model(bundle),
        scores=scores,
        split_name=split,
        split_description=description,
        history=list_history(bundle),
        calibration=calibration(given.truth_N, given.probabilities_NG, given.groups),
        robustness=robustness_of(clips, bundle.taxonomy, bundle.experiment.front_end.kind, unit)
        if robustness
        else None,
        embedding_map=map_of(clips, bundle.taxonomy) if draw_map else None,
        shots=shots,
        kept_epoch=bundle.training.kept_epoch,
    )
    texts = {
        "metrics.json": json.dumps(bundle.metrics_to_json(), indent=2) + "\n",
        "report.json": json.dumps(report_json(content), indent=2, allow_nan=False) + "\n",
        "report.html": render_report(content),
    }
    for name in WRITTEN:
        files.write_bytes(join(target, name), texts[name].encode())
    sure = scores.accuracy_interval
    ends = f" ({sure.low:.3f} to {sure.high:.3f}, 95 % over {scores.groups} {scores.group_kind})" if sure else ""
    say(
        f"{split}: accuracy {scores.accuracy:.3f}{ends}, "
        f"macro-F1 {scores.macro_f1:.3f}, {scores.tracks} {unit}; chance {scores.chance:.3f}, "
        f"always {scores.majority_genre}: {scores.majority_accuracy:.3f}"
    )
    if leakage.says:
        say(leakage.says)
    counts |= {"accuracy": round(scores.accuracy, 4), "macro_f1": round(scores.macro_f1, 4)}
    outputs = {"report": "report.html", "json": "report.json"}
    return Summary("done", counts, {name: redact(join(target, file)) for name, file in outputs.items()})


@click.command("evaluate", context_settings=OVERRIDES)
@click.option(
    "--bundle",
    type=BUNDLE,
    required=True,
    help="Folder of the bundle; its metrics.json, report.html and report.json are written anew.",
)
@click.option("--features", type=URI, required=True, help="Folder that `mgc prepare` wrote.")
@click.option("--split", default="test", show_default=True)
@click.option("--out", type=URI, help="Write them here instead.")
@PROFILE
@click.option("--limit", type=click.IntRange(1), help="Only N tracks, spread over the split.")
@click.option(
    "--map/--no-map", "draw_map", default=True, show_default=True, help=f"A t-SNE of the tracks, {SHOWN:,} at most."
)
@click.option(
    "--robustness", is_flag=True, help="Score again with 25, 50 and 75 % of the pixels zeroed: four times the work."
)
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED)
def command(
    bundle: str,
    features: Uri,
    split: str,
    out: Uri | None,
    profile: str | None,
    limit: int | None,
    draw_map: bool,
    robustness: bool,
    dry_run: bool,
    fields: tuple[str, ...],
) -> Summary:
    """Score a bundle on a split of prepared features, and write an HTML report.

    The rows are divided by the bundle's own protocol; another is set by its fields, for example --protocol.kind given.
    """
    where = out.text if out else None
    return build(bundle, features.text, split, where, profile, limit, dry_run, overrides(fields), draw_map, robustness)


if __name__ == "__main__":
    main(command)
